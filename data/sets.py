"""The data that a workload gets: a data set with a training and a test split, and the transforms of one sample."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from data.pipelines import Batch, Order


class NotResident(Exception):
    """A split that cannot be kept on the device as a whole: `str()` says why."""


class Samples(Protocol):
    """One part of a data set, as the input pipelines read it."""

    def __len__(self) -> int: ...

    def first(self, count: int) -> Samples:
        """The first `count` samples. Raises ValueError unless `count` is 1 to len(self)."""

    def loader(self, order: Order, **options: Any) -> DataLoader[Any]:
        """A loader of the mini-batches whose samples `order` gives."""

    def as_batch(self, loaded: Any) -> Batch:
        """The arguments of a training step, from what a loader gives."""

    def moved(self, batch: Batch, device: torch.device, *, non_blocking: bool) -> Batch:
        """A copy of `batch` on `device`."""

    def gatherer(self, device: torch.device) -> Callable[[Tensor], Batch]:
        """Bring the whole split to `device`. Returns a function from the indices of samples to their mini-batch.

        The indices are int64 (B,), on the device. Raises NotResident.
        """


class ImageDataset(Protocol):
    """A map-style data set: `dataset[i]` is a float32 (C, H, W) image from -1 to 1, and its label."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


@dataclass(frozen=True)
class Split:
    """One part of a data set. An input pipeline reads it as whole tensors, or sample by sample.

    `images` is uint8 (N, H, W) or (N, C, H, W) and `labels` int64 (N,), both on the CPU. `by_sample` makes of them a
    data set that gives one sample at a time. It imports torchvision, so it is called only when a loader is asked for.
    """

    images: Tensor
    labels: Tensor
    by_sample: Callable[[Tensor, Tensor], ImageDataset]

    @cached_property
    def dataset(self) -> ImageDataset:
        """The split, sample by sample."""
        return self.by_sample(self.images, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Split:
        """The first `count` samples, in this split's memory. Raises ValueError unless `count` is 1 to len(self)."""
        if not 1 <= count <= len(self):
            raise ValueError(f"{count} samples asked of a split that has 1 to {len(self)}")
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def loader(self, order: Order, **options: Any) -> DataLoader[Any]:
        # A map-style data set need not be derived from Dataset. Without a generator, a DataLoader would draw the base
        # seed of its workers from the global generator.
        generator = torch.Generator().manual_seed(order.seed)
        if options.get("num_workers") and sys.platform == "linux":
            # Python 3.14 starts other processes by default. They import `data` by its name, which may be the user's.
            options["multiprocessing_context"] = "fork"
        return DataLoader(self.dataset, batch_sampler=order, generator=generator, **options)  # type: ignore[arg-type]

    def as_batch(self, loaded: Any) -> Batch:
        images, labels = loaded
        return images, labels

    def moved(self, batch: Batch, device: torch.device, *, non_blocking: bool) -> Batch:
        images, labels = batch
        return images.to(device, non_blocking=non_blocking), labels.to(device, non_blocking=non_blocking)

    def gatherer(self, device: torch.device) -> Callable[[Tensor], Batch]:
        """The split is copied to the device as uint8; the device gathers and normalizes each mini-batch."""
        images = (self.images if self.images.dim() == 4 else self.images.unsqueeze(1)).to(device)
        labels = self.labels.to(device)
        # A tensor on the device: to divide by a host number, a GPU multiplies by the inverse, which rounds differently.
        grey = torch.tensor(127.5, device=device)

        def gather(indices: Tensor) -> Batch:
            # The same bits as the transforms' (x / 255 - 0.5) / 0.5, with one operation less: doubling is exact, so
            # x / 127.5 - 1 is twice x / 255 - 0.5. index_select is 8 times as fast as indexing.
            scaled = images.index_select(0, indices).float().div_(grey).sub_(1)
            return scaled, labels.index_select(0, indices)

        return gather


@dataclass(frozen=True)
class DataSet:
    """A data set ready to train on.

    `name` is "mnist", "digits", "random" or, for a user's own, "own"; `note` says why this set was chosen, or is "" if
    there is nothing to say. `digest` (12 hex digits) identifies the content of the whole set; a subset keeps the
    digest. `shape` is (C, H, W) of one sample; () for a user's own.
    """

    name: str
    note: str
    digest: str
    classes: int
    shape: tuple[int, ...]
    train: Samples
    test: Samples

    def subset(self, train: int, test: int) -> DataSet:
        """The first `train` training and `test` test samples. Raises ValueError for fewer than 1 or too many."""
        return replace(self, train=self.train.first(train), test=self.test.first(test))
