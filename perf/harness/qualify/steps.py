"""In: a workload. Out: how fast it trains, step by step, and how fast its data arrives."""

from __future__ import annotations

import statistics
import time

from torch import Tensor

from data import PIPELINES
from perf.harness.devices import synchronizer
from perf.harness.measure import device_timer, laps, warm_up
from perf.harness.phases import EventStopwatch, HostStopwatch, Stopwatch, epoch_in_phases
from perf.harness.qualify import traffic
from perf.harness.qualify.probes import WARM_LEAST_S, WARM_MOST_S, Measured
from perf.harness.qualify.roofline import Work
from perf.harness.workload import Trainee, Workload, endless, rotate

STEP_S, STEP_LEAST = 2.0, 20
PIPELINE_S, PIPELINE_LEAST = 1.0, 5
SLEEP_S = 0.1


def rate(work: Workload, sleeps: bool) -> Measured:
    """Samples that are trained on in a second; note: the share of each part of a step, each waited for."""
    trainee, batches = work.trainee(), work.batches()
    trainee.model.train()
    timer = device_timer(synchronizer(work.device))
    step = rotate(trainee.step, batches)
    warm = warm_up(step, timer, least_s=WARM_LEAST_S, most_s=WARM_MOST_S)
    if sleeps:
        forward = trainee.step.forward

        def slow(images: Tensor, labels: Tensor) -> Tensor:
            time.sleep(warm.call_s)
            return forward(images, labels)

        trainee.step.forward = slow  # type: ignore[method-assign]
    times = laps(step, timer, most_s=STEP_S, least=STEP_LEAST)
    return Measured(tuple(work.batch_size / one for one in times), _parts(work, trainee))


def work_of(work: Workload) -> Work:
    """What one step computes and moves: its second, for an optimizer makes its state in the first."""
    trainee, (batch,) = work.trainee(), work.batches(1)
    trainee.model.train()
    trainee.step(*batch)
    return traffic.work(lambda: trainee.step(*batch))


def _parts(work: Workload, trainee: Trainee) -> str:
    """The shares of an epoch's time, phase by phase, without stopping the device between them."""
    device = work.device
    stopwatch: Stopwatch = HostStopwatch(time.perf_counter)
    if device.asynchronous:
        stopwatch = EventStopwatch(device.torch_device)
    with work.open(work.data.train, "resident") as pipeline:
        epoch_in_phases(trainee.step, pipeline, stopwatch)
    seconds = stopwatch.seconds()
    return ", ".join(f"{name.replace('_', ' ')} {one / sum(seconds.values()):.0%}" for name, one in seconds.items())


def supply(work: Workload, sleeps: bool) -> Measured:
    """The rate of the fastest pipeline over the median rate of the step, batch by batch."""
    taken = statistics.median(rate(work, sleeps=False).values)
    rates = {name: _pipeline(work, name, sleeps) for name in PIPELINES}
    best = max(rates, key=lambda name: statistics.median(rates[name]))
    said = ", ".join(f"{name} {statistics.median(found) / taken:.2g}" for name, found in rates.items())
    return Measured(tuple(one / taken for one in rates[best]), said)


def _pipeline(work: Workload, name: str, sleeps: bool) -> list[float]:
    """Samples per second, batch by batch."""
    timer = device_timer(synchronizer(work.device))
    train = work.data.train
    with work.open(train.first(len(train) - len(train) % work.batch_size), name) as pipeline:
        batches = endless(pipeline)
        next(batches)

        def load() -> object:
            if sleeps:
                time.sleep(SLEEP_S)
            return next(batches)

        return [work.batch_size / one for one in laps(load, timer, most_s=PIPELINE_S, least=PIPELINE_LEAST)]
