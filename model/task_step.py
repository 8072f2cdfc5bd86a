"""In: a user's task. Out: its training step, and what a report says of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from model.errors import RecipeError
from model.imports import raised
from model.members import attributes, name_of
from model.nesting import tensors
from model.task import Task
from model.training import Batch, TrainingStep

METRIC_BATCHES = 32
# The settings of an optimizer that a report shows, where they are not 0.
SETTINGS = ("lr", "momentum", "weight_decay")


class TaskStep(TrainingStep):
    """The training step of a user's own training, built from its loss, its optimizers and its schedulers."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.model = task.networks
        self.optimizers, self.schedulers = task.optimized()
        self.loss = functional.cross_entropy  # never called: `forward` asks the task

    def forward(self, *batch: Any) -> Tensor:
        return self.task.loss(whole(batch))

    def schedule(self) -> None:
        for scheduler, interval in self.schedulers:
            if interval == "step":
                scheduler.step()

    def end_epoch(self) -> None:
        for scheduler, interval in self.schedulers:
            if interval == "epoch":
                scheduler.step()

    def inputs(self, *batch: Any) -> Batch:
        return (whole(batch),)

    def predict(self, *inputs: Any) -> Any:
        return self.task.predict(whole(inputs))


class UsersStep(TaskStep):
    """A training step that the user has written as a whole: `step(batch)`, updates included.

    `gives_loss` says whether the last call returned a loss; None before the first. If it did not, the loss is 0.
    """

    gives_loss: bool | None = None

    @property
    def has_loss(self) -> bool:
        return self.task.has_loss

    def __call__(self, *batch: Any) -> Tensor:
        assert self.task.step is not None
        loss = as_loss(self.task.step(whole(batch)))
        self.gives_loss = loss is not None
        return torch.tensor(0.0) if loss is None else loss


def whole(batch: Batch) -> Any:
    """The user's mini-batch: a pair of images and labels, or the only argument of a step."""
    return batch[0] if len(batch) == 1 else batch


def as_loss(returned: Any) -> Tensor | None:
    """The loss that a whole `step` returned, detached: the sum of its tensors, or its number; None if it is neither."""
    found = [one.detach().sum() for one in tensors(returned)]
    if found:
        return torch.stack(found).sum()
    return torch.tensor(float(returned)) if isinstance(returned, int | float) else None


def metrics(step: TaskStep, batches: Iterable[Any]) -> dict[str, float]:
    """What the task's `metrics(batches)` gives for the first METRIC_BATCHES of `batches`, in evaluation mode.

    Empty if the task has no such member. Raises RecipeError if it fails.
    """
    of = step.task.member("metrics")
    if of is None:
        return {}
    was_training = step.model.training
    step.model.eval()
    try:
        with torch.no_grad():
            found = of(list(itertools.islice(batches, METRIC_BATCHES)))
        return {str(name): float(value) for name, value in found.items()}
    except (Exception, SystemExit) as error:
        raise RecipeError(f"{step.task.name}: `metrics(batches)` raised {raised(error)}") from error
    finally:
        step.model.train(was_training)


def facts(step: TrainingStep) -> dict[str, str]:
    """What the report says of the training, by subject: loss, optimizer, scheduler, and what is not used."""
    optimizers = " and ".join(map(_set_up, step.optimizers))
    if not isinstance(step, TaskStep):
        return {"loss": name_of(step.loss), "optimizer": optimizers}
    task = step.task
    schedulers = [f"{type(one).__name__} per {interval}" for one, interval in step.schedulers]
    if task.step is not None:
        schedulers = [type(one).__name__ for one in attributes(task.made) if isinstance(one, LRScheduler)]
    given = [task.member(name) for name in ("optimizers", "optimizer", "configure_optimizers")]
    default = ", as the training gives none" if task.step is None and not any(one is not None for one in given) else ""
    loss = task.loss_name
    if isinstance(step, UsersStep):
        loss = (
            "step(batch)" if step.gives_loss is not False else "not known, as step(batch) returns no tensor or number"
        )
    found = {
        "loss": loss,
        "optimizer": optimizers + default,
        "scheduler": ", ".join(schedulers),
    }
    return {subject: text for subject, text in found.items() if text}


def _set_up(optimizer: Optimizer) -> str:
    """An optimizer with its settings: `SGD (lr 0.01, momentum 0.9)`."""
    found = {}
    for key in SETTINGS:
        # A scheduler that warms up has changed the first `lr` already.
        given = [group.get(f"initial_{key}", group.get(key)) for group in optimizer.param_groups]
        values = {float(value) for value in given if isinstance(value, int | float)}
        if (values if key == "lr" else values - {0.0}) and not isinstance(optimizer.defaults.get(key), bool):
            found[key] = " or ".join(f"{value:g}" for value in sorted(values))
    said = ", ".join(f"{key.replace('_', ' ')} {text}" for key, text in found.items())
    return type(optimizer).__name__ + (f" ({said})" if said else "")
