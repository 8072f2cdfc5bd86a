"""In: a callable and how to wait for its device. Out: timed rounds.

Clock, synchronization and pytest-benchmark's `pedantic` are arguments, so that tests can pass fakes. `pedantic` runs
the timed loop and keeps its times.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from data import Pipeline
from model import TrainingStep
from perf.harness.machine.load import Clock, Company, Load, starved
from perf.harness.measurement.between import Between, Over
from perf.harness.measurement.calls import device_timer, medians_s, warm_up
from perf.harness.measurement.effort import Effort
from perf.harness.measurement.phases import EventStopwatch, HostStopwatch, Stopwatch, epoch_in_phases
from perf.harness.statistics.fits import fixed_cost

T = TypeVar("T")

# On an asynchronous device, a round has enough calls to last this long [s]. To launch a round and wait for it costs
# tens of microseconds, which is then less than 1% of the round.
ROUND_S = 0.01
# A round of a stream lasts about this long [s], its warm-up a quarter of it. More passes say more than longer rounds.
STREAM_S = 0.5
# The phases of a longer epoch are those of its batches in this time [s]: they only give shares.
PHASES_S = 3.0
# A call that takes this long [s] needs no warm-up, because its first step is only a small part of the call.
LONG_CALL_S = 1.0
# Measurements apart from the rounds take as long as a pass's rounds of the case, within these limits [s].
ASIDE_S = (0.2, 1.0)
# The shortest time between two progress messages on the terminal, which are written between rounds [s].
TICK_S = 0.5


class MeasurementError(Exception):
    """A measurement is not what it claims to be: `str()` says in one line what is wrong."""


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


@dataclass(frozen=True)
class Pass:
    """Pass `number` of `of` over all cases.

    `call_s`, the time of a call [s], and `iterations`, the calls per round, come from the first pass. In the first pass
    itself, both are None. `cache` is the folder for what is compiled: later passes use what the first one compiled.
    """

    number: int = 1
    of: int = 1
    call_s: float | None = None
    iterations: int | None = None
    cache: Path | None = None

    @property
    def first(self) -> bool:
        return self.number == 1


ONLY = Pass()


def _nothing() -> None:
    """The function to call between rounds if no progress is shown."""


class Measurement:
    """Measures one case: cold start, warm-up, timed rounds, and what is measured apart from the rounds.

    `keep` receives each result under its name in `ExtraInfo`. If `enabled` is False, each call runs once, as a test.
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
        company: Company,
        energy_j: Callable[[], float | None] = lambda: None,
        clock: Clock = time.perf_counter,
        one: Pass = ONLY,
    ) -> None:
        self._pass = one
        self._energy_j = energy_j
        self._keep = keep
        self.load: Load | None = None  # from the cold start to the end
        self._company = company
        self._began = False
        self._starved = False
        self.enabled = enabled
        self.calls = 0  # calls made so far in warm-up and timed rounds
        self.rounds: list[tuple[float, float]] = []  # when each timed round began and ended [s of the clock]
        self.timer = device_timer(synchronize, clock)
        self._pedantic = pedantic
        self._synchronize = synchronize
        self._effort = effort
        self._aside_s = min(max(effort.case_s, ASIDE_S[0]), ASIDE_S[1])
        self._asynchronous = asynchronous
        self._on_round = on_round
        self._clock = clock

    def cold_start(self, build: Callable[[], T], first: Callable[[T], object]) -> T:
        """Build and call once, timed together: device context, allocator, kernel choice, compilation, worker start."""
        start = self._clock()  # no wait before this: it would create the device context untimed
        self._begin()
        built = build()
        first(built)
        self._keep(cold_start_s=self.timer() - start)
        return built

    def run(self, call: Callable[[], object], cycle: int = 1) -> None:
        """Warm up until stable, then time short calls: one per round, or several if the device is asynchronous.

        One call per round measures latency. Several calls with one wait at the end measure throughput, as a training
        loop sees it. If only every `cycle`-th call does the same, a round has whole cycles, and the time is the mean.
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
        iterations = self._pass.iterations or cycle * math.ceil(iterations / cycle)  # the same number in all passes
        self._rounds(call, warm.call_s * iterations, iterations=iterations)

    def from_start(
        self,
        call: Callable[[], object],
        restore: Callable[[], None],
        warm_call: Callable[[], float | None],
    ) -> None:
        """Warm up with one call, then time calls, each from the restored state.

        `warm_call` does the same as `call`; if it does only a part, it returns which share. It may record details,
        because its time is not a result. If an earlier pass found that a call takes LONG_CALL_S or more, there is no
        warm-up: the first step of such a call warms up the other steps.
        """
        restore()
        if not self.enabled:
            self._once(call)
            return
        call_s = self._pass.call_s
        if call_s is None or call_s < LONG_CALL_S:
            start = self.timer()
            share = warm_call() or 1.0
            call_s = (self.timer() - start) / share
            self.calls += 1
            self._keep(warmup_calls=1)
        self._rounds(call, call_s, iterations=1, setup=restore)

    def stream(self, call: Callable[[], object], most_calls: int, turn: int = 1) -> None:
        """Warm up, then time rounds of STREAM_S or `most_calls` calls, without set-up between the rounds.

        Where `turn` processes make the results, these come in turns: a round has whole turns, at least two of them.
        """
        if not self.enabled:
            self._once(call)
            return
        least = 2 * turn
        calls, start = 0, self.timer()
        while calls < least or (calls < most_calls and self.timer() - start < STREAM_S / 4):
            call()
            calls += 1
        call_s = (self.timer() - start) / calls
        self.calls += calls
        self._keep(warmup_calls=calls)
        fitting = max(least, min(most_calls, int(STREAM_S / call_s)))
        iterations = self._pass.iterations or fitting - fitting % turn
        self._rounds(call, call_s * iterations, iterations=iterations)

    def _begin(self) -> None:
        if not self._began:
            self._company.begin()
        self._began = True

    def _once(self, call: Callable[[], object]) -> None:
        self.calls += 1
        self._pedantic(call, setup=None, teardown=None, rounds=1, warmup_rounds=0, iterations=1)

    def _rounds(
        self, call: Callable[[], object], round_s: float, *, iterations: int, setup: Callable[[], None] | None = None
    ) -> None:
        rounds = self._effort.rounds_for(round_s)
        self._keep(timing="throughput" if iterations > 1 else "latency")
        rule = self._effort.stopping_rule(rounds * round_s)
        between = Between(self._clock, setup, self._ticker(rounds, round_s), rule)
        self._begin()
        used_j, began = self._energy_j(), self.timer()
        with contextlib.suppress(Over):  # every finished round counts
            self._pedantic(
                call,
                setup=None if setup is None else between.setup,
                teardown=between.teardown,
                rounds=rounds,
                warmup_rounds=0,
                iterations=iterations,
            )
        self.rounds = between.spans[:rounds]  # `pedantic` may call once more, for a result or a profile
        self.calls += len(self.rounds) * iterations
        once_more = len(between.spans) - len(self.rounds)
        self._keep_energy(used_j, began, len(self.rounds) * iterations + once_more)
        self.load = self._company.load()
        if self.load.others_cores is not None:
            self._keep(others_cores=self.load.others_cores)
        if self.load.withheld_cores:
            self._keep(withheld_cores=self.load.withheld_cores)
        threads = torch.get_num_threads()
        planned = self._effort.rounds is None and not self._asynchronous
        self._starved = planned and starved(self.load.missing_cores(threads), threads)

    def _keep_energy(self, before_j: float | None, began: float, calls: int) -> None:
        """Record the energy that the device used in the timed rounds and between them, if its counter has moved."""
        after_j = self._energy_j()
        if before_j is not None and after_j is not None and after_j > before_j:
            self._keep(energy_j=after_j - before_j, energy_s=self.timer() - began, energy_calls=calls)

    def _ticker(self, rounds: int, round_s: float) -> Callable[[], None]:
        """A function that shows the progress. It is called between rounds, outside the timed region."""
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
        """Record the host's share of a call, `enqueue_s`: the time until the call returns [s], from an idle device.

        Also record `done_s`, the time until the device has done the call's work [s]. Both come from the same calls,
        because the speed of a host varies.
        """
        if not self._pass.first:
            return
        returned_s, done_s = self._medians_s(call, self._clock, self.timer) or (None, None)
        self._keep(enqueue_s=returned_s, done_s=done_s)

    def one_thread(self, call: Callable[[], object]) -> None:
        """Record the median time of a call with one thread and with all: `one_thread_s`, `all_threads_s` [s]."""
        threads = torch.get_num_threads()
        if self._asynchronous or threads == 1 or not self._pass.first:
            return
        every = self._medians_s(call, self.timer)
        torch.set_num_threads(1)
        try:
            one = self._medians_s(call, self.timer)
        finally:
            torch.set_num_threads(threads)
        self._keep(one_thread_s=one and one[0], all_threads_s=every and every[0])

    def overhead(self, calls: Mapping[int, Callable[[], object]]) -> None:
        """Record `overhead_s`, the fixed cost of a call [s], from `calls` by batch size; None if unknown."""
        medians = {size: self._medians_s(call, self.timer) for size, call in calls.items()}
        self._keep(overhead_s=fixed_cost({size: found[0] for size, found in medians.items() if found is not None}))

    def _medians_s(self, call: Callable[[], object], *stops: Clock) -> list[float] | None:
        """As `medians_s`; None if not `enabled`, or if other programs had the cores and the user named no rounds."""
        if not self.enabled or self._starved:
            return None
        return medians_s(call, self.timer, stops, most_s=self._aside_s)

    def phases(self, step: TrainingStep, pipeline: Pipeline, device: torch.device) -> float:
        """Run one epoch, or PHASES_S of it, and record where its time goes; returns which share of the epoch it was.

        `phases_s` adds up to `phases_wall_s` [s].
        """
        stopwatch: Stopwatch = EventStopwatch(device) if self._asynchronous else HostStopwatch(self._clock)
        start = self.timer()
        batches = epoch_in_phases(step, pipeline, stopwatch, over=lambda: self._clock() - start >= PHASES_S)
        self._keep(phases_wall_s=self.timer() - start)
        self._keep(phases_s=stopwatch.seconds(), phases_batches=batches)
        return batches / pipeline.batches
