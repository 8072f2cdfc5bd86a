"""Modes compute what the plain way does, and one that does not is caught; captures with a fake; settings restored."""

import contextlib
import gc
import json
import logging
import math
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from data import random_images
from model import Recipe, TrainingStep, train_epoch
from perf.harness.machine.devices import Device
from perf.harness.measurement import parity
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.verdict.parity import CARRIED, LOGITS, NEAR, ROUNDING, same_training
from perf.harness.workload.axes import Axes
from perf.harness.workload.modes import captured, compiled, compiler, execution, whole
from perf.harness.workload.modes.captured import Graphs
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.mode import PLAIN, Mode
from perf.harness.workload.modes.precision import FIRST_SCALE, AutocastStep, float32_products, in_precision
from perf.harness.workload.workload import Workload
from tests.conftest import ROOT

CPU = torch.device("cpu")
DATA = random_images((1, 28, 28), 10, 640, 64, seed=0)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


def anywhere(optimizer, **options):
    """`optimizer` as it is without CUDA: it does not insist on CUDA where it is said to be captured."""

    class Anywhere(optimizer):
        def step(self):
            for group in self.param_groups:
                group["capturable"] = False
            super().step()

    return lambda parameters: Anywhere(parameters, **options)


CAPTURED = [
    momentum,
    *(anywhere(getattr(torch.optim, name), lr=1e-3) for name in ("Adam", "NAdam", "RAdam", "Rprop", "ASGD", "Adagrad")),
    anywhere(torch.optim.RMSprop, lr=1e-3, momentum=0.9, centered=True),
]


def workload(mode=PLAIN, batch_size=32, seed=0, optimizer=momentum, pipeline=None):
    recipe = Recipe("tiny", network, optimizer=optimizer)
    return Workload(recipe, DATA, Device("cpu"), batch_size, pipeline, seed, mode)


def ticks():
    return 0.0


def lasting():
    """A clock by which each step takes 40 s."""
    now = iter(range(0, 100_000, 40))
    return lambda: float(next(now))


def fake_capture(call, undo):
    """What CUDA does, on the CPU: warm up and undo; a replay writes its result to one place."""
    for _ in range(captured.WARM_STEPS):
        result = call()
    undo()
    place = torch.zeros_like(result)
    return (lambda: place.copy_(call())), place


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.setattr(execution, "capture_cuda", fake_capture)


def test_the_plain_way_is_not_named_in_an_id():
    assert Axes("cpu", 64, None).id == "cpu-bs64"
    assert Axes("cuda:1", None, None, "compile").id == "cuda:1-compile"
    assert Axes("cpu", 64, "resident", "compile", "bf16").id == "cpu-bs64-resident-compile-bf16"


@given(batch_size=st.integers(2, 200), seed=st.integers(0, 2**31), precision=st.sampled_from(["bf16", "fp16"]))
@settings(max_examples=15)
def test_lower_precision_trains_almost_as_fp32_does(batch_size, seed, precision):
    found = parity.parity(workload(Mode("eager", precision), batch_size, seed), ticks)
    assert found.steps == parity.STEPS
    assert found.difference == 0
    assert found.distance > 0
    assert found.distance < NEAR[precision] or found.rounding is not None


@pytest.mark.parametrize("optimizer", [momentum, plain_sgd])
@pytest.mark.parametrize("mode", [Mode("compile"), Mode("compile", "bf16"), Mode("compile", "fp16")])
def test_compiled_steps_train_as_plain_ones(mode, optimizer):
    with mode.active():
        found = parity.parity(workload(mode, optimizer=optimizer), ticks)
    assert found.difference <= ROUNDING[mode.precision]


@pytest.mark.parametrize(
    ("options", "plain"),
    [({}, True), ({"momentum": 0.9}, False), ({"weight_decay": 0.1}, False), ({"maximize": True}, False)],
)
def test_only_sgd_without_anything_is_compiled_along(options, plain):
    assert compiled.is_plain_sgd(torch.optim.SGD(network().parameters(), lr=0.1, **options)) is plain
    assert not compiled.is_plain_sgd(adam(network().parameters()))


def test_a_learning_rate_that_is_changed_is_taken():
    mode = Mode("compile")
    work = workload(mode, optimizer=plain_sgd)
    with mode.active():
        compiled, plain = work.trainee(), replace(work, mode=PLAIN).trainee()
        for batch in work.batches(3):
            losses = [trainee.step(*batch).item() for trainee in (compiled, plain)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-5)
            for trainee in (compiled, plain):
                trainee.step.optimizer.param_groups[0]["lr"] *= 10


@given(batch_size=st.integers(2, 200), seed=st.integers(0, 2**31))
@example(2, 207278424)  # its loss falls to 0.0003
@settings(max_examples=3)
def test_a_compiled_step_of_any_batch_size_trains_as_a_plain_one(batch_size, seed):
    mode = Mode("compile")
    with mode.active():
        found = parity.parity(workload(mode, batch_size, seed), ticks)
    assert same_training("fp32", found.difference, found.rounding or 0.0)


@pytest.mark.parametrize("optimizer", CAPTURED)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_captured_steps_train_as_plain_ones_from_the_first_step_on(graphs, optimizer, precision):
    found = parity.parity(workload(Mode("cudagraph", precision), optimizer=optimizer), ticks)
    assert found.difference == 0


class Skipping(TrainingStep):
    """Forgets to update."""

    def update(self):
        pass


class TwiceTheGradient(TrainingStep):
    """Scales the loss and does not scale it back."""

    def backward(self, loss):
        super().backward(2 * loss)


class ForgetsToZero(TrainingStep):
    """Adds up gradients."""

    def __call__(self, images, labels):
        loss = self.forward(images, labels)
        self.backward(loss)
        self.update()
        return loss.detach()


@pytest.mark.parametrize("wrong", [Skipping, TwiceTheGradient, ForgetsToZero])
def test_a_wrong_step_is_caught(monkeypatch, wrong):
    def executed(step, kind):
        return step if kind == "eager" else wrong(step.model, step.optimizer, step.loss)

    monkeypatch.setattr("perf.harness.workload.workload.executed", executed)
    with pytest.raises(
        MeasurementError, match=r"^compile fp32 does not compute what eager fp32 does: the loss of step [23] "
    ):
        parity.parity(workload(Mode("compile")), ticks)


class OtherOrder(TrainingStep):
    """The same step, its samples added up in another order: nothing but rounding differs."""

    def __call__(self, images, labels):
        return super().__call__(images.flip(0), labels.flip(0))


def sensitive():
    """A network whose training multiplies rounding: pixels that are alike in a whole batch, as most are here, have no
    gradient before a batch normalization but rounding, which Adam makes as large as any other."""
    few = nn.Threshold(0.8, -1.0)
    return nn.Sequential(nn.Flatten(), few, nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))


def multiplying(monkeypatch, step):
    """The parity of `step` in such a training."""
    monkeypatch.setattr(
        "perf.harness.workload.workload.executed",
        lambda plain, kind: plain if kind == "eager" else step(plain.model, plain.optimizer, plain.loss),
    )
    recipe = Recipe("sensitive", sensitive, optimizer=adam)
    return parity.parity(Workload(recipe, DATA, Device("cpu"), 32, None, 0, Mode("compile")), ticks)


def test_a_training_that_multiplies_rounding_is_held_against_what_it_makes_of_it(monkeypatch):
    found = multiplying(monkeypatch, OtherOrder)
    assert found.rounding is not None
    assert ROUNDING["fp32"] < found.difference <= CARRIED * found.rounding


class InLowerPrecision(TrainingStep):
    """Computes in bfloat16 what it says to compute in float32."""

    def forward(self, images, labels):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(images, labels)


def test_a_step_in_a_lower_precision_than_it_says_is_caught(monkeypatch):
    monkeypatch.setattr(
        "perf.harness.workload.workload.executed",
        lambda step, kind: step if kind == "eager" else InLowerPrecision(step.model, step.optimizer, step.loss),
    )
    with pytest.raises(
        MeasurementError, match=r"^compile fp32 does not compute what eager fp32 does: the loss of step"
    ):
        parity.parity(workload(Mode("compile")), ticks)


@pytest.mark.parametrize("wrong", [Skipping, ForgetsToZero])
def test_a_wrong_step_is_caught_in_a_training_that_multiplies_rounding(monkeypatch, wrong):
    with pytest.raises(
        MeasurementError, match=r"the loss of step [2-9] is [\d.]+, not [\d.]+: .* of it apart, at most"
    ):
        multiplying(monkeypatch, wrong)


def test_rounding_is_looked_at_only_where_somebody_has_to_know():
    assert parity.parity(workload(Mode("eager", "bf16")), ticks).rounding is None


def test_a_precision_that_learns_otherwise_is_caught(monkeypatch):
    class Unscaled(AutocastStep):
        def backward(self, loss):
            super().backward(100 * loss)

    monkeypatch.setattr("perf.harness.workload.modes.precision.AutocastStep", Unscaled)
    with pytest.raises(
        MeasurementError, match="eager bf16 does not compute what eager fp32 does: the mean of the last"
    ):
        parity.parity(workload(Mode("eager", "bf16")), ticks)


def test_a_loss_that_is_not_finite_is_no_parity(monkeypatch):
    class Broken(TrainingStep):
        def __call__(self, images, labels):
            return super().__call__(images, labels) * float("nan")

    monkeypatch.setattr(
        "perf.harness.workload.workload.executed",
        lambda step, kind: step if kind == "eager" else Broken(step.model, step.optimizer, step.loss),
    )
    with pytest.raises(MeasurementError, match=r"the loss of step 1 is not finite, but 2\.\d+$"):
        parity.parity(workload(Mode("compile")), ticks)


def test_a_training_that_diverges_by_itself_is_not_the_modes_fault():
    def far_too_fast(parameters):
        return torch.optim.SGD(parameters, lr=1e30)

    with pytest.raises(
        MeasurementError, match=r"^the loss of step \d+ in eager fp32 is not finite: no mode can be compared with it$"
    ):
        parity.parity(workload(Mode("compile"), optimizer=far_too_fast), ticks)


def test_of_long_steps_fewer_are_compared():
    assert parity.parity(workload(Mode("eager", "bf16")), lasting()).steps == parity.LEAST_STEPS


# The first losses, which another device must have, too


def first_losses(work, clock=ticks, longest_s=1.0):
    trainee = work.trainee()
    before = {name: value.clone() for name, value in trainee.model.state_dict().items()}
    found = parity.first_losses(trainee, work.batches(), clock, longest_s)
    assert all(value.equal(before[name]) for name, value in trainee.model.state_dict().items())
    return found


def test_the_first_losses_are_those_of_a_fresh_network():
    found = first_losses(workload())
    expected = parity.losses(workload(), parity.STEPS)
    assert found.losses == {str(step): expected[step - 1] for step in parity.COMPARED}
    assert found.rounding.keys() == found.losses.keys()
    assert 0 < found.rounding["50"] < 1e-5
    assert list(found.rounding.values()) == sorted(found.rounding.values())


def test_a_training_that_multiplies_rounding_says_how_much():
    work = Workload(Recipe("sensitive", sensitive, optimizer=adam), DATA, Device("cpu"), 32, None, 0)
    assert first_losses(work).rounding["50"] > ROUNDING["fp32"]


def test_of_long_steps_the_first_loss_is_enough():
    found = first_losses(workload(), lasting())
    assert (list(found.losses), found.rounding) == (["1"], {"1": 0.0})


def test_losses_that_the_random_numbers_of_a_device_decide_are_not_kept():
    def dropping():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(784, 10))

    assert first_losses(Workload(Recipe("dropping", dropping), DATA, Device("cpu"), 32, None, 0)) is None
    assert first_losses(workload(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e30))) is None


def zero_at_first():
    """As torchvision's vision transformers: all logits of a fresh network are 0."""
    last = nn.Linear(784, 10)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Flatten(), last)


@pytest.mark.parametrize("build", [network, zero_at_first])
def test_wrong_logits_are_caught(monkeypatch, build):
    work = replace(workload(Mode("eager", "bf16")), recipe=Recipe("tiny", build))
    assert 0 < parity.logits_apart(work) < LOGITS["bf16"]

    def larger(call, kind):
        return call if kind == "eager" else lambda images: 1.5 * call(images)

    monkeypatch.setattr("perf.harness.workload.workload.function_executed", larger)
    with pytest.raises(MeasurementError, match=r"the largest difference of a logit is 0\.5 of the largest"):
        parity.logits_apart(replace(work, mode=Mode("compile")))


def test_one_output_that_is_no_number_is_caught_among_others(monkeypatch):
    class Twice(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.flatten(1))
            return logits, logits

    def broken(call, kind):
        return call if kind == "eager" else lambda images: (1.01 * call(images)[0], math.nan * call(images)[1])

    monkeypatch.setattr("perf.harness.workload.workload.function_executed", broken)
    work = replace(workload(Mode("compile", "bf16")), recipe=Recipe("tiny", lambda: Twice(784, 10)))
    with pytest.raises(MeasurementError, match="the largest difference of a logit is nan of the largest"):
        parity.logits_apart(work)


def test_a_graph_is_captured_once_for_each_shape_and_its_results_are_not_overwritten():
    captured = []

    def capture(call, undo):
        captured.append(call)
        return fake_capture(call, undo)

    graphs = Graphs(capture, lambda: lambda: None)

    def double(tensor):
        return 2 * tensor

    first, second = graphs(double, torch.ones(2)), graphs(double, torch.full((2,), 5.0))
    assert (first.tolist(), second.tolist()) == ([2.0, 2.0], [10.0, 10.0])
    graphs(double, torch.ones(3))
    assert len(captured) == 2


def test_a_captured_step_drops_what_eager_drops(graphs):
    def dropping():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.Dropout(0.5), nn.Linear(32, 10))

    work = Workload(
        Recipe("dropping", dropping, optimizer=momentum), DATA, Device("cpu"), 32, None, 0, Mode("cudagraph")
    )
    assert parity.parity(work, ticks).difference == 0


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (
            lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.1),
            "SGD with dampening does",
        ),
        (lambda parameters: torch.optim.LBFGS(parameters), "LBFGS computes the loss several times"),
        (lambda parameters: torch.optim.Adafactor(parameters), "Adafactor counts its steps on the host"),
    ],
)
def test_an_optimizer_that_no_graph_can_replay_is_named(graphs, optimizer, reason):
    with pytest.raises(Unsupported, match=f"^{reason}"):
        workload(Mode("cudagraph"), optimizer=optimizer).trainee()


@pytest.mark.parametrize("optimizer", CAPTURED)
def test_a_restored_captured_step_begins_anew(graphs, optimizer):
    trainee = workload(Mode("cudagraph"), optimizer=optimizer).trainee()
    batches = workload().batches(4)
    first = [trainee.step(*batch).item() for batch in batches]
    trainee.restore()
    assert [trainee.step(*batch).item() for batch in batches] == first


def test_optimizers_that_have_to_know_of_graphs_are_told(graphs):
    trainee = workload(Mode("cudagraph"), optimizer=adam).trainee()
    assert trainee.step.optimizer.param_groups[0]["capturable"]


class Recorder(TorchDispatchMode):
    """Notes each operation."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        self.done.append((operation, arguments, options or {}, result))
        return result


class FakeCuda:
    """Streams and graphs as CUDA has them: a capture changes no `state`, and a replay does again what was captured."""

    def __init__(self, monkeypatch, state):
        self.state, self.current, self.gpu, fake = state, None, 0, self

        class Stream:
            def __init__(self, gpu=None):
                self.gpu, self.waited_for = gpu, []

            def wait_stream(self, other):
                self.waited_for.append(other)

        class CUDAGraph:
            def replay(self):
                for operation, arguments, options, result in self.done:
                    again = operation(*arguments, **options)
                    if again is not result:
                        result.copy_(again)

        self.main = self.current = Stream()
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", CUDAGraph)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: fake.current)
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: self.gpu)
        captured._capture_stream.cache_clear()

    @contextlib.contextmanager
    def stream(self, stream):
        assert self.main in stream.waited_for  # what was queued before comes first
        self.current, self.side = stream, stream
        yield
        self.current = self.main

    @contextlib.contextmanager
    def graph(self, graph, stream, capture_error_mode):
        assert stream is self.side  # torch's own is of the first GPU that was captured on
        assert stream.gpu == self.gpu
        assert capture_error_mode == "thread_local"  # another thread may pin memory
        assert self.side in self.main.waited_for  # the calls to warm up have ended
        before = self.state.clone()
        with Recorder() as recorder:
            yield
        if not recorder.done:
            warnings.warn("The CUDA Graph is empty. This usually means …", stacklevel=1)
        graph.done = recorder.done
        self.state.copy_(before)


def test_a_capture_is_warmed_up_on_a_stream_of_its_own_which_leaves_no_trace(monkeypatch):
    state = torch.zeros(1)
    cuda = FakeCuda(monkeypatch, state)
    streams = []

    def call():
        streams.append(cuda.current)
        return state.add_(1) * 10

    replay, result = captured.capture_cuda(call, state.zero_)
    assert streams == [cuda.side] * captured.WARM_STEPS + [cuda.main]
    assert state.item() == 0
    for number in (1, 2):
        replay()
        assert (state.item(), result.item()) == (number, 10 * number)


def test_each_gpu_has_a_stream_of_its_own_for_captures(monkeypatch):
    state = torch.zeros(1)
    cuda = FakeCuda(monkeypatch, state)
    for cuda.gpu in (0, 1):
        captured.capture_cuda(lambda: state.add_(1) * 10, state.zero_)


def test_no_garbage_is_collected_during_a_capture(monkeypatch):
    """An earlier graph that ends then would spoil it."""
    state, seen = torch.zeros(1), []
    FakeCuda(monkeypatch, state)

    def call():
        seen.append(gc.isenabled())
        return state.add_(1) * 10

    captured.capture_cuda(call, state.zero_)
    assert seen == [True] * captured.WARM_STEPS + [False]
    assert gc.isenabled()


def test_an_empty_graph_is_no_capture(monkeypatch):
    FakeCuda(monkeypatch, torch.zeros(1))
    with pytest.raises(UserWarning, match="The CUDA Graph is empty"):
        captured.capture_cuda(lambda: None, lambda: None)


@pytest.mark.parametrize("mode", [Mode("compile"), Mode("cudagraph")])
def test_an_epoch_that_gathers_its_own_batches_is_the_same_epoch(graphs, mode):
    """The last batch is a smaller one."""
    work = workload(mode, batch_size=96, pipeline="resident")
    with mode.active(), work.open(work.data.train) as pipeline:
        trainee, plain = work.trainee(), replace(work, mode=PLAIN).trainee()
        for number in range(2):
            found = execution.epoch(trainee.step, pipeline, number)
            expected = train_epoch(plain.step, pipeline.epoch(number))
            assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("optimizer", [momentum, plain_sgd])
def test_an_epoch_of_compiled_steps_several_at_once_is_the_same_epoch(optimizer):
    """The last batches are fewer, and the last one is smaller."""
    work = workload(Mode("compile"), batch_size=48, optimizer=optimizer, pipeline="resident")
    with work.mode.active(), work.open(work.data.train) as pipeline:
        trainee = work.trainee()
        assert trainee.step.steps_at_once == 8
        assert parity.epoch_apart(work, execution.epoch(trainee.step, pipeline, 0), pipeline) < 1e-5
        plain = replace(work, mode=PLAIN).trainee()
        train_epoch(plain.step, pipeline.epoch(0))
        for one, other in zip(trainee.model.parameters(), plain.model.parameters(), strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_an_epoch_with_dropout_drops_the_same():
    def dropping():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.Dropout(0.5), nn.Linear(32, 10))

    work = replace(workload(Mode("compile"), batch_size=64, pipeline="resident"), recipe=Recipe("dropping", dropping))
    with work.mode.active(), work.open(work.data.train) as pipeline:
        trainee = work.trainee()
        trainee.restore()
        assert parity.epoch_apart(work, execution.epoch(trainee.step, pipeline, 0), pipeline) < 1e-4


def test_of_a_network_of_many_parameters_each_step_is_a_graph():
    deep = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), *(nn.Linear(8, 8) for _ in range(20)), nn.Linear(8, 10))
    step = TrainingStep(deep, plain_sgd(deep.parameters()), nn.functional.cross_entropy)
    assert whole.WholeStep(step).steps_at_once == 1


@pytest.mark.parametrize("wrong", ["the same batch again", "not every batch"])
def test_an_epoch_of_other_batches_is_caught(monkeypatch, wrong):
    def over(self, gather, batch_size):
        seen = []

        def run(indices):
            parts = torch.split(indices, batch_size)
            seen.append(parts[0])
            parts = [seen[0]] * len(parts) if wrong == "the same batch again" else parts[:1]
            return torch.stack([self.plain(*gather(part)) * len(part) for part in parts]).sum()

        return run

    monkeypatch.setattr(compiled.CompiledStep, "over", over)
    work = workload(Mode("compile"), pipeline="resident")
    with work.open(work.data.train) as pipeline:
        loss = execution.epoch(work.trainee().step, pipeline, 0)
        with pytest.raises(MeasurementError, match=r"^compile fp32 does not train the epoch that eager does: its "):
            parity.epoch_apart(work, loss, pipeline)


def test_an_epoch_of_a_plain_step_or_of_another_pipeline_is_train_epoch(monkeypatch):
    asked = []
    monkeypatch.setattr(execution, "train_epoch", lambda step, batches: asked.append(list(batches)))
    work = workload(batch_size=320)
    with work.open(work.data.train, "resident") as pipeline:
        execution.epoch(work.trainee().step, pipeline, 0)
    compiled = workload(Mode("compile"), batch_size=320)
    with compiled.open(work.data.train, "dataloader") as pipeline:
        execution.epoch(compiled.trainee().step, pipeline, 0)
    assert [len(batches) for batches in asked] == [2, 2]


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (Mode("cudagraph"), "cudagraph on cpu: CUDA graphs need a CUDA device"),
        (Mode("eager", "tf32"), "tf32 on cpu: TF32 needs a CUDA device"),
    ],
)
def test_what_a_device_cannot_run_says_why(mode, says):
    with pytest.raises(Unsupported) as caught:
        mode.check(CPU)
    assert str(caught.value) == says


def test_a_missing_compiler_is_a_reason(monkeypatch):
    def missing(call, **options):
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", missing)
    monkeypatch.setattr(compiler, "why_not_compiled", compiler.why_not_compiled.__wrapped__)
    with pytest.raises(Unsupported, match=r"^compile on cpu: torch.compile: No working C\+\+ compiler found$"):
        Mode("compile").check(CPU)


def test_a_compiler_that_is_turned_off_is_a_reason(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call: call)
    monkeypatch.setattr(compiler, "why_not_compiled", compiler.why_not_compiled.__wrapped__)
    with pytest.raises(Unsupported, match=r"^compile on cpu: torch.compile: it is turned off \(TORCH_COMPILE_DIS"):
        Mode("compile").check(CPU)


class AsksTheHost(nn.Module):
    """Its second half depends on a value that is not known before the first has run."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(784, 32), nn.Linear(32, 10)

    def forward(self, images):
        hidden = self.first(images.flatten(1)).relu()
        return self.second(hidden if hidden.sum().item() < 1e9 else -hidden)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, of a graph in pieces
@pytest.mark.parametrize("network", [network, AsksTheHost])
def test_a_network_that_is_not_one_graph_says_why(network):
    mode = Mode("compile")
    work = Workload(Recipe("one", network), DATA, Device("cpu"), 32, None, 0, mode)
    with mode.active(anew=True):
        work.trainee().step(*work.batches(1)[0])
        assert ("Tensor.item()" in (compiler.graph_break() or "")) is (network is AsksTheHost)
    with mode.active(anew=True):
        assert compiler.graph_break() is None


def test_nobody_else_listens_to_torchs_trace_meanwhile():
    trace, heard = logging.getLogger("torch.__trace"), logging.Handler()
    trace.addHandler(heard)
    try:
        with pytest.raises(ZeroDivisionError), compiler.untraced():
            assert heard not in trace.handlers
            raise ZeroDivisionError
        assert heard in trace.handlers
    finally:
        trace.removeHandler(heard)


def test_a_precision_without_products_is_a_reason(monkeypatch):
    def missing(*operands):
        raise RuntimeError("'addmm_impl_cpu_' not implemented for 'Half'")

    monkeypatch.setattr(torch, "mm", missing)
    with pytest.raises(Unsupported, match="not implemented for 'Half'"):
        Mode("eager", "fp16").check(CPU)


def test_torchs_settings_are_those_of_before_whatever_happens():
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    def known():
        cudnn = torch.backends.cudnn
        return (
            torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark, cudnn.enabled,
            inductor.fallback_random, getattr(dynamo, "trace_autograd_ops", None),
        )  # fmt: skip

    before = known()
    for mode in (Mode("compile", "tf32"), Mode("eager", "fp32")):
        with pytest.raises(ZeroDivisionError), mode.active():
            assert torch.get_float32_matmul_precision() == ("high" if mode.precision == "tf32" else "highest")
            assert torch.backends.cudnn.allow_tf32 == (mode.precision == "tf32")
            assert torch.backends.cudnn.benchmark == (mode != Mode())  # the plain way is torch as it is
            raise ZeroDivisionError
        assert known() == before


SET_BY_THE_USER = """
import json, sys, torch
from perf.harness.workload.modes.precision import float32_products
backends = torch.backends
exec(sys.argv[1])
def known():
    operations = backends, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul
    return [operation.fp32_precision for operation in operations]
found = [known()]
for tf32 in (False, True):
    with float32_products(tf32=tf32):
        found.append([*known()[1:], torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32])
    found.append(known())
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "setting",
    [
        "pass",
        "torch.backends.fp32_precision = 'tf32'",
        "torch.backends.cudnn.conv.fp32_precision = 'ieee'; torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.cuda.matmul.allow_tf32 = True; torch.backends.cudnn.allow_tf32 = False",
        "torch.set_float32_matmul_precision('medium')",
    ],
)
def test_float32_is_what_is_asked_for_whatever_the_user_has_set(setting):
    """In a process of its own: torch cannot forget that both kinds of settings were used."""
    done = subprocess.run([sys.executable, "-c", SET_BY_THE_USER, setting], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, off, after_off, on, after_on = json.loads(done.stdout)
    assert off == ["ieee"] * 4 + ["highest", False]
    assert on == ["tf32"] * 4 + ["high", True]
    assert before == after_off == after_on


def test_a_users_own_setting_of_cudnn_is_kept_meanwhile(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with float32_products(tf32=False):
        assert torch.backends.cudnn.benchmark


def test_fp16_is_scaled_and_begins_with_the_first_scale_again():
    work = workload(Mode("eager", "fp16"))
    trainee = work.trainee()
    trainee.step(*work.batches(1)[0])
    trainee.plain.scaler.update(7.0)
    trainee.restore()
    assert trainee.plain.scaler.get_scale() == FIRST_SCALE
    model = network()
    step = in_precision(TrainingStep(model, momentum(model.parameters()), nn.functional.cross_entropy), "bf16", CPU)
    assert step.scaler is None
