"""In: a training step, a function or an epoch. Out: the same in an execution: eager, compiled or as a CUDA graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from data import Pipeline, ResidentPipeline
from model import TrainingStep, UsersStep, train_epoch
from perf.harness.workload.modes import compiler
from perf.harness.workload.modes.captured import CapturedStep, Graphs, capture_cuda
from perf.harness.workload.modes.compiled import CompiledStep
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.whole import WholeStep


def why_unsupported(execution: str, device: torch.device) -> str | None:
    """Why `device` cannot run a step in this `execution`, or None if it can."""
    if execution == "cudagraph" and device.type != "cuda":
        return "CUDA graphs need a CUDA device"
    return compiler.why_not_compiled(device) if execution == "compile" else None


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
