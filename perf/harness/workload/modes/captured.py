"""In: a training step. Out: the same step captured as a CUDA graph, or the reason why it cannot be."""

from __future__ import annotations

import contextlib
import functools
import gc
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from model import TrainingStep
from model.nesting import mapped, tensors
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.whole import Gather, WholeStep, in_turn

# Warm-up steps before a capture, for the kernels, their tuning and the allocator; as many as in torch's own examples.
WARM_STEPS = 3

Capture = Callable[[Callable[[], Tensor], Callable[[], None]], tuple[Callable[[], None], Tensor]]
"""From a call and what undoes it: what replays it, and the tensor that its result is in then."""


def capture_cuda(call: Callable[[], Tensor], undo: Callable[[], None]) -> tuple[Callable[[], None], Tensor]:
    """Capture `call` on a stream of its own, after warm-up calls that `undo` reverts (PyTorch docs, CUDA semantics).

    Returns a function that replays the call, and the tensor that then holds the result. The stream belongs to the
    current GPU. Without a stream, torch captures on a stream of the first GPU that it captured on, and the graph of
    another GPU is empty. Only this thread is captured, because another thread may pin memory at the same time.
    """
    stream = _capture_stream(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_STEPS):
            call()
        undo()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with _no_garbage_collected(), warnings.catch_warnings():
        warnings.filterwarnings("error", "The CUDA Graph is empty")
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            result = call()
    return graph.replay, result


@contextlib.contextmanager
def _no_garbage_collected() -> Iterator[None]:
    """Collect garbage first, and none in the block: a CUDA graph that is freed during a capture spoils the capture."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@functools.cache
def _capture_stream(gpu: int) -> torch.cuda.Stream:
    """One stream per GPU for all captures, because cuBLAS keeps a workspace of 8 MiB or more for each stream."""
    return torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]


class Graphs:
    """Captures each call once for each shape of its inputs, and replays it after that.

    `restorer()` returns a function that undoes all calls made after `restorer()`.
    """

    def __init__(self, capture: Capture, restorer: Callable[[], Callable[[], None]]) -> None:
        self._capture, self._restorer = capture, restorer
        self._known: dict[tuple[object, ...], tuple[list[Tensor], Callable[[], None], Any]] = {}

    def __call__(self, call: Callable[..., Any], *inputs: Any) -> Any:
        given = list(tensors(inputs))
        key = (call, *(tensor.shape for tensor in given))
        if key not in self._known:
            copied = mapped(torch.clone, inputs)
            places = list(tensors(copied))
            self._known[key] = (places, *self._capture(lambda: call(*copied), self._restorer()))
        places, replay, result = self._known[key]
        for place, tensor in zip(places, given, strict=True):
            place.copy_(tensor)
        replay()
        return mapped(torch.clone, result)  # the next replay overwrites `result`


class CapturedStep(WholeStep):
    """A training step that is one CUDA graph for each shape of its input.

    Each input is copied to the place that the graph reads. From the first step on, the optimizer's state keeps its
    place in memory, because the graphs contain its addresses.
    """

    def __init__(self, step: TrainingStep, capture: Capture) -> None:
        super().__init__(step)
        self._graphs = Graphs(capture, self._restorer)
        if getattr(step, "schedulers", ()):
            raise Unsupported("a CUDA graph would repeat the first learning rate, and the task has a scheduler")
        for optimizer in step.optimizers:
            if reason := why_not_captured(optimizer):
                raise Unsupported(reason)
            states = optimizer.state
            states.default_factory = _FirstValues
            for parameter, state in list(states.items()):
                states[parameter] = _FirstValues(state)
            for group in optimizer.param_groups:
                if "capturable" in group:
                    group["capturable"] = True

    def __call__(self, *batch: Any) -> Tensor:
        found: Tensor = self._graphs(self.plain, *batch)
        return found

    def over(self, gather: Gather, batch_size: int) -> Callable[[Tensor], Tensor]:
        several = in_turn(lambda indices: self.plain(*gather(indices)), batch_size)
        return lambda indices: self._graphs(several, indices)

    def restore_optimizers(self) -> None:
        for tensor, first in self._optimizer_tensors():
            tensor.copy_(first)

    def _optimizer_tensors(self) -> list[tuple[Tensor, Tensor]]:
        """The tensors of the optimizers' states, each with its first value."""
        states = [state for optimizer in self.optimizers for state in optimizer.state.values()]
        return [(state[key], first) for state in states for key, first in state.first.items()]

    def _restorer(self) -> Callable[[], None]:
        """A function that undoes the steps made before a capture: it restores weights, optimizer and random numbers."""
        weights = [tensor.clone() for tensor in self.model.state_dict().values()]
        known = [(tensor, tensor.clone()) for tensor, _ in self._optimizer_tensors()]
        device = next(self.model.parameters()).device
        random = torch if device.type == "cpu" else torch.get_device_module(device)
        numbers = random.get_rng_state()

        def restore() -> None:
            for tensor, before in zip(self.model.state_dict().values(), weights, strict=True):
                tensor.copy_(before)
            self.restore_optimizers()
            for tensor, before in known:
                tensor.copy_(before)
            random.set_rng_state(numbers)

        return restore


class _FirstValues(dict[str, Any]):
    """An optimizer's state for one parameter; `first` holds the first value of each tensor in the state.

    Most tensors start at 0. NAdam's product of momenta starts at 1, and Rprop's step sizes start at the learning rate.
    """

    def __init__(self, state: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__()
        self.first: dict[str, Tensor] = {}
        for key, value in state.items():
            self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, Tensor) and key not in self.first:
            # SGD creates this buffer from the first gradient. A buffer of zeros becomes the same in the first step.
            self.first[key] = torch.zeros_like(value) if key == "momentum_buffer" else value.clone()
        super().__setitem__(key, value)


def why_not_captured(optimizer: Optimizer) -> str | None:
    """Why a CUDA graph cannot replay the updates of `optimizer`, or None if it can."""
    name = type(optimizer).__name__
    if any(group.get("momentum") and group.get("dampening") for group in optimizer.param_groups):
        return f"{name} with dampening does not damp its first step, and a graph repeats every step alike"
    if isinstance(optimizer, torch.optim.LBFGS):
        return f"{name} computes the loss several times in a step"
    if isinstance(optimizer, torch.optim.Adafactor):
        return f"{name} counts its steps on the host, which a graph does not repeat"
    return None
