"""Input pipelines: three ways to bring the samples of a split to the device, in the same order and with the same bits.

`dataloader` transforms one sample after the other in this process. `workers` transforms the samples in worker processes
and copies from pinned memory. `resident` keeps the whole split on the device as uint8 and normalizes it there.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from data.sets import Samples

PIPELINES: Final = ("dataloader", "workers", "resident")
"""The kinds of input pipeline."""

WORKERS: Final = 2
"""Worker processes of a "workers" pipeline, where nobody says how many."""

Batch = tuple[Any, ...]
"""The arguments of a training step: images float32 (B, C, H, W) and labels int64 (B,); or a user's own mini-batch."""

_GOLDEN: Final = 0x9E3779B9  # 2**32 / golden ratio: modulo 2**32, its multiples lie far apart (Knuth, TAOCP 3, 6.4)
_UNPINNED: Final = ("cpu", "mps")  # these devices share the host's memory, so pinning gains nothing


def open_pipeline(
    kind: str,
    split: Samples,
    *,
    batch_size: int,
    device: torch.device,
    seed: int,
    workers: int = WORKERS,
) -> Pipeline:
    """Open an input pipeline of a `kind` in `PIPELINES`. The caller closes the pipeline after use.

    Only a "workers" pipeline has worker processes: `workers` of them start with its first epoch and stay until the
    pipeline is closed. Raises ValueError for an unknown kind, a batch size below 1, or a "workers" pipeline with
    `workers` below 1.
    """
    if kind not in PIPELINES:
        raise ValueError(f"unknown input pipeline {kind!r}: choose one of {', '.join(PIPELINES)}")
    if batch_size < 1:
        raise ValueError(f"the batch size must be at least 1, not {batch_size}")
    if kind == "dataloader":
        return DataLoaderPipeline(split, batch_size, device, seed)
    if kind == "resident":
        return ResidentPipeline(split, batch_size, device, seed)
    if workers < 1:
        raise ValueError(f"the pipeline 'workers' needs at least 1 worker process, not {workers}")
    return WorkersPipeline(split, batch_size, device, seed, workers=workers)


def shuffle_order(samples: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch: a permutation, int64 (samples,), on the CPU. The global generator stays as it is."""
    # torch's CPU generator uses only the low 32 bits of a seed. Nearby (seed, epoch) pairs must differ in these bits.
    generator = torch.Generator().manual_seed((seed * _GOLDEN + epoch) % 2**32)
    return torch.randperm(samples, generator=generator)


class Pipeline(ABC):
    """The mini-batches of a split, epoch by epoch. As a context manager, a pipeline closes itself at the end.

    An epoch has `batches` mini-batches of `batch_size` samples; the last one may be smaller. Together they contain each
    of the `samples` samples once.
    """

    kind: str

    def __init__(self, split: Samples, batch_size: int, device: torch.device, seed: int) -> None:
        self.samples = len(split)
        self.batch_size = batch_size
        self.batches = -(-self.samples // batch_size)
        self.device = device
        self.seed = seed
        self._closed = False

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, on the device. A batch stays valid when later batches are taken."""
        return map(self.to_device, self.host_epoch(number))

    def host_epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` before `to_device`. Raises RuntimeError if the pipeline is closed."""
        if self._closed:
            raise RuntimeError(f"this {self.kind} pipeline is closed: open another one")
        return self._host_batches(number)

    @abstractmethod
    def to_device(self, batch: Batch) -> Batch:
        """Copy a batch of `host_epoch` to the device. A "workers" pipeline does not wait for the copy."""

    def close(self) -> None:
        """Release what the pipeline holds. No epoch can begin after this. A second call does no harm."""
        self._closed = True

    @abstractmethod
    def _host_batches(self, number: int) -> Iterator[Batch]: ...

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Order(Sampler[list[int]]):
    """The batch sampler of a DataLoader: the indices of each batch of epoch `number`."""

    def __init__(self, samples: int, batch_size: int, seed: int = 0, *, shuffled: bool = True) -> None:
        self.number = 0
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self._shuffled = shuffled

    def __iter__(self) -> Iterator[list[int]]:
        # Not a generator: the order is fixed now, even if `number` changes later.
        order = shuffle_order(self.samples, self.seed, self.number) if self._shuffled else torch.arange(self.samples)
        return map(Tensor.tolist, torch.split(order, self.batch_size))


class DataLoaderPipeline(Pipeline):
    """The usual pipeline: a `DataLoader` in this process, one sample at a time, then a plain copy."""

    kind = "dataloader"

    def __init__(self, split: Samples, batch_size: int, device: torch.device, seed: int) -> None:
        super().__init__(split, batch_size, device, seed)
        self._split = split
        self._order = Order(self.samples, batch_size, seed)
        self._loader = self._new_loader()

    def to_device(self, batch: Batch) -> Batch:
        return self._split.moved(batch, self.device, non_blocking=False)

    def _new_loader(self, **options: Any) -> DataLoader[Any]:
        return self._split.loader(self._order, **options)

    def _host_batches(self, number: int) -> Iterator[Batch]:
        self._order.number = number
        return map(self._split.as_batch, self._loader)


class WorkersPipeline(DataLoaderPipeline):
    """A `DataLoader` with worker processes (one torch thread each), and with pinned memory for an accelerator.

    Only one epoch runs at a time. When a new epoch begins, the old one ends, and its iterator raises RuntimeError.
    """

    kind = "workers"

    def __init__(self, split: Samples, batch_size: int, device: torch.device, seed: int, *, workers: int) -> None:
        self._workers = workers
        self._pinned = device.type not in _UNPINNED
        self._running: Any = None  # the DataLoader's iterator, which owns the worker processes
        self._turn = 0  # number of epochs begun: the iterator of an old epoch must not take batches of a new one
        super().__init__(split, batch_size, device, seed)

    def to_device(self, batch: Batch) -> Batch:
        return self._split.moved(batch, self.device, non_blocking=self._pinned)

    def close(self) -> None:
        super().close()
        self._turn += 1
        self._stop_workers()

    def _new_loader(self, **options: Any) -> DataLoader[Any]:
        return super()._new_loader(
            num_workers=self._workers, persistent_workers=True, pin_memory=self._pinned, **options
        )

    def _host_batches(self, number: int) -> Iterator[Batch]:
        self._turn += 1
        turn = self._turn
        for batch in self._worker_batches(number):
            yield batch
            if self._turn != turn:
                raise RuntimeError("this epoch ended when another one of its pipeline began, or by close()")

    def _worker_batches(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch. An error stops all workers, because a lost worker would block the next epoch."""
        try:
            self._order.number = number
            with warnings.catch_warnings():
                # Python 3.12 warns when a process with threads forks, and every process that uses torch has threads.
                warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
                self._running = iter(self._loader)
            yield from map(self._split.as_batch, self._running)
        except Exception:
            self._stop_workers()
            raise

    def _stop_workers(self) -> None:
        if self._running is not None:
            # Private, but the only way to stop a DataLoader's workers now, not at a later garbage collection.
            self._running._shutdown_workers()
            self._running = None
            self._loader = self._new_loader()


class ResidentPipeline(Pipeline):
    """The whole split is copied to the device once. The device gathers each batch. Raises NotResident."""

    kind = "resident"

    def __init__(self, split: Samples, batch_size: int, device: torch.device, seed: int) -> None:
        super().__init__(split, batch_size, device, seed)
        self.gather = split.gatherer(device)

    def to_device(self, batch: Batch) -> Batch:
        return batch

    def close(self) -> None:
        super().close()
        self.gather = _closed

    def order(self, number: int) -> Tensor:
        """The order of epoch `number`, int64 (samples,), on the device."""
        return shuffle_order(self.samples, self.seed, number).to(self.device)

    def _host_batches(self, number: int) -> Iterator[Batch]:
        return map(self.gather, torch.split(self.order(number), self.batch_size))


def _closed(indices: Tensor) -> Batch:
    raise RuntimeError("this resident pipeline is closed: open another one")
