"""In: the records of many runs and gates. Out: how the time of each case has changed. It is advice, no verdict."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from perf.harness.record.run import Run
from perf.harness.statistics.change_points import change_points
from perf.harness.verdict.stored_runs import machine_facts, medians_of

# The chance that a history of one machine, with all its cases, shows a change although its runs differ by chance only.
CHANCE = 0.01
# A smaller change needs no look.
LEAST_CHANGE = 0.01
# Changes are searched in the newest runs only: the time that takes grows with the square of their number.
NEWEST = 100


@dataclass(frozen=True)
class Point:
    """The median time of a case [s] in one run."""

    seconds: float
    run: Run


@dataclass(frozen=True)
class Change:
    """From the run `first` on, the time is `ratio` times that before."""

    first: Run
    ratio: float


@dataclass(frozen=True)
class Trend:
    """The times of the case `name`, oldest first, and how certain a change must be to count."""

    name: str
    points: tuple[Point, ...]
    chance: float

    @property
    def since_first(self) -> float:
        return self.points[-1].seconds / self.points[0].seconds

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        points = self.points[-NEWEST:]
        logs = [math.log(point.seconds) for point in points]
        ends = [0, *change_points(logs, self.chance), len(logs)]
        levels = [statistics.median(logs[a:b]) for a, b in itertools.pairwise(ends)]
        ratios = [math.exp(now - then) for then, now in itertools.pairwise(levels)]
        found = [Change(points[at].run, ratio) for at, ratio in zip(ends[1:-1], ratios, strict=True)]
        return tuple(change for change in found if abs(change.ratio - 1) >= LEAST_CHANGE)


@dataclass(frozen=True)
class History:
    """Runs that can be compared with each other, oldest first. `gates`: they are gates, with the times of head."""

    runs: tuple[Run, ...]
    gates: bool
    trends: tuple[Trend, ...]


def histories(runs: Iterable[Run]) -> list[History]:
    """The runs by fingerprint, gates apart, those with the most runs first. A run that is given twice counts once."""
    found: dict[object, list[Run]] = {}
    for run in sorted(runs, key=lambda one: one.datetime):
        found.setdefault(_key(run), []).append(run)
    made = [_history(list(_once(same))) for same in found.values()]
    return sorted(made, key=lambda history: -len(history.runs))


def _key(run: Run) -> object:
    """What is equal in runs that can be compared; runs of a part of the cases are compared with each other."""
    facts = run.fingerprint or machine_facts(run)
    part = frozenset(_seconds(run)) if run.unfit else None
    return run.gate is not None, part, tuple(sorted((name, str(value)) for name, value in facts.items()))


def _once(runs: Sequence[Run]) -> Iterable[Run]:
    seen = set()
    for run in runs:
        times = run.datetime, tuple(sorted(_seconds(run).items()))
        if times not in seen:
            seen.add(times)
            yield run


def _seconds(run: Run) -> dict[str, float]:
    """The time of each case in `run` [s]; of a gate, that of head."""
    if run.gate is not None:
        return {one.name: one.head_s for one in run.judgements if one.head_s is not None}
    return dict(medians_of(run)[-1].seconds)


def _history(runs: Sequence[Run]) -> History:
    points: dict[str, list[Point]] = {}
    for run in runs:
        for name, seconds in _seconds(run).items():
            points.setdefault(name, []).append(Point(seconds, run))
    chance = CHANCE / max(1, len(points))
    trends = (Trend(name, tuple(known), chance) for name, known in points.items())
    return History(tuple(runs), runs[0].gate is not None, tuple(trends))
