"""In: cases, and a function that launches a worker of a side. Out: a judgement of each case.

One launch is one fresh pair of workers. A launch measures all undecided cases, in random order. Each case has several
rounds: one short visit of each side, in random order, both on the same core. The core changes every few rounds. After
the launch, the rule looks at the results. The cases that are still undecided get another launch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from perf.harness.machine.load import foreign_cpu_s
from perf.harness.measurement.side_by_side.link import SideError, SideLost
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.verdict import launches as paired
from perf.harness.verdict.launches import Launch, Rule, Visit
from perf.harness.workload.axes import Axes

# A visit of 6 ms is shorter than a time slice of the scheduler. The cold first step is a small enough part of it.
VISIT_S, LEAST_STEPS, MOST_STEPS = 6e-3, 2, 64
# How long the rounds of one case take in one launch [s]. But there are never fewer rounds than the rule needs.
CASE_S = 2.0
# After this many rounds, the core changes. Both sides run on each core equally often.
ROUNDS_PER_CORE = 10
# Time limits of a reply [s]: to import torch and read the data; to build, compile and warm up a network; to make a
# visit, which may also take VISIT_SLACK times the expected time.
LOAD_S, PREPARE_S, VISIT_LIMIT_S, VISIT_SLACK = 180.0, 180.0, 30.0, 100
BASE, HEAD = "base", "head"
Round = tuple[Visit, Visit]


class Worker(Protocol):
    """What a gate needs of a worker: `link.Link`, or a fake in tests."""

    def request(self, do: str, **arguments: Any) -> None: ...
    def reply(self, limit_s: float) -> dict[str, Any]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Compared:
    """One case of a benchmark, which both sides run."""

    name: str
    kind: str
    axes: Axes

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments with which a worker builds the case."""
        return {"kind": self.kind, **self.axes._asdict()}


class Watcher:
    """Receives the progress of a gate; a subclass shows it."""

    def working(self, launch: int, case: Compared, share: float, undecided: int) -> None:
        """`case` is being measured; `share` of its rounds are done."""

    def measured(self, case: Compared, rounds: Sequence[Round], injected: float | None) -> None:
        """One launch of `case` is done; `injected` is the share of base's step that head's planted slowdown took."""

    def looked(
        self, launches: int, decided: Sequence[Judgement], undecided: Sequence[Compared], elapsed_s: float
    ) -> None:
        """The rule has looked at the results after `launches` launches. It has just `decided` these cases."""


class _Failed(Exception):
    """A case cannot be measured: `str()` says why; `lost` says whether a worker was lost, too."""

    def __init__(self, why: str, verdict: Verdict = Verdict.INCONCLUSIVE, lost: bool = False) -> None:
        super().__init__(why)
        self.verdict = verdict
        self.lost = lost


def _failed(failed: Mapping[str, SideError]) -> _Failed:
    """The failure of a case, from the errors of one side or both."""
    # If head fails, the change is at fault. If only base fails, nothing can be said about the change.
    side, verdict = (HEAD, Verdict.INVALID) if HEAD in failed else (BASE, Verdict.INCONCLUSIVE)
    lost = any(isinstance(error, SideLost) for error in failed.values())
    return _Failed(f"{side}: {failed[side]}", verdict, lost)


class _Stop(Exception):
    """Nothing more can be measured: `str()` says why; `verdict` is the verdict for the undecided cases."""

    def __init__(self, why: str, verdict: Verdict = Verdict.INCONCLUSIVE) -> None:
        super().__init__(why)
        self.verdict = verdict


class Gate:
    """One gate. `launch(side)` starts a worker of `base` or `head`, and raises SideError if it cannot."""

    def __init__(
        self,
        cases: Sequence[Compared],
        launch: Callable[[str], Worker],
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
        self._first: dict[str, dict[str, Any]] = {}
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

    @property
    def undecided(self) -> list[Compared]:
        return [case for case in self._cases if case.name not in self._decided]

    def judgements(self) -> list[Judgement]:
        """A judgement of each case, in the order of the cases. A case that `run` did not decide is INCONCLUSIVE."""
        return [
            self._decided.get(case.name)
            or paired.give_up(case.name, self._launches[case.name], self._rule, "interrupted")
            for case in self._cases
        ]

    def run(self) -> list[Judgement]:
        """Launch and look until every case is decided, or the looks or the time are used up."""
        took, measured = 0.0, 1
        try:
            while todo := self.undecided:
                begin = self._clock()
                if self._left() <= took * len(todo) / measured:
                    self._out_of_time()
                self._made += 1
                before = set(self._decided)
                self._launch(todo)
                took, measured = self._clock() - begin, len(todo)
                self._look(before)
        except _Stop as stop:
            for case in self.undecided:
                self._settle(case, stop.verdict, str(stop))
        return self.judgements()

    def _left(self) -> float:
        return self._budget_s - self.elapsed_s

    def _out_of_time(self) -> NoReturn:
        least = f", of {paired.LOOKS[0]} at least" if self._made < paired.LOOKS[0] else ""
        raise _Stop(
            f"{self._made} launches begun{least}, and the time budget of {self._budget_s:.0f} s has no room for more; "
            "give more with --perf-time-budget"
        )

    def _look(self, before: set[str]) -> None:
        """Decide the cases that can be decided, and report those that were not decided `before` this launch."""
        for case in self.undecided:
            launches = self._launches[case.name]
            judged = paired.decide(case.name, launches, self._rule)
            if judged is not None:
                self._decided[case.name] = judged
            elif paired.spent(launches):
                self._settle(case, Verdict.INCONCLUSIVE, f"{len(launches)} launches differ too much")
        decided = [judged for name, judged in self._decided.items() if name not in before]
        if decided or self._made in paired.LOOKS:
            self._watcher.looked(self._made, decided, self.undecided, self.elapsed_s)

    def _settle(self, case: Compared, verdict: Verdict, why: str) -> None:
        known = paired.give_up(case.name, self._launches[case.name], self._rule, why)
        self._decided[case.name] = dataclasses.replace(known, verdict=verdict)

    def _launch(self, todo: Sequence[Compared]) -> None:
        """One more launch of each case in `todo`. If a worker is lost, its case fails; a new pair measures the rest."""
        rest = self._rng.sample(list(todo), len(todo))
        while rest:
            with self._pair() as pair:
                while rest:
                    if self._left() <= 0:
                        self._out_of_time()
                    case = rest.pop()
                    try:
                        self._launches[case.name].append(self._measure(pair, case))
                    except _Failed as failed:
                        self._settle(case, failed.verdict, str(failed))
                        if failed.lost:
                            break

    @contextlib.contextmanager
    def _pair(self) -> Iterator[dict[str, Worker]]:
        """A fresh worker of each side that has loaded its data. Both are ended afterwards, whatever happens."""
        pair: dict[str, Worker] = {}
        try:
            for side in self._order():
                try:
                    pair[side] = self._start_worker(side)
                except SideError as error:
                    raise _failed({side: error}) from None
            loaded = self._both(pair, "load", LOAD_S)
            self._check(loaded)
            yield pair
        except _Failed as failed:
            raise _Stop(str(failed), failed.verdict) from None
        finally:
            for worker in pair.values():
                worker.close()

    def _check(self, loaded: dict[str, dict[str, Any]]) -> None:
        """Raise _Stop if the sides train on different data, or if a source file changed since the first launch."""
        if loaded[BASE]["data"] != loaded[HEAD]["data"]:
            raise _Stop("base and head train on different data", Verdict.INVALID)
        for side, reply in loaded.items():
            first = self._first.setdefault(side, reply)["sources"]
            changed = sorted(path for path, digest in reply["sources"].items() if first.get(path, digest) != digest)
            if changed:
                raise _Stop(f"{side}'s {changed[0]} was changed while it was measured")

    def _measure(self, pair: dict[str, Worker], case: Compared) -> Launch:
        ready = self._prepare(pair, case)
        step_s = (ready[BASE]["step_s"] + ready[HEAD]["step_s"]) / 2
        steps = max(LEAST_STEPS, min(MOST_STEPS, round(VISIT_S / step_s) + 1))
        round_s = 2 * steps * step_s
        count = max(paired.LEAST_ROUNDS, round(CASE_S / round_s))
        self._check_budget(count, round_s)
        limit_s = max(VISIT_LIMIT_S, VISIT_SLACK * steps * step_s)
        rounds: list[Round] = []
        for number in range(count):
            self._watcher.working(self._made, case, number / count, len(self.undecided))
            core = self._cores[number // ROUNDS_PER_CORE % len(self._cores)] if self._cores else None
            visits = {side: self._visit(pair, side, steps, core, limit_s) for side in self._order()}
            rounds.append((visits[BASE], visits[HEAD]))
        done = self._both(pair, "finish", PREPARE_S)
        if problems := {side: SideError(reply["problem"]) for side, reply in done.items() if reply["problem"]}:
            raise _failed(problems)
        launch, extra_s = paired.launch_of(rounds), done[HEAD].get("extra_s")
        self._watcher.measured(case, rounds, None if extra_s is None else extra_s / launch.base_s)
        return launch

    def _prepare(self, pair: dict[str, Worker], case: Compared) -> dict[str, dict[str, Any]]:
        """Build and warm up the case on both sides at the same time, each on a core of its own."""
        homes = dict(zip(pair, itertools.cycle(self._cores or [None]), strict=False))
        return self._both(pair, "prepare", PREPARE_S, lambda side: {**case.arguments, "core": homes[side]})

    def _check_budget(self, rounds: int, round_s: float) -> None:
        """Raise _Failed if the steps are so long that not even the first look fits into the whole time budget."""
        needed = paired.LOOKS[0] * rounds * round_s
        if needed > self._budget_s:
            raise _Failed(
                f"{paired.LOOKS[0]} launches of {rounds} rounds take {needed:,.0f} s, the time budget is "
                f"{self._budget_s:,.0f} s; give more with --perf-time-budget, or take a smaller batch"
            )

    def _visit(self, pair: dict[str, Worker], side: str, steps: int, core: int | None, limit_s: float) -> Visit:
        try:
            pair[side].request("visit", steps=steps, core=core)
            reply = pair[side].reply(limit_s)
        except SideError as error:
            raise _failed({side: error}) from None
        return Visit(tuple(reply["wall_s"]), tuple(reply["cpu_s"]))

    def _both(
        self,
        pair: dict[str, Worker],
        do: str,
        limit_s: float,
        arguments: Callable[[str], dict[str, Any]] = lambda side: {},
    ) -> dict[str, dict[str, Any]]:
        """The replies of both sides. They work at the same time, because this work is not timed."""
        for side, worker in pair.items():
            worker.request(do, **arguments(side))
        replies, failed = {}, {}
        for side, worker in pair.items():
            try:
                replies[side] = worker.reply(limit_s)
            except SideError as error:
                failed[side] = error
        if failed:
            raise _failed(failed)
        return replies

    def _order(self) -> list[str]:
        return self._rng.sample([BASE, HEAD], 2)
