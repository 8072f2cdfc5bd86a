"""In: a function that runs steps. Out: the times of consecutive steps, the cold first one dropped.

The first step of every visit finds the caches full of the other side's data, and takes up to twice as long.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from perf.harness.verdict.launches import Visit

Mark = Callable[[], None]
# Runs a number of steps, and calls `mark` before the first one and after each.
Steps = Callable[[int, Mark], None]
Clock = Callable[[], float]


def host_visit(run: Steps, steps: int, clock: Clock = time.perf_counter, cpu: Clock = time.process_time) -> Visit:
    """`steps` (2 or more) steps of a device that works while the host waits; wall and CPU times, the first dropped."""
    wall: list[float] = []
    used: list[float] = []

    def mark() -> None:
        wall.append(clock())
        used.append(cpu())

    run(steps, mark)
    return Visit(_laps(wall), _laps(used))


def device_visit(run: Steps, steps: int, synchronize: Callable[[], None], clock: Clock = time.perf_counter) -> Visit:
    """`steps` (2 or more) steps of an asynchronous device: the mean wall time of all but the first, waited for once.

    Waiting after each step would empty the queue that a training loop keeps full.
    """
    marks, times = 0, []

    def mark() -> None:
        nonlocal marks
        if marks in (1, steps):
            synchronize()
            times.append(clock())
        marks += 1

    run(steps, mark)
    first, last = times
    return Visit(((last - first) / (steps - 1),))


def _laps(stamps: list[float]) -> tuple[float, ...]:
    return tuple(after - before for before, after in itertools.pairwise(stamps[1:]))


# Steps before a benchmark is measured: kernels chosen, caches and allocator filled; of slow ones as many as fit.
WARM_STEPS, WARM_S, WARM_VISIT = 60, 1.0, 6


def warm_step_s(times: Callable[[int], tuple[float, ...]], clock: Clock = time.perf_counter) -> float:
    """Visit by visit until warm; the first quartile of the later half of the steps [s]: quick steps are quiet ones."""
    begin, seen = clock(), list(times(2))
    while len(seen) < WARM_STEPS and clock() - begin < WARM_S:
        seen += times(WARM_VISIT if clock() - begin < WARM_S / 2 else 2)
    later = sorted(seen[len(seen) // 2 :])
    return later[len(later) // 4]
