"""Runs in, text out: exact texts of small reports, and what holds for any names and numbers."""

import csv
import json
import math
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perf.harness.record import Benchmark, Case, Run
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.report import FORMATS, UnknownReference, encodable, header, render
from perf.harness.report.bound import Bound, device_bound, epoch_bound, host_bound
from perf.harness.report.rows import compare, letters

# Samples whose median is 1 and whose interval is narrow: ×m, they are a benchmark of m seconds.
STEADY = (0.99, 1.01, 1.0, 0.99, 1.01, 1.0, 1.0)


def benchmark(kind, device="cpu", batch=64, pipeline=None, seconds=1.0, samples=STEADY, **info):
    name = "-".join(str(part) for part in (device, f"bs{batch}", pipeline) if part)
    return Benchmark(
        name=f"test_{kind}[{name}]",
        fullname=f"perf/test_{kind}.py::test_{kind}[{name}]",
        group=kind,
        seconds=tuple(seconds * sample for sample in samples),
        iterations=1,
        stats={},
        info={
            "benchmark": kind,
            "model": "simple_nn",
            "data": "mnist",
            "device": device,
            "batch_size": batch,
            "pipeline": pipeline,
            "precision": "fp32",
            "profile": "standard",
            "samples_per_iteration": batch,
        }
        | info,
    )


def foreign(name="test_sum", median=2e-6, **stats):
    return Benchmark(name, name, None, (), 1, {"median": median, **stats})


def run(*benchmarks, source="cpu.json", cases=(), complete=True, **perf):
    return Run(source, "", tuple(benchmarks), tuple(cases), complete, {}, perf)


MACHINE = {
    "profile": "standard",
    "host_name": "box",
    "settings": {"seed": 0, "rounds": None, "profile": "standard"},
    "data": {"name": "mnist", "digest": "d", "train_samples": 60000, "test_samples": 10000, "note": "checked"},
    "environment": {
        "cpu_model": "AMD EPYC",
        "cpu_cores": 2,
        "cpu_capability": "AVX2",
        "memory_bytes": 8 * 2**30,
        "threads": 1,
        "torch": "2.15.0",
        "cuda": "13.0",
        "python": "3.11.7",
    },
    "devices": {"cpu": {"name": "CPU"}, "cuda": {"absent": "no NVIDIA driver found"}},
}
GPU = {"name": "H100", "multiprocessors": 132, "memory_bytes": 79.2 * 2**30, "driver": "580.65"}

CPU_RUN = run(
    benchmark("training_step", batch=64, seconds=800e-6, overhead_s=600e-6, parameters=101770, flop_per_sample=6.1e5,
              cold_start_s=0.05, peak_bytes=500 * 2**20),
    benchmark("training_step", batch=512, seconds=3.2e-3, overhead_s=600e-6, peak_bytes=600 * 2**20),
    benchmark("input_pipeline", pipeline="dataloader", seconds=64 / 7000),
    benchmark("epoch", pipeline="resident", seconds=0.9, samples_per_iteration=60000,
              phases_s={"data_wait": 0.05, "copy": 0.0}, phases_wall_s=1.0),
    benchmark("epoch", pipeline="dataloader", seconds=9.0, samples_per_iteration=60000,
              phases_s={"data_wait": 8.0, "copy": 0.5}, phases_wall_s=10.0),
    benchmark("training_run", pipeline="resident", seconds=4.5, samples_per_iteration=300000, epochs=5,
              accuracy=0.9234, loss_last=0.2711),
    cases=[Case("a", "measured"), Case("x::b[cuda]", "skipped", "cuda: no NVIDIA driver found")],
    **MACHINE,
)  # fmt: skip

CPU_TEXT = """\
Stepwatch

cpu       AMD EPYC, 2 cores, AVX2, 8.00 GiB
cuda      absent: no NVIDIA driver found
software  torch 2.15.0, CUDA 13.0, 1 thread, Python 3.11.7
data      mnist, 60,000 training samples, 10,000 test samples (checked)
model     simple_nn, 101,770 parameters, 610 kFLOP per sample and training step
run       profile standard, on box
settings  seed=0

Training step

batch  device           time  samples/s  bound by
-----  ------  -------------  ---------  ------------
   64  cpu      800 µs ±0.5%     80,000  overhead 75%
  512  cpu     3.20 ms ±0.5%    160,000  compute 81%

Epoch

batch  pipeline    device          time  samples/s       vs dataloader  bound by
-----  ----------  ------  ------------  ---------  ------------------  ---------
   64  dataloader  cpu     9.00 s ±0.5%      6,670                  1×  input 85%
   64  resident    cpu     900 ms ±0.5%     66,700  10.0× [9.88, 10.1]  step 95%

Input pipeline

batch  pipeline    device           time  samples/s
-----  ----------  ------  -------------  ---------
   64  dataloader  cpu     9.14 ms ±0.5%      7,000

Training run (5 epochs)

batch  pipeline  device          time  samples/s  accuracy  final loss
-----  --------  ------  ------------  ---------  --------  ----------
   64  resident  cpu     4.50 s ±0.5%     66,700     92.3%       0.271

Start-up and memory

benchmark      device  first call, at most  peak memory, at most
-------------  ------  -------------------  --------------------
Training step  cpu                 50.0 ms   600 MiB (batch 512)

time: median, ± half the interquartile range.
[…]: 95% interval of the ratio of medians, from within one run; two runs of the same code differ by
more.
bound by overhead: the fixed cost of a call, whatever the batch; compute: the work on the samples.
bound by input: the share of an epoch spent waiting for and copying batches; step: the training
steps.
peak memory: of torch's allocator on an accelerator, of the whole process on a CPU.

measured 1 · skipped 1 (cuda: no NVIDIA driver found) · failed 0

On this CPU the training step reaches 80,000 samples/s at batch 64; the dataloader pipeline delivers
7,000/s, so an epoch is 85% waiting for input: resident makes it 10.0× faster.

To compare with a GPU, bring its file here:

    pytest perf/ --benchmark-json=gpu.json   # on the machine with the GPU
    python -m perf report cpu.json gpu.json"""


TWO_TEXT = """\
Stepwatch

A  cpu.json
   model     simple_nn

B  gpu.json
   cuda      H100, 132 multiprocessors, 79.2 GiB, driver 580.65
   model     simple_nn

Training step

batch  device           time  samples/s       speedup vs A:cpu  bound by
-----  ------  -------------  ---------  ---------------------  --------
   64  A:cpu   1.00 ms ±0.5%     64,000                     1×
   64  B:cuda  2.00 ms ±0.5%     32,000  0.500× [0.494, 0.506]  launch
  512  A:cpu   3.00 ms ±0.5%    171,000                     1×
  512  B:cuda  3.00 ms ±0.5%    171,000    1.00× [0.988, 1.01]  device
 1024  A:cpu   6.00 ms ±0.5%    171,000                     1×
 1024  B:cuda  1.00 ms ±0.5%  1,020,000     6.00× [5.93, 6.07]  device

time: median, ± half the interquartile range.
[…]: 95% interval of the ratio of medians, from within one run; two runs of the same code differ by
more.
bound by launch: the host cannot enqueue faster; device: the device is busy.

Training step: B:cuda is faster than A:cpu at batch 1024, by 6.00×; slower at batch 64, by 2.00×; at
batch 512 the two cannot be told apart.

On A:cpu the training step reaches 171,000 samples/s at batch 512.

On B:cuda the training step reaches 1,020,000 samples/s at batch 1024."""


def test_a_machine_with_a_cpu_gets_its_tables_and_a_conclusion():
    assert render([CPU_RUN]) == CPU_TEXT


def test_two_machines_get_letters_and_the_device_that_wins_is_named():
    cpu = run(
        *(benchmark("training_step", batch=size, seconds=t) for size, t in ((64, 1e-3), (512, 3e-3), (1024, 6e-3)))
    )
    gpu = run(
        benchmark("training_step", "cuda", 64, seconds=2e-3, enqueue_s=1.9e-3),
        benchmark("training_step", "cuda", 512, seconds=3e-3, enqueue_s=1e-3),
        benchmark("training_step", "cuda", 1024, seconds=1e-3, enqueue_s=1e-4),
        source="gpu.json",
        devices={"cuda": GPU},
    )
    assert render([cpu, gpu]) == TWO_TEXT


MARKDOWN = r"""## Stepwatch

### Other benchmarks

| name                       |   median |   spread |   rounds |
|:---------------------------|---------:|---------:|---------:|
| a\|b\\c\<b\>\`\*\_\[x\](y) |  2.00 µs |     ±50% |        5 |

time: median, ± half the interquartile range."""


def test_markdown_has_tables_and_no_markup_of_strangers():
    name = "a|b\\c<b>`*_[x](y)"
    text = render([run(foreign(name, rounds=5, q1=1e-6, q3=3e-6), source="x.json")], format="github")
    assert text == MARKDOWN


def test_csv_has_raw_numbers_with_units_in_the_column_names():
    rows = list(csv.DictReader(render([CPU_RUN], format="csv").splitlines()))
    assert len(rows) == 6
    step = rows[0]
    assert float(step["median_s"]) == pytest.approx(800e-6)
    assert float(step["samples_per_s"]) == pytest.approx(80_000)
    assert step["bound_by"] == "overhead"
    assert float(step["bound_share"]) == pytest.approx(0.75)
    assert (step["batch_size"], step["pipeline"], step["speedup"]) == ("64", "", "")
    [resident] = [row for row in rows if row["benchmark"] == "epoch" and row["pipeline"] == "resident"]
    assert float(resident["pipeline_speedup"]) == pytest.approx(10)
    assert float(resident["pipeline_speedup_low"]) < 10 < float(resident["pipeline_speedup_high"])


def test_json_has_the_columns_of_the_csv_and_null_for_what_is_unknown():
    rows = json.loads(render([CPU_RUN], format="json"))
    assert [list(row) for row in rows] == [render([CPU_RUN], format="csv").splitlines()[0].split(",")] * 6
    assert rows[0]["speedup"] is None and rows[0]["batch_size"] == 64 and rows[0]["complete"] is True


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_a_formula(start):
    [row] = csv.DictReader(render([run(foreign(f'{start}HYPERLINK("http://x")'))], format="csv").splitlines())
    assert row["name"].startswith("'")


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="'html' is none of terminal, github, csv, json"):
        render([CPU_RUN], format="html")


# What bounds it


def test_a_call_is_launch_bound_from_nine_tenths_of_enqueueing_on():
    assert device_bound(0.9, 1.0) == Bound("launch")
    assert device_bound(0.89, 1.0) == Bound("device")
    assert device_bound(2.0, 1.0) == Bound("launch")


def test_a_call_on_the_cpu_is_bound_by_the_larger_half():
    assert host_bound(0.71, 1.0) == Bound("overhead", 0.71)
    assert host_bound(0.5, 1.0) == Bound("overhead", 0.5)
    assert host_bound(0.15, 1.0) == Bound("compute", 0.85)
    assert host_bound(1.3, 1.0) == Bound("overhead", 1.0)


def test_an_epoch_is_bound_by_input_or_by_steps():
    assert epoch_bound(9.3, 10.0) == Bound("input", 0.93)
    assert epoch_bound(1.5, 10.0) == Bound("step", 0.85)


@pytest.mark.parametrize(
    ("kind", "device", "info"),
    [
        ("training_step", "cpu", {}),
        ("training_step", "cpu", {"overhead_s": 0}),
        ("training_step", "cpu", {"overhead_s": "x"}),
        ("training_step", "cpu", {"enqueue_s": 1.0}),
        ("inference", "cuda:1", {"overhead_s": 1.0}),
        ("epoch", "cpu", {"phases_s": {"data_wait": 1.0}, "phases_wall_s": 1.0}),
        ("epoch", "cpu", {"phases_s": {"data_wait": 1.0, "copy": 0.0}}),
        ("epoch", "cpu", {"phases_s": {"data_wait": 1e308, "copy": 1e308}, "phases_wall_s": 1.0}),
        ("input_pipeline", "cpu", {"overhead_s": 1.0}),
    ],
)
def test_what_was_not_measured_is_not_classified(kind, device, info):
    [row] = compare([run(benchmark(kind, device, **info))], None).rows
    assert row.bound is None


# Comparing


def speedups(*runs, reference=None):
    return {
        (row.label, row.kind, row.batch_size, row.pipeline): row.speedup and round(row.speedup.point, 3)
        for row in compare(runs, reference).rows
    }


def test_a_speedup_is_over_the_same_work_on_the_reference():
    both = run(
        benchmark("training_step", "cuda", 64, seconds=1.0),
        benchmark("training_step", "cpu", 64, seconds=3.0),
        benchmark("training_step", "cuda", 512, seconds=1.0),
        benchmark("inference", "cuda", 64, seconds=0.5),
    )
    assert speedups(both) == {
        ("cpu", "training_step", 64, None): None,
        ("cuda", "training_step", 64, None): 3.0,
        ("cuda", "training_step", 512, None): None,
        ("cuda", "inference", 64, None): None,
    }
    assert speedups(both, reference="cuda")["cpu", "training_step", 64, None] == 0.333


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("data", "digits", "different data set (digits, mnist)"),
        ("model", "resnet18", "different model (resnet18, simple_nn)"),
        ("precision", "bf16", "different precision (bf16, fp32)"),
        ("profile", "smoke", "different profile (smoke, standard)"),
        ("batch_size", 65, "not measured there with the same batch size and pipeline"),
        ("pipeline", "workers", "not measured there with the same batch size and pipeline"),
    ],
)
def test_different_work_is_not_compared_and_the_report_says_why(key, value, reason):
    one = run(benchmark("epoch", "cpu"))
    other = run(benchmark("epoch", "cuda", **{key: value}), source="gpu.json")
    assert set(speedups(one, other).values()) == {None}
    text = " ".join(render([one, other]).split())
    assert f"No speedup of B:cuda over A:cpu for epoch: {reason}." in text
    assert "speedup vs" not in text


def test_data_of_the_same_name_and_another_digest_is_other_data():
    one = run(benchmark("epoch", "cpu"), data={"name": "mnist", "digest": "a"})
    other = run(benchmark("epoch", "cuda"), data={"name": "mnist", "digest": "b"}, source="gpu.json")
    assert "for epoch: different data of the same name." in " ".join(render([one, other]).split())


def test_where_two_rows_of_the_reference_fit_neither_is_taken():
    twice = run(benchmark("mine", "cpu"), benchmark("mine", "cpu", seconds=9.0), benchmark("mine", "cuda"))
    assert set(speedups(twice).values()) == {None}
    assert "more than one benchmark there fits" in render([twice])


def test_of_two_rows_of_the_reference_the_one_timed_alike_is_taken():
    latency, throughput = (
        benchmark("mine", "cpu", timing=t, seconds=s) for t, s in (("latency", 4), ("throughput", 2))
    )
    found = compare([run(latency, throughput, benchmark("mine", "cuda", timing="throughput"))], None).rows[-1]
    assert found.label == "cuda" and found.speedup.point == pytest.approx(2.0)


def test_a_pipeline_is_compared_with_the_plain_one_on_its_own_device():
    rows = compare(
        [run(*(benchmark("epoch", d, pipeline=p, seconds=s) for d, p, s in (
            ("cpu", "dataloader", 8), ("cpu", "resident", 2), ("cuda", "dataloader", 6), ("cuda", "resident", 1))))],
        None,
    ).rows  # fmt: skip
    assert {(r.label, r.pipeline): r.pipeline_speedup and r.pipeline_speedup.point for r in rows} == {
        ("cpu", "dataloader"): None,
        ("cuda", "dataloader"): None,
        ("cpu", "resident"): pytest.approx(4.0),
        ("cuda", "resident"): pytest.approx(6.0),
    }


def test_rows_are_sorted_by_batch_pipeline_and_with_the_reference_first():
    rows = compare(
        [run(*(benchmark("epoch", d, b, p) for d in ("cuda", "cpu") for b in (512, 64)
               for p in ("resident", "workers", "dataloader")))],
        None,
    ).rows  # fmt: skip
    assert [(r.batch_size, r.pipeline, r.label) for r in rows] == [
        (b, p, d) for b in (64, 512) for p in ("dataloader", "workers", "resident") for d in ("cpu", "cuda")
    ]


def test_the_reference_is_the_first_cpu_or_the_one_asked_for():
    one, two = run(benchmark("epoch", "cuda")), run(benchmark("epoch", "cuda"), benchmark("epoch", "cpu"))
    assert compare([one], None).reference == "cuda"
    assert compare([one, two], None).reference == "B:cpu"
    assert compare([one, two], "cuda").reference == "A:cuda"
    assert compare([one, two], "B:cuda").reference == "B:cuda"
    assert compare([run(foreign())], None).reference is None


def test_a_reference_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(
        UnknownReference, match="reference 'tpu': no such device in these files, which have: A:cpu, B:cuda"
    ):
        render([run(benchmark("epoch")), run(benchmark("epoch", "cuda"))], reference="tpu")
    with pytest.raises(UnknownReference, match="which have: none of Stepwatch"):
        render([run(foreign())], reference="cpu")


def test_files_are_named_like_the_columns_of_a_spreadsheet():
    assert letters(1) == [""]
    assert letters(28)[:2] + letters(28)[-3:] == ["A", "B", "Z", "AA", "AB"]
    assert letters(703)[-1] == "AAA"


def test_two_files_of_one_machine_keep_their_rows_apart_and_say_that_it_is_one():
    before = run(benchmark("training_step"), fingerprint_id="f", host_name="box")
    after = run(benchmark("training_step", seconds=2.0), fingerprint_id="f", host_name="box", source="after.json")
    text = render([before, after])
    assert "B  after.json (the machine and settings of A)\n\nTraining step" in text
    assert "A:cpu" in text and "B:cpu" in text
    assert "B:cpu is slower than A:cpu at batch 64, by 2.00×" in text


def test_rows_that_look_alike_show_their_names():
    text = render([run(benchmark("mine"), replace(benchmark("mine"), name="test_other"))])
    assert "\ntest_mine[cpu-bs64]     64" in text and "\ntest_other              64" in text


# Sentences


def duel(*pairs, samples=STEADY):
    """The sentence about a GPU that takes the second time where the CPU takes the first, at batch 1, 2, 3, …"""
    rows = []
    for batch, (cpu_s, gpu_s) in enumerate(pairs, start=1):
        rows += [
            benchmark("training_step", d, batch, seconds=s, samples=samples)
            for d, s in (("cpu", cpu_s), ("cuda", gpu_s))
        ]
    text = render([run(*rows)], width=1000)
    [sentence] = [line for line in text.splitlines() if line.startswith("Training step: ")]
    return sentence.removeprefix("Training step: ")


def test_the_device_that_wins_is_named_from_the_batch_size_on_where_it_does():
    assert duel((2, 1), (8, 2)) == "cuda is faster than cpu at every batch size measured, by 2.00× to 4.00×."
    assert duel((1, 1), (2, 1), (8, 2)) == (
        "cuda is faster than cpu from batch 2 on, by 2.00× to 4.00×; at batch 1 the two cannot be told apart."
    )
    assert duel((1, 2), (1, 3), (3, 1)) == (
        "cuda is faster than cpu at batch 3, by 3.00×; slower up to batch 2, by 2.00× to 3.00×."
    )
    assert duel((2, 1), (1, 2), (2, 1)) == (
        "cuda is faster than cpu at batch 1 and 3, by 2.00×; slower at batch 2, by 2.00×."
    )


def test_the_device_that_loses_or_ties_is_not_said_to_win():
    assert duel((1, 2), (1, 2)) == "cuda is slower than cpu at every batch size measured, by 2.00×."
    assert duel((1, 1), (1, 1)) == "at every batch size measured cuda and cpu cannot be told apart."
    assert duel((9, 1), samples=(1.0,)) == "at batch 1 there are too few rounds to tell cuda from cpu."


def test_the_whole_training_run_gets_its_sentence():
    text = render([run(*(benchmark("training_run", d, seconds=s, epochs=5) for d, s in (("cpu", 4), ("cuda", 2))))])
    assert "Training run (5 epochs): cuda is faster than cpu at batch 64, by 2.00×." in text


@pytest.mark.parametrize(
    ("kinds", "sentence"),
    [
        ({"training_step"}, "On this CPU the training step reaches 80,000 samples/s at batch 64."),
        ({"epoch"}, "On this CPU an epoch with dataloader is 85% waiting for input: resident makes it 10.0× faster."),
        ({"input_pipeline", "epoch"}, "On this CPU an epoch with dataloader is 85% waiting for input: resident makes"),
        ({"input_pipeline"}, None),
        ({"training_run"}, None),
    ],
)
def test_a_sentence_says_less_where_something_was_not_measured(kinds, sentence):
    some = replace(
        CPU_RUN,
        benchmarks=tuple(
            b for b in CPU_RUN.benchmarks if b.text("benchmark") in kinds and b.number("batch_size") == 64
        ),
    )
    text = render([some], width=1000)
    assert (sentence in text) if sentence else ("On this CPU" not in text)


def test_an_epoch_that_is_bound_by_its_steps_is_said_to_be():
    phases = {"phases_s": {"data_wait": 1.0, "copy": 0.5}, "phases_wall_s": 10.0}
    text = render([run(benchmark("epoch", pipeline="dataloader", **phases))])
    assert "On this CPU an epoch with dataloader spends 85% in training steps." in text


def test_a_pipeline_that_cannot_be_told_from_the_plain_one_is_not_said_to_help():
    phases = {"phases_s": {"data_wait": 9.0, "copy": 0.0}, "phases_wall_s": 10.0}
    noisy = (0.5, 1.0, 2.0)
    rows = [
        benchmark("epoch", pipeline=p, seconds=s, samples=noisy, **phases)
        for p, s in (("dataloader", 2), ("workers", 1))
    ]
    assert "On this CPU an epoch with dataloader is 90% waiting for input.\n" in render([run(*rows)])


def test_a_pipeline_that_keeps_up_with_the_step_is_not_given_as_the_cause():
    phases = {"phases_s": {"data_wait": 9.0, "copy": 0.0}, "phases_wall_s": 10.0}
    step, pipe = (
        benchmark("training_step", seconds=2.0),
        benchmark("input_pipeline", pipeline="dataloader", seconds=1.0),
    )
    text = render([run(step, pipe, benchmark("epoch", pipeline="dataloader", **phases))], width=200)
    assert "reaches 32.0 samples/s at batch 64; an epoch with dataloader is 90% waiting for input.\n" in text


def test_what_differs_between_rows_gets_a_column_and_what_does_not_gets_none():
    text = render([run(benchmark("epoch", precision="bf16"), benchmark("epoch"), benchmark("epoch", model="resnet18"))])
    assert "model      precision  batch  device " in text
    assert "data set" not in text and "profile" not in text


def test_times_that_scatter_too_much_are_named_and_nothing_is_concluded_from_them():
    rows = [benchmark("training_step", batch=b, samples=s) for b, s in ((64, (0.5, 1.0, 2.0)), (512, STEADY))]
    text = render([run(*rows)], width=200)
    assert "UNSTEADY on cpu: training step at batch 64. Spreads above ±25%, or another" in text
    assert "reaches 512 samples/s at batch 512." in text
    assert "UNSTEADY" not in CPU_TEXT


@pytest.mark.parametrize(("crowding", "unsteady"), [(0.3, True), (0.2, False), (None, False)])
def test_times_from_crowded_cores_are_unsteady_however_close_together(crowding, unsteady):
    text = render([run(benchmark("training_step", samples=STEADY, crowding=crowding))])
    assert ("UNSTEADY on cpu: training step at batch 64." in text) == unsteady


def test_the_way_to_a_gpu_names_a_file_only_where_a_shell_takes_it():
    for source, command in (
        ("runs/cpu.json", "python -m perf report runs/cpu.json gpu.json"),
        ("this run", "python -m perf report cpu.json gpu.json"),
        ("a; rm -rf.json", "python -m perf report cpu.json gpu.json"),
        ("gpu.json", "python -m perf report cpu.json gpu.json"),
        ("x" * 80 + ".json", "python -m perf report cpu.json gpu.json"),
    ):
        text = render([run(benchmark("epoch"), source=source)])
        assert text.endswith(f"    {command}"), source
        assert ("--benchmark-json=cpu.json   # here" in text) == ("report cpu.json" in command)
    assert "To compare with a GPU" not in render([run(benchmark("epoch"), benchmark("epoch", "cuda"))])


def test_counts_group_the_reasons_and_name_what_failed():
    cases = [
        *(Case(f"m{i}", "measured") for i in range(14)),
        *(Case(f"s{i}", "skipped", "cuda: no driver") for i in range(11)),
        Case("s", "skipped", "workers: no fork"),
        Case("perf/test_x.py::test_x[cuda-bs4096]", "out-of-memory", "CUDA out of memory"),
        *(Case(f"perf/test_x.py::test_{i}", "failed") for i in range(5)),
        Case("n", "not-run"),
        Case("o", "odd"),
    ]
    assert render([run(cases=cases)], width=1000).splitlines()[2] == (
        "measured 14 · skipped 12 (11: cuda: no driver; 1: workers: no fork) · out of memory 1 (test_x[cuda-bs4096])"
        " · not run 1 (n) · failed 5 (test_0; test_1; test_2; and 2 more) · odd 1 (o)"
    )


def test_smoke_and_partial_runs_are_labelled():
    smoke = run(
        benchmark(
            "epoch", pipeline="dataloader", profile="smoke", phases_s={"data_wait": 9, "copy": 0}, phases_wall_s=10
        ),
        profile="smoke",
        complete=False,
    )
    text = render([smoke])
    assert text.startswith(
        "Stepwatch\n\nSMOKE: a subset of the data and of the time, not for decisions.\n\n"
        "PARTIAL: the run did not finish.\n"
    )
    assert "\nEpoch – SMOKE\n" in text and "\nSMOKE: On this CPU an epoch" in text
    [row] = json.loads(render([smoke], format="json"))
    assert (row["profile"], row["complete"]) == ("smoke", False)
    mixed = render([CPU_RUN, smoke])
    assert "SMOKE (B): " in mixed and "PARTIAL (B): " in mixed and "\nEpoch – partly SMOKE\n" in mixed


def test_of_training_and_inference_the_deciding_sentence_is_about_training_and_smoke_is_said():
    rows = [
        benchmark(k, d, profile="smoke", seconds=s)
        for k in ("training_step", "inference")
        for d, s in (("cpu", 2), ("cuda", 1))
    ]
    text = render([run(*rows)])
    assert "\nTraining step – SMOKE: cuda is faster than cpu at batch 64, by 2.00×.\n" in text
    assert "Inference – SMOKE:" not in text


def test_a_run_without_benchmarks_says_so():
    assert render([run()]) == "Stepwatch\n\nNothing was measured."


# Header


def test_the_header_names_the_machine_and_why_a_device_is_absent():
    assert header(replace(CPU_RUN, benchmarks=())) == [
        "cpu       AMD EPYC, 2 cores, AVX2, 8.00 GiB",
        "cuda      absent: no NVIDIA driver found",
        "software  torch 2.15.0, CUDA 13.0, 1 thread, Python 3.11.7",
        "data      mnist, 60,000 training samples, 10,000 test samples (checked)",
        "run       profile standard, on box",
        "settings  seed=0",
    ]


def test_the_header_of_a_strangers_file_takes_what_pytest_benchmark_knows():
    machine = {"node": "box", "python_version": "3.12.1", "cpu": {"brand_raw": "M3", "count": 8}}
    assert header(Run("x", "2026-11-23T10:48:00.1+00:00", (), machine=machine)) == [
        "cpu       M3, 8 cores",
        "software  Python 3.12.1",
        "run       2026-11-23 10:48:00, on box",
    ]


@pytest.mark.parametrize("perf", [
    {"environment": [], "devices": "x", "data": 3, "settings": None},
    {"environment": {"cpu_cores": "two", "memory_bytes": {}, "threads": -1.5}, "devices": {"cuda": 7}},
    {"devices": {"cuda": {"name": ["x"], "multiprocessors": 1e400, "memory_bytes": -1}}, "profile": {}},
    {"fingerprint_id": {"a": 1}, "profile": [], "host_name": 5, "data": {"digest": [], "train_samples": "x"}},
])  # fmt: skip
def test_sections_of_the_wrong_shape_are_survived(perf):
    for format in FORMATS:
        render([run(benchmark("epoch"), **perf), run(benchmark("epoch", "cuda"), **perf)], format=format)


def test_a_long_fact_goes_on_in_the_next_line_under_the_first():
    long = replace(CPU_RUN, perf={"data": {"name": "mnist", "note": " ".join(["word"] * 20)}}, benchmarks=())
    assert header(long) == [
        "data      mnist (word word word word word word word word word word word word word word word word",
        "          word word word word)",
    ]
    assert render([long]).splitlines()[2:4] == header(long)
    assert (
        all(len(line) <= 100 for line in header(run(host_name="x" * 10**6)))
        and len(header(run(host_name="x" * 999))) == 4
    )


# The page


def test_a_table_does_not_rewrite_numbers_and_names_that_look_like_them():
    rows = [benchmark("training_run", "cpu", pipeline="007", loss_last=0.27), benchmark("epoch", "1e5")]
    for format in ("terminal", "github"):
        text = render([run(*rows)], format=format)
        assert " 0.270" in text and " 007 " in text and " 1e5 " in text


def test_what_was_left_out_is_named():
    text = render([CPU_RUN], width=60)
    assert "Left out at this width: vs dataloader" in text
    assert max(map(len, text.splitlines())) <= 60


def test_a_terminal_without_our_signs_gets_stand_ins_in_the_same_columns():
    for line, plain in zip(CPU_TEXT.splitlines(), encodable(CPU_TEXT, "ascii").splitlines(), strict=True):
        assert plain.isascii() and len(plain) == len(line) and "?" not in plain
    assert encodable("1.2× ±3% 4 µs", "ascii") == "1.2x ~3% 4 us"
    assert encodable(CPU_TEXT, "utf-8") == CPU_TEXT


@pytest.mark.parametrize("format", FORMATS)
def test_no_control_sequence_reaches_the_page(format):
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n| x |\u202e\u2028"
    info = {key: evil for key in ("model", "data", "device", "pipeline", "precision", "profile", "timing")}
    hostile = Run(
        source=evil,
        datetime=evil,
        benchmarks=(benchmark("epoch"), replace(benchmark("epoch", **info), name=evil), foreign(evil), benchmark(evil)),
        cases=(Case(evil, evil, evil), Case(evil, "skipped", evil), Case(evil, "failed", evil)),
        complete=False,
        perf={"host_name": evil, "profile": evil, "settings": {evil: evil}, "data": {"name": evil, "note": evil},
              "environment": dict.fromkeys(MACHINE["environment"], evil),
              "devices": {evil: {"absent": evil}, "cuda": {"name": evil}}},
    )  # fmt: skip
    for runs in ([hostile], [hostile, CPU_RUN]):
        text = render(runs, format=format)
        assert all(line.isprintable() for line in text.split("\n"))
    assert all(line.isprintable() for line in header(hostile))


text = st.text(max_size=120)
number = st.none() | text | st.floats() | st.integers() | st.floats(min_value=1e-9, max_value=1e9)
kinds = st.sampled_from(["training_step", "inference", "epoch", "input_pipeline", "training_run"]) | text
times = st.lists(st.floats(min_value=1e-18, max_value=1e10), min_size=1, max_size=4)


@st.composite
def benchmarks(draw):
    info = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "benchmark": kinds,
                "device": st.sampled_from(["cpu", "cuda"]) | text,
                "pipeline": st.sampled_from(["dataloader", "resident"]) | text,
                "phases_s": st.dictionaries(st.sampled_from(["data_wait", "copy"]), number),
                **dict.fromkeys(("model", "data", "precision", "profile", "timing"), text),
                **dict.fromkeys(
                    ("batch_size", "samples_per_s", "samples_per_iteration", "peak_bytes", "cold_start_s", "epochs",
                     "accuracy", "loss_last", "overhead_s", "enqueue_s", "phases_wall_s", "parameters",
                     "flop_per_sample"),
                    number,
                ),
            },
        )
    )  # fmt: skip
    return Benchmark(draw(text), draw(text), None, tuple(draw(times)), 1, {}, info)


runs_of_anything = st.builds(
    Run,
    source=text,
    datetime=text,
    benchmarks=st.lists(benchmarks(), max_size=5).map(tuple),
    cases=st.lists(
        st.builds(Case, text, st.sampled_from(["measured", "skipped", "failed"]) | text, text), max_size=3
    ).map(tuple),
    complete=st.booleans(),
    perf=st.fixed_dictionaries(
        {},
        optional={
            "settings": st.dictionaries(text, number, max_size=3),
            "environment": st.fixed_dictionaries({}, optional=dict.fromkeys(MACHINE["environment"], number)),
            "devices": st.dictionaries(text, st.dictionaries(st.sampled_from(list(GPU)), number), max_size=2),
            "data": st.fixed_dictionaries({}, optional=dict.fromkeys(MACHINE["data"], number)),
        },
    ),
)


def columns_of(line):
    """How many columns a terminal needs for `line`."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(runs_of_anything, min_size=1, max_size=3), st.integers(min_value=50, max_value=100))
def test_whatever_the_names_and_numbers_no_line_is_wider_than_the_page(runs, width):
    text = render(runs, width=width)
    assert all(line.isprintable() and columns_of(line) <= width for line in text.split("\n"))
    for line in header(runs[0]):
        assert columns_of(line) <= 100


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(runs_of_anything, min_size=1, max_size=2))
def test_whatever_the_names_and_numbers_programs_can_read_csv_and_json(runs):
    total = sum(len(run.benchmarks) for run in runs)
    rows = json.loads(render(runs, format="json"), parse_constant=lambda token: pytest.fail(token))
    assert len(rows) == total
    assert all(math.isfinite(v) for row in rows for v in row.values() if isinstance(v, float))
    table = render(runs, format="csv").split("\n")
    assert len(list(csv.reader(table))) == len(table) == total + 1
    assert all(line.isprintable() for line in render(runs, format="github").split("\n"))


def test_a_run_of_the_gate_is_reported_by_its_verdicts():
    slower = Judgement("perf/test_x.py::test_x[cpu]", Verdict.SLOWER, "", 1.1, 1.05, 1.15, 1e-3, 1.1e-3, 4)
    text = render([replace(run(), judgements=(slower,))])
    assert "x[cpu]     1.00 ms → 1.10 ms  +10% [+5.0%, +15%]  SLOWER" in text
    assert "Nothing was measured" not in text
