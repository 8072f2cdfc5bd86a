"""In: a worker of each side. Out: the visits of one case after the other, checked against the clock of this process.

Each case has several rounds: one short visit of each side, in random order, both on the same core. The core changes
every few rounds. A case that base does not have is measured with a worker of head alone.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perf.harness.measurement.side_by_side.link import SideError, SideLost, SideSilent
from perf.harness.measurement.side_by_side.replies import Finished, Loaded, Ready, Visited, Wanted, typed
from perf.harness.record.judgement import Verdict
from perf.harness.verdict.launches import FEWEST_ROUNDS, LEAST_ROUNDS, Visit
from perf.harness.verdict.weights import Weight
from perf.harness.workload.axes import Axes

# A visit of 6 ms is shorter than a time slice of the scheduler. The cold first step is a small enough part of it.
VISIT_S, LEAST_STEPS, MOST_STEPS = 6e-3, 2, 64
# How long the rounds of one case take in one launch [s]. But there are never fewer rounds than the rule needs. So the
# log ratio of a launch is known within 0.002 (perf/proof/gate_time.py, idle). The rule takes launches to differ by
# 0.003 at least.
CASE_S = 1.2
# If LEAST_ROUNDS rounds take longer than this [s], there are as many as fit into it, but at least FEWEST_ROUNDS. It is
# about what a launch takes before its first round.
LONG_S = 12.0
# After this many rounds at most, the core changes. Both sides run on each core equally often.
ROUNDS_PER_CORE = 10
# Time limits of a reply [s]: to import torch and read the data; to build, compile and warm up a network; to make a
# visit, which may also take VISIT_SLACK times the expected time.
LOAD_S, PREPARE_S, VISIT_LIMIT_S, VISIT_SLACK = 180.0, 180.0, 30.0, 100
# The share of a visit that head's clock may miss: of the time until the answer, which other programs delay, and of the
# CPU time, which the kernel counts. In 48 launches of unchanged code, idle and beside two busy loops on 2 cores, the
# sides differed by 0.3% of the former at most; where head needs three times as long, beside four, by more than 3%.
ANSWER_SHARE, CPU_SHARE = 0.3, 0.015
# By so much more of a visit head's first step may take than base's. Larger weights are colder.
FIRST_SHARE = 0.15
BASE, HEAD = "base", "head"
BUSY = "; it hangs, or the machine was out of memory or very busy: then gate again while nothing else runs"
# The visits of one round, by side.
Round = Mapping[str, Visit]


class WorkerLink(Protocol):
    """What a gate needs of a worker: `link.Link`, or a fake in tests."""

    def request(self, do: str, **arguments: Any) -> None: ...
    def reply(self, limit_s: float) -> dict[str, Any]: ...
    def cpu_s(self) -> float | None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Compared:
    """One case of a benchmark. Head alone runs it if `alone` says why base does not; it is then judged as `verdict`."""

    name: str
    kind: str
    axes: Axes
    alone: str = ""
    verdict: Verdict = Verdict.NEW

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments with which a worker builds the case."""
        return {"kind": self.kind, **self.axes._asdict()}


class Failed(Exception):
    """A case cannot be measured: `str()` says why.

    `lost` says whether a worker was lost, too; `only_base`, whether only base is broken.
    """

    def __init__(
        self, why: str, verdict: Verdict = Verdict.INCONCLUSIVE, lost: bool = False, only_base: bool = False
    ) -> None:
        super().__init__(why)
        self.verdict = verdict
        self.lost = lost
        self.only_base = only_base


class Doubted(Failed):
    """The times of a launch contradict each other. A second such launch of the case makes head INVALID."""

    def __init__(self, why: str) -> None:
        super().__init__(why, Verdict.INVALID)


def failure(failed: Mapping[str, SideError]) -> Failed:
    """The failure of a case, from the errors of one side or both."""
    # If head fails, the change is at fault. If only base fails, nothing can be said about the change. A base that
    # opens files of head was not measured: this must never pass.
    side = HEAD if HEAD in failed else BASE
    error = failed[side]
    invalid = side == HEAD or error.strange
    why = f"{error}{BUSY}" if isinstance(error, SideSilent) else str(error)
    lost = any(isinstance(error, SideLost) for error in failed.values())
    return Failed(f"{side}: {why}", Verdict.INVALID if invalid else Verdict.INCONCLUSIVE, lost, not invalid)


@dataclass(frozen=True)
class Observed:
    """What a worker says that a visit took, how long its answer took, and the CPU time that the kernel counted [s].

    `first_share` is the part of its first step, which is cold and does not count. The CPU time is None if it is
    unknown, or if a worker may use several cores.
    """

    total_s: float
    first_share: float
    took_s: float
    cpu_s: float | None


@dataclass(frozen=True)
class LaunchRounds:
    """One launch of a case: its rounds, and the median time of the work that was planted in head [s], if any."""

    rounds: Sequence[Round]
    extra_s: float | None


class Pair:
    """A worker of each side in `workers`, or of head alone."""

    def __init__(
        self,
        workers: Mapping[str, WorkerLink],
        cores: Sequence[int],
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._workers = workers
        self._cores = cores
        self._clock = clock
        self._rng = rng

    def load(self) -> dict[str, Loaded]:
        """Let the workers import the subject and read the data. Raises Failed."""
        return self._all("load", LOAD_S, Loaded)

    def weigh(self, case: Compared) -> dict[str, Weight]:
        """What the training of `case` takes and does on each side. Raises Failed."""
        return self._all("weigh", PREPARE_S, Weight, lambda side: case.axes._asdict())

    def measure(
        self, case: Compared, allow: Callable[[int, float], None], watch: Callable[[float], None]
    ) -> LaunchRounds:
        """One launch of `case`. Raises Failed, also if `allow(rounds, round_s)` does.

        `watch(share)` is called before each round, with the share of the rounds that are done.
        """
        ready = self._prepare(case)
        step_s = statistics.fmean(one.step_s for one in ready.values())
        steps = max(LEAST_STEPS, min(MOST_STEPS, round(VISIT_S / step_s) + 1))
        round_s = len(self._workers) * steps * step_s
        count = rounds_of(round_s)
        per_core = min(ROUNDS_PER_CORE, count // 2)
        allow(count, round_s)
        limit_s = max(VISIT_LIMIT_S, VISIT_SLACK * steps * step_s)
        rounds: list[Round] = []
        seen: dict[str, list[Observed]] = {side: [] for side in self._workers}
        for number in range(count):
            watch(number / count)
            core = self._cores[number // per_core % len(self._cores)] if self._cores else None
            visits = {}
            for side in self._rng.sample(list(self._workers), len(self._workers)):
                visited, of_it = self._seen(side, steps, core, limit_s)
                seen[side].append(of_it)
                visits[side] = _per_step(visited, ready[side].cycle)
            rounds.append(visits)
        if BASE in seen:
            check_times(seen)
        done = self._all("finish", PREPARE_S, Finished)
        if problems := {side: SideError(reply.problem) for side, reply in done.items() if reply.problem}:
            raise failure(problems)
        return LaunchRounds(rounds, done[HEAD].extra_s)

    def _prepare(self, case: Compared) -> dict[str, Ready]:
        """Build and warm up the case on both sides at the same time, each on a core of its own."""
        homes = dict(zip(self._workers, itertools.cycle(self._cores or [None]), strict=False))
        return self._all("prepare", PREPARE_S, Ready, lambda side: {**case.arguments, "core": homes[side]})

    def _seen(self, side: str, steps: int, core: int | None, limit_s: float) -> tuple[Visited, Observed]:
        """A visit, and what this process sees of it."""
        worker, begin = self._workers[side], self._clock()
        before_s = worker.cpu_s()
        visited = self._visit(side, steps, core, limit_s)
        after_s, took_s = worker.cpu_s(), self._clock() - begin
        used_s = None if core is None or before_s is None or after_s is None else after_s - before_s
        first_s = visited.total_s - statistics.fmean(visited.wall_s) * (steps - 1)
        return visited, Observed(visited.total_s, first_s / visited.total_s, took_s, used_s)

    def _visit(self, side: str, steps: int, core: int | None, limit_s: float) -> Visited:
        try:
            self._workers[side].request("visit", steps=steps, core=core)
            visited = typed(self._workers[side].reply(limit_s), Visited)
            if not visited.wall_s or len(visited.wall_s) not in (1, steps - 1):
                raise SideError(f"it answers {len(visited.wall_s)} times for {steps} steps")
        except SideError as error:
            raise failure({side: error}) from None
        return visited

    def _all(
        self,
        do: str,
        limit_s: float,
        kind: type[Wanted],
        arguments: Callable[[str], dict[str, Any]] = lambda side: {},
    ) -> dict[str, Wanted]:
        """The replies of both sides. They work at the same time, because this work is not timed."""
        for side, worker in self._workers.items():
            worker.request(do, **arguments(side))
        replies, failed = {}, {}
        for side, worker in self._workers.items():
            try:
                replies[side] = typed(worker.reply(limit_s), kind)
            except SideError as error:
                failed[side] = error
        if failed:
            raise failure(failed)
        return replies


def _per_step(visited: Visited, cycle: int) -> Visit:
    """The times of a visit for each step, where the worker took those of each cycle: the sides' cycles may differ."""
    wall_s, cpu_s = (tuple(one / cycle for one in times) for times in (visited.wall_s, visited.cpu_s))
    return Visit(wall_s, cpu_s, visited.total_s)


def rounds_of(round_s: float) -> int:
    """How many rounds a launch has of a case whose rounds take so long [s]."""
    least = max(FEWEST_ROUNDS, min(LEAST_ROUNDS, int(LONG_S / round_s)))
    return max(least, round(CASE_S / round_s))


def check_times(seen: Mapping[str, Sequence[Observed]]) -> None:
    """Raise Doubted if head says that its visits took less time than they did, or hides time where none is counted.

    What a request takes, and how cold a first step is, base shows.
    """
    for what, limit in (("took_s", ANSWER_SHARE), ("cpu_s", CPU_SHARE)):
        hidden_s = {
            side: [value - one.total_s for one in visits if (value := getattr(one, what)) is not None]
            for side, visits in seen.items()
        }
        if not all(hidden_s.values()):
            continue
        requests_s = max(0.0, statistics.median(hidden_s[BASE]))
        share = (statistics.median(hidden_s[HEAD]) - requests_s) / statistics.median(one.took_s for one in seen[HEAD])
        if share > limit:
            raise Doubted(f"head: its clock shows {share:.0%} less time than the gate's, and base's does not")
    base, head = (statistics.median(one.first_share for one in seen[side]) for side in (BASE, HEAD))
    if head - base > FIRST_SHARE:
        raise Doubted(
            f"head: the first step after each pause, which does not count, takes {head:.0%} of the time, and base's "
            f"{base:.0%}; do in each step what is done there, or gate again while nothing else runs"
        )
