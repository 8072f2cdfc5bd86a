"""In: a training step and an input pipeline. Out: where an epoch's time goes, phase by phase.

The device is not synchronized between the phases. The total time of such an epoch is no result, as each lap costs time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from data import Pipeline
from model import TrainingStep, UsersStep
from model.nesting import length

PHASES = ("data_wait", "copy", "forward", "backward", "optimizer", "other")
WHOLE = "step"  # the phase of a step that the user has written as a whole


class Stopwatch(Protocol):
    """Divides time into named laps without synchronizing the device."""

    def start(self) -> None: ...
    def lap(self, name: str) -> None: ...
    def seconds(self) -> dict[str, float]: ...


class HostStopwatch:
    """Laps on the host's clock, for a synchronous device: the host waits while the device works."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._totals = dict.fromkeys(PHASES, 0.0)
        self._last = 0.0

    def start(self) -> None:
        self._last = self._clock()

    def lap(self, name: str) -> None:
        now = self._clock()
        self._totals[name] = self._totals.get(name, 0.0) + now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        return dict(self._totals)


class EventStopwatch:
    """Laps on the device's own clock: events recorded between the phases, and read after all the work is done.

    The laps add up to the wall time, because an idle device passes an event as soon as the host records the event.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[tuple[str, torch.Event]] = []

    def _record(self, name: str) -> None:
        event = torch.Event(self._device, enable_timing=True)
        event.record()
        self._events.append((name, event))

    def start(self) -> None:
        self._record("start")

    def lap(self, name: str) -> None:
        self._record(name)

    def seconds(self) -> dict[str, float]:
        torch.accelerator.synchronize(self._device)
        totals = dict.fromkeys(PHASES, 0.0)
        for (_, before), (name, after) in zip(self._events, self._events[1:], strict=False):
            seconds = before.elapsed_time(after) / 1e3  # elapsed_time is in milliseconds
            totals[name] = totals.get(name, 0.0) + seconds
        return totals


def epoch_in_phases(
    step: TrainingStep, pipeline: Pipeline, stopwatch: Stopwatch, over: Callable[[], bool] = lambda: False
) -> int:
    """Run one epoch like `model.train_epoch`, with a lap after each phase, but no further batch once `over()`.

    Its total time is never used as a result. A step that the user has written as a whole is one phase. Returns the
    number of batches.
    """
    step.model.train()
    stopwatch.start()
    batches: Iterator[Any] = iter(pipeline.host_epoch(0))
    total = torch.zeros((), device=next(step.model.parameters()).device)
    done = 0
    while True:
        batch = None if over() else next(batches, None)
        stopwatch.lap("data_wait")
        if batch is None:
            step.end_epoch()
            return done
        done += 1
        batch = pipeline.to_device(batch)
        stopwatch.lap("copy")
        if isinstance(step, UsersStep):
            step(*batch)
            stopwatch.lap(WHOLE)
            continue
        step.zero_grad()
        stopwatch.lap("optimizer")
        loss = step.forward(*batch)
        stopwatch.lap("forward")
        step.backward(loss)
        stopwatch.lap("backward")
        step.update()
        stopwatch.lap("optimizer")
        total += loss.detach() * length(batch[-1])
        stopwatch.lap("other")
