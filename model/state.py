"""The first state of a training step, to be brought back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from model.members import attributes
from model.task_step import TaskStep
from model.training import TrainingStep


def has_state(value: object) -> bool:
    """Whether `value` can be brought back to an earlier state."""
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


class FirstState:
    """The state of everything in a training step but its networks' weights, to be brought back later.

    It has what has a `state_dict` (optimizers, schedulers, scalers), and numbers among the task's attributes.
    """

    def __init__(self, step: TrainingStep) -> None:
        holders: list[Any] = list(step.optimizers)
        self._numbers: dict[str, object] = {}
        self._made: object = None
        if isinstance(step, TaskStep):
            self._made = step.task.made
            holders += [scheduler for scheduler, _ in step.schedulers]
            holders += [one for one in attributes(self._made) if has_state(one) and not isinstance(one, nn.Module)]
            self._numbers = {
                name: value
                for name, value in getattr(self._made, "__dict__", {}).items()
                if isinstance(value, int | float | None) and not name.startswith("_") and name != "training"
            }
        distinct = {id(holder): holder for holder in holders}
        self._states = [(holder, copy.deepcopy(holder.state_dict())) for holder in distinct.values()]

    def restore(self, leave: Sequence[object] = ()) -> None:
        """Bring everything back, except the objects in `leave`."""
        for holder, state in self._states:
            if not any(holder is one for one in leave):
                holder.load_state_dict(copy.deepcopy(state))
        for name, value in self._numbers.items():
            setattr(self._made, name, value)
