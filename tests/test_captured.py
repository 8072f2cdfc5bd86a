"""Steps as CUDA graphs, captured by a fake: what is replayed, and what no graph can replay."""

import contextlib
import gc
import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from model import Recipe
from perf.harness.machine.devices import Device
from perf.harness.measurement import parity
from perf.harness.workload.modes import captured
from perf.harness.workload.modes.captured import Graphs
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.workload import Workload
from tests.small_training import (
    CAPTURED,
    DATA,
    adam,
    fake_capture,
    momentum,
    ticks,
    workload,
)


@pytest.mark.parametrize("optimizer", CAPTURED)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_captured_steps_train_as_plain_ones_from_the_first_step_on(graphs, optimizer, precision):
    found = parity.parity(workload(Mode("cudagraph", precision), optimizer=optimizer), ticks)
    assert found.difference == 0


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
