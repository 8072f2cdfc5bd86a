"""What a DataLoader's worker processes read of a user's own data: the beginning of a stream, or mini-batches as made.

A worker process that is no fork imports this module by its name. There, `model` and `data` may be packages of the
user's, so this module imports neither.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset


class Begun(IterableDataset[Any]):
    """The first `count` samples of a stream. Each of several workers gives its share of them."""

    def __init__(self, stream: Iterable[Any], count: int) -> None:
        self._stream, self._count = stream, count

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        count = self._count
        if worker is not None:
            count = self._count // worker.num_workers + (worker.id < self._count % worker.num_workers)
        return itertools.islice(self._stream, count)


class Made(Dataset[Any]):
    """Each item is a whole mini-batch."""

    def __init__(self, make: Callable[[int], Any], samples: int, batch_size: int, seed: int) -> None:
        self._make, self._samples, self._batch_size, self._seed = make, samples, batch_size, seed

    def __len__(self) -> int:
        return -(-self._samples // self._batch_size)

    def __getitem__(self, number: int) -> Any:
        size = min(self._batch_size, self._samples - number * self._batch_size)
        with torch.random.fork_rng([]):
            seed_all(self._seed * 1_000_003 + number)
            return self._make(size)


def seed_all(seed: int) -> None:
    """Seed the generators of torch, Python and NumPy, which a user's code may draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    with contextlib.suppress(ImportError):
        import numpy

        numpy.random.seed(seed % 2**32)
