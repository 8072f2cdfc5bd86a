"""In: a callable and a clock. Out: when its calls get no faster, and the times of single calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perf.harness.machine.load import Clock

# Warm-up, in blocks of calls: stable when WARM_PATIENCE blocks in a row are less than 5% faster than the best block.
WARM_BLOCK_CALLS, WARM_PATIENCE, WARM_GAIN = 8, 4, 0.95
# A median is one of up to so many calls.
MEDIAN_CALLS = 30


def device_timer(synchronize: Callable[[], None], clock: Clock = time.perf_counter) -> Clock:
    """A timer that waits until the device has finished, then reads the clock [s].

    Before a round, the timer waits for work that the set-up left. After a round, it waits for the work of the round.
    """

    def timer() -> float:
        synchronize()
        return clock()

    return timer


@dataclass(frozen=True)
class WarmUp:
    """`call_s` is the mean time of a call in the fastest block [s]; `stable` is False if the time ran out first."""

    calls: int
    call_s: float
    stable: bool


def warm_up(call: Callable[[], object], timer: Clock, *, least_s: float, most_s: float) -> WarmUp:
    """Call until calls get no faster: at least `least_s` (clocks rise, caches fill), at most about `most_s` seconds."""
    best, patience, calls = float("inf"), WARM_PATIENCE, 0
    begin = start = timer()
    block = 1  # the first block is one call, because a call may be long
    while True:
        for _ in range(block):
            call()
        end = timer()
        mean = (end - start) / block
        calls += block
        patience = WARM_PATIENCE if mean < best * WARM_GAIN else patience - 1
        best = min(best, mean)
        spent = end - begin
        if patience <= 0 and spent >= least_s:
            return WarmUp(calls, best, stable=True)
        if spent + mean > most_s:
            return WarmUp(calls, best, stable=False)
        block = max(1, min(WARM_BLOCK_CALLS, int((most_s - spent) / mean)))
        start = timer()


def medians_s(call: Callable[[], object], timer: Clock, stops: Sequence[Clock], *, most_s: float) -> list[float]:
    """The median time from the start of a call to each of `stops` [s]; the device is idle before each call.

    The same number of calls goes first, to warm up. All calls together take up to about 2 × `most_s` seconds.
    """
    begin, warm = timer(), 0
    while warm < MEDIAN_CALLS and (warm == 0 or timer() - begin < most_s):
        call()
        warm += 1
    times = []
    for _ in range(warm):
        before = timer()
        call()
        times.append([stop() - before for stop in stops])
    return [statistics.median(found) for found in zip(*times, strict=True)]


def laps(call: Callable[[], object], timer: Clock, *, most_s: float, least: int) -> list[float]:
    """The times of single calls [s]: as many calls as fit into `most_s` seconds, but at least `least` calls."""
    times: list[float] = []
    begin = timer()
    while len(times) < least or timer() - begin < most_s:
        start = timer()
        call()
        times.append(timer() - start)
    return times
