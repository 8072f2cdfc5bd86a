"""In: cases, and a function that launches a worker of a side. Out: a judgement of each case.

One launch is one fresh pair of workers. A launch measures the undecided cases in random order: all of them if there is
time, else the first ones. After the launch, the rule looks at the results. The cases that are still undecided get
another launch.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from perf.harness.machine.load import foreign_cpu_s
from perf.harness.measurement.side_by_side.link import SideError
from perf.harness.measurement.side_by_side.pair import (
    BASE,
    HEAD,
    Compared,
    Doubted,
    Failed,
    Pair,
    Round,
    WorkerLink,
    failure,
)
from perf.harness.measurement.side_by_side.replies import Loaded
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.verdict import launches as paired
from perf.harness.verdict.launches import Launch, Rule
from perf.harness.verdict.weights import Weight, frozen, weighed

# The benchmark whose memory, trained parameters and losses are compared, too.
WEIGHED = "training_step"
# What a launch and each of its cases take, as long as nobody knows [s]; measured with the reference network.
GUESSED_START_S, GUESSED_CASE_S = 6.0, 3.5
# Launches may take a fifth less than the last one: the first starts with cold files, and other programs come and go. So
# much more than what is left may the look at the first case take: a budget that is given up has decided nothing.
SLACK = 1.25


class Watcher:
    """Receives the progress of a gate; a subclass shows it."""

    def working(self, launch: int, case: Compared, share: float, undecided: int) -> None:
        """`case` is being measured; `share` of its rounds are done."""

    def measured(self, case: Compared, rounds: Sequence[Round], injected: float | None) -> None:
        """One launch of `case` is done; `injected` is the share of base's step that head's planted slowdown took."""

    def doubted(self, case: Compared, why: str) -> None:
        """A launch of `case` does not count, as its times contradict each other."""

    def looked(
        self, launches: int, decided: Sequence[Judgement], undecided: Sequence[Compared], elapsed_s: float
    ) -> None:
        """The rule has looked at the results after `launches` launches. It has just `decided` these cases."""


class _Stop(Exception):
    """Nothing more can be compared: `str()` says why; `verdict` is the verdict for the undecided cases.

    `only_base` says whether head can still be measured alone.
    """

    def __init__(self, why: str, verdict: Verdict, only_base: bool = False) -> None:
        super().__init__(why)
        self.verdict = verdict
        self.only_base = only_base


class Gate:
    """One gate over `cases`, the most important first. `launch(side)` starts a worker, or raises SideError."""

    def __init__(
        self,
        cases: Sequence[Compared],
        launch: Callable[[str], WorkerLink],
        rule: Rule,
        *,
        budget_s: float,
        cores: Sequence[int],
        watcher: Watcher,
        clock: Callable[[], float] = time.monotonic,
        foreign_cpu_s: Callable[[], float | None] = foreign_cpu_s,
        rng: random.Random | None = None,
    ) -> None:
        self._cases = cases
        self._start_worker = launch
        self._rule = rule
        self._clock = clock
        self._cores = cores
        self._rng = rng or random.Random()
        self._watcher = watcher
        self._launches: dict[str, list[Launch]] = {case.name: [] for case in cases}
        self._decided: dict[str, Judgement] = {}
        self._first: dict[str, Loaded] = {}
        # What the last launch and the last measurement of a case took [s].
        self._start_s = GUESSED_START_S
        self._case_s = dict.fromkeys((case.name for case in cases), GUESSED_CASE_S)
        self._weights: dict[str, dict[str, Weight]] = {}
        self.other_data = False  # whether head's training brings other data than base's
        self.frozen: set[str] = set()  # the cases in which head does not train what base trains
        self._broken: list[Compared] = []  # what base cannot run, and head runs alone
        self._doubted: set[str] = set()  # the cases with a launch that does not count, as its times were doubted
        self._budget_s = budget_s
        self._begin = self._clock()
        self._foreign_cpu_s = foreign_cpu_s
        self._foreign = foreign_cpu_s()
        self._made = 0

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._begin

    @property
    def others_cores(self) -> float | None:
        """How many cores other programs used since the gate began; None if unknown."""
        now = self._foreign_cpu_s()
        if now is None or self._foreign is None:
            return None
        return max(0.0, now - self._foreign) / self.elapsed_s

    def judgements(self) -> list[Judgement]:
        """A judgement of each case, in the order of the cases. A case that `run` did not decide is INCONCLUSIVE."""
        return [
            self._decided.get(case.name)
            or paired.give_up(case.name, self._launches[case.name], self._rule, "interrupted")
            for case in self._cases
        ]

    def run(self) -> list[Judgement]:
        """Launch and look until every case is decided, or the looks or the time are used up."""
        try:
            while todo := self._affordable():
                self._made += 1
                before = set(self._decided)
                self._launch(todo)
                self._look(before)
            needed_s = math.ceil((self.elapsed_s + self._until_look_s(self.undecided)) / 10) * 10
            for case in self.undecided:
                self._settle(case, Verdict.INCONCLUSIVE, self._no_time(case, needed_s))
            self._alone([*self._broken, *(case for case in self._cases if case.alone)])
        except _Stop as stop:
            self._end(stop)
        return self.judgements()

    def _end(self, stop: _Stop) -> None:
        """Judge what is left if nothing more can be compared. If only base is broken, head is measured alone."""
        known = {case.name for case in self._broken} | set(self._decided)
        rest = [*self._broken, *(case for case in self._cases if case.name not in known)]
        if stop.only_base:
            try:
                self._alone([one if one.alone else replace(one, alone=str(stop), verdict=stop.verdict) for one in rest])
            except _Stop as other:
                stop = other
        for case in rest:
            if case.name not in self._decided:
                self._settle(case, stop.verdict, str(stop))

    @property
    def undecided(self) -> list[Compared]:
        """The cases that both sides run and that have no verdict yet."""
        known = {case.name for case in self._broken} | set(self._decided)
        return [case for case in self._cases if case.name not in known and not case.alone]

    def _affordable(self) -> list[Compared]:
        """The undecided cases for whose next look there is time: if not for all of them, for the first ones."""
        chosen: list[Compared] = []
        for case in self.undecided:
            if self._until_look_s([*chosen, case]) <= self._left():
                chosen.append(case)
        first = self.undecided[:1]
        hopeful = not self._made or self._until_look_s(first) <= SLACK * self._left()  # before any, it is a guess
        return chosen or (first if hopeful else [])

    def _left(self) -> float:
        return self._budget_s - self.elapsed_s

    def _until_look_s(self, cases: Sequence[Compared]) -> float:
        """The time until the next look at `cases` [s]. What a case takes that was not measured is a guess."""
        left = {case.name: paired.until_look(len(self._launches[case.name])) for case in cases}
        cases_s = sum(launches * self._case_s[name] for name, launches in left.items())
        return max(left.values(), default=0) * self._start_s + cases_s

    def _no_time(self, case: Compared, needed_s: int) -> str:
        made = len(self._launches[case.name])
        done = f"{made} of at least {paired.LOOKS[0]} pairs made" if made else "not measured"
        if made >= paired.LOOKS[0]:
            done = f"undecided after {made} pairs"
        more_s, left_s = math.ceil(self._until_look_s([case])), max(0.0, self._left())
        budget = f"the time budget of {self._budget_s:.0f} s has {math.floor(left_s)} s left"
        more = f"give at least --perf-time-budget={needed_s}s"
        if made >= paired.LOOKS[0]:
            more += ", or a quieter machine"
        return f"{done}: a verdict is possible in about {more_s} s, and {budget}; {more}"

    def _look(self, before: set[str]) -> None:
        """Decide the cases that can be decided, and report those that were not decided `before` this launch."""
        for case in self.undecided:
            launches = self._launches[case.name]
            judged = paired.decide(case.name, launches, self._rule)
            if judged is not None:
                self._decide(case, judged)
            elif paired.spent(launches):
                self._settle(case, Verdict.INCONCLUSIVE, f"{len(launches)} pairs differ too much")
        decided = [judged for name, judged in self._decided.items() if name not in before]
        if decided or self._made in paired.LOOKS:
            self._watcher.looked(self._made, decided, self.undecided, self.elapsed_s)

    def _settle(self, case: Compared, verdict: Verdict, why: str) -> None:
        launches = self._launches[case.name]
        leans = paired.leaning(launches, self._rule) if verdict is Verdict.INCONCLUSIVE else ""
        known = paired.give_up(case.name, launches, self._rule, "; ".join(filter(None, [why, leans])))
        self._decide(case, replace(known, verdict=verdict))

    def _decide(self, case: Compared, judged: Judgement) -> None:
        if sides := self._weights.get(case.name):
            judged = weighed(judged, sides[BASE], sides[HEAD], self._rule.max_memory)
        self._decided[case.name] = judged

    def _launch(self, todo: Sequence[Compared]) -> None:
        """One more launch of each case in `todo`. If a worker is lost, its case fails; a new pair measures the rest."""
        # What the first launch takes is not known: where the time ends within it, the first cases have been measured.
        rest = list(reversed(todo)) if self._made == 1 else self._rng.sample(list(todo), len(todo))
        while rest and self._left() > 0:
            with self._pair([BASE, HEAD]) as pair:
                while rest and self._left() > 0:
                    case = rest.pop()
                    try:
                        self._launches[case.name].append(self._measure(pair, case))
                    except Failed as failed:
                        if isinstance(failed, Doubted) and case.name not in self._doubted:
                            self._doubted.add(case.name)
                            self._watcher.doubted(case, str(failed))
                        elif failed.only_base:
                            self._broken.append(replace(case, alone=str(failed), verdict=failed.verdict))
                        else:
                            self._settle(case, failed.verdict, str(failed))
                        if failed.lost:
                            break

    def _measure(self, pair: Pair, case: Compared) -> Launch:
        if case.kind == WEIGHED and case.name not in self._weights:
            sides = self._weights[case.name] = pair.weigh(case)
            if frozen(sides[BASE], sides[HEAD]):
                self.frozen.add(case.name)
        begin = self._clock()
        made = pair.measure(case, self._check_budget, self._watch(case))
        self._case_s[case.name] = self._clock() - begin
        launch = paired.launch_of([(one[BASE], one[HEAD]) for one in made.rounds])
        self._watcher.measured(case, made.rounds, None if made.extra_s is None else made.extra_s / launch.base_s)
        return launch

    def _alone(self, rest: list[Compared]) -> None:
        """Measure once what only head has: it must work, and its time is said."""
        while rest:
            with self._pair([HEAD]) as pair:
                while rest:
                    case = rest.pop(0)
                    try:
                        made = pair.measure(case, lambda rounds, round_s: None, self._watch(case))
                    except Failed as failed:
                        self._settle(case, failed.verdict, str(failed))
                        if failed.lost:
                            break
                    else:
                        head_s = paired.typical_s([one[HEAD] for one in made.rounds])
                        self._decided[case.name] = Judgement(case.name, case.verdict, case.alone, head_s=head_s)

    def _watch(self, case: Compared) -> Callable[[float], None]:
        return lambda share: self._watcher.working(self._made, case, share, len(self.undecided))

    @contextlib.contextmanager
    def _pair(self, sides: Sequence[str]) -> Iterator[Pair]:
        """A fresh worker of each side that has loaded its data. All are ended afterwards, whatever happens."""
        begin = self._clock()
        workers: dict[str, WorkerLink] = {}
        try:
            for side in self._rng.sample(list(sides), len(sides)):
                try:
                    workers[side] = self._start_worker(side)
                except SideError as error:
                    raise failure({side: error}) from None
            pair = Pair(workers, self._cores, self._clock, self._rng)
            self._check(pair.load())
            self._start_s = self._clock() - begin
            yield pair
        except Failed as failed:
            raise _Stop(str(failed), failed.verdict, failed.only_base) from None
        finally:
            for worker in workers.values():
                worker.close()

    def _check(self, loaded: Mapping[str, Loaded]) -> None:
        """Raise _Stop if the sides train on different data, or if a source file changed since the first launch."""
        if len({reply.data for reply in loaded.values()}) > 1:
            if not all(reply.own for reply in loaded.values()):
                raise _Stop("base and head train on different data", Verdict.INVALID)
            self.other_data = True  # what a training brings is a part of the change
        for side, reply in loaded.items():
            first = self._first.setdefault(side, reply).sources
            changed = sorted(path for path, digest in reply.sources.items() if first.get(path, digest) != digest)
            if changed:
                raise _Stop(f"{side}'s {changed[0]} was changed while it was measured", Verdict.INVALID)

    def _check_budget(self, rounds: int, round_s: float) -> None:
        """Raise Failed if the steps are so long that not even the first look fits into the whole time budget."""
        needed = paired.LOOKS[0] * rounds * round_s
        if needed > self._budget_s:
            needed += paired.LOOKS[0] * self._start_s
            raise Failed(
                f"{paired.LOOKS[0]} pairs of {rounds} rounds take at least {needed:,.0f} s, the time budget is "
                f"{self._budget_s:,.0f} s; give more with --perf-time-budget, or take a smaller batch"
            )
