"""In: a recipe and its data. Out: nothing, or in one sentence what prevents that its training is measured.

A user's training makes two steps and one evaluation, at two samples and at its first batch size, on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from data import Batch, DataError
from model import Recipe, RecipeError, Refused, TaskStep, TrainingStep, UsersStep
from model.errors import CLOSURE_LINES, LOSS_LINES, of_network
from model.imports import raised
from model.members import described
from model.nesting import mapped, tensors
from model.task import needs_closure
from model.task_step import whole
from perf.harness.workload.own_data import MadeBatches, OwnSplit
from perf.harness.workload.streams import seed_all

# Two samples, because batch normalization cannot train on one.
MINIMAL_BATCH = 2
RESET_LINES = ("def forward(self, x):", "    y, state = self.lstm(x)  # each batch begins with no state")
RETURN_LINES = ("def forward(self, x):", "    …", "    return logits  # a tensor (batch, classes)")
INPUT_LINES = ("x = (x - 0.1307) / 0.3081  # not x.sub_(0.1307).div_(0.3081)",)
GRADIENT_LINES = ("return loss  # without .detach(), .item(), or torch.no_grad() around it",)
NUMBER_LINES = ('return losses.mean()  # reduction="mean" of a loss of torch',)
PART_LINES = ("return loss  # a tensor with one number, and nothing else",)
# Steps of a user's own until one must have changed a parameter.
MOST_STEPS = 32
FLOAT_LINES = ("return network.float()",)
BATCH_LINES = ("def batch(self, size):", "    return torch.randn(size, 8), torch.randn(size)")
NO_DATA = "it has no dataset(), train_dataloader() or batch(size)"


def check_contract(recipe: Recipe, data: OwnSplit | None = None, batch_size: int | None = None) -> None:
    """Try `recipe`. `data` is what a task brings, and `batch_size` the first to be measured.

    Raises RecipeError if the training breaks its contract.
    """
    if recipe.task is None:
        _check_images(recipe)
    if not recipe.users:
        return
    seed_all(0)
    step = recipe.training(torch.device("cpu"))
    _check_floats(recipe.name, step.model)
    if recipe.task is None and needs_closure(step.optimizer):
        raise Refused(f"{recipe.name}: {type(step.optimizer).__name__} needs a function that computes the loss again",
                      *CLOSURE_LINES)  # fmt: skip
    for size in dict.fromkeys((MINIMAL_BATCH, batch_size or MINIMAL_BATCH)):
        batch = _batch(recipe, data, size)
        of = f" (images and labels, as {NO_DATA}{_misspelt(recipe)})" if recipe.task and data is None else ""
        for number in (1, 2):
            step.model.train()
            _try_step(recipe.name, step, batch, f"step {number} at batch size {size}", of)
        _try_evaluation(recipe.name, step, batch, size)
    if isinstance(data, MadeBatches):
        _check_sizes(recipe, data)
    if isinstance(step, UsersStep):
        _check_updates(recipe.name, step, _batch(recipe, data, MINIMAL_BATCH))


def _check_images(recipe: Recipe) -> None:
    """Run the network on two images. Raises RecipeError if it does not return logits."""
    model = recipe.build()
    images = torch.zeros(MINIMAL_BATCH, *recipe.input_shape)
    try:
        with torch.no_grad():
            logits = model(images)
    except (Exception, SystemExit) as error:
        raise RecipeError(f"{recipe.name}: the network fails on images {tuple(images.shape)} float32, which it gets "
                          f"as {NO_DATA}{_misspelt(recipe)}: {raised(error)}") from error  # fmt: skip
    expected = (MINIMAL_BATCH, recipe.classes)
    if not isinstance(logits, Tensor) or logits.shape != expected:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        shape = ("make.input_shape, make.classes = …",)
        lines = shape if isinstance(logits, Tensor) else of_network(LOSS_LINES, logits)
        raise Refused(f"{recipe.name}: for images {tuple(images.shape)} the network must return logits {expected}, "
                      f"not {got}{_more(logits)}", *lines)  # fmt: skip


def _misspelt(recipe: Recipe) -> str:
    """What of the training is not used: it may be what makes its data."""
    return f" (not used: {'; '.join(recipe.unused)})" if recipe.unused else ""


def _more(output: object) -> str:
    return "" if isinstance(output, Tensor) else f" ({described(output)})"


def _batch(recipe: Recipe, data: OwnSplit | None, size: int) -> Batch:
    """A mini-batch of `size` samples. Raises RecipeError if there is none."""
    if data is None:
        images = torch.rand(size, *recipe.input_shape) * 2 - 1
        return images, torch.arange(size) % recipe.classes
    try:
        batch = next(data.full(size))
    except DataError as error:
        raise RecipeError(f"{recipe.name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise RecipeError(f"{recipe.name}: a batch of {size} samples cannot be made: {raised(error)}") from error
    if next(tensors(batch), None) is None:
        raise Refused(f"{recipe.name}: a batch of {size} samples has no tensor: it is {described(whole(batch))}",
                      *BATCH_LINES)  # fmt: skip
    return batch


def _check_sizes(recipe: Recipe, data: MadeBatches) -> None:
    """Raise Refused if `batch(size)` returns the same shapes for any size, or a sample more or less than `size`.

    The samples/s would be wrong.
    """
    small, large = MINIMAL_BATCH, 2 * MINIMAL_BATCH
    shapes, others = ([tensor.shape for tensor in tensors(_batch(recipe, data, size))] for size in (small, large))
    said = ", ".join(str(tuple(shape)) for shape in shapes)
    why = ""
    if shapes == others:
        why = f"batch({small}) and batch({large}) return the same shapes ({said})"
    # Two views of each sample are twice as many rows, and a graph or a packed sequence has any number of them.
    first, then = ({shape[0] for shape in found if shape} for found in (shapes, others))
    for more in (-1, 1):
        if (first, then) == ({small + more}, {large + more}):
            why = f"batch({small}) returns {small + more} samples ({said}), and batch({large}) returns {large + more}"
    if why:
        raise Refused(f"{recipe.name}: {why}, so the rates would be wrong", *BATCH_LINES)


def _check_floats(name: str, model: nn.Module) -> None:
    kinds = {kind: getattr(model, kind)() for kind in ("named_parameters", "named_buffers")}
    for kind, found in kinds.items():
        for place, tensor in found:
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                what = kind.removeprefix("named_").removesuffix("s")
                raise Refused(f"{name}: its {what} {place} is in {tensor.dtype}, and every precision starts from "
                              "float32", *FLOAT_LINES)  # fmt: skip


def _try_step(name: str, step: TrainingStep, batch: Batch, when: str, of: str) -> None:
    before = mapped(torch.clone, batch)
    if isinstance(step, UsersStep):
        loss = _tried(name, when + of, lambda: step(*batch))
    else:
        step.zero_grad()
        loss = _tried(name, when + of, lambda: step.forward(*batch), step)
        _check_loss(name, loss, when)
        _tried(name, when, lambda: step.backward(loss))
        _tried(name, when, step.update)
    if not all(bool(tensor.isfinite().all()) for tensor in tensors(loss)):
        raise RecipeError(
            f"{name}: the loss of {when} is not finite; look at the loss and the data, or lower the learning rate"
        )
    if any(not torch.equal(one, other) for one, other in zip(tensors(before), tensors(batch), strict=True)):
        raise Refused(f"{name}: {when} changes its batch in place, which is used again", *INPUT_LINES)


def _check_updates(name: str, step: UsersStep, batch: Batch) -> None:
    """Raise Refused if not even MOST_STEPS steps change a parameter. Some trainings make an update every few steps."""
    trained = [parameter for parameter in step.model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    step.model.train()
    for _ in range(MOST_STEPS):
        _tried(name, "a step", lambda: step(*batch))
        if not all(torch.equal(one, other) for one, other in zip(before, trained, strict=True)):
            return
    raise Refused(f"{name}: {MOST_STEPS} steps change no parameter", "loss.backward()", "self.optimizer.step()")


def _check_loss(name: str, loss: Any, when: str) -> None:
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        lines = NUMBER_LINES if isinstance(loss, Tensor) else PART_LINES
        raise Refused(f"{name}: the loss of {when} must be one number, not {described(loss)}", *lines)
    if loss.grad_fn is None:
        raise Refused(f"{name}: the loss of {when} has no gradient", *GRADIENT_LINES)


def _tried(name: str, when: str, call: Callable[[], Any], step: TrainingStep | None = None) -> Any:
    """What `call` returns. Raises RecipeError with the user's line if it raises anything."""
    try:
        return call()
    except RecipeError:
        raise
    except (Exception, SystemExit) as error:
        said = raised(error)
        lines: Iterable[str] = RESET_LINES if "hidden" in str(error) and "size" in str(error) else ()
        if isinstance(step, TaskStep) and step.task.lost_in(error):
            said += f"; `{step.task.loss_name}(a, b)` gets the network's output and the target; for the whole batch"
            lines = step.task.lines(LOSS_LINES)
        raise Refused(f"{name}: {when} raised {said}", *lines) from error


def _try_evaluation(name: str, step: TrainingStep, batch: Batch, size: int) -> None:
    if isinstance(step, TaskStep) and not step.task.can_predict:
        return
    when = f"the evaluation at batch size {size}"
    step.model.eval()
    with torch.no_grad():
        output = _tried(name, when, lambda: step.predict(*step.inputs(*batch)))
    if not isinstance(step, TaskStep) and not isinstance(output, Tensor):
        raise Refused(f"{name}: in evaluation, the network returns {described(output)}, and in training logits",
                      *RETURN_LINES)  # fmt: skip
    for tensor in tensors(output):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise Refused(f"{name}: {when} returns {tensor.dtype}, and not float32", *FLOAT_LINES)
