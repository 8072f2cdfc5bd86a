"""In: a callable and how to wait for its device. Out: timed rounds.

Clock and synchronization are arguments, so that tests pass fakes. pytest-benchmark's `pedantic` is one too: it runs
the timed loop, exactly W+N times, and keeps the samples.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from data import Pipeline
from model import TrainingStep
from perf.harness.measurement.phases import EventStopwatch, HostStopwatch, Stopwatch, epoch_in_phases
from perf.harness.statistics.fits import fixed_cost

Clock = Callable[[], float]
T = TypeVar("T")

# Rounds of an asynchronous device hold enough calls to last this long: launching and waiting for a round costs tens
# of microseconds, which then is less than 1% of it.
ROUND_S = 0.01
# A call that takes this long warms up by itself: its first step is a small part of it.
LONG_CALL_S = 1.0
# A case never takes longer than this many times its share.
TIMES_SHARE = 3.0
# Above this the record grows, and its interval does not shrink any more: neighbouring rounds are not independent.
MAX_ROUNDS = 5_000
# Warm-up: stable once this many blocks in a row are no faster than the best before them by more than 5%.
WARM_BLOCK_CALLS, WARM_PATIENCE, WARM_GAIN = 8, 4, 0.95
# What is measured beside the rounds: a median of 30 calls, and not for longer than a second.
ASIDE_CALLS, ASIDE_S = 30, 1.0
# The kernel counts CPU time in hundredths of a second: the load of a shorter time is not known.
LOAD_S = 0.3
# The terminal is written at most this often, between rounds.
TICK_S = 0.5


class MeasurementError(Exception):
    """What was measured is not what it claims to be: `str()` says in one line what is wrong."""


class Pedantic(Protocol):
    """`benchmark.pedantic` of pytest-benchmark."""

    def __call__(
        self,
        target: Callable[[], Any],
        *,
        setup: Callable[[], None] | None,
        teardown: Callable[[], None] | None,
        rounds: int,
        warmup_rounds: int,
        iterations: int,
    ) -> Any: ...


def device_timer(synchronize: Callable[[], None], clock: Clock = time.perf_counter) -> Clock:
    """A timer that waits until the device has finished, then reads the clock [s].

    Before a round it drains what the set-up left; after it, it waits for the round's work.
    """

    def timer() -> float:
        synchronize()
        return clock()

    return timer


@dataclass(frozen=True)
class Pass:
    """Pass `number` of `of` through all cases, and what the first one has found: the time of a call [s], and how many
    calls make a round."""

    number: int = 1
    of: int = 1
    call_s: float | None = None
    iterations: int | None = None

    @property
    def first(self) -> bool:
        return self.number == 1


ONLY = Pass()


@dataclass(frozen=True)
class Effort:
    """How long to measure a case: exactly `rounds` where the user says so, else as the profile says.

    That is `case_s` seconds, at least `min_rounds` rounds, but of long rounds as few as fit into `long_s`.
    """

    case_s: float
    min_rounds: int
    long_s: float
    rounds: int | None = None

    def share(self, passes: int) -> Effort:
        """What one of so many passes does of it."""
        rounds = None if self.rounds is None else math.ceil(self.rounds / passes)
        return Effort(self.case_s / passes, math.ceil(self.min_rounds / passes), self.long_s / passes, rounds)

    def rounds_for(self, round_s: float) -> int:
        """The rounds of a case whose round takes `round_s` seconds; two at least, for an interval, unless long."""
        if self.rounds is not None:
            return self.rounds
        within_long = max(int(self.long_s / round_s), 2 if round_s <= self.long_s else 1)
        return max(min(self.min_rounds, within_long), min(MAX_ROUNDS, int(self.case_s / round_s)))


@dataclass(frozen=True)
class WarmUp:
    """`call_s` is the best block's mean time of a call [s]; `stable` is False where time ran out before it settled."""

    calls: int
    call_s: float
    stable: bool


def warm_up(call: Callable[[], object], timer: Clock, *, least_s: float, most_s: float) -> WarmUp:
    """Call until it gets no faster: at least `least_s` (clocks rise, caches fill), at most about `most_s` seconds."""
    best, patience, calls = float("inf"), WARM_PATIENCE, 0
    begin = start = timer()
    block = 1  # one call first: it may be a long one
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


def laps(call: Callable[[], object], timer: Clock, *, most_s: float, least: int) -> list[float]:
    """The times of single calls [s]: of as many as fit into `most_s`, and of `least` at least."""
    times: list[float] = []
    begin = timer()
    while len(times) < least or timer() - begin < most_s:
        start = timer()
        call()
        times.append(timer() - start)
    return times


def _nothing() -> None:
    """What is done between rounds where nothing is to be shown."""


class _Over(BaseException):
    """Ends the rounds of a case. No Exception, by which `pedantic` would take the case for a failed one."""


@dataclass(frozen=True)
class StoppingRule:
    """Asked after every round: whether a case has had its time. `most_s` is three times its share, for a machine may
    become slower than it was in the warm-up."""

    most_s: float

    def is_over(self, took_s: float) -> bool:
        return took_s >= self.most_s


class _Rounds:
    """What `pedantic` calls between rounds, outside the timed region: notes when each of them began and ended.

    To the clock's readings belong the few microseconds of `pedantic` itself: they are not the times of the rounds.
    """

    def __init__(
        self, clock: Clock, setup: Callable[[], None] | None, tick: Callable[[], None], rule: StoppingRule
    ) -> None:
        self._clock, self._setup, self._tick, self._rule = clock, setup, tick, rule
        self._readings: list[float] = [clock()]
        self._begin = self._readings[0]

    def setup(self) -> None:
        if self._setup is not None:
            self._setup()
        self._readings[-1] = self._clock()

    def teardown(self) -> None:
        self._readings.append(self._clock())
        self._tick()
        self._readings.append(self._clock())
        if self._rule.is_over(self._readings[-1] - self._begin):
            raise _Over

    @property
    def spans(self) -> list[tuple[float, float]]:
        """(start, end) of each round [s]."""
        return list(zip(self._readings[:-1:2], self._readings[1::2], strict=True))


class Measurement:
    """One case: cold start, warm-up, timed rounds, and what is measured apart from them, each when asked for.

    `keep` takes what is found, by its name in `ExtraInfo`. Where not `enabled`, each call runs once, as a test.
    """

    def __init__(
        self,
        pedantic: Pedantic,
        synchronize: Callable[[], None],
        effort: Effort,
        *,
        asynchronous: bool,
        enabled: bool,
        keep: Callable[..., None],
        on_round: Callable[[int, int, float], None] | None = None,
        foreign_cpu_s: Callable[[], float | None] = lambda: None,
        clock: Clock = time.perf_counter,
        one: Pass = ONLY,
    ) -> None:
        self._pass = one
        self._keep = keep
        self.others_cores: float | None = None  # that other programs kept busy from the cold start to the last round
        self._company: tuple[float, float | None] | None = None  # the time, and theirs, when the case began
        self._foreign_cpu_s = foreign_cpu_s
        self.enabled = enabled
        self.calls = 0  # made so far to warm up and in timed rounds
        self.rounds: list[tuple[float, float]] = []  # when each timed round began and ended [s of the clock]
        self.timer = device_timer(synchronize, clock)
        self._pedantic = pedantic
        self._synchronize = synchronize
        self._effort = effort
        self._asynchronous = asynchronous
        self._on_round = on_round
        self._clock = clock

    def cold_start(self, build: Callable[[], T], first: Callable[[T], object]) -> T:
        """Build and call once, timed together: context, allocator, kernel choice, compilation, worker start."""
        start = self._clock()  # to wait for the device first would make its context, off the clock
        self._company = (start, self._foreign_cpu_s())
        built = build()
        first(built)
        self._keep(cold_start_s=self.timer() - start)
        return built

    def run(self, call: Callable[[], object]) -> None:
        """Warm up until stable, then time short calls: one to a round, or several where the device is asynchronous.

        One call to a round is latency. Several, with one wait at the end, are throughput: what a training loop sees.
        """
        if not self.enabled:
            self._once(call)
            return
        case_s = self._effort.case_s
        warm = warm_up(call, self.timer, least_s=case_s / 4, most_s=case_s)
        self.calls += warm.calls
        self._keep(warmup_calls=warm.calls)
        self._keep(warmup_stable=warm.stable)
        iterations = max(1, round(ROUND_S / warm.call_s)) if self._asynchronous else 1
        iterations = self._pass.iterations or iterations  # all rounds of a case hold as many
        self._rounds(call, warm.call_s * iterations, iterations=iterations)

    def from_start(
        self, call: Callable[[], object], restore: Callable[[], None], warm_call: Callable[[], object]
    ) -> None:
        """One call to warm up, then time calls, each from the restored state: exactly W+N of them, W = 1.

        `warm_call` does what `call` does, and may look closer at it: its time is not recorded. Where an earlier pass of
        the run has found that a call takes LONG_CALL_S, W is 0: the first step of such a call warms up the others.
        """
        restore()
        if not self.enabled:
            self._once(call)
            return
        call_s = self._pass.call_s
        if call_s is None or call_s < LONG_CALL_S:
            call_s = self._untimed(warm_call, 1)
        self._rounds(call, call_s, iterations=1, setup=restore)

    def stream(self, call: Callable[[], object], calls_per_round: int) -> None:
        """One round to warm up, then time rounds of `calls_per_round` calls, with no pause in between."""
        if not self.enabled:
            self._once(call)
            return
        round_s = self._untimed(call, calls_per_round)
        self._rounds(call, round_s, iterations=calls_per_round)

    def _untimed(self, call: Callable[[], object], calls: int) -> float:
        """Make `calls` calls; returns the time they took together [s]."""
        start = self.timer()
        for _ in range(calls):
            call()
        self.calls += calls
        self._keep(warmup_calls=calls)
        return self.timer() - start

    def _once(self, call: Callable[[], object]) -> None:
        self.calls += 1
        self._pedantic(call, setup=None, teardown=None, rounds=1, warmup_rounds=0, iterations=1)

    def _rounds(
        self, call: Callable[[], object], round_s: float, *, iterations: int, setup: Callable[[], None] | None = None
    ) -> None:
        rounds = self._effort.rounds_for(round_s)
        self._keep(timing="throughput" if iterations > 1 else "latency")
        share_s = math.inf if self._effort.rounds else max(self._effort.case_s, rounds * round_s)
        watch = _Rounds(self._clock, setup, self._ticker(rounds, round_s), StoppingRule(TIMES_SHARE * share_s))
        start, foreign = self._company or (self.timer(), self._foreign_cpu_s())
        with contextlib.suppress(_Over):  # every round that is finished counts
            self._pedantic(
                call,
                setup=None if setup is None else watch.setup,
                teardown=watch.teardown,
                rounds=rounds,
                warmup_rounds=0,
                iterations=iterations,
            )
        self.rounds = watch.spans[:rounds]  # `pedantic` may call once more, for a result or a profile
        self.calls += len(self.rounds) * iterations
        after, wall_s = self._foreign_cpu_s(), self.timer() - start
        if foreign is not None and after is not None and wall_s >= LOAD_S:
            self.others_cores = max(0.0, (after - foreign) / wall_s)
            self._keep(others_cores=self.others_cores)

    def _ticker(self, rounds: int, round_s: float) -> Callable[[], None]:
        """Called between rounds, outside the timed region."""
        on_round = self._on_round
        if on_round is None:
            return _nothing
        done, last = 0, self._clock()
        on_round(0, rounds, rounds * round_s)

        def tick() -> None:
            nonlocal done, last
            done += 1
            if (now := self._clock()) - last >= TICK_S:
                last = now
                on_round(done, rounds, (rounds - done) * round_s)

        return tick

    def enqueue(self, call: Callable[[], object]) -> None:
        """`enqueue_s`, the host's share of a call [s]: until it returns, the device idle before; and `done_s`: until
        the device has done it. Both are of the same calls: a host is slower at some times than at others."""
        if not self._pass.first:
            return
        returned_s, done_s = self._medians_s(call, self._clock, self.timer) or (None, None)
        self._keep(enqueue_s=returned_s, done_s=done_s)

    def overhead(self, calls: Mapping[int, Callable[[], object]]) -> None:
        """`overhead_s`, the fixed cost of a call [s], from `calls` by their batch size; None where it is not known."""
        medians = {size: self._medians_s(call, self.timer) for size, call in calls.items()}
        self._keep(overhead_s=fixed_cost({size: found[0] for size, found in medians.items() if found is not None}))

    def _medians_s(self, call: Callable[[], object], *stops: Clock) -> list[float] | None:
        """The median times until each of `stops`, of some calls, after as many to warm up; None if disabled.

        It takes about 2 × ASIDE_S seconds, and the device is idle before each call.
        """
        if not self.enabled:
            return None
        begin, warm = self.timer(), 0
        while warm < ASIDE_CALLS and (warm == 0 or self.timer() - begin < ASIDE_S):
            call()
            warm += 1
        times = []
        for _ in range(warm):
            before = self.timer()
            call()
            times.append([stop() - before for stop in stops])
        return [statistics.median(found) for found in zip(*times, strict=True)]

    def phases(self, step: TrainingStep, pipeline: Pipeline, device: torch.device) -> None:
        """Run one epoch and keep where its time goes: `phases_s` adds up to `phases_wall_s` [s]."""
        stopwatch: Stopwatch = EventStopwatch(device) if self._asynchronous else HostStopwatch(self._clock)
        start = self.timer()
        epoch_in_phases(step, pipeline, stopwatch)
        self._keep(phases_wall_s=self.timer() - start)
        self._keep(phases_s=stopwatch.seconds())
