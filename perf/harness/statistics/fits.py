"""In: the time of a call for several sizes. Out: the part of it that no size has a share in."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

# A time may be so far from the line; on an idle machine, medians of 30 small calls differ by 2 to 5%.
TOLERANCE = 0.15


def fixed_cost(seconds: Mapping[int, float]) -> float | None:
    """The time at size 0 [s] of the straight line through the `seconds` by size, and 0 at least.

    The line is that of least squares. None for fewer than three sizes, and where the times are on no line.
    """
    if len(seconds) < 3:  # a line goes through any two
        return None
    slope, intercept = statistics.linear_regression(list(seconds), list(seconds.values()))
    on_line = all(abs(intercept + slope * size - time) <= TOLERANCE * time for size, time in seconds.items())
    return max(0.0, intercept) if on_line else None
