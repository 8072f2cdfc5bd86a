"""Random images of any size that a network can still learn, for models that do not take MNIST's 28 x 28 images."""

from __future__ import annotations

import hashlib
from typing import Final

import torch
from torch import Tensor

from data.sets import DataSet, ImageDataset, Split

_TILES: Final = 4  # a class is a pattern of 4 x 4 tiles: coarse enough to remain after a network's first stride
_CHUNK_BYTES: Final = 32 << 20  # images made at once, so that temporary arrays stay small


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
    splits = [_images(patterns, shape, count, generator) for count in (train, test)]
    digest = hashlib.md5(parameters.encode(), usedforsecurity=False).hexdigest()[:12]
    return DataSet("random", "", digest, classes, shape, *splits)


def _images(patterns: Tensor, shape: tuple[int, int, int], count: int, generator: torch.Generator) -> Split:
    """`count` images of the classes in random order. Pattern and noise each take half of the range of values."""
    channels, height, width = shape
    rows, columns = (torch.arange(side) * _TILES // side for side in (height, width))
    labels = torch.randperm(count, generator=generator) % len(patterns)
    images = torch.empty((count, *shape), dtype=torch.uint8)
    chunk = max(1, _CHUNK_BYTES // (channels * height * width))
    for part, of in zip(torch.split(images, chunk), torch.split(labels, chunk), strict=True):
        part.random_(0, 128, generator=generator)
        part += patterns[of][:, :, rows][:, :, :, columns]
    return Split(images, labels, _by_sample)


def _by_sample(images: Tensor, labels: Tensor) -> ImageDataset:
    from data.by_sample import SyntheticImages

    return SyntheticImages(images, labels)
