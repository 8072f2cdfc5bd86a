"""In: what each case took so far, and how long the run may take. Out: the cases of each pass.

A case is in all passes if there is time. If there is not, the cases that take longest lose passes first. Time that is
left goes to extra passes, for the cases with the widest intervals.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

# Two passes give a useless confidence interval: Student's t is 12.7 with one degree of freedom, and 4.3 with two.
LEAST_PASSES = 3
# At most this many times the planned passes: if an interval is still wide then, the machine is the reason.
MOST_TIMES = 2
# A run should keep its promise within a quarter. The case that is being measured still takes its time.
LATE = 1.15
# A later pass of a case takes this share of its first, in which some things are measured once (measured, smoke).
LATER = 0.5


@dataclass(frozen=True)
class Taken:
    """What one case took so far: the time of its last pass [s], and the number of its passes.

    `width` is half its 95% interval, relative; None if unknown. `crowded`: other programs used its cores.
    """

    wall_s: float
    passes: int
    width: float | None = None
    crowded: bool = False


@dataclass
class Timetable:
    """The passes of one run: `passes` of them, and extra ones up to `target`, a width, if a run has `limit_s` in all.

    A case has `long_s` for all its passes, or three passes if they take longer; no limit if `long_s` is infinite.
    A pass takes `pass_s` beside its cases.
    """

    passes: int
    long_s: float
    limit_s: float = math.inf
    target: float | None = None
    pass_s: float = 0.0
    number: int = 1
    is_last: bool = False
    crowded: bool = False  # whether other programs used the cores for most of the last pass
    has_more: bool = True  # whether any case is in a further pass

    def next_pass(self, taken: Mapping[str, Taken], elapsed_s: float) -> set[str]:
        """Begin the next pass after `elapsed_s`; returns its cases, by the names of `taken`.

        If not even three passes of each case fit, and the machine is not crowded, then the network is a large one, and
        `limit_s` rises. On a crowded machine, more passes only measure the other programs.
        """
        self.number += 1
        left_s = self.limit_s - elapsed_s
        self.crowded = _is_crowded(taken.values())
        if self.crowded:
            taken = {
                name: replace(one, wall_s=LATER * one.wall_s) if one.passes == 1 else one for name, one in taken.items()
            }
        more = self._further(taken, left_s)
        if self.number == 2 and (needed_s := self._needed_s(taken, more)) > max(0.0, left_s):
            self.limit_s += needed_s - left_s
        if self.number == 2 and not self.crowded:
            more = self._not_yet(taken)  # what is measured once made the first pass longer: look again after this one
        self.has_more = any(more.values())
        # A case that was in fewer passes than there was time for gets further ones.
        most_left = MOST_TIMES * self.passes - self.number + 1
        passes_left = max(1, self.passes - self.number + 1, min(most_left, max(more.values(), default=0)))
        # A case ends when its interval is narrow. A test simulates that such intervals still cover 93% and more.
        free_s = left_s - self._needed_s(taken, more) - self.pass_s
        if passes_left == 1 < most_left and (extra := self._widest(taken, free_s)):
            return extra
        self.is_last = passes_left == 1
        return {name for name, count in more.items() if 2 * count > passes_left}

    def until_late_s(self, elapsed_s: float) -> float:
        """How long the run may still take [s]. At 0 it must end, even within a pass: it has become much slower."""
        return max(0.0, LATE * self.limit_s - elapsed_s)

    def _wanted(self, wall_s: float) -> int:
        """How many of all passes measure a case that takes `wall_s`; one if that is more than twice `long_s`."""
        if wall_s > 2 * self.long_s:
            return 1
        return int(min(self.passes, max(LEAST_PASSES, self.long_s / wall_s)))

    def _not_yet(self, taken: Mapping[str, Taken]) -> dict[str, int]:
        """How many more passes should measure each case."""
        return {name: max(0, self._wanted(one.wall_s) - one.passes) for name, one in taken.items()}

    def _further(self, taken: Mapping[str, Taken], left_s: float) -> dict[str, int]:
        """How many more passes measure each case, so that all of them take `left_s` at most.

        The case with the longest time left loses a pass first. Only on a crowded machine do cases get fewer than three.
        """
        more = self._not_yet(taken)
        least = 0 if _is_crowded(taken.values()) else LEAST_PASSES
        while self._needed_s(taken, more) > left_s:
            losers = [name for name, count in more.items() if count > 0 and taken[name].passes + count > least]
            if not losers:
                break
            more[max(losers, key=lambda name: more[name] * taken[name].wall_s)] -= 1
        return more

    def _needed_s(self, taken: Mapping[str, Taken], more: Mapping[str, int]) -> float:
        """The time of `more` passes of each case [s]."""
        cases_s = sum(count * taken[name].wall_s for name, count in more.items())
        return cases_s + self.pass_s * max(more.values(), default=0)

    def _widest(self, taken: Mapping[str, Taken], left_s: float) -> set[str]:
        """The cases of an extra pass that takes `left_s` at most, the widest intervals first."""
        if self.target is None or _is_crowded(taken.values()):
            return set()
        found: set[str] = set()
        for name, one in sorted(taken.items(), key=lambda item: item[1].width or 0.0, reverse=True):
            if (one.width or 0.0) > self.target and one.wall_s <= left_s:
                found.add(name)
                left_s -= one.wall_s
        return found


def _is_crowded(taken: Collection[Taken]) -> bool:
    """Whether other programs used the cores for most of the time."""
    return sum(one.wall_s for one in taken if one.crowded) > sum(one.wall_s for one in taken) / 2
