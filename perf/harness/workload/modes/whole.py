"""A training step that runs as one unit, and several of them in one unit on resident data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from data import Batch, ResidentPipeline
from model import TrainingStep, Wrapped

# On resident data, one graph contains several steps, with at most this many parameter tensors in total (but at least
# one step). Python needs as long to enter a graph as a small network needs to compute. For a large network, several
# steps in one graph gain nothing and take minutes to compile.
GRAPH_PARAMETERS = 32

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
