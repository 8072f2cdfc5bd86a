"""In: how much the times of a benchmark scatter, and what disturbed them. Out: marks that warn against the times."""

from __future__ import annotations

from enum import StrEnum

# In a run on 2 cores shared with other jobs, most spreads were 0.4 to 9%. Four cases had medians several times too
# long; their spreads were 48 to 472%.
UNSTEADY = 0.25
# Threads that wait for each other at every operation need every core. When a quarter of one core was missing, steps
# took 100 times as long, with a spread of 1%.
CROWDED = 0.25


class Mark(StrEnum):
    """A warning about the times of a benchmark, worst first.

    CROWDED: other programs used some of the cores that the benchmark needs. THROTTLED: the device slowed itself down.
    BIMODAL: some passes are fast, the others are slow. UNSTEADY: the passes differ by more than a quarter; for a single
    pass, half the interquartile range is more than a quarter of the median.
    """

    CROWDED = "CROWDED"
    THROTTLED = "THROTTLED"
    BIMODAL = "BIMODAL"
    UNSTEADY = "UNSTEADY"


def marks(
    spread: float | None, crowding: float | None, throttled_rounds: float | None, *, two_kinds: bool = False
) -> tuple[Mark, ...]:
    """The marks of a benchmark, worst first. `spread` is relative, `crowding` in cores. None means unknown: no mark."""
    found = {
        Mark.BIMODAL: two_kinds,
        Mark.CROWDED: (crowding or 0.0) > CROWDED,
        Mark.THROTTLED: (throttled_rounds or 0.0) > 0.0,
        Mark.UNSTEADY: (spread or 0.0) > UNSTEADY,
    }
    return tuple(mark for mark in Mark if found[mark])
