"""In: a workload. Out: what its training takes and does in a few steps: memory, trained parameters, losses.

These do not vary from run to run, so that base and head are compared without statistics.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch

from perf.harness.machine import memory
from perf.harness.measurement.step_memory import allocated_bytes, fresh_step
from perf.harness.workload.modes.mode import PLAIN
from perf.harness.workload.workload import Workload

# A learning rate may begin at 0, and an optimizer may have its whole state only after a step.
STEPS = 5


def weigh(work: Workload) -> dict[str, Any]:
    """`bytes`: of torch's allocator, from building the training to the peak of its second step; None if unknown.

    `trained`: whether STEPS steps change each parameter, by name. `loss`: that of the last step; None if unknown.
    """
    work = replace(work, mode=PLAIN)  # whatever the mode: compiling once more would take long
    batches = work.batches(STEPS)

    def build_and_train() -> None:
        step = fresh_step(work)
        for batch in batches[:2]:
            step(*batch)

    most = allocated_bytes(build_and_train, work.device)
    memory.free(work.device)
    step = fresh_step(work)
    before = {name: one.detach().clone() for name, one in step.model.named_parameters()}
    losses = [step(*batch) for batch in batches]
    after = dict(step.model.named_parameters())
    trained = {
        _users(name): not torch.equal(first, after[name].detach()) for name, first in before.items() if name in after
    }
    loss = float(losses[-1]) if step.has_loss else None
    return {"bytes": most, "trained": trained, "loss": loss}


def _users(name: str) -> str:
    """A parameter's name without the number that a task's network has here."""
    return re.sub(r"^network(\d+)\.(?=.*\.)", "", name)
