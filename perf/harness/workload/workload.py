"""What a benchmark runs: model + data + device + batch size + pipeline, and the live objects built from them.

With `python -m model`, the only place that puts `model` and `data` together.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from data import WORKERS, Batch, DataSet, Pipeline, Split, load, open_pipeline, random_images, resolve
from model import Recipe, RecipeError, TrainingStep
from perf.harness.machine.devices import Device
from perf.harness.options import Settings
from perf.harness.workload.benchmarks import endless
from perf.harness.workload.modes.execution import CapturedStep, executed, function_executed
from perf.harness.workload.modes.mode import PLAIN, Mode
from perf.harness.workload.modes.precision import AutocastStep, autocast, in_precision

# Fewer, and a case would measure a network that has learnt one batch by heart, with the batch in the cache.
DISTINCT_BATCHES = 32
# Random images are there to be computed on, not learnt: 40 MB of them, but 32 batches of 8 at least.
RANDOM_BYTES, RANDOM_LEAST, RANDOM_MOST = 40_000_000, 256, 60_000
MNIST_SHAPE, MNIST_CLASSES = (1, 28, 28), 10
SMALL_BATCHES = (64, 512, 4096)
# For images above 64×64: a batch of 4096 of them needs hundreds of gigabytes.
LARGE_IMAGE_BATCHES = (8, 32)
# Two samples: batch normalization refuses to train on one.
MINIMAL_BATCH = 2
# Whose times tell what a call costs whatever its batch is.
FITTED_BATCHES = (MINIMAL_BATCH, 4, 8)


def default_batch_sizes(recipe: Recipe) -> tuple[int, ...]:
    """The batch sizes to measure where the user names none; each fits into the random images of that size."""
    sizes = LARGE_IMAGE_BATCHES if large_images(recipe) else SMALL_BATCHES
    return tuple(size for size in sizes if takes_mnist(recipe) or size <= _random_samples(recipe))


def large_images(recipe: Recipe) -> bool:
    """Whether its images have more than 64×64 pixels."""
    _, height, width = recipe.input_shape
    return height * width > 64 * 64


def _random_samples(recipe: Recipe) -> int:
    return max(RANDOM_LEAST, min(RANDOM_MOST, RANDOM_BYTES // math.prod(recipe.input_shape)))


def data_name(recipe: Recipe, settings: Settings, *, elsewhere: bool = False) -> str:
    """The data set that `load_data` will take, by existence checks alone. Raises DataError and RecipeError.

    `elsewhere`: another network of the run takes the one that the user has named.
    """
    if takes_mnist(recipe):
        return resolve(settings.data, settings.data_root)
    if settings.data != "auto" and not elsewhere:
        channels, height, width = recipe.input_shape
        raise RecipeError(
            f"{recipe.name} takes {channels}×{height}×{width} images of {recipe.classes} classes, which "
            f"{settings.data!r} has not; leave the data set to `auto`: random images of that size"
        )
    return "random"


def takes_mnist(recipe: Recipe) -> bool:
    """Whether MNIST's images and classes are those of `recipe`; else it is trained on random images."""
    return recipe.input_shape == MNIST_SHAPE and recipe.classes == MNIST_CLASSES


def load_data(recipe: Recipe, settings: Settings) -> DataSet:
    """The data set for `recipe`, cut to the profile's size. Raises DataError."""
    if takes_mnist(recipe):
        data = load(settings.data, settings.data_root)
    else:
        samples = _random_samples(recipe)
        data = random_images(recipe.input_shape, recipe.classes, samples, samples // 4, seed=settings.seed)
    train, test = settings.profile.train_samples, settings.profile.test_samples
    if train is None or test is None:
        return data
    return data.subset(min(train, len(data.train)), min(test, len(data.test)))


def check_contract(recipe: Recipe) -> None:
    """Run `recipe`'s network once on two samples. Raises RecipeError where it breaks its contract."""
    model = recipe.build()
    images = torch.zeros(MINIMAL_BATCH, *recipe.input_shape)
    try:
        with torch.no_grad():
            logits = model(images)
    except Exception as error:
        raise RecipeError(
            f"{recipe.name}: the network fails on images {tuple(images.shape)} float32: {error}"
        ) from error
    expected = (MINIMAL_BATCH, recipe.classes)
    if not isinstance(logits, Tensor) or logits.shape != expected:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise RecipeError(
            f"{recipe.name}: for images {tuple(images.shape)} the network must return logits {expected}, "
            f"not {got}; set `input_shape` and `classes` on the factory"
        )


@dataclass(frozen=True)
class Workload:
    """One case. `pipeline` is None where the batches are on the device already (step, inference)."""

    recipe: Recipe
    data: DataSet
    device: Device
    batch_size: int
    pipeline: str | None
    seed: int
    mode: Mode = PLAIN

    def trainee(self) -> Trainee:
        """A fresh network on the device; the seed decides its weights."""
        return Trainee(self.recipe, self.device.torch_device, self.seed, self.mode, self.memory_format)

    @property
    def memory_format(self) -> torch.memory_format:
        """Of network and images: channels last only where it was made for, on the tensor cores of a GPU."""
        wanted = self.recipe.channels_last and self.device.name.startswith("cuda")
        return torch.channels_last if wanted else torch.contiguous_format

    def open(self, split: Split, pipeline: str | None = None, workers: int = WORKERS) -> Pipeline:
        """The input pipeline over `split`, to be closed by the caller; `pipeline` overrides the workload's.

        `workers` is how many processes "workers" has.
        """
        return open_pipeline(
            pipeline or self.pipeline or "resident",
            split,
            batch_size=self.batch_size,
            device=self.device.torch_device,
            seed=self.seed,
            workers=workers,
        )

    def batches(self, count: int = DISTINCT_BATCHES) -> list[Batch]:
        """`count` distinct full batches of the training set, on the device; more than one epoch where needed."""
        with self.open(self.data.train, "resident") as pipeline:
            full = (batch for batch in endless(pipeline.epoch) if len(batch[1]) == self.batch_size)
            return [
                (images.contiguous(memory_format=self.memory_format), labels)
                for images, labels in itertools.islice(full, count)
            ]

    def full_batches(self, at_once: int = 1) -> Pipeline:
        """The workload's pipeline over as much of the training set as makes full batches; the caller closes it.

        Their number is a multiple of `at_once`, unless there are fewer.
        """
        train, samples = self.data.train, self.batch_size * at_once
        if len(train) < samples:
            samples = self.batch_size
        return self.open(train.first(len(train) - len(train) % samples))

    def minimal(self) -> Workload:
        """The same with the smallest batch."""
        return replace(self, batch_size=MINIMAL_BATCH)


def placed(recipe: Recipe, device: torch.device, memory_format: torch.memory_format) -> nn.Module:
    """A fresh network on `device`, its weights in `memory_format`."""
    model = recipe.build().to(device)
    return model if memory_format is torch.contiguous_format else model.to(memory_format=memory_format)


class Trainee:
    """A network on its device, its training step, and the way back to its first state.

    `plain` is the step in the mode's precision, operation by operation; `step` is executed as the mode says.
    `logits` and `infer` are the same of a forward pass.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        seed: int,
        mode: Mode = PLAIN,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.device = device
        self.seed = seed
        torch.manual_seed(seed)
        self.model = placed(recipe, device, memory_format)
        step = TrainingStep(self.model, recipe.optimizer(self.model.parameters()), recipe.loss)
        self.plain = in_precision(step, mode.precision, device)
        self.step = executed(self.plain, mode.execution)
        self._logits = autocast(self.model, mode.precision, device)
        self._infer = function_executed(self._logits, mode.execution)
        self._weights = copy.deepcopy(self.model.state_dict())
        self._optimizer = copy.deepcopy(self.step.optimizer.state_dict())

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def restore(self) -> None:
        """Weights, buffers, optimizer and the seed of dropout as they were when built."""
        torch.manual_seed(self.seed)
        self.model.load_state_dict(self._weights)
        if isinstance(self.plain, AutocastStep):
            self.plain.reset()
        if isinstance(self.step, CapturedStep):
            self.step.restore_optimizer()
        else:
            self.step.optimizer.load_state_dict(copy.deepcopy(self._optimizer))
            self.step.optimizer.zero_grad(set_to_none=True)

    def mean_loss(self, batches: Sequence[Batch]) -> float:
        """The mean training-mode loss over `batches`, without a trace in the network; the same dropout each time."""
        before = copy.deepcopy(self.model.state_dict())
        self.model.train()
        accelerators = [] if self.device.type == "cpu" else [self.device]
        with torch.random.fork_rng(accelerators, device_type=self.device.type), torch.no_grad():
            torch.manual_seed(self.seed)
            losses = [self.plain.forward(*batch) for batch in batches]
        self.model.load_state_dict(before)  # batch normalization counts in training mode
        return math.fsum(loss.item() for loss in losses) / len(losses)

    @torch.inference_mode()
    def logits(self, images: Tensor, _labels: Tensor) -> Tensor:
        """As `infer`, operation by operation."""
        return self._logits(images)

    @torch.inference_mode()
    def infer(self, images: Tensor, _labels: Tensor) -> Tensor:
        """Logits (B, classes) of `images` (B, C, H, W); called like a step."""
        return self._infer(images)
