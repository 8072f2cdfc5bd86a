"""Random images of any size that a network can still learn, for models that do not take MNIST's 28 x 28 images."""

from __future__ import annotations

import hashlib
from typing import Final

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from data.sets import DataSet, Split

_TILES: Final = 4  # a class is a pattern of 4 x 4 tiles: coarse enough to remain after a network's first stride
_CHUNK_BYTES: Final = 32 << 20  # images made at once, so that temporary arrays stay small
_PIL_CHANNELS: Final = (1, 3)  # the channels of the images that PIL supports: grey and RGB


class SyntheticImages(Dataset[tuple[Tensor, int]]):
    """Images in memory, read sample by sample as in `torchvision.datasets.MNIST`: PIL image, transforms, label.

    `data` is uint8 (N, C, H, W), `targets` int64 (N,). PIL supports only images of 1 or 3 channels. Other images get
    the same arithmetic directly on the tensor.
    """

    def __init__(self, data: Tensor, targets: Tensor) -> None:
        self.data = data
        self.targets = targets
        self._to_tensor = transforms.ToTensor()
        self._normalize = transforms.Normalize((0.5,), (0.5,))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A float32 (C, H, W) image from -1 to 1, and its label."""
        image = self.data[index]
        scaled = self._to_tensor(to_pil_image(image)) if len(image) in _PIL_CHANNELS else image.float().div(255)
        return self._normalize(scaled), int(self.targets[index])


def random_images(shape: tuple[int, int, int], classes: int, train: int, test: int, seed: int) -> DataSet:
    """A data set of `train` and `test` random images (C, H, W). Each class is a coarse pattern plus noise.

    Classes are equally frequent. The same arguments give the same bits. Raises ValueError if an argument is below 1
    (`seed`: below 0).
    """
    if min(*shape, classes, train, test) < 1 or seed < 0:
        raise ValueError(
            "random images need a shape, classes and samples of at least 1 and a seed of at least 0, "
            f"not {shape=}, {classes=}, {train=}, {test=}, {seed=}"
        )
    parameters = f"{tuple(shape)} {classes} {train} {test} {seed}"
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randint(0, 128, (classes, shape[0], _TILES, _TILES), generator=generator).to(torch.uint8)
    splits = [Split(_images(patterns, shape, count, generator)) for count in (train, test)]
    digest = hashlib.md5(parameters.encode(), usedforsecurity=False).hexdigest()[:12]
    return DataSet("random", "", digest, classes, shape, *splits)


def _images(patterns: Tensor, shape: tuple[int, int, int], count: int, generator: torch.Generator) -> SyntheticImages:
    """`count` images of the classes in random order. Pattern and noise each take half of the range of values."""
    channels, height, width = shape
    rows, columns = (torch.arange(side) * _TILES // side for side in (height, width))
    labels = torch.randperm(count, generator=generator) % len(patterns)
    images = torch.empty((count, *shape), dtype=torch.uint8)
    chunk = max(1, _CHUNK_BYTES // (channels * height * width))
    for part, of in zip(torch.split(images, chunk), torch.split(labels, chunk), strict=True):
        part.random_(0, 128, generator=generator)
        part += patterns[of][:, :, rows][:, :, :, columns]
    return SyntheticImages(images, labels)
