"""The plugin, as users meet it: what is collected, skipped, refused, saved, and said. Each run is in this process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perf.harness.machine import memory
from perf.harness.measurement import rounds as measure
from perf.harness.measurement.side_by_side.link import Link
from perf.harness.plugin import hooks
from perf.harness.plugin.measure import Measure
from perf.harness.record.run import Run
from perf.harness.record.store import RunFile
from perf.harness.workload.workload import Trainee
from tests.conftest import PERF, QUICK, ROOT, STEP, kept, read, validator
from tests.fake_nvml import Nvml

pytest_plugins = ["pytester"]


def test_every_benchmark_is_collected_under_its_stable_id(perf):
    result = perf(PERF, "--collect-only", "-q", quick=False)
    for case in (
        "test_training_step.py::test_training_step[cpu-bs64]",
        "test_training_step.py::test_training_step[cuda-bs4096]",
        "test_inference.py::test_inference[cpu-bs512]",
        "test_epoch.py::test_epoch[cpu-bs64-dataloader]",
        "test_epoch.py::test_epoch[cpu-bs4096-resident]",
        "test_input_pipeline.py::test_input_pipeline[cpu-bs64-workers]",
        "test_training_run.py::test_training_run[cpu]",
        "test_memory.py::test_memory[cuda-bs64]",
        "test_largest_batch.py::test_largest_batch[cuda]",
        "test_together.py::test_together[cuda-bs4096]",
    ):
        result.stdout.fnmatch_lines([f"perf/{case.replace('[', '[[]')}"])
    result.stdout.no_fnmatch_line("*bs512-dataloader*")
    assert result.ret == 0


@pytest.mark.parametrize(("way", "one"), [((), "training_step"), (("--perf-profile=qualify",), "preconditions")])
def test_a_selection_of_nothing_is_said(perf, way, one):
    said = f"Nothing is selected: -k, -m or --deselect leaves out all names, such as test_{one}*cpu*]."
    found = perf(PERF, "-k", "nosuchthing", *way, quick=False)
    assert found.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    found.stdout.fnmatch_lines([said])
    chosen = perf(PERF, "-k", one, "--collect-only", *way, quick=False)
    assert chosen.ret == 0
    chosen.stdout.no_fnmatch_line("Nothing is selected*")


def test_pipelines_asked_for_run_at_every_batch_size(perf):
    result = perf(PERF, "--collect-only", "-q", "--perf-pipeline=dataloader", "--perf-device=cpu", quick=False)
    result.stdout.fnmatch_lines(["*test_epoch[[]cpu-bs4096-dataloader]"])
    result.stdout.no_fnmatch_line("*resident*")


def test_a_run_measures_saves_and_reports(perf, pytester):
    result = perf(PERF, "--perf-device=cpu")
    assert result.ret == 0
    result.assert_outcomes(passed=5, skipped=2)
    (path,) = kept(pytester)
    assert path.name.startswith("0001_")
    assert path.parent.parent.name.startswith("smoke-simple_nn-digits-")
    result.stdout.fnmatch_lines(["*Training step*SMOKE*", "*measured 5*", "Saved as *0001_*"])
    document = read(path)
    assert document["perf"]["complete"] is True
    assert all(len(benchmark["stats"]["data"]) == 3 for benchmark in document["benchmarks"])


def test_a_record_fits_its_schema(perf, pytester):
    perf(PERF, "--perf-device=cpu,cuda", f"--benchmark-json={pytester.path / 'out.json'}")
    document = read(pytester.path / "out.json")
    assert [error.message for error in validator().iter_errors(document)] == []
    for key in ("phases_s", "accuracy", "enqueue_s", "loss_last", "step_losses", "matmul_flop_per_s"):
        assert any(key in benchmark["extra_info"] for benchmark in document["benchmarks"]), key
    for where, key, wrong in (
        (document["benchmarks"][0]["extra_info"], "cold_start_s", "soon"),
        (document["perf"]["telemetry"]["cpu"], "samples", 0),
        (document["perf"]["telemetry"]["cpu"], "throttled_hw_slowdown_share", 1.5),
        (document["perf"]["telemetry"]["cpu"], "other_pids", [1, 2]),
    ):
        before = where.get(key)
        where[key] = wrong
        assert not validator().is_valid(document), key
        where.pop(key) if before is None else where.update({key: before})
    assert validator().is_valid(document)


def test_the_cuda_cases_skip_with_the_true_reason(perf, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    result = perf(STEP, "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["cuda*absent: unplugged", "*skipped 1 (cuda: unplugged)*", "SKIPPED*cuda: unplugged"])


def test_a_gpu_goes_the_whole_way_to_the_speedup(perf, pytester, gpu, plug, monkeypatch):
    for module in ("machine.telemetry.summary", "measurement.bench"):  # on a busy machine, a sample may come late
        monkeypatch.setattr(f"perf.harness.{module}.NEAR_S", 1e6)
    warm_up = measure.warm_up
    short = {"call_s": measure.ROUND_S / 3}  # however slow the machine is
    monkeypatch.setattr(measure, "warm_up", lambda *given, **limits: replace(warm_up(*given, **limits), **short))
    nvml = Nvml()
    nvml.reasons = 0x4 | 0x40
    plug(nvml)
    result = perf(PERF)
    result.assert_outcomes(passed=12, skipped=3)
    assert len(gpu) > 12  # each of the cases waited for the device, before and after its rounds
    document = read(kept(pytester)[0])
    info = {benchmark["name"]: benchmark["extra_info"] for benchmark in document["benchmarks"]}
    step = info["test_training_step[cuda-bs64]"]
    assert (step["device_name"], step["timing"], step["peak_bytes"]) == ("Fake GPU", "throughput", 123 * 2**20)
    assert info["test_training_step[cpu-bs64]"]["timing"] == "latency"
    assert step["samples_per_iteration"] == 64
    # The GPU's telemetry, by its UUID: in the record, at each case, and in the report.
    assert validator().is_valid(document)
    watched = document["perf"]["telemetry"]
    assert (watched["cuda"]["sm_clock_hz_median"], watched["cuda"]["power_w_max"]) == (1755e6, 412.0)
    assert watched["cuda"]["throttled_share"] == watched["cuda"]["throttled_sw_power_cap_share"] == 1.0
    assert watched["cpu"]["samples"] >= 2
    for name, found in info.items():
        marked = (3, 3) if "cuda" in name else (None, None)
        assert (found.get("throttled_rounds"), found.get("power_capped_rounds")) == marked, name
        assert ("THROTTLED" in found["marks"].split()) == ("cuda" in name), name
    phases = info["test_epoch[cuda-bs64-resident]"]
    # tests/test_phases.py adds them up, on a simulated clock: on a real one, another program may run between them.
    assert set(phases["phases_s"]) == {"data_wait", "copy", "forward", "backward", "optimizer", "other"}
    assert 0 < sum(phases["phases_s"].values()) <= phases["phases_wall_s"]
    assert min(phases["phases_s"][name] for name in ("forward", "backward", "optimizer")) > 0
    result.stdout.fnmatch_lines(
        [
            "cuda *Fake GPU, 7 *",
            "telemetry cuda: 1,755 MHz, 412 W, up to 61 °C, throttled 100% of the time: HW thermal slowdown*",
            "*speedup vs cpu*",
            "*64  cuda *× [[]*",
            "THROTTLED on cuda: training step at batch 64, *",
            "Training step*: *cuda *",
        ]
    )


def test_a_run_in_which_everything_is_skipped_says_that_nothing_was_measured(perf, pytester, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    result = perf(STEP, "--perf-device=cuda")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "measured 0 · skipped 1 (cuda: unplugged) · failed 0",
            "Nothing was measured. --perf-require-device=cuda makes that an error (exit code 4).",
        ]
    )
    assert kept(pytester) == []


def test_a_required_device_that_is_absent_is_refused_before_anything_is_measured(perf, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    result = perf(PERF, "--perf-require-device=cpu,cuda:3")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --perf-require-device: cuda:3 is absent: unplugged"])
    result.stdout.no_fnmatch_line("*passed*")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--perf-modle=x", "  --perf-modle: did you mean --perf-model[?]"),
        ("--perf-bacth=3", "  --perf-bacth: did you mean --perf-batch-size[?]"),
        ("--pref-device", "  --pref-device: did you mean --perf-device[?]"),
    ],
)
def test_a_misspelt_option_says_which_may_be_meant(perf, typed, says):
    result = perf(STEP, typed, "--profile")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])
    assert result.stderr.str().count("did you mean") == 1  # not for an option of another plugin


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--perf-batch-size=lots"], "--perf-batch-size: 'lots' is not a whole number"),
        (["--perf-model=resnet81"], "unknown model 'resnet81': did you mean resnet18*"),
        (["--perf-model=resnet18", "--perf-data=digits"], "resnet18 takes 3×224×224 images*leave the data set*"),
        (["--perf-batch-size=7000"], "batch size 7000 is more than the 1,280 training samples of digits*"),
        (["--benchmark-compare-fail=median:5%"], "--benchmark-compare-fail needs --benchmark-compare*"),
        (["--benchmark-compare", "--benchmark-compare-fail=median:5%"], "NO BASELINE for --benchmark-compare-fail*"),
        (["--perf-model=math:sqrt"], "math:sqrt: the factory raised TypeError*"),
        (["--benchmark-compare=0007"], "--benchmark-compare=0007: no such run in *; available: none"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_4(perf, pytester, arguments, says):
    result = perf(STEP, "--perf-device=cpu", *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{says}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert kept(pytester) == []


def test_a_path_after_benchmark_compare_is_refused_with_the_fix(pytester, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = pytester.runpytest_inprocess("--benchmark-compare", "perf/")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: --benchmark-compare took 'perf/'*put the path first: pytest perf/ --benchmark-compare"]
    )


def test_a_json_file_that_cannot_be_written_is_refused_at_once(perf, pytester):
    result = perf(STEP, "--perf-device=cpu", f"--benchmark-json={pytester.path / 'no' / 'where.json'}")
    assert result.ret == 4
    result.stdout.no_fnmatch_line("*passed*")


def test_a_switched_off_pytest_benchmark_is_refused(pytester, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = pytester.runpytest_inprocess("-p", "no:benchmark", "perf/")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: Stepwatch measures through pytest-benchmark, which is switched off (-p no:benchmark)"]
    )


def test_where_plugins_are_not_loaded_the_variable_that_says_so_is_named(pytester, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_inprocess("-p", "no:benchmark", "perf/")
    result.stderr.fnmatch_lines(["*switched off (PYTEST_DISABLE_PLUGIN_AUTOLOAD); unset it, or add -p pytest_bench*"])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--benchmark-min-rounds=3", "chooses rounds itself: --perf-rounds=N; leave it out"),
        ("--benchmark-max-time=0.1", "chooses rounds itself: --perf-rounds=N; leave it out"),
        ("--benchmark-warmup=on", "warms up until the times are steady; leave it out"),
        ("--benchmark-timer=time.process_time", "measures wall time with a clock that waits for the device; leave *"),
    ],
)
def test_how_pytest_benchmark_measures_is_not_chosen_in_vain(perf, option, says):
    result = perf(STEP, "--perf-device=cpu", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}: has no effect on Stepwatch, which {says}"])


def test_a_histogram_without_what_draws_it_is_refused_at_once(perf, monkeypatch):
    monkeypatch.setattr("perf.harness.plugin.stock.DRAW", ("pygal_is_not_here",))
    result = perf(STEP, "--perf-device=cpu", "--benchmark-histogram=h")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --benchmark-histogram: needs *: pip install pygal_is_not_here"])


def test_a_link_to_the_checkout_is_the_checkout(perf, pytester, monkeypatch):
    """The benchmarks are found, no checks are among them, and the settings are those of the user's folder.

    pytest takes no absolute path with brackets: a worker gets its files as seen from the folder that it runs in.
    """
    asked, ask = [], Link.ask

    def seen(link, do, limit_s, **arguments):
        asked.extend(arguments.get("arguments", []))
        return ask(link, do, limit_s, **arguments)

    monkeypatch.setattr(Link, "ask", seen)
    (pytester.path / "link").symlink_to(ROOT)
    (pytester.path / "pytest.ini").write_text("[pytest]\nperf_batch_size = 8\n")
    there = (perf(path / "perf", "--collect-only", "-q", quick=False) for path in (ROOT, pytester.path / "link"))
    plain, linked = ([line for line in one.outlines if "::" in line] for one in there)
    assert [line.rpartition("/")[2] for line in linked] == [line.rpartition("/")[2] for line in plain]
    assert any("cpu-bs8]" in line for line in plain)
    step = pytester.path / "link/perf/test_training_step.py"
    perf(step, "--perf-device=cpu", "--perf-passes=2").assert_outcomes(passed=1)
    assert {argument for argument in asked if argument.endswith(step.name)} == {os.path.relpath(step)}


def test_parallel_benchmarks_are_refused(pytester, digits_root):
    pytest.importorskip("xdist")
    result = pytester.runpytest_inprocess("-n2", str(STEP), f"--perf-data-root={digits_root}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: benchmarks that run at the same time disturb each other*"])


def test_the_first_compare_has_no_baseline_and_the_second_compares(perf, pytester):
    first = perf(PERF, "--perf-device=cpu", "--benchmark-compare", "-W", "error")
    assert first.ret == 0
    first.stdout.fnmatch_lines(["NO BASELINE: no earlier run*; smoke runs are too short*", "Saved as *0001_*"])
    second = perf(PERF, "--perf-device=cpu", "--benchmark-compare", "-W", "error")
    assert second.ret == 0  # one stored run decides nothing, and nobody asked for a gate
    second.stdout.no_fnmatch_line("NO BASELINE*")
    second.stdout.fnmatch_lines(["Saved as *0002_*", "*test_training_step[[]cpu-bs64] (0001*"])


def test_the_machine_info_is_the_same_in_every_run(perf, pytester):
    for name in ("a", "b"):
        perf(STEP, "--perf-device=cpu", f"--benchmark-json={pytester.path / name}.json")
    a, b = (read(pytester.path / f"{name}.json")["machine_info"] for name in "ab")
    assert a == b
    assert a["fingerprint"]["torch"]
    assert os.uname().nodename not in json.dumps(a)


@pytest.mark.parametrize("arguments", [[PERF, "-k", "step"], [STEP], [f"{STEP}::test_training_step"]])
def test_a_run_of_some_cases_is_kept_but_never_the_baseline_of_a_whole_run(perf, pytester, arguments):
    result = perf("--perf-device=cpu", *arguments)
    smoke = "A smoke run is too short for a verdict: to compare runs, leave out --perf-profile=smoke"
    result.stdout.fnmatch_lines(["Saved as *selection-*0001_*", smoke])
    whole = perf("--perf-device=cpu", PERF, "--benchmark-compare", "--collect-only")
    whole.stdout.fnmatch_lines(["NO BASELINE*"])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([PERF, "-k", "step"], "-k step"),
        ([STEP], "test_training_step.py"),
        ([f"{STEP}::test_training_step"], "test_training_step.py::test_training_step"),
    ],
)
def test_a_run_of_some_cases_says_which_later_runs_can_be_compared_with_it(perf, monkeypatch, arguments, part):
    monkeypatch.setattr(Run, "smoke", False)
    result = perf("--perf-device=cpu", *arguments)
    only = f"*(only runs of the same selection are: {part}), add --benchmark-compare to the same command"
    result.stdout.fnmatch_lines([only])


@pytest.mark.parametrize("disabled", [False, True])
def test_a_summary_of_what_was_measured_is_written_also_if_nothing_was(perf, pytester, disabled):
    target = pytester.path / "summary.md"
    perf(STEP, "--perf-device=cpu", f"--perf-summary={target}", *(["--benchmark-disable"] if disabled else []))
    text = target.read_text()
    assert text.startswith("<!-- stepwatch -->\n## Stepwatch\n")
    assert ("### Training step" in text) is not disabled
    assert ("Nothing was measured." in text) is disabled


def test_a_full_disk_is_found_before_anything_is_measured(perf, pytester, full):
    full.append(pytester.path / "kept")
    result = perf(STEP, "--perf-device=cpu")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*No space left on device, so the record of this run would be lost; free space there, *"]
    )
    assert "test_training_step.py" not in result.stdout.str()


@pytest.fixture
def fills(monkeypatch, pytester, full):
    """A folder for temporary files, and a disk that is full as soon as one case is written: its folder, or all."""

    def fill(all_of_it):
        write = RunFile.write

        def once(file, document):
            write(file, document)
            full.append(pytester.path if all_of_it else pytester.path / "kept")

        monkeypatch.setattr(RunFile, "write", once)
        monkeypatch.setattr(Path, "home", lambda: pytester.path / "home")
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))
        return elsewhere

    elsewhere = pytester.mkdir("elsewhere")
    return fill


def test_a_disk_that_fills_meanwhile_costs_no_result(perf, pytester, fills):
    elsewhere = fills(all_of_it=False)
    result = perf(STEP, "--perf-device=cpu", "--perf-batch-size=64,128")
    assert result.ret == 0
    (record,) = elsewhere.iterdir()
    (partial,) = kept(pytester)
    assert [len(read(path)["benchmarks"]) for path in (record, partial)] == [2, 1]
    result.stdout.fnmatch_lines(
        ["*128 *", f"*kept/*/{record.name}: cannot be written: No space left on device", f"Kept as {record} instead"]
    )


@pytest.mark.parametrize("wanted", [False, True])
def test_where_no_folder_can_be_written_the_report_is_printed_all_the_same(perf, pytester, fills, wanted):
    fills(all_of_it=True)
    target = pytester.path / "out.json"
    asked = [f"--benchmark-json={target}"] if wanted else []
    result = perf(STEP, "--perf-device=cpu", "--perf-batch-size=64,128", *asked)
    assert result.ret == 4
    result.stdout.fnmatch_lines(
        [
            *([f"{target}: cannot be written: No space left on device"] if wanted else []),
            "*128 *",
            "*kept/*: cannot be written: No space left on device",
            "The record is lost: no other folder *",
        ]
    )


def test_the_file_that_is_asked_for_is_said(perf, pytester):
    target = pytester.path / "out.json"
    result = perf(STEP, "--perf-device=cpu", f"--benchmark-json={target}")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"Wrote benchmark data in: {target}"])
    assert len(read(target)["benchmarks"]) == 1
    other = pytester.path / "other.json"
    result = perf(STEP, "--perf-device=cpu", f"--benchmark-json={other}", "--benchmark-disable")
    result.stdout.fnmatch_lines([f"{other}: not written, as nothing was measured"])


def test_a_partial_run_can_be_compared_with_by_name(perf, pytester):
    perf(STEP, "--perf-device=cpu")
    (path,) = kept(pytester)
    result = perf(STEP, "--perf-device=cpu", f"--benchmark-compare={path.stem}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_training_step[[]cpu-bs64] (*"])


def test_where_one_step_is_asked_for_its_loss_need_not_fall(perf, monkeypatch):
    monkeypatch.setattr("model.training.TrainingStep.update", lambda self: None)
    perf(STEP, "--perf-device=cpu", "--benchmark-disable").assert_outcomes(passed=1)


def test_a_step_that_trains_nothing_fails_in_one_line_and_is_not_saved(perf, pytester, monkeypatch):
    """A broken step looks fast: here the update is left out."""
    monkeypatch.setattr("model.training.TrainingStep.update", lambda self: None)
    result = perf(PERF, "--perf-device=cpu", "-k", "step or inference")
    result.assert_outcomes(failed=1, passed=1, deselected=5)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["the loss does not fall: *", "*failed 1*"])
    assert "Traceback" not in result.stdout.str()
    (path,) = kept(pytester)
    document = read(path)
    assert [benchmark["name"] for benchmark in document["benchmarks"]] == ["test_inference[cpu-bs64]"]
    assert [case["outcome"] for case in document["perf"]["cases"]] == ["failed", "measured"]


def test_a_loss_that_is_not_finite_fails(perf, monkeypatch):
    monkeypatch.setattr(Trainee, "mean_loss", lambda self, batches: float("nan"))
    result = perf(STEP, "--perf-device=cpu")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the loss is not finite: nan at first, nan at last"])


def test_out_of_memory_names_the_batch_size_and_the_next_case_runs(perf, pytester, monkeypatch):
    original = Trainee.mean_loss

    def full(self, batches):
        if len(batches[0][0]) == 512:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")
        return original(self, batches)

    monkeypatch.setattr(Trainee, "mean_loss", full)
    result = perf(STEP, "--perf-device=cpu", "--perf-batch-size=512,64")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["out of memory on cpu at batch size 512: CUDA out of memory*", "*out of memory 1 (*bs512*"]
    )
    (path,) = kept(pytester)
    assert [case["outcome"] for case in read(path)["perf"]["cases"]] == ["out-of-memory", "measured"]


def test_benchmark_disable_runs_each_case_once_as_a_test(perf, pytester):
    result = perf(PERF, "--perf-device=cpu", "--benchmark-disable")
    result.assert_outcomes(passed=5, skipped=2)
    result.stdout.fnmatch_lines(["measured 0 · ran once 5 *", "Nothing was measured."])
    assert kept(pytester) == []


def test_a_measured_case_whose_clean_up_fails_leaves_the_record(perf, pytester, monkeypatch):
    calls = iter(range(9))

    def free(device):
        if next(calls) == 1:
            raise RuntimeError("the device is lost")

    monkeypatch.setattr(memory, "free", free)
    perf(STEP, "--perf-device=cpu").assert_outcomes(passed=1, errors=1)
    (path,) = kept(pytester)
    document = read(path)
    assert path.name.startswith("partial_")
    assert document["benchmarks"] == []
    assert [(case["outcome"], case["reason"]) for case in document["perf"]["cases"]] == [
        ("failed", "the device is lost")
    ]


def test_the_name_of_benchmark_save_is_the_name_of_the_run(perf, pytester):
    perf(PERF, "--perf-device=cpu", "--benchmark-save=before")
    assert [path.name for path in kept(pytester)] == ["0001_before.json"]


def test_the_stock_table_comes_when_it_is_asked_for(perf):
    assert "Name (time in" not in perf(STEP, "--perf-device=cpu").stdout.str()
    assert "Name (time in" in perf(STEP, "--perf-device=cpu", "--benchmark-columns=median").stdout.str()


def test_an_ini_file_sets_the_options(perf, pytester):
    result = perf(STEP, "--collect-only", "-q", "-o", "perf_batch_size=7", "-o", "perf_device=cpu", quick=False)
    result.stdout.fnmatch_lines(["*test_training_step[[]cpu-bs7]"])


def test_threads_asked_for_are_used_and_given_back(perf, pytester, has_cores):
    has_cores(2)
    assert torch.get_num_threads() == 1
    perf(STEP, "--perf-device=cpu", "--perf-threads=2")
    assert torch.get_num_threads() == 1
    assert read(kept(pytester)[0])["perf"]["environment"]["threads"] == 2


def test_what_is_finished_is_on_disk_before_the_next_case_begins(perf, pytester, monkeypatch):
    seen = []
    original = measure.Measurement.cold_start

    def spy(self, build, first):
        seen.append([len(read(path)["benchmarks"]) for path in kept(pytester)])
        return original(self, build, first)

    monkeypatch.setattr(measure.Measurement, "cold_start", spy)
    perf(PERF, "--perf-device=cpu", "-k", "step or inference or run")
    assert seen == [[], [1], [2]]


def test_the_report_is_at_most_100_columns_wide(perf):
    lines = perf(PERF, "--perf-device=cpu").stdout.str().split("Stepwatch =")[1].splitlines()
    paths = ("Saved as", "        --benchmark-storage=")  # a path is never broken
    assert [line for line in lines[1:] if len(line) > 100 and not line.startswith(paths)] == []


def test_output_that_is_no_terminal_has_no_control_characters(perf):
    result = perf(STEP, "--perf-device=cpu")
    assert "\x1b" not in result.stdout.str() + result.stderr.str()


def test_the_suites_own_tests_are_run_without_any_of_this(pytester):
    pytester.makepyfile("def test_plain(): pass")
    pytester.makeconftest("pytest_plugins = ['perf.harness.plugin.hooks']")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*Stepwatch*")
    assert not (pytester.path / ".benchmarks").exists() or not any((pytester.path / ".benchmarks").iterdir())


def test_benchmarks_of_others_are_still_told_of_another_machine(pytester):
    pytester.makepyfile("def test_plain(benchmark): benchmark.pedantic(int, rounds=3)")
    pytester.makeconftest("pytest_plugins = ['perf.harness.plugin.hooks']")
    common = ("-p", "no:cacheprovider", "-p", "no:xdist", f"--benchmark-storage={pytester.path / 'kept'}")
    assert pytester.runpytest_inprocess(*common, "--benchmark-save=before").ret == 0
    (path,) = kept(pytester)
    path.write_text(json.dumps(read(path) | {"machine_info": {"node": "another"}}))
    result = pytester.runpytest_inprocess(*common, "--benchmark-compare=0001")
    result.stdout.fnmatch_lines(["*PytestBenchmarkWarning: Benchmark machine_info is different.*"])


def test_it_runs_from_another_folder(pytester, digits_root):
    """Nothing is preloaded here, neither the run nor its passes."""
    command = [sys.executable, "-m", "pytest", STEP, *QUICK, "--perf-device=cpu", f"--perf-data-root={digits_root}"]
    command += ["-p", "no:cacheprovider", f"--benchmark-storage={pytester.path / 'kept'}"]
    result = pytester.run(*command, "--perf-passes=2")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*1 passed*"])


def test_the_overhead_of_a_batch_too_small_to_fit_a_line_is_not_known_and_no_larger_batch_is_tried(perf, pytester):
    perf(STEP, "--perf-device=cpu", "--perf-batch-size=4").assert_outcomes(passed=1)
    assert read(kept(pytester)[0])["benchmarks"][0]["extra_info"]["overhead_s"] is None


def test_the_scaler_of_fp16_waits_so_nothing_is_said_of_the_hosts_share(perf, gpu, pytester):
    perf(STEP, "--perf-device=cuda", "--perf-precision=fp32,fp16").assert_outcomes(passed=2)
    plain, scaled = (one["extra_info"] for one in read(kept(pytester)[-1])["benchmarks"])
    assert plain["enqueue_s"] > 0
    assert plain["done_s"] >= plain["enqueue_s"]
    assert "enqueue_s" not in scaled


def test_an_interrupt_at_an_instruction_without_a_line_leaves_the_report():
    def interrupted():
        raise KeyboardInterrupt

    code = interrupted.__code__.replace(co_linetable=b"")
    with pytest.raises(KeyboardInterrupt) as caught:
        types.FunctionType(code, {})()
    with pytest.raises(TypeError):
        caught.getrepr(funcargs=True)  # as the terminal does
    hooks.pytest_keyboard_interrupt(caught)
    assert caught.getrepr(funcargs=True)


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_program_is_taken_for_ctrl_c_while_a_run_lasts(perf, monkeypatch, ends):
    seen = []
    monkeypatch.setattr(Measure, "collected", lambda way, session: seen.append(signal.getsignal(ends)))
    before = signal.signal(ends, signal.SIG_DFL)  # below nohup it is ignored, and stays so
    try:
        perf(STEP, "--collect-only")
        assert (seen, signal.getsignal(ends)) == ([signal.default_int_handler], signal.SIG_DFL)
        signal.signal(ends, signal.SIG_IGN)
        perf(STEP, "--collect-only")
        assert seen[1:] == [signal.SIG_IGN]
    finally:
        signal.signal(ends, before)


def test_a_run_that_is_terminated_says_what_it_has_measured_and_where_that_is_kept(
    pytester, digits_root, torch_process
):
    command = [sys.executable, "-m", "pytest", str(PERF), "-v", "-p", "no:cacheprovider", "--perf-device=cpu", *QUICK]
    command += [
        f"--perf-data-root={digits_root}",
        "--perf-data=digits",
        f"--benchmark-storage={pytester.path / 'kept'}",
    ]
    with torch_process.start(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        said = []
        for line in run.stdout:
            said.append(line)
            if "test_training_step[cpu-bs64] PASSED" in line:
                run.send_signal(signal.SIGTERM)
    text = "".join(said)
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "PARTIAL: the run did not finish" in text
    assert f"Kept as {kept(pytester)[0]}" in text
