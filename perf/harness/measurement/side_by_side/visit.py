"""In: a function that runs steps. Out: the times of consecutive steps, without the first step.

In the first step of every visit, the caches are full of the other side's data, so it takes up to twice as long.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from perf.harness.machine.load import Clock
from perf.harness.verdict.launches import Visit

MarkStep = Callable[[], None]
# A function that runs a number of steps, and calls `mark` before the first step and after each step.
RunSteps = Callable[[int, MarkStep], None]


def host_visit(run: RunSteps, steps: int, clock: Clock = time.perf_counter, cpu: Clock = time.process_time) -> Visit:
    """Run `steps` (2 or more) steps of a synchronous device. Returns wall and CPU times of all but the first step."""
    wall: list[float] = []
    used: list[float] = []

    def mark() -> None:
        wall.append(clock())
        used.append(cpu())

    run(steps, mark)
    return Visit(_laps(wall), _laps(used), wall[-1] - wall[0])


def device_visit(run: RunSteps, steps: int, synchronize: Callable[[], None], clock: Clock = time.perf_counter) -> Visit:
    """Run `steps` (2 or more) steps of an asynchronous device. Returns the mean wall time of all but the first step.

    The host waits only after the first and the last step. A wait after each step would empty the queue that a training
    loop keeps full.
    """
    marks, times = 0, []

    def mark() -> None:
        nonlocal marks
        if marks in (1, steps):
            synchronize()
        if marks in (0, 1, steps):
            times.append(clock())
        marks += 1

    run(steps, mark)
    begin, first, last = times
    return Visit(((last - first) / (steps - 1),), total_s=last - begin)


def _laps(stamps: list[float]) -> tuple[float, ...]:
    return tuple(after - before for before, after in itertools.pairwise(stamps[1:]))


# The warm-up, which chooses kernels and fills caches and the allocator: its steps, its time [s], and the steps of each
# visit. If the steps are slow, only as many run as fit into WARM_S.
WARM_STEPS, WARM_S, WARM_VISIT = 60, 1.0, 6


def warm_step_s(times: Callable[[int], tuple[float, ...]], clock: Clock = time.perf_counter) -> float:
    """Make visits until warm. Returns the first quartile of the step times in the later half [s].

    Other programs disturb the quick steps least.
    """
    begin, seen = clock(), list(times(2))
    while len(seen) < WARM_STEPS and clock() - begin < WARM_S:
        seen += times(WARM_VISIT if clock() - begin < WARM_S / 2 else 2)
    later = sorted(seen[len(seen) // 2 :])
    return later[len(later) // 4]
