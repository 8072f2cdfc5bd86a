"""The training step, the epoch, and evaluation.

Training never waits for the device: the losses stay on the device until the caller reads them. `evaluate` waits once,
at its end.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.nesting import length

Batch = tuple[Any, ...]
"""The arguments of a training step, on the device: images (B, C, H, W) float and labels (B,) int64; or one mini-batch
of a user's own training, in any nesting."""
Batches = Iterable[Batch]


class TrainingStep:
    """One training step on one mini-batch: zero gradients, forward, loss, backward, optimizer update.

    Each part is a method, so that a profiler can run the parts one by one.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.model = model
        self.optimizers: tuple[Optimizer, ...] = (optimizer,)
        self.loss = loss

    @property
    def has_loss(self) -> bool:
        """Whether a loss can be computed without a step."""
        return True

    @property
    def optimizer(self) -> Optimizer:
        """The first optimizer; most trainings have only one."""
        return self.optimizers[0]

    def __call__(self, *batch: Any) -> Tensor:
        """Run the step. Returns the loss before the update (scalar, on the device, detached)."""
        self.zero_grad()
        loss = self.forward(*batch)
        self.backward(loss)
        self.update()
        return loss.detach()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def forward(self, *batch: Any) -> Tensor:
        images, labels = batch
        return self.loss(self.model(images), labels)

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)

    def update(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()
        self.schedule()

    def schedule(self) -> None:
        """Change the learning rate after an update; the reference training does not."""

    def end_epoch(self) -> None:
        """Change the learning rate after an epoch; the reference training does not."""

    def inputs(self, *batch: Any) -> Batch:
        """What `predict` takes of a mini-batch."""
        return batch[:1]

    def predict(self, *inputs: Any) -> Any:
        """The logits (B, classes) of `inputs`, images (B, C, H, W)."""
        return self.model(*inputs)


class Wrapped(TrainingStep):
    """A training step that runs another one, `plain`, in some other way."""

    def __init__(self, step: TrainingStep) -> None:
        self.plain = step
        self.model, self.optimizers, self.loss = step.model, step.optimizers, step.loss

    def forward(self, *batch: Any) -> Tensor:
        return self.plain.forward(*batch)

    def backward(self, loss: Tensor) -> None:
        self.plain.backward(loss)

    def update(self) -> None:
        self.plain.update()

    def schedule(self) -> None:
        self.plain.schedule()

    def end_epoch(self) -> None:
        self.plain.end_epoch()

    def inputs(self, *batch: Any) -> Batch:
        return self.plain.inputs(*batch)

    def predict(self, *inputs: Any) -> Any:
        return self.plain.predict(*inputs)


def train_epoch(step: TrainingStep, batches: Batches) -> Tensor:
    """Run `step` on each of `batches`. Returns the mean loss per sample (scalar, on the device).

    Raises ValueError if `batches` is empty.
    """
    step.model.train()
    total: Tensor | None = None
    samples = 0
    for batch in batches:
        size = length(batch[-1])
        loss = step(*batch) * size
        total = loss if total is None else total + loss
        samples += size
    if total is None:
        raise ValueError("an epoch needs at least one batch")
    step.end_epoch()
    return total / samples


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Batches) -> float:
    """The share of the samples in `batches`, images and labels, that `model` classifies correctly, from 0 to 1.

    The model is in evaluation mode during the call, and returns to its old mode at the end. Raises ValueError if
    `batches` is empty.
    """
    was_training = model.training
    model.eval()
    correct: Tensor | None = None
    samples = 0
    try:
        for images, labels in batches:
            hits = (model(images).argmax(dim=1) == labels).sum()
            correct = hits if correct is None else correct + hits
            samples += len(labels)
    finally:
        model.train(was_training)
    if correct is None:
        raise ValueError("an evaluation needs at least one batch")
    return correct.item() / samples
