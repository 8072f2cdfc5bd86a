"""In: the time of a call for several sizes. Out: the fixed part of the time, which does not depend on the size."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

# A time may be this far from the line, as a share of the time. On an idle machine, medians of 30 small calls differ by
# 2 to 5%.
TOLERANCE = 0.15


def fixed_cost(seconds: Mapping[int, float]) -> float | None:
    """Fit a straight line to the `seconds` by size, and return its time at size 0 [s], but at least 0.

    The fit is by least squares. Returns None for fewer than three sizes, or if the times are not on a line.
    """
    if len(seconds) < 3:  # there is a line through any two points
        return None
    slope, intercept = statistics.linear_regression(list(seconds), list(seconds.values()))
    on_line = all(abs(intercept + slope * size - time) <= TOLERANCE * time for size, time in seconds.items())
    return max(0.0, intercept) if on_line else None
