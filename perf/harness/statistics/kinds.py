"""In: the medians of the passes of a run. Out: whether the passes are of two kinds, fast and slow, or of one kind."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# A smaller gap than LEAST_GAP changes no decision. With three passes, chance alone often puts one far from the others.
LEAST_GAP, FEWEST, TIMES_WIDER = math.log(1.1), 4, 2.0


@dataclass(frozen=True)
class TwoKinds:
    """The medians of the fast and of the slow passes, and how many of all passes were slow."""

    fast: float
    slow: float
    slow_passes: int
    passes: int


def two_kinds(medians: Sequence[float]) -> TwoKinds | None:
    """The two kinds of passes, if the gap between the kinds is much larger than the range of each kind, else None."""
    if len(medians) < FEWEST:
        return None
    logs = sorted(map(math.log, medians))
    gaps = [after - before for before, after in itertools.pairwise(logs)]
    place = gaps.index(max(gaps)) + 1
    fast, slow = logs[:place], logs[place:]
    within = max(fast[-1] - fast[0], slow[-1] - slow[0])
    if gaps[place - 1] < max(LEAST_GAP, TIMES_WIDER * within):
        return None
    return TwoKinds(math.exp(statistics.median(fast)), math.exp(statistics.median(slow)), len(slow), len(logs))
