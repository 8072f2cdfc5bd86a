"""In: what a profile, or the user, allows for a case. Out: how many rounds to time, and when to end them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perf.harness.statistics.intervals import BLOCKS, LONG_BLOCK, median_interval

# The rounds of a case never take longer than this many times the time planned for them.
TIMES_SHARE = 3.0
# With more rounds the record grows, but the confidence interval does not shrink: neighbouring rounds are dependent.
MAX_ROUNDS = 5_000
# The interval within a pass rests on blocks of rounds. With fewer rounds than these, it may be too narrow by chance.
LEAST_ROUNDS = BLOCKS * LONG_BLOCK


@dataclass(frozen=True)
class StoppingRule:
    """Decides after every round whether a case ends.

    It ends after `most_s`, three times the planned time, because a machine may become slower than it was in the
    warm-up. It ends earlier if half the 95% interval of its median is at most `precision` of the median: the passes
    differ by more than that, so further rounds do not help.
    """

    most_s: float
    precision: float | None = None

    def is_over(self, took_s: float, rounds: int, times: Callable[[], Sequence[float]]) -> bool:
        """Whether to end after `took_s` seconds and so many `rounds`; `times` gives the time of each [s]."""
        if took_s >= self.most_s:
            return True
        # Asked at 64, 128, 256, … rounds only. To ask after each round would disturb the caches, and stop by chance.
        if self.precision is None or rounds < LEAST_ROUNDS or rounds & (rounds - 1):
            return False
        median, _, high = median_interval(times())
        return high is not None and high / median - 1 <= self.precision


@dataclass(frozen=True)
class Effort:
    """How long to measure a case: exactly `rounds` rounds if the user sets them, else as the profile says.

    The profile asks for `case_s` seconds and at least `min_rounds` rounds. If the rounds are long, only as many run as
    fit into `long_s` seconds. The rounds end earlier if their median is known to `precision`, a share of it.
    """

    case_s: float
    min_rounds: int
    long_s: float
    rounds: int | None = None
    precision: float | None = None

    def share(self, passes: int) -> Effort:
        """The effort of one pass, if `passes` passes share this effort."""
        rounds = None if self.rounds is None else math.ceil(self.rounds / passes)
        long_s = self.long_s / passes
        return Effort(self.case_s / passes, math.ceil(self.min_rounds / passes), long_s, rounds, self.precision)

    def rounds_for(self, round_s: float) -> int:
        """How many rounds to measure, if one takes `round_s` seconds.

        If `min_rounds` is above 1, there are at least two, for an interval, unless one round is longer than `long_s`.
        """
        if self.rounds is not None:
            return self.rounds
        within_long = max(int(self.long_s / round_s), 2 if round_s <= self.long_s else 1)
        return max(min(self.min_rounds, within_long), min(MAX_ROUNDS, int(self.case_s / round_s)))

    def stopping_rule(self, rounds_s: float) -> StoppingRule:
        """When to end rounds that should take `rounds_s`. The rounds that a user sets are all made."""
        if self.rounds is not None:
            return StoppingRule(math.inf)
        return StoppingRule(TIMES_SHARE * max(self.case_s, rounds_s), self.precision)
