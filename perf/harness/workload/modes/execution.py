"""In: a training step. Out: the same step compiled, or captured as a CUDA graph; or why it cannot be."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from data import Pipeline, ResidentPipeline
from model import TrainingStep, train_epoch

# Parameters of all the steps on resident data that are one graph. To enter a graph takes Python as long as a small
# network computes; of a large one, several steps gain nothing, and take minutes to compile.
GRAPH_PARAMETERS = 32
# What kernels, their tuning and the allocator need before a capture, as torch's own examples have it.
WARM_STEPS = 3


class Unsupported(Exception):
    """A mode that this device, this torch or this optimizer cannot run: `str()` says why."""


def why_unsupported(execution: str, device: torch.device) -> str | None:
    """Why a step cannot be executed so on `device`, or None where it can."""
    if execution == "cudagraph" and device.type != "cuda":
        return "only CUDA has graphs"
    return _why_not_compiled(device) if execution == "compile" else None


@functools.cache
def _why_not_compiled(device: torch.device) -> str | None:
    """Asked by compiling the smallest thing there is: it needs a C++ compiler, on a GPU Triton and Python's headers."""
    try:
        _load_compiler()
        torch.compiler.reset()
        before = _graphs()
        with untraced():
            torch.compile(lambda x: x + 1)(torch.ones(1, device=device))
    except Exception as error:  # whatever keeps it from compiling is the reason we are asked for
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"torch.compile: {lines[0] if lines else type(error).__name__}"
    return (
        None if _graphs() > before else "torch.compile: it is turned off (TORCH_COMPILE_DISABLE, TORCHDYNAMO_DISABLE)"
    )


def _graphs() -> int:
    """How many graphs torch has compiled in this process."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def graph_break() -> str | None:
    """Why what was compiled since `compiling(anew=True)` is not one graph, in torch's words; None where it is."""
    from torch._dynamo.utils import counters

    reason = next(iter(counters["graph_break"]), None)  # the others follow from it
    return None if reason is None else reason.split("\n")[0]


def _load_compiler() -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of torch 2.11 by itself
        import torch._inductor.compile_fx  # noqa: F401


@contextlib.contextmanager
def compiling(*, anew: bool) -> Iterator[None]:
    """torch's settings while steps are compiled: gradients are a part of the graph, random numbers are eager's.

    Without the first, each call goes through autograd's own machinery, which takes as long as a small network. `anew`:
    what was compiled before, here or by earlier runs, is not used.
    """
    _load_compiler()
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor
    from torch._dynamo.utils import counters
    from torch._inductor.utils import fresh_cache

    with contextlib.ExitStack() as settings:
        settings.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # what fp32 means is chosen, and said
        if hasattr(dynamo, "trace_autograd_ops"):
            settings.enter_context(dynamo.patch(trace_autograd_ops=True))  # type: ignore[attr-defined, unused-ignore]
        if anew:
            torch.compiler.reset()
            counters.clear()
            settings.enter_context(fresh_cache())
        settings.enter_context(inductor.patch(fallback_random=True))  # type: ignore[attr-defined, unused-ignore]
        yield


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Without what others than torch have put on torch's trace of a compilation, as pytest 9.2 does on every logger.

    The trace is made where anything listens; pytest would print hundreds of lines of it below a failure.
    """
    trace = logging.getLogger("torch.__trace")
    listening = list(trace.handlers)
    trace.handlers = [handler for handler in listening if type(handler).__module__.startswith("torch.")]
    try:
        yield
    finally:
        trace.handlers = listening


Gather = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From the indices of samples, int64 (B,), to their batch on the device."""


class WholeStep(TrainingStep):
    """A training step that runs as one: its parts are there, but are the plain ones."""

    def __init__(self, step: TrainingStep) -> None:
        super().__init__(step.model, step.optimizer, step.loss)
        self.plain = step
        self.steps_at_once = max(1, GRAPH_PARAMETERS // len(list(step.model.parameters())))
        self._over: dict[ResidentPipeline, Callable[[Tensor], Tensor]] = {}

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.plain.forward(images, labels)

    def backward(self, loss: Tensor) -> None:
        self.plain.backward(loss)

    def update(self) -> None:
        self.plain.update()

    def on(self, pipeline: ResidentPipeline) -> Callable[[Tensor], Tensor]:
        """`over` the batches of `pipeline`; the same one for the same pipeline."""
        if pipeline not in self._over:
            self._over[pipeline] = self.over(pipeline.gather, pipeline.batch_size)
        return self._over[pipeline]

    def over(self, gather: Gather, batch_size: int) -> Callable[[Tensor], Tensor]:
        """`in_turn` with this step, so that what gathers a batch is compiled or captured with it."""
        raise NotImplementedError


def in_turn(step: Callable[[Tensor], Tensor], batch_size: int) -> Callable[[Tensor], Tensor]:
    """From the indices of samples, int64 (N,), to the sum of their losses: a step on each `batch_size` of them."""

    def run(indices: Tensor) -> Tensor:
        return torch.stack([step(part) * len(part) for part in torch.split(indices, batch_size)]).sum()

    return run


Capture = Callable[[Callable[[], Tensor], Callable[[], None]], tuple[Callable[[], None], Tensor]]
"""From a call and what undoes it: what replays it, and the tensor that its result is in then."""


def capture_cuda(call: Callable[[], Tensor], undo: Callable[[], None]) -> tuple[Callable[[], None], Tensor]:
    """Captured after some calls on a stream of its own, which are undone (PyTorch documentation, CUDA semantics).

    The stream is of the current GPU: without one, torch captures on a stream of the first GPU that it captured on, and
    the graph of another GPU is empty. Only this thread is captured: another one may pin memory meanwhile.
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
    """Garbage is collected before, and not meanwhile: a graph that ends during a capture spoils it."""
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
    """One for all captures: each stream has a workspace of cuBLAS, of 8 MiB and more."""
    return torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]


class Graphs:
    """Calls, each captured at its first input of a shape; `restorer()` gives what undoes calls made from then on."""

    def __init__(self, capture: Capture, restorer: Callable[[], Callable[[], None]]) -> None:
        self._capture, self._restorer = capture, restorer
        self._known: dict[tuple[object, ...], tuple[list[Tensor], Callable[[], None], Tensor]] = {}

    def __call__(self, call: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        key = (call, *(tensor.shape for tensor in inputs))
        if key not in self._known:
            places = [tensor.clone() for tensor in inputs]
            self._known[key] = (places, *self._capture(lambda: call(*places), self._restorer()))
        places, replay, result = self._known[key]
        for place, tensor in zip(places, inputs, strict=True):
            place.copy_(tensor)
        replay()
        return result.clone()  # the next replay overwrites it


def is_plain_sgd(optimizer: Optimizer) -> bool:
    """Whether an update is `parameter -= lr * gradient`, and no more."""
    more = ("momentum", "weight_decay", "maximize", "differentiable")
    return type(optimizer) is torch.optim.SGD and not any(
        group[key] for group in optimizer.param_groups for key in more
    )


class CompiledStep(WholeStep):
    """Forward and backward pass are one compiled graph, and SGD without momentum is a part of it; the update of any
    other optimizer is as it is.

    Where a scaler stands between forward and backward, only forward is compiled.
    """

    def __init__(self, step: TrainingStep) -> None:
        super().__init__(step)
        self._parameters = [parameter for parameter in step.model.parameters() if parameter.requires_grad]
        self._scaled = getattr(step, "scaler", None) is not None
        self._updates = not self._scaled and is_plain_sgd(step.optimizer)
        self._compiled = self._compile(lambda images, labels: (images, labels))

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        return self._run(self._compiled, images, labels)

    def over(self, gather: Gather, batch_size: int) -> Callable[[Tensor], Tensor]:
        if self._updates:
            several: Callable[[Tensor], Tensor] = torch.compile(in_turn(self._call(gather), batch_size), dynamic=False)
            return several
        compiled = self._compile(gather)
        return in_turn(lambda indices: self._run(compiled, indices), batch_size)

    def _compile(self, batch: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Any]:
        return torch.compile(self._call(batch), dynamic=False)

    def _call(self, batch: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Any]:
        """What is compiled: as much of a step as can be, from the inputs of `batch` on."""

        def forward(*inputs: Tensor) -> Tensor:
            return self.plain.forward(*batch(*inputs))

        def gradients(*inputs: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            loss = forward(*inputs)
            return loss.detach(), torch.autograd.grad(loss, self._parameters, allow_unused=True)

        def updated(*inputs: Tensor) -> Tensor:
            loss, found = gradients(*inputs)
            by_parameter = dict(zip(self._parameters, found, strict=True))
            with torch.no_grad():
                for group in self.optimizer.param_groups:
                    for parameter in group["params"]:
                        if (gradient := by_parameter.get(parameter)) is not None:
                            parameter.add_(gradient, alpha=-group["lr"])
            return loss

        return forward if self._scaled else updated if self._updates else gradients

    def _run(self, compiled: Callable[..., Any], *inputs: Tensor) -> Tensor:
        if self._updates:
            updated: Tensor = compiled(*inputs)
            return updated
        if self._scaled:
            self.optimizer.zero_grad(set_to_none=True)
            loss: Tensor = compiled(*inputs)
            self.backward(loss)
        else:
            loss, gradients = compiled(*inputs)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
        self.update()
        return loss.detach()


class CapturedStep(WholeStep):
    """The whole step is one CUDA graph for each shape of its input, which is copied to where the graph expects it.

    The optimizer's state stays where it is from its first step on, for the graphs have its place in them.
    """

    def __init__(self, step: TrainingStep, capture: Capture) -> None:
        super().__init__(step)
        self._graphs = Graphs(capture, self._restorer)
        if reason := why_not_captured(step.optimizer):
            raise Unsupported(reason)
        states = step.optimizer.state
        states.default_factory = _FirstValues
        for parameter, state in list(states.items()):
            states[parameter] = _FirstValues(state)
        for group in step.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        return self._graphs(self.plain, images, labels)

    def over(self, gather: Gather, batch_size: int) -> Callable[[Tensor], Tensor]:
        several = in_turn(lambda indices: self.plain(*gather(indices)), batch_size)
        return lambda indices: self._graphs(several, indices)

    def restore_optimizer(self) -> None:
        for tensor, first in self._optimizer_tensors():
            tensor.copy_(first)

    def _optimizer_tensors(self) -> list[tuple[Tensor, Tensor]]:
        """The tensors of the optimizer's state, each with its first value."""
        states = self.optimizer.state.values()
        return [(state[key], first) for state in states for key, first in state.first.items()]

    def _restorer(self) -> Callable[[], None]:
        """What undoes the steps that are made before a capture: in weights, optimizer and dropout's random numbers."""
        weights = [tensor.clone() for tensor in self.model.state_dict().values()]
        known = [(tensor, tensor.clone()) for tensor, _ in self._optimizer_tensors()]
        device = next(self.model.parameters()).device
        random = torch if device.type == "cpu" else torch.get_device_module(device)
        numbers = random.get_rng_state()

        def restore() -> None:
            for tensor, before in zip(self.model.state_dict().values(), weights, strict=True):
                tensor.copy_(before)
            self.restore_optimizer()
            for tensor, before in known:
                tensor.copy_(before)
            random.set_rng_state(numbers)

        return restore


class _FirstValues(dict[str, Any]):
    """An optimizer's state of one parameter; `first` has the first value of each of its tensors.

    Most begin with zeros; NAdam's product of momenta begins with 1, Rprop's step sizes with the learning rate.
    """

    def __init__(self, state: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__()
        self.first: dict[str, Tensor] = {}
        for key, value in state.items():
            self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, Tensor) and key not in self.first:
            # SGD makes this one of the first gradient. Zeros become the same in the first step.
            self.first[key] = torch.zeros_like(value) if key == "momentum_buffer" else value.clone()
        super().__setitem__(key, value)


def why_not_captured(optimizer: Optimizer) -> str | None:
    """Why a graph cannot replay the updates of `optimizer`, or None where it can."""
    name = type(optimizer).__name__
    if any(group.get("momentum") and group.get("dampening") for group in optimizer.param_groups):
        return f"{name} with dampening does not damp its first step, and a graph repeats every step alike"
    if isinstance(optimizer, torch.optim.LBFGS):
        return f"{name} computes the loss several times in a step"
    if isinstance(optimizer, torch.optim.Adafactor):
        return f"{name} counts its steps on the host, which a graph does not repeat"
    return None


def executed(step: TrainingStep, execution: str) -> TrainingStep:
    """`step`, executed so; `compiling` must be in force while a compiled one runs."""
    if execution == "compile":
        return CompiledStep(step)
    return CapturedStep(step, capture_cuda) if execution == "cudagraph" else step


def function_executed(call: Callable[[Tensor], Tensor], execution: str) -> Callable[[Tensor], Tensor]:
    """The same of a function without side effects."""
    if execution == "compile":
        compiled: Callable[[Tensor], Tensor] = torch.compile(call, dynamic=False)
        return compiled
    graphs = Graphs(capture_cuda, lambda: lambda: None)
    return functools.partial(graphs, call) if execution == "cudagraph" else call


def steps_in_unit(step: Callable[..., Any], pipeline: str | None) -> int:
    """How many steps a whole unit of an epoch through the pipeline of that name has."""
    return step.steps_at_once if isinstance(step, WholeStep) and pipeline == "resident" else 1


def units(step: TrainingStep, pipeline: Pipeline, number: int) -> Iterable[Any]:
    """What epoch `number` is made of: its batches.

    A step that runs as one takes its batches from resident data by itself, several at once. Its units are the indices
    of the samples of these, so that the host sends nothing else, and never waits.
    """
    if isinstance(step, WholeStep) and isinstance(pipeline, ResidentPipeline):
        return torch.split(pipeline.order(number), step.steps_at_once * pipeline.batch_size)
    return pipeline.epoch(number)


def train(step: TrainingStep, pipeline: Pipeline, units: Iterable[Any]) -> Tensor:
    """Train on `units` of `pipeline`, as `train_epoch` does: the mean loss per sample (scalar, on the device)."""
    if not isinstance(step, WholeStep) or not isinstance(pipeline, ResidentPipeline):
        return train_epoch(step, units)
    step.model.train()
    over, samples, losses = step.on(pipeline), 0, []
    for indices in units:
        losses.append(over(indices))
        samples += len(indices)
    return torch.stack(losses).sum() / samples


def epoch(step: TrainingStep, pipeline: Pipeline, number: int) -> Tensor:
    """One epoch: the mean loss per sample (scalar, on the device)."""
    return train(step, pipeline, units(step, pipeline, number))
