"""In: a workload. Out: how fast it trains, step by step, and how fast its data arrives."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from data import WORKERS, Batch
from perf.harness.machine import affinity
from perf.harness.machine.devices import synchronizer
from perf.harness.measurement import traffic
from perf.harness.measurement.calls import device_timer, laps, warm_up
from perf.harness.measurement.checks.probes import WARM_LEAST_S, WARM_MOST_S, Measured
from perf.harness.measurement.phases import EventStopwatch, HostStopwatch, Stopwatch, epoch_in_phases
from perf.harness.verdict.roofline import PHASE, Work
from perf.harness.workload.benchmarks import BY_NAME, endless
from perf.harness.workload.workload import Trainee, Workload

STEP_S, STEP_LEAST = 2.0, 20
PIPELINE_S, CHOICE_S, PIPELINE_LEAST = 1.0, 0.2, 5
# A 99th percentile needs about a hundred batches. The median of several percentiles is less noisy.
STALL_BLOCK, STALL_BLOCKS = 100, 10
SLEEP_S = 0.02
# More workers are rarely faster, and the check must end within a minute.
MOST_WORKERS = 16


def rate(work: Workload, sleeps: bool) -> Measured:
    """The samples per second of training. The details are the share of each phase of a step in the time."""
    trainee = work.trainee()
    return Measured(_trained(work, trainee, sleeps), details=_parts(work, trainee))


def _trained(work: Workload, trainee: Trainee, sleeps: bool) -> tuple[float, ...]:
    """The samples per second of training, step by step."""
    batches = work.batches()
    trainee.model.train()
    timer = device_timer(synchronizer(work.device))
    step = BY_NAME["training_step"].on(trainee, batches)
    warm = warm_up(step, timer, least_s=WARM_LEAST_S, most_s=WARM_MOST_S)
    if sleeps:
        forward = trainee.step.forward

        def slow(*batch: Any) -> Tensor:
            time.sleep(warm.call_s)
            return forward(*batch)

        trainee.step.forward = slow  # type: ignore[method-assign]
    return tuple(work.batch_size / one for one in laps(step, timer, most_s=STEP_S, least=STEP_LEAST))


def _taken(work: Workload) -> float:
    """How many samples per second a training step takes from its input pipeline."""
    return statistics.median(_trained(work, work.trainee(), sleeps=False))


def work_of(work: Workload) -> Work:
    """What one step computes and moves. It is the second step, because an optimizer makes its state in the first."""
    trainee, (batch,) = work.trainee(), work.batches(1)
    trainee.model.train()
    trainee.step(*batch)
    return traffic.work(lambda: trainee.step(*batch))


def _parts(work: Workload, trainee: Trainee) -> dict[str, float]:
    """The share of each phase in the time of an epoch, without a wait for the device between the phases."""
    device = work.device
    stopwatch: Stopwatch = HostStopwatch(time.perf_counter)
    if device.asynchronous:
        stopwatch = EventStopwatch(device.torch_device)
    with work.open(work.data.train, "resident") as pipeline:
        epoch_in_phases(trainee.step, pipeline, stopwatch)
    seconds = stopwatch.seconds()
    return {f"{PHASE}{name}": one / sum(seconds.values()) for name, one in seconds.items()}


@dataclass(frozen=True)
class Loader:
    """An input pipeline of the kind `pipeline`. `workers` is the number of worker processes of a "workers" pipeline."""

    pipeline: str
    workers: int = WORKERS

    def __str__(self) -> str:
        several = "s" * (self.workers != 1)
        return f"{self.workers} worker{several}" if self.pipeline == "workers" else self.pipeline


def loaders() -> list[Loader]:
    """The real ones: no worker; 1, 2, 4, … workers, at most one per core and MOST_WORKERS."""
    most = min(affinity.usable_cores(), MOST_WORKERS)
    counts = sorted({min(2**power, most) for power in range(most.bit_length() + 1)})
    return [Loader("dataloader"), *(Loader("workers", count) for count in counts)]


def supply(work: Workload, sleeps: bool) -> Measured:
    """The samples per second of the fastest real loader, and the number of its `workers`, 0 for none.

    The note has the rates of all loaders, in those of a training step.
    """
    taken = _taken(work)
    rates = {loader: _rates(work, loader, sleeps, PIPELINE_S) for loader in loaders()}
    said = ", ".join(f"{loader} {statistics.median(found) / taken:.2g}" for loader, found in rates.items())
    fastest = _fastest(rates)
    workers = fastest.workers if fastest.pipeline == "workers" else 0
    return Measured(tuple(rates[fastest]), f"{said} of what the training step takes", details={"workers": workers})


def resident(work: Workload, sleeps: bool) -> Measured:
    """The rate of batches from data that is on the device already, divided by the median rate of the training step."""
    taken = _taken(work)
    return Measured(tuple(one / taken for one in _rates(work, Loader("resident"), sleeps, PIPELINE_S)))


def stall(work: Workload, sleeps: bool, workers: int | None = None) -> Measured:
    """The 99th percentile of the waits of a training loop for a batch of the fastest real loader, by block [s].

    `workers` are those of the fastest loader, 0 for none; None if it is still to be found.
    """
    if workers is None:
        loader = _fastest({loader: _rates(work, loader, sleeps, CHOICE_S) for loader in loaders()})
    else:
        loader = Loader("workers", workers) if workers else Loader("dataloader")
    trainee, waits = work.trainee(), []
    trainee.model.train()
    with _batches(work, loader, sleeps) as load:
        for _ in range(STALL_BLOCK * STALL_BLOCKS):
            start = time.perf_counter()
            batch = load()
            waits.append(time.perf_counter() - start)
            trainee.step(*batch)
    synchronizer(work.device)()
    blocks = [sorted(waits[i : i + STALL_BLOCK]) for i in range(0, len(waits), STALL_BLOCK)]
    return Measured(tuple(block[int(0.99 * (STALL_BLOCK - 1))] for block in blocks), str(loader))


def _fastest(rates: dict[Loader, list[float]]) -> Loader:
    return max(rates, key=lambda loader: statistics.median(rates[loader]))


def _rates(work: Workload, loader: Loader, sleeps: bool, most_s: float) -> list[float]:
    """Samples per second, batch by batch."""
    timer = device_timer(synchronizer(work.device))
    with _batches(work, loader, sleeps) as load:
        return [work.batch_size / one for one in laps(load, timer, most_s=most_s, least=PIPELINE_LEAST)]


@contextlib.contextmanager
def _batches(work: Workload, loader: Loader, sleeps: bool) -> Iterator[Callable[[], Batch]]:
    """A function that returns full mini-batches without end. The first, which starts the workers, is taken before."""
    train = work.data.train
    full = train.first(len(train) - len(train) % work.batch_size)
    with work.open(full, loader.pipeline, loader.workers) as pipeline:
        batches = endless(pipeline.epoch)
        next(batches)

        def load() -> Batch:
            if sleeps:
                time.sleep(SLEEP_S)
            batch: Batch = next(batches)
            return batch

        yield load
