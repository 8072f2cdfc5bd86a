"""Several networks in one run: their cases, their data, what is recorded of them, and what is refused."""

import contextlib
import itertools
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from model import load_recipe
from perf.harness.machine.devices import Device
from perf.harness.machine.load import Load
from perf.harness.measurement.bench import Bench, TooLong
from perf.harness.measurement.step_memory import fresh_step, repeated
from perf.harness.options import PROFILES, SettingsError, resolve
from perf.harness.workload import networks as network
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import BY_NAME
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.plan import Plan
from tests.conftest import PERF, STEP, kept, read, settled, validator

pytest_plugins = ["pytester"]

BOTH = "--perf-model=simple_nn,small_cnn"


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A user's module with two networks for images of one shape."""
    text = "from torch import nn\n"
    for name in ("tiny", "wide"):
        text += f"def {name}(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))\n"
        text += f"{name}.input_shape, {name}.classes = (3, 8, 8), 5\n"
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return "mine:tiny", "mine:wide"


@pytest.mark.parametrize(
    ("model", "begin"),
    [
        (None, "cuda"),
        ("resnet18", "resnet18-cuda"),
        ("my.package:Net", "my.package.Net-cuda"),
        ("a/b:c[d]", "a_b.c_d_-cuda"),
    ],
)
def test_the_id_of_a_case_begins_with_its_network_only_where_there_are_several(model, begin):
    assert Axes("cuda", 32, None, "compile", model=model).id == f"{begin}-bs32-compile"


def test_a_run_of_one_network_knows_no_axis_of_that_name(digits_root):
    made = Plan.of(settled(digits_root, batch_size="64"))
    assert [axes.id for axes in made.axes("training_step")] == ["cpu-bs64"]
    assert (made.fingerprint["model"], made.fingerprint["data"]) == ("simple_nn", "digits")
    assert made.settings.as_record()["model"] == "simple_nn"
    made = made.prepared()
    assert sorted(made.as_record()["data"]) == ["digest", "name", "note", "test_samples", "train_samples"]
    own = Plan.of(settled(digits_root, model="tiny_lm", data="auto")).prepared()
    assert sorted(own.as_record()["data"]) == ["digest", "name", "note", "train_samples"], "it is evaluated on the same"


def test_a_name_given_twice_is_one_network(digits_root):
    made = Plan.of(settled(digits_root, model="simple_nn, simple_nn"))
    assert made.fingerprint_id == Plan.of(settled(digits_root)).fingerprint_id
    assert [axes.id for axes in made.axes("training_run")] == ["cpu"]


def test_each_network_has_its_own_batch_sizes_and_slow_pipelines_at_the_first_of_them(digits_root, monkeypatch):
    monkeypatch.setattr(network, "default_batch_sizes", lambda recipe: (64, 8) if recipe.name == "small_cnn" else (7,))
    made = Plan.of(settled(digits_root, model="simple_nn,small_cnn"))
    assert [axes.id for axes in made.axes("training_step")] == [
        "simple_nn-cpu-bs7", "small_cnn-cpu-bs64", "small_cnn-cpu-bs8",
    ]  # fmt: skip
    slow = [axes.id for axes in made.axes("input_pipeline") if axes.pipeline == "workers"]
    assert slow == ["simple_nn-cpu-bs7-workers", "small_cnn-cpu-bs64-workers"]


def test_data_of_one_shape_is_read_once_and_every_network_has_its_own(digits_root, monkeypatch, nets):
    read_for = []
    original = network.load_data
    monkeypatch.setattr(
        network, "load_data", lambda recipe, settings: read_for.append(recipe.name) or original(recipe, settings)
    )
    made = Plan.of(settled(digits_root, model=",".join(["small_cnn", *nets, "simple_nn"]), batch_size="64"))
    assert (made.fingerprint["model"], made.fingerprint["data"]) == (
        "small_cnn,mine:tiny,mine:wide,simple_nn", "digits,random",
    )  # fmt: skip
    assert not made.ready
    made = made.prepared()
    assert made.ready
    assert read_for == ["small_cnn", "mine:tiny"]
    assert made.network("simple_nn").data is made.network("small_cnn").data
    work = made.workload("cpu", 64, None, model="mine:wide")
    assert (work.recipe.name, work.data.shape) == ("mine:wide", (3, 8, 8))
    assert isinstance(work.trainee().model, nn.Sequential)
    record = made.as_record()["data"]
    assert (record["name"], [one["name"] for one in record["sets"]]) == ("digits,random", ["digits", "random"])


def test_a_batch_that_is_too_large_for_one_network_names_it(digits_root, nets):
    made = Plan.of(settled(digits_root, model=f"simple_nn,{nets[0]}", batch_size="6400,6401"))
    with pytest.raises(SettingsError, match=r"batch size 6401 .* 6,400 training samples of digits that simple_nn has"):
        made = made.prepared()


def test_convolutions_are_channels_last_on_a_gpu_alone_and_compute_the_same(digits_root, gpu):
    settings = settled(digits_root, model="small_cnn", device="cpu,cuda", batch_size="8")
    made = Plan.of(settings)
    small = made.network()
    made = replace(made, networks={"small_cnn": replace(small, recipe=replace(small.recipe, channels_last=True))})
    made = made.prepared()
    losses = {}
    for device, format_ in (("cpu", torch.contiguous_format), ("cuda", torch.channels_last)):
        work = made.workload(device, 8, None)
        assert work.memory_format is format_
        trainee, batches = work.trainee(), work.batches(4)
        assert trainee.model.second.weight.is_contiguous(memory_format=format_)
        assert all(images.is_contiguous(memory_format=format_) for images, _ in batches)
        losses[device] = [trainee.step(*batch).item() for batch in batches]
        trainee.restore()
        assert trainee.model.second.weight.is_contiguous(memory_format=format_)
        assert fresh_step(work).model.second.weight.is_contiguous(memory_format=format_)
        assert repeated(batches[0], 20)[0].is_contiguous(memory_format=format_)
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-5)


@pytest.mark.parametrize(("name", "wanted"), [("resnet18", True), ("vit_b_16", False), ("simple_nn", False)])
def test_a_recipe_says_whether_its_convolutions_want_channels_last(name, wanted):
    assert load_recipe(name).channels_last is wanted


FULL = ("--perf-profile=full", "--collect-only", "-q")


def test_the_full_profile_has_defaults_that_the_user_overrides(digits_root):
    full = settled(digits_root, profile="full")
    assert full.model == "simple_nn,small_cnn,tiny_lm,resnet18,resnet50,vit_b_16"
    assert (full.executions, full.precisions) == (("eager", "compile", "cudagraph"), ("fp32", "tf32", "bf16", "fp16"))
    typed = settled(digits_root, profile="full", model="small_cnn", execution="eager", precision="bf16")
    assert (typed.model, typed.executions, typed.precisions) == ("small_cnn", ("eager",), ("bf16",))
    ini = resolve({"profile": "full"}, {"model": "resnet18"}, "ini", Path(digits_root))
    assert ini.model == "resnet18"


def test_the_full_profile_times_steps_alone_of_large_images(perf):
    listed = "--perf-model=simple_nn,resnet18", "--perf-execution=eager,compile", "--perf-precision=fp32,bf16"
    result = perf(PERF, *FULL, *listed, "--perf-device=cpu", quick=False)
    ids = {line.partition("::test_")[2] for line in result.outlines if "::" in line}
    assert {name for name in ids if "resnet18" in name} == {
        *(f"{kind}[resnet18-cpu{size}{mode}]" for mode in ("", "-bf16", "-compile", "-compile-bf16") for kind, size in (
          *itertools.product(("training_step", "memory"), ("-bs8", "-bs32")), ("largest_batch", ""))),
        *(f"{kind}[resnet18-cpu]" for kind in ("inference", "epoch", "input_pipeline", "training_run")),
    }  # fmt: skip
    assert "epoch[simple_nn-cpu-bs4096-resident-compile-bf16]" in ids
    assert {name for name in ids if "epoch" in name and "dataloader" in name} == {
        "epoch[simple_nn-cpu-bs64-dataloader]"
    }


def test_what_the_full_profile_leaves_out_is_skipped_with_the_reason(perf, pytester, nets, monkeypatch):
    monkeypatch.setattr("perf.harness.workload.plan.large_images", lambda recipe: recipe.name == nets[0])
    one_mode = "--perf-execution=eager", "--perf-precision=fp32", "--perf-batch-size=64", "--perf-rounds=3"
    few = (
        PERF,
        "--perf-profile=full",
        "--perf-passes=1",
        "--perf-device=cpu",
        *one_mode,
        f"--perf-model={','.join(nets)}",
    )
    result = perf(*few, "--perf-data=auto", "-k", "step or inference", quick=False)
    result.assert_outcomes(passed=3, skipped=1, deselected=14)
    result.stdout.fnmatch_lines(["*skipped 1 (the profile full has no inference for networks of large images)*"])
    (path,) = kept(pytester)
    assert [error.message for error in validator().iter_errors(read(path))] == []


def test_a_step_and_a_pass_that_take_too_long_on_a_cpu_are_skipped(perf, monkeypatch):
    monkeypatch.setitem(PROFILES, "smoke", replace(PROFILES["smoke"], longest_s=0.0))
    result = perf(PERF, "--perf-device=cpu", "-rs")
    result.assert_outcomes(passed=2, skipped=5)
    result.stdout.fnmatch_lines_random(
        [
            f"SKIPPED*cpu: one {kind} takes about * s, by the fastest of 3 steps*; the profile smoke allows 0 s"
            for kind in ("training step", "epoch", "training run")
        ]
    )


@pytest.mark.parametrize(
    ("slow", "missing", "planned", "says"),
    [
        (0, 1.3, False, None),
        (2, 1.3, False, None),
        (
            3,
            1.3,
            False,
            "takes about 30 s, by the fastest of 3 steps, while other programs use 1.3 of the cores .*; the .* 20 s$",
        ),
        (3, 0.0, True, "takes about 30 s, by the fastest of 3 steps; the profile smoke allows 20 s$"),
        (0, 0.7, True, None),
        (
            0,
            0.8,
            True,
            "takes about 10 s, .* use 0.8 of the cores that it needs; .* allows 5.1 s on so busy a machine$",
        ),
        (3, 0.8, True, "takes about 30 s, .* allows 5.1 s on so busy a machine$"),
    ],
)
def test_a_step_that_is_slow_by_chance_does_not_skip_its_case(slow, missing, planned, says, monkeypatch):
    """A call is 100 steps. The first `slow` steps take 0.3 s, the others 0.1 s; the limit is 20 s.

    In a run that plans its time, it is 5.1 s where 0.8 of two cores or more are missing.
    """
    readings = iter([time for number in range(3) for time in (0.0, 0.3 if number < slow else 0.1)])
    restored = []
    trainee = types.SimpleNamespace(step=lambda *batch: None, restore=lambda: restored.append(True))
    bench = types.SimpleNamespace(
        _longest_s=20.0,
        _longest_starved_s=5.1 if planned else 20.0,
        workload=types.SimpleNamespace(batches=lambda count: [()], device=types.SimpleNamespace(name="cpu")),
        measurement=types.SimpleNamespace(timer=lambda: next(readings)),
        definition=types.SimpleNamespace(title="Epoch"),
        info=types.SimpleNamespace(profile="smoke"),
    )
    monkeypatch.setattr(Load, "missing_cores", lambda self, threads: missing)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    with pytest.raises(TooLong, match=f"^cpu: one epoch {says}") if says else contextlib.nullcontext():
        Bench.check_length(bench, trainee, 100)
    assert restored


@pytest.mark.parametrize(("typed", "limits"), [({}, (20.0, 6.6)), ({"rounds": "3"}, (20.0, 20.0))])
def test_a_run_that_plans_its_time_gives_a_call_three_times_the_share_of_a_case(typed, limits, digits_root):
    """Where other programs have the cores; a user who names rounds gets them all the same."""
    work = types.SimpleNamespace(
        recipe=load_recipe("simple_nn"), data=types.SimpleNamespace(name="digits", digest="0"), device=Device("cpu"),
        batch_size=64, pipeline=None, memory_format=torch.contiguous_format, mode=Mode(),
    )  # fmt: skip
    benchmark = types.SimpleNamespace(pedantic=None, enabled=True, extra_info={})
    bench = Bench(BY_NAME["epoch"], work, settled(digits_root, **typed), benchmark, "CPU", None)
    assert (bench._longest_s, bench._longest_starved_s) == pytest.approx(limits)


def test_a_gpu_has_no_longest_step(perf, gpu, monkeypatch):
    monkeypatch.setitem(PROFILES, "smoke", replace(PROFILES["smoke"], longest_s=0.0))
    perf(STEP, "--perf-device=cuda").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--perf-model=simple_nn,small_cnm"], "unknown model 'small_cnm': did you mean small_cnn*"),
        (["--perf-model=simple_nn,"], "--perf-model: has an empty item*"),
        ([BOTH, "--perf-against=."], "--perf-against judges one network, and --perf-model names 2: name one"),
        (["--perf-profile=full", "--perf-against=."], "--perf-against and --perf-profile=full exclude each other*"),
        ([BOTH, "--perf-profile=qualify"], "--perf-profile=qualify judges one network*"),
    ],
)
def test_a_list_that_cannot_be_is_refused_before_anything_is_measured(perf, pytester, arguments, says):
    result = perf(STEP, "--perf-device=cpu", *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {says}"])
    assert kept(pytester) == []


def test_two_networks_are_measured_recorded_and_reported_by_name(perf, pytester):
    result = perf(PERF, "--perf-device=cpu", BOTH, "-k", "step or pipeline")
    result.assert_outcomes(passed=4, deselected=10)
    (path,) = kept(pytester)
    assert path.parents[2].name.startswith("smoke-simple_nn_small_cnn-digits-")
    document = read(path)
    assert [error.message for error in validator().iter_errors(document)] == []
    assert {one["extra_info"]["memory_format"] for one in document["benchmarks"]} == {"contiguous_format"}
    assert {one["name"]: one["extra_info"]["model"] for one in document["benchmarks"]} == {
        "test_training_step[simple_nn-cpu-bs64]": "simple_nn",
        "test_training_step[small_cnn-cpu-bs64]": "small_cnn",
        "test_input_pipeline[simple_nn-cpu-bs64-resident]": "simple_nn",
        "test_input_pipeline[small_cnn-cpu-bs64-resident]": "small_cnn",
    }
    result.stdout.fnmatch_lines(["model *simple_nn, 101,770 parameters*", "*small_cnn *64  cpu *"])


def test_floating_point_operations_that_are_not_seen_are_named_and_no_number_is_made_of_the_rest(perf, pytester):
    pytester.makepyfile(
        rows="""
        from torch import nn

        class Rows(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.out = nn.LSTM(28, 8, batch_first=True), nn.Linear(8, 10)

            def forward(self, images):
                return self.out(self.layer(images.squeeze(1))[0][:, -1])
        """
    )
    pytester.syspathinsert()
    result = perf(STEP, "--perf-device=cpu", "--perf-model=rows:Rows")
    result.stdout.fnmatch_lines(["model * parameters, FLOP not counted: LSTM"])
    info = read(kept(pytester)[0])["benchmarks"][0]["extra_info"]
    assert (info["flop_per_sample"], info["flop_uncounted"]) == (None, "LSTM")


def test_the_work_of_samples_of_different_lengths_is_that_of_the_mini_batches_that_are_timed(perf, pytester):
    pytester.makepyfile(
        padded="""
        import torch

        class Padded:
            "A mini-batch is as long as its longest sample: the more samples, the longer."
            def __init__(self):
                self.model = torch.nn.Linear(8, 8)

            def batch(self, size):
                return torch.randn(size, size, 8)

            def loss(self, batch):
                return self.model(batch).square().mean()
        """
    )
    pytester.syspathinsert()
    own = ("--perf-data=auto", "--perf-model=padded:Padded", "--perf-batch-size=16,32")
    perf(STEP, "--perf-device=cpu", *own).assert_outcomes(passed=2)
    found = {one["name"]: one["extra_info"]["flop_per_sample"] for one in read(kept(pytester)[0])["benchmarks"]}
    product = 2 * 8 * 8  # of one row, forward; as much again for the gradient of the weights
    assert found == {"test_training_step[cpu-bs16]": 16 * 2 * product, "test_training_step[cpu-bs32]": 32 * 2 * product}


def test_an_anonymous_record_names_no_folder_of_the_user_no_repository_and_no_branch(perf, pytester, digits_root):
    pytester.makepyfile(
        mine="""
        from torch import nn

        class Net(nn.Linear):
            def __init__(self):
                super().__init__(784, 10)

            def forward(self, images):
                self.calls = getattr(self, "calls", 0) + 1
                if self.calls > 10:
                    raise OSError(f"cannot read {__file__}")
                return super().forward(images.flatten(1))
        """
    )
    pytester.syspathinsert()
    data = ("--perf-data=auto", f"--perf-data-root={digits_root}")
    perf(
        STEP,
        "--perf-device=cpu",
        "--perf-model=simple_nn,mine:Net",
        *data,
        "--perf-anonymous",
        "--benchmark-json=out.json",
    )
    for file in (*kept(pytester), pytester.path / "out.json"):
        text = file.read_text()
        assert str(digits_root) not in text and str(pytester.path) not in text
        assert "no MNIST in DATA/MNIST/raw" in text and "cannot read ~/mine.py" in text
        commit = read(file)["commit_info"]
        assert (commit["project"], commit["branch"]) == ("", "")


@pytest.mark.parametrize(("more", "kept_too"), [((), True), (("--perf-anonymous",), False)])
def test_a_record_keeps_the_command_that_measures_the_same_again(perf, pytester, more, kept_too):
    perf(STEP, "--perf-device=cpu", "--benchmark-json=out.json", *more).assert_outcomes(passed=1)
    recorded = read(kept(pytester)[0])["perf"]
    if kept_too:
        assert '"$STEPWATCH/perf"/test_training_step.py' in recorded["command"]
        assert "--perf-device=cpu" in recorded["command"] and "out.json" not in recorded["command"]
    else:
        assert "command" not in recorded
