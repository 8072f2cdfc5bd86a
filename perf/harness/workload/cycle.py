"""In: a training whose step the user has written as a whole. Out: after how many steps it does the same again.

Such a step need not update the weights: gradients may be accumulated over several of them, or a critic be trained more
often than its generator. A median or a minimum over single steps would then leave out the rarer kind.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from data import Batch
from model import UsersStep
from perf.harness.workload.workload import Trainee

# The longest cycle, and the first steps: if they update, and all the same, the others are taken to be like them.
MOST, FIRST = 16, 8


def cycle(trainee: Trainee, batch: Batch) -> int:
    """How many steps a cycle has; 1 if all steps update the same. Restores the training.

    Warns, and takes single steps, if no cycle is found.
    """
    if not isinstance(trainee.fresh, UsersStep):
        return 1
    trainee.model.train()
    with _counted() as updates:
        seen = [_made(trainee, batch, updates) for _ in range(FIRST)]
        if len(set(seen)) > 1 or not seen[0]:
            seen += [_made(trainee, batch, updates) for _ in range(2 * MOST - FIRST)]
    trainee.restore()
    if (found := period(seen)) is None:
        said = f"its optimizers do not do the same again after any number of steps up to {MOST}, so that the time of a "
        warnings.warn(f"{trainee.fresh.task.name}: {said}step leaves out the rarer steps", stacklevel=1)
    return found or 1


def period(seen: Sequence[object]) -> int | None:
    """After how many of them `seen` repeats, at most MOST; None if it does not."""
    for length in range(1, MOST + 1):
        if all(one == later for one, later in zip(seen, seen[length:], strict=False)):
            return length
    return None


def _made(trainee: Trainee, batch: Batch, updates: Counter[int]) -> frozenset[tuple[int, int]]:
    """How many updates each optimizer makes in the next step."""
    updates.clear()
    trainee.step(*batch)
    return frozenset(updates.items())


@contextlib.contextmanager
def _counted() -> Iterator[Counter[int]]:
    """The updates of each optimizer, by its identity."""
    updates: Counter[int] = Counter()

    def count(optimizer: Optimizer, *_: Any) -> None:
        updates[id(optimizer)] += 1

    hook = register_optimizer_step_post_hook(count)
    try:
        yield updates
    finally:
        hook.remove()
