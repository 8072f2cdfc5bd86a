"""In: a training step. Out: the same step compiled or captured as a CUDA graph, or the reason why it cannot be."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from data import Batch, Pipeline, ResidentPipeline
from model import TrainingStep, UsersStep, Wrapped, train_epoch
from model.nesting import mapped, tensors
from perf.harness.workload.modes.errors import Unsupported

# On resident data, one graph contains several steps, with at most this many parameter tensors in total (but at least
# one step). Python needs as long to enter a graph as a small network needs to compute. For a large network, several
# steps in one graph gain nothing and take minutes to compile.
GRAPH_PARAMETERS = 32
# Warm-up steps before a capture, for the kernels, their tuning and the allocator; as many as in torch's own examples.
WARM_STEPS = 3


def why_unsupported(execution: str, device: torch.device) -> str | None:
    """Why `device` cannot run a step in this `execution`, or None if it can."""
    if execution == "cudagraph" and device.type != "cuda":
        return "CUDA graphs need a CUDA device"
    return _why_not_compiled(device) if execution == "compile" else None


@functools.cache
def _why_not_compiled(device: torch.device) -> str | None:
    """Why torch cannot compile for `device`, or None if it can. To find out, it compiles a tiny function.

    This needs a C++ compiler; on a GPU, it needs Triton and Python's header files.
    """
    try:
        _load_compiler()
        torch.compiler.reset()
        before = _graphs()
        with untraced():
            torch.compile(lambda x: x + 1)(torch.ones(1, device=device))
    except Exception as error:  # any error that prevents the compilation is the reason
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
    """Why the code compiled since `compiling(anew=True)` is not a single graph, in torch's words; None if it is."""
    from torch._dynamo.utils import counters

    reason = next(iter(counters["graph_break"]), None)  # the later breaks follow from the first
    return None if reason is None else reason.split("\n")[0]


def _load_compiler() -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # torch 2.11 warns about its own code
        import torch._inductor.compile_fx  # noqa: F401


@contextlib.contextmanager
def _kept_cache(folder: Path) -> Iterator[None]:
    """Compile into `folder`, and use what is there. Nothing that this process has compiled is used."""
    from torch._inductor.utils import clear_caches

    clear_caches()
    places = {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TRITON_CACHE_DIR": str(folder / "triton")}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        clear_caches()


@contextlib.contextmanager
def compiling(*, anew: bool, cache: Path | None = None) -> Iterator[None]:
    """torch's settings for compiled steps: the graph includes the gradients, and random numbers are those of eager.

    If the graph did not include the gradients, each call would go through autograd, which takes as long as a small
    network. With `anew`, code that was compiled before, in this process or by earlier runs, is not used, unless it lies
    in the folder `cache`.
    """
    _load_compiler()
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor
    from torch._dynamo.utils import counters
    from torch._inductor.utils import fresh_cache

    with contextlib.ExitStack() as settings:
        settings.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # the mode decides about TF32
        if hasattr(dynamo, "trace_autograd_ops"):
            settings.enter_context(dynamo.patch(trace_autograd_ops=True))  # type: ignore[attr-defined, unused-ignore]
        if anew:
            torch.compiler.reset()
            counters.clear()
            settings.enter_context(fresh_cache() if cache is None else _kept_cache(cache))
        settings.enter_context(inductor.patch(fallback_random=True))  # type: ignore[attr-defined, unused-ignore]
        yield


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Remove all handlers but torch's own from torch's log of a compilation; pytest 9.2 adds one to every logger.

    torch writes this log if it has any handler, and pytest would print hundreds of its lines below a failure.
    """
    trace = logging.getLogger("torch.__trace")
    listening = list(trace.handlers)
    trace.handlers = [handler for handler in listening if type(handler).__module__.startswith("torch.")]
    try:
        yield
    finally:
        trace.handlers = listening


Gather = Callable[[Tensor], Batch]
"""From the indices of samples, int64 (B,), to their batch on the device."""


class WholeStep(Wrapped):
    """A training step that runs as one unit. Its methods `forward`, `backward` and `update` call the plain step."""

    def __init__(self, step: TrainingStep) -> None:
        super().__init__(step)
        self.steps_at_once = max(1, GRAPH_PARAMETERS // len(list(step.model.parameters())))
        self._over: dict[ResidentPipeline, Callable[[Tensor], Tensor]] = {}

    def on(self, pipeline: ResidentPipeline) -> Callable[[Tensor], Tensor]:
        """`over` for the mini-batches of `pipeline`. The same pipeline always gets the same function."""
        if pipeline not in self._over:
            self._over[pipeline] = self.over(pipeline.gather, pipeline.batch_size)
        return self._over[pipeline]

    def over(self, gather: Gather, batch_size: int) -> Callable[[Tensor], Tensor]:
        """`in_turn` with this step. `gather` is compiled or captured together with the step."""
        raise NotImplementedError


def in_turn(step: Callable[[Tensor], Tensor], batch_size: int) -> Callable[[Tensor], Tensor]:
    """A function of sample indices, int64 (N,): it makes a step on each `batch_size` of them, and sums their losses."""

    def run(indices: Tensor) -> Tensor:
        return torch.stack([step(part) * len(part) for part in torch.split(indices, batch_size)]).sum()

    return run


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


def is_plain_sgd(optimizer: Optimizer) -> bool:
    """Whether an update is `parameter -= lr * gradient`, and nothing else."""
    more = ("momentum", "weight_decay", "maximize", "differentiable")
    return type(optimizer) is torch.optim.SGD and not any(
        group[key] for group in optimizer.param_groups for key in more
    )


class CompiledStep(WholeStep):
    """A training step whose forward and backward pass are one compiled graph.

    The graph includes the update if the optimizer is plain SGD; any other optimizer runs uncompiled. With a gradient
    scaler between forward and backward, only forward is compiled.
    """

    def __init__(self, step: TrainingStep) -> None:
        super().__init__(step)
        self._parameters = [parameter for parameter in step.model.parameters() if parameter.requires_grad]
        self._scaled = getattr(step, "scaler", None) is not None
        # A schedule changes the learning rate, which would be compiled anew each time.
        scheduled = bool(getattr(step, "schedulers", ()))
        self._updates = not self._scaled and not scheduled and all(map(is_plain_sgd, step.optimizers))
        self._compiled = self._compile(lambda *batch: batch)

    def __call__(self, *batch: Any) -> Tensor:
        return self._run(self._compiled, *batch)

    def over(self, gather: Gather, batch_size: int) -> Callable[[Tensor], Tensor]:
        if self._updates:
            several: Callable[[Tensor], Tensor] = torch.compile(in_turn(self._call(gather), batch_size), dynamic=False)
            return several
        compiled = self._compile(gather)
        return in_turn(lambda indices: self._run(compiled, indices), batch_size)

    def _compile(self, batch: Callable[..., Batch]) -> Callable[..., Any]:
        return torch.compile(self._call(batch), dynamic=False)

    def _call(self, batch: Callable[..., Batch]) -> Callable[..., Any]:
        """The function to compile: as much of the step as possible, starting from the inputs of `batch`."""

        def forward(*inputs: Any) -> Tensor:
            return self.plain.forward(*batch(*inputs))

        def gradients(*inputs: Any) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            loss = forward(*inputs)
            return loss.detach(), torch.autograd.grad(loss, self._parameters, allow_unused=True)

        def updated(*inputs: Any) -> Tensor:
            loss, found = gradients(*inputs)
            by_parameter = dict(zip(self._parameters, found, strict=True))
            with torch.no_grad():
                for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
                    for parameter in group["params"]:
                        if (gradient := by_parameter.get(parameter)) is not None:
                            parameter.add_(gradient, alpha=-group["lr"])
            return loss

        return forward if self._scaled else updated if self._updates else gradients

    def _run(self, compiled: Callable[..., Any], *inputs: Any) -> Tensor:
        if self._updates:
            updated: Tensor = compiled(*inputs)
            return updated
        if self._scaled:
            self.zero_grad()
            loss: Tensor = compiled(*inputs)
            self.backward(loss)
        else:
            loss, gradients = compiled(*inputs)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
        self.update()
        return loss.detach()


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


def executed(step: TrainingStep, execution: str) -> TrainingStep:
    """`step` in this `execution`. A compiled step must run inside `compiling`. Raises Unsupported.

    If the user has written the step as a whole, the forward passes of its networks are compiled, one by one.
    """
    if isinstance(step, UsersStep) and execution == "cudagraph":
        raise Unsupported("cudagraph: a whole `step` cannot be captured, because it may wait for the device")
    if isinstance(step, UsersStep) and execution == "compile":
        for network in networks_of(step):
            network.compile(dynamic=False)
        return step
    if execution == "compile":
        return CompiledStep(step)
    return CapturedStep(step, capture_cuda) if execution == "cudagraph" else step


def networks_of(step: UsersStep) -> list[torch.nn.Module]:
    """The networks of a task: the task itself, or the modules among its attributes that have parameters."""
    if isinstance(step.task.made, torch.nn.Module) and type(step.model).forward is not torch.nn.Module.forward:
        return [step.model]
    return [module for module in step.model.children() if next(module.parameters(), None) is not None]


def function_executed(call: Callable[..., Any], execution: str) -> Callable[..., Any]:
    """The function `call`, which has no side effects, in this `execution`. If compiled, run it inside `compiling`."""
    if execution == "compile":
        compiled: Callable[..., Any] = torch.compile(call, dynamic=False)
        return compiled
    graphs = Graphs(capture_cuda, lambda: lambda: None)
    return functools.partial(graphs, call) if execution == "cudagraph" else call


def steps_in_unit(step: Callable[..., Any], pipeline: str | None) -> int:
    """How many steps one full unit of `units` contains, for the kind of pipeline `pipeline`."""
    return step.steps_at_once if isinstance(step, WholeStep) and pipeline == "resident" else 1


def units(step: TrainingStep, pipeline: Pipeline, number: int) -> Iterable[Any]:
    """The units of epoch `number`: its mini-batches, or sample indices for a `WholeStep` on resident data.

    A `WholeStep` gathers several mini-batches at once from resident data. The host sends it only the indices of their
    samples, and never waits.
    """
    if isinstance(step, WholeStep) and isinstance(pipeline, ResidentPipeline):
        return torch.split(pipeline.order(number), step.steps_at_once * pipeline.batch_size)
    return pipeline.epoch(number)


def train(step: TrainingStep, pipeline: Pipeline, units: Iterable[Any]) -> Tensor:
    """Train on `units` of `pipeline`, like `train_epoch`. Returns the mean loss per sample (scalar, on the device)."""
    if not isinstance(step, WholeStep) or not isinstance(pipeline, ResidentPipeline):
        return train_epoch(step, units)
    step.model.train()
    over, samples, losses = step.on(pipeline), 0, []
    for indices in units:
        losses.append(over(indices))
        samples += len(indices)
    step.end_epoch()
    return torch.stack(losses).sum() / samples


def epoch(step: TrainingStep, pipeline: Pipeline, number: int) -> Tensor:
    """Train for epoch `number`. Returns the mean loss per sample (scalar, on the device)."""
    return train(step, pipeline, units(step, pipeline, number))
