"""In: a training step. Out: the same step compiled by torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from data import Batch
from model import TrainingStep
from perf.harness.workload.modes.whole import Gather, WholeStep, in_turn


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
