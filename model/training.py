"""The training step, the epoch, and evaluation.

Training never waits for the device: the losses stay on the device until the caller reads them. `evaluate` waits once,
at its end.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batches = Iterable[tuple[Tensor, Tensor]]
"""Mini-batches already on the device: images (B, C, H, W) float, labels (B,) int64."""


class TrainingStep:
    """One training step on one mini-batch: zero gradients, forward, loss, backward, optimizer update.

    Each part is a method, so that a profiler can run the parts one by one.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.model = model
        self.optimizer = optimizer
        self.loss = loss

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Run the step. Returns the loss before the update (scalar, on the device, detached)."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward(images, labels)
        self.backward(loss)
        self.update()
        return loss.detach()

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.model(images), labels)

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)

    def update(self) -> None:
        self.optimizer.step()


def train_epoch(step: TrainingStep, batches: Batches) -> Tensor:
    """Run `step` on each of `batches`. Returns the mean loss per sample (scalar, on the device).

    Raises ValueError if `batches` is empty.
    """
    step.model.train()
    total: Tensor | None = None
    samples = 0
    for images, labels in batches:
        loss = step(images, labels) * len(labels)
        total = loss if total is None else total + loss
        samples += len(labels)
    if total is None:
        raise ValueError("an epoch needs at least one batch")
    return total / samples


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Batches) -> float:
    """The share of the samples in `batches` that `model` classifies correctly, from 0 to 1.

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
