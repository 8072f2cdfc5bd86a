"""A user's own data as a split that the input pipelines can read: a data set, a stream, or a maker of mini-batches.

A mini-batch is the tuple of the arguments of a training step. Here it has one element: what the user's collate, or
their function, returned.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from data import Batch, DataError, NotResident, Order
from model.nesting import joined, mapped, rows, tensors
from perf.harness.workload.streams import Begun, Made, seed_all

# How many samples become resident at a time.
CHUNK = 256
# A data set that takes more than this does not become resident [bytes].
MOST_RESIDENT_BYTES = 2 << 30
# An epoch of a stream has at most so many samples, because a stream may have no end.
LONGEST_STREAM = 60_000
DIGESTED = 8  # how many samples a digest is of
# An epoch of mini-batches that a function makes has at most so many bytes, or at least so many samples.
MADE_BYTES, MADE_LEAST = 40_000_000, 256


@dataclass(frozen=True)
class OwnSplit(ABC):
    """One part of a user's data: an epoch has `samples` samples, and `seed` decides what is drawn at random."""

    samples: int
    seed: int

    def __len__(self) -> int:
        return self.samples

    def first(self, count: int) -> OwnSplit:
        """The first `count` samples. Raises ValueError unless `count` is 1 to len(self)."""
        if not 1 <= count <= len(self):
            raise ValueError(f"{count} samples asked of a split that has 1 to {len(self)}")
        return replace(self, samples=count)

    @abstractmethod
    def loader(self, order: Order, **options: Any) -> DataLoader[Any]:
        """A loader of the mini-batches whose samples `order` gives."""

    def as_batch(self, loaded: Any) -> Batch:
        """The arguments of a training step, from what a loader gives."""
        return (loaded,)

    def moved(self, batch: Batch, device: torch.device, *, non_blocking: bool) -> Batch:
        found: Batch = mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking), batch)
        return found

    def gatherer(self, device: torch.device) -> Callable[[Tensor], Batch]:
        """Bring the whole split to `device`. Returns a function from the indices of samples to their mini-batch.

        Raises NotResident if the samples do not become tensors, or not with this memory.
        """
        parts, size = [], 0
        for part in self._in_order():
            parts.append(part)
            size += sum(tensor.nbytes for tensor in tensors(part))
            if size > MOST_RESIDENT_BYTES:
                raise NotResident(f"the samples take more than {MOST_RESIDENT_BYTES >> 30} GiB")
        try:
            whole = joined(parts)
        except ValueError as error:
            raise NotResident(f"the mini-batches cannot become one: {error}") from error
        if len(next(tensors(whole))) != len(self):
            raise NotResident("the first dimension of the tensors is not that of the samples")
        there = mapped(lambda tensor: tensor.to(device), whole)
        return lambda indices: (rows(there, indices),)

    def _in_order(self) -> Iterable[Any]:
        """The whole split in mini-batches of CHUNK samples, in order."""
        return self.loader(Order(len(self), CHUNK, shuffled=False))

    def full(self, batch_size: int) -> Iterator[Batch]:
        """Full mini-batches on the CPU, without end. Raises DataError if there is not even one."""
        if len(self) < batch_size:
            raise DataError(f"the data set has {len(self):,} samples, fewer than a batch of {batch_size}")
        order = Order(len(self) - len(self) % batch_size, batch_size, seed=self.seed)
        loader = self.loader(order)
        for order.number in itertools.count():
            yield from map(self.as_batch, loader)


@dataclass(frozen=True)
class OwnSamples(OwnSplit):
    """A map-style data set. `collate` makes a mini-batch of a list of samples; None: as torch does."""

    dataset: Dataset[Any]
    collate: Callable[[list[Any]], Any] | None = None

    def loader(self, order: Order, **options: Any) -> DataLoader[Any]:
        return DataLoader(self.dataset, batch_sampler=order, collate_fn=self.collate, **_seeded(self.seed), **options)


@dataclass(frozen=True)
class OwnStream(OwnSplit):
    """An iterable data set, in its own order. An epoch is its first `samples` samples."""

    dataset: IterableDataset[Any]
    collate: Callable[[list[Any]], Any] | None = None

    def loader(self, order: Order, **options: Any) -> DataLoader[Any]:
        begun = Begun(self.dataset, order.samples)
        return DataLoader(begun, batch_size=order.batch_size, collate_fn=self.collate, **_seeded(self.seed), **options)


@dataclass(frozen=True)
class MadeBatches(OwnSplit):
    """Mini-batches that `make(size)` returns; the seed and the number of a mini-batch decide what it draws."""

    make: Callable[[int], Any]

    def loader(self, order: Order, **options: Any) -> DataLoader[Any]:
        made = Made(self.make, order.samples, order.batch_size, self.seed)
        return DataLoader(made, batch_size=None, **_seeded(self.seed), **options)

    def full(self, batch_size: int) -> Iterator[Batch]:
        made = Made(self.make, sys.maxsize, batch_size, self.seed)
        return ((made[number],) for number in itertools.count())


def _seeded(seed: int) -> dict[str, Any]:
    # Without a generator, a DataLoader would draw the base seed of its workers from the global generator.
    return {"generator": torch.Generator().manual_seed(seed)}


def of_dataset(dataset: Any, collate: Any, seed: int, most: int | None) -> OwnSplit:
    """The split of a user's data set. Raises DataError if it is empty, or no data set."""
    if collate is not None and not callable(collate):
        raise DataError(f"`collate` must be callable, not {collate!r}")
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        if not (samples := len(dataset)):
            raise DataError("the data set is empty: its len() is 0")
        return OwnSamples(min(samples, most or samples), seed, dataset, collate)
    if not hasattr(dataset, "__iter__"):
        raise DataError(f"`dataset()` must return a data set, with len() and [index] or with iter(), not {dataset!r}")
    longest = most or LONGEST_STREAM
    samples = sum(1 for _ in itertools.islice(dataset, longest))
    if not samples:
        raise DataError("the data set is empty: iter() gives nothing")
    return OwnStream(samples, seed, dataset, collate)


def of_batches(make: Callable[[int], Any], seed: int, most: int) -> MadeBatches:
    """The split whose mini-batches `make(size)` returns: at most MADE_BYTES or MADE_LEAST samples, and `most`."""
    one = MadeBatches(1, seed, make).full(2)
    size = max(1, sum(tensor.nbytes for tensor in tensors(next(one))) // 2)
    return MadeBatches(min(most, max(MADE_LEAST, MADE_BYTES // size)), seed, make)


def digest(split: OwnSplit) -> str:
    """12 hex digits of the first samples of `split`, and of their number."""
    found = hashlib.md5(f"{len(split)}".encode(), usedforsecurity=False)
    count = min(len(split), DIGESTED)
    with torch.random.fork_rng([]):
        seed_all(split.seed)
        begun = split.first(count).loader(Order(count, count, shuffled=False))
        for tensor in tensors(next(iter(begun))):
            found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:12]
