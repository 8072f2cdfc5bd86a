"""What a benchmark runs: model + data + device + batch size + pipeline, and the live objects built from them.

Besides `python -m model`, only this module decides which data a model is trained on.
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

# With fewer mini-batches, a case would measure a network that has memorized them, while they stay in the cache.
DISTINCT_BATCHES = 32
# Random images are there to be computed on, not learnt: 40 MB are enough, but at least 32 mini-batches of 8.
RANDOM_BYTES, RANDOM_LEAST, RANDOM_MOST = 40_000_000, 256, 60_000
MNIST_SHAPE, MNIST_CLASSES = (1, 28, 28), 10
SMALL_BATCHES = (64, 512, 4096)
# For images of more than 64×64 pixels: a mini-batch of 4096 of these images needs hundreds of gigabytes.
LARGE_IMAGE_BATCHES = (8, 32)
# Two samples, because batch normalization cannot train on one.
MINIMAL_BATCH = 2
# The fixed cost of a call, which does not depend on the batch size, follows from the times at these batch sizes.
FITTED_BATCHES = (MINIMAL_BATCH, 4, 8)


def default_batch_sizes(recipe: Recipe) -> tuple[int, ...]:
    """The batch sizes to measure if the user names none. Random data has at least one full mini-batch of each."""
    sizes = LARGE_IMAGE_BATCHES if large_images(recipe) else SMALL_BATCHES
    return tuple(size for size in sizes if takes_mnist(recipe) or size <= _random_samples(recipe))


def large_images(recipe: Recipe) -> bool:
    """Whether the images of `recipe` have more than 64×64 pixels."""
    _, height, width = recipe.input_shape
    return height * width > 64 * 64


def _random_samples(recipe: Recipe) -> int:
    return max(RANDOM_LEAST, min(RANDOM_MOST, RANDOM_BYTES // math.prod(recipe.input_shape)))


def data_name(recipe: Recipe, settings: Settings, *, elsewhere: bool = False) -> str:
    """The name of the data set that `load_data` will use. Only checks which files exist.

    `elsewhere` means that another network of the run uses the data set that the user named. Raises DataError, and
    RecipeError if `recipe` cannot use the named data set.
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
    """Whether `recipe` has the image size and the classes of MNIST. Any other network trains on random images."""
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
    """Run `recipe`'s network once on two samples. Raises RecipeError if the network breaks its contract."""
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
    """One case. `pipeline` is None if the mini-batches are on the device already (training step, inference)."""

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
        """The memory format of network and images: channels last only if the recipe wants it, and only on a CUDA GPU.

        Channels last is made for the GPU's tensor cores.
        """
        wanted = self.recipe.channels_last and self.device.name.startswith("cuda")
        return torch.channels_last if wanted else torch.contiguous_format

    def open(self, split: Split, pipeline: str | None = None, workers: int = WORKERS) -> Pipeline:
        """Open an input pipeline over `split`, which the caller closes. `pipeline` overrides the workload's kind.

        `workers` is the number of processes of a "workers" pipeline.
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
        """`count` distinct full mini-batches of the training set, on the device, from several epochs if needed."""
        with self.open(self.data.train, "resident") as pipeline:
            full = (batch for batch in endless(pipeline.epoch) if len(batch[1]) == self.batch_size)
            return [
                (images.contiguous(memory_format=self.memory_format), labels)
                for images, labels in itertools.islice(full, count)
            ]

    def full_batches(self, at_once: int = 1) -> Pipeline:
        """The workload's pipeline over as much of the training set as fills whole mini-batches; the caller closes it.

        The number of mini-batches is a multiple of `at_once`, unless there are fewer than `at_once`.
        """
        train, samples = self.data.train, self.batch_size * at_once
        if len(train) < samples:
            samples = self.batch_size
        return self.open(train.first(len(train) - len(train) % samples))

    def minimal(self) -> Workload:
        """This workload with the smallest batch size."""
        return replace(self, batch_size=MINIMAL_BATCH)


def placed(recipe: Recipe, device: torch.device, memory_format: torch.memory_format) -> nn.Module:
    """A fresh network on `device`, with its weights in `memory_format`."""
    model = recipe.build().to(device)
    return model if memory_format is torch.contiguous_format else model.to(memory_format=memory_format)


class Trainee:
    """A network on its device, and its training step. `restore` brings back its first state.

    `plain` runs the step in the mode's precision, operation by operation; `step` runs it in the mode's execution.
    `logits` runs a forward pass operation by operation; `infer` runs it in the mode's execution.
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
        """Set weights, buffers, optimizer, gradient scaler and dropout's seed back to their first state."""
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
        """The mean loss over `batches` in training mode, with fixed dropout. Weights and buffers do not change."""
        before = copy.deepcopy(self.model.state_dict())
        self.model.train()
        accelerators = [] if self.device.type == "cpu" else [self.device]
        with torch.random.fork_rng(accelerators, device_type=self.device.type), torch.no_grad():
            torch.manual_seed(self.seed)
            losses = [self.plain.forward(*batch) for batch in batches]
        self.model.load_state_dict(before)  # in training mode, batch normalization changes its buffers
        return math.fsum(loss.item() for loss in losses) / len(losses)

    @torch.inference_mode()
    def logits(self, images: Tensor, _labels: Tensor) -> Tensor:
        """Logits (B, classes) of `images` (B, C, H, W), operation by operation; takes the arguments of a step."""
        return self._logits(images)

    @torch.inference_mode()
    def infer(self, images: Tensor, _labels: Tensor) -> Tensor:
        """Logits (B, classes) of `images` (B, C, H, W), in the mode's execution; takes the arguments of a step."""
        return self._infer(images)
