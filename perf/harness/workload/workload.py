"""What a benchmark runs: model + data + device + batch size + pipeline, and the live objects built from them.

Besides `python -m model`, only this module decides which data a model is trained on.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from data import WORKERS, Batch, DataError, DataSet, Pipeline, Samples, load, open_pipeline, random_images, resolve
from model import FirstState, Recipe, RecipeError, Refused
from model.imports import raised
from model.nesting import tensors
from model.task_step import whole
from perf.harness.machine.devices import Device
from perf.harness.machine.memory import is_out_of_memory
from perf.harness.options import EAGER, Settings
from perf.harness.workload.benchmarks import endless
from perf.harness.workload.contract import MINIMAL_BATCH
from perf.harness.workload.modes.captured import CapturedStep
from perf.harness.workload.modes.execution import executed, function_executed
from perf.harness.workload.modes.mode import PLAIN, Mode
from perf.harness.workload.modes.precision import AutocastStep, autocast, in_precision
from perf.harness.workload.own_data import OwnSplit, digest, of_batches, of_dataset
from perf.harness.workload.streams import seed_all

# With fewer mini-batches, a case would measure a network that has memorized them, while they stay in the cache.
DISTINCT_BATCHES = 32
# The mean loss of so many is compared before and after. With fewer samples, chance decides whether the loss of a
# network that learns slowly falls: an LSTM's rose in 3 of 40 epochs, on 64 samples, and on 256 in none.
LOSS_BATCHES, LOSS_SAMPLES = 8, 256
# Random images are there to be computed on, not learnt: 40 MB are enough, but at least 32 mini-batches of 8.
RANDOM_BYTES, RANDOM_LEAST, RANDOM_MOST = 40_000_000, 256, 60_000
MNIST_SHAPE, MNIST_CLASSES = (1, 28, 28), 10
SMALL_BATCHES = (64, 512, 4096)
# For images of more than 64×64 pixels: a mini-batch of 4096 of these images needs hundreds of gigabytes.
LARGE_IMAGE_BATCHES = (8, 32)
# For a user's own training, of which nothing is known.
OWN_BATCHES = (16, 64)
OWN = "own"
# The mini-batches of the first batch size in an epoch: of a profile that takes a subset, and where a task only makes
# mini-batches, whose epochs have no length of their own.
SUBSET_BATCHES, MADE_BATCHES = 100, 400
COLLATE_LINES = ("def collate(self, samples):", "    …  # make the samples equally long, then torch.stack")
# The fixed cost of a call, which does not depend on the batch size, follows from the times at these batch sizes.
FITTED_BATCHES = (MINIMAL_BATCH, 4, 8)


def default_batch_sizes(recipe: Recipe) -> tuple[int, ...]:
    """The batch sizes to measure if the user names none. Random data has at least one full mini-batch of each."""
    if recipe.batch_sizes is not None:
        return recipe.batch_sizes
    if recipe.brings_data:
        return OWN_BATCHES
    sizes = LARGE_IMAGE_BATCHES if large_images(recipe) else SMALL_BATCHES
    return tuple(size for size in sizes if takes_mnist(recipe) or size <= _random_samples(recipe))


def unable(recipe: Recipe) -> dict[str, str]:
    """The benchmarks that the training of `recipe` cannot have, each with the reason."""
    if recipe.task is None or recipe.task().can_predict:
        return {}
    return {"inference": "the task has a whole `step`, and neither `predict(batch)` nor `loss(batch)`"}


def large_images(recipe: Recipe) -> bool:
    """Whether the images of `recipe` have more than 64×64 pixels. A task counts as small: its sizes are its own."""
    if recipe.brings_data:
        return False
    _, height, width = recipe.input_shape
    return height * width > 64 * 64


def _random_samples(recipe: Recipe) -> int:
    return max(RANDOM_LEAST, min(RANDOM_MOST, RANDOM_BYTES // math.prod(recipe.input_shape)))


def data_name(recipe: Recipe, settings: Settings, *, elsewhere: bool = False) -> str:
    """The name of the data set that `load_data` will use. Only checks which files exist.

    `elsewhere` means that another network of the run uses the data set that the user named. Raises DataError, and
    RecipeError if `recipe` cannot use the named data set.
    """
    if recipe.brings_data:
        if settings.data != "auto" and not elsewhere:
            raise RecipeError(f"{recipe.name} brings its own data; leave the data set to `auto`, not {settings.data!r}")
        return OWN
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
    """Whether `recipe` has the image size and the classes of MNIST. Any other network trains on random images, unless
    it brings its own data."""
    return not recipe.brings_data and recipe.input_shape == MNIST_SHAPE and recipe.classes == MNIST_CLASSES


def load_data(recipe: Recipe, settings: Settings) -> DataSet:
    """The data set for `recipe`, cut to the profile's size. Raises DataError and RecipeError."""
    if recipe.brings_data:
        sizes = settings.batch_sizes or default_batch_sizes(recipe)
        made = max(sizes[0] * MADE_BATCHES, *sizes)
        if (train := settings.profile.train_samples) is not None:
            train = min(train, max(sizes[0] * SUBSET_BATCHES, *sizes))
        return own_data(recipe, settings.seed, train, made)
    if takes_mnist(recipe):
        data = load(settings.data, settings.data_root)
    else:
        samples = _random_samples(recipe)
        data = random_images(recipe.input_shape, recipe.classes, samples, samples // 4, seed=settings.seed)
    train, test = settings.profile.train_samples, settings.profile.test_samples
    if train is None or test is None:
        return data
    return data.subset(min(train, len(data.train)), min(test, len(data.test)))


def own_data(recipe: Recipe, seed: int, most: int | None, made: int) -> DataSet:
    """The data that a task brings, at most `most` samples of it; it is also what the task is evaluated on.

    An epoch of a task that only makes mini-batches has at most `made` samples.

    Raises RecipeError, and DataError with the reason.
    """
    assert recipe.task is not None
    seed_all(seed)
    task = recipe.task()
    try:
        found = task.data()
        if isinstance(found, tuple):
            dataset, collate = found
            split, note = of_dataset(dataset, collate, seed, most), f"{type(dataset).__name__} of {recipe.name}"
        else:
            split, note = of_batches(found, seed, min(made, most or made)), f"batch(size) of {recipe.name}"
        name = digest(split)
    except (RecipeError, DataError) as error:
        raise type(error)(f"{recipe.name}: {str(error).removeprefix(f'{recipe.name}: ')}") from error
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise RecipeError(f"{recipe.name}: a batch of its data does not fit into memory") from error
        lines = COLLATE_LINES if "equal size" in str(error) else ()
        raise Refused(f"{recipe.name}: its data cannot be read: {raised(error)}", *lines) from error
    return DataSet(OWN, note, name, 0, (), split, split)


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

    def open(self, split: Samples, pipeline: str | None = None, workers: int = WORKERS) -> Pipeline:
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
        train, device = self.data.train, self.device.torch_device
        if isinstance(train, OwnSplit):
            return [
                train.moved(batch, device, non_blocking=False)
                for batch in itertools.islice(train.full(self.batch_size), count)
            ]
        with self.open(self.data.train, "resident") as pipeline:
            full = (batch for batch in endless(pipeline.epoch) if len(batch[1]) == self.batch_size)
            return [
                (images.contiguous(memory_format=self.memory_format), labels)
                for images, labels in itertools.islice(full, count)
            ]

    @property
    def loss_batches(self) -> int:
        """How many mini-batches show whether the loss falls; the training step trains on all of them."""
        return min(DISTINCT_BATCHES, max(LOSS_BATCHES, -(-LOSS_SAMPLES // self.batch_size)))

    @property
    def unit(self) -> tuple[str, float] | None:
        """What a task counts (`tokens`), and how many of it a sample has; None: samples. Raises RecipeError."""
        if self.recipe.task is None:
            return None
        task = self.recipe.task()
        if (unit := task.member("unit")) is None or (count := task.member("count")) is None:
            return None
        try:
            return str(unit), float(count(whole(self.batches(1)[0]))) / self.batch_size
        except (Exception, SystemExit) as error:
            raise RecipeError(f"{self.recipe.name}: `count(batch)` raised {raised(error)}") from error

    def full_batches(self, at_once: int = 1) -> Pipeline:
        """The workload's pipeline over as much of the training set as fills whole mini-batches; the caller closes it.

        The number of mini-batches is a multiple of `at_once`, unless there are fewer than `at_once`.
        """
        train, samples = self.data.train, self.batch_size * at_once
        if len(train) < samples:
            samples = self.batch_size
        return self.open(train.first(len(train) - len(train) % samples))

    def batch_of_cycle(self) -> Batch:
        """A mini-batch for steps that only count: the smallest, or of the usual size if it would be compiled for."""
        return (self.minimal() if self.mode.execution == EAGER else self).batches(1)[0]

    def minimal(self) -> Workload:
        """This workload with the smallest batch size."""
        return replace(self, batch_size=MINIMAL_BATCH)


class Trainee:
    """A network on its device, and its training step. `restore` brings back its first state.

    `fresh` is the step as the recipe has it. `plain` runs it in the mode's precision, operation by operation; `step`
    runs it in the mode's execution. `logits` runs a forward pass operation by operation; `infer` runs it in the mode's
    execution.
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
        seed_all(seed)
        self.fresh = fresh = recipe.training(device, memory_format)
        self.model = fresh.model
        self.plain = in_precision(fresh, mode.precision, device)
        self.step = executed(self.plain, mode.execution)
        self._predict = autocast(fresh.predict, mode.precision, device)
        self._infer = function_executed(self._predict, mode.execution)
        self._weights = copy.deepcopy(self.model.state_dict())
        self._first = FirstState(fresh)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def restore(self) -> None:
        """Set weights, buffers, optimizers, schedulers, scalers and random numbers back to their first state."""
        seed_all(self.seed)
        self.model.load_state_dict(self._weights)
        if isinstance(self.plain, AutocastStep):
            self.plain.reset()
        if isinstance(self.step, CapturedStep):
            self.step.restore_optimizers()
            self._first.restore(leave=self.step.optimizers)
        else:
            self._first.restore()
            self.step.zero_grad()

    def mean_loss(self, batches: Sequence[Batch]) -> float:
        """The mean loss over `batches` in training mode, with fixed dropout. Weights and buffers do not change.

        NaN if the user has written the step as a whole, without a loss.
        """
        if not self.fresh.has_loss:
            return math.nan
        before = copy.deepcopy(self.model.state_dict())
        self.model.train()
        accelerators = [] if self.device.type == "cpu" else [self.device]
        with torch.random.fork_rng(accelerators, device_type=self.device.type), torch.no_grad():
            seed_all(self.seed)
            losses = [self.plain.forward(*batch) for batch in batches]
        self.model.load_state_dict(before)  # in training mode, batch normalization changes its buffers
        return math.fsum(loss.item() for loss in losses) / len(losses)

    @torch.inference_mode()
    def logits(self, *batch: Any) -> Any:
        """What inference computes of a mini-batch, operation by operation; takes the arguments of a step.

        For the networks for images: logits (B, classes) of images (B, C, H, W).
        """
        return self._predict(*self.plain.inputs(*batch))

    @torch.inference_mode()
    def infer(self, *batch: Any) -> Any:
        """What inference computes of a mini-batch, in the mode's execution; takes the arguments of a step."""
        return self._infer(*self.plain.inputs(*batch))


def finite(output: Any) -> bool:
    """Whether all numbers in `output` are finite. Waits for the device."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors(output) if tensor.is_floating_point())
