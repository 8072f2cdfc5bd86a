"""The data that a workload gets: a data set with a training and a test split, and the transforms of one sample."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor
from torchvision import transforms


class ImageDataset(Protocol):
    """A map-style data set of images in memory, with the attributes of `torchvision.datasets.MNIST`."""

    data: Tensor
    targets: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


def reference_transform() -> transforms.Compose:
    """Turn a PIL image into float32 (C, H, W) from -1 to 1, one sample at a time, as most beginners' programs do."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])


@dataclass(frozen=True)
class Split:
    """One part of a data set. An input pipeline reads it as whole tensors, or sample by sample.

    `dataset[i]` is a float32 (C, H, W) image after the reference transforms, and its label as an int.
    """

    dataset: ImageDataset

    @property
    def images(self) -> Tensor:
        """All images, before the transforms: uint8 (N, H, W) or (N, C, H, W), on the CPU."""
        return self.dataset.data

    @property
    def labels(self) -> Tensor:
        """All labels: int64 (N,), on the CPU."""
        return self.dataset.targets

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Split:
        """The first `count` samples, in this split's memory. Raises ValueError unless `count` is 1 to len(self)."""
        if not 1 <= count <= len(self):
            raise ValueError(f"{count} samples asked of a split that has 1 to {len(self)}")
        dataset = copy.copy(self.dataset)
        dataset.data, dataset.targets = self.images[:count], self.labels[:count]
        return Split(dataset)


@dataclass(frozen=True)
class DataSet:
    """A data set ready to train on.

    `name` is "mnist", "digits" or "random"; `note` says why this set was chosen, or is "" if there is nothing to say.
    `digest` (12 hex digits) identifies the content of the whole set; a subset keeps the digest. `shape` is (C, H, W)
    of one sample.
    """

    name: str
    note: str
    digest: str
    classes: int
    shape: tuple[int, int, int]
    train: Split
    test: Split

    def subset(self, train: int, test: int) -> DataSet:
        """The first `train` training and `test` test samples. Raises ValueError for fewer than 1 or too many."""
        return replace(self, train=self.train.first(train), test=self.test.first(test))
