"""In: the time of a call for several sizes. Out: the part of it that no size has a share in."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

# A time may be so far from the line; on an idle machine, medians of 30 small calls differ by 2 to 5%.
TOLERANCE = 0.15


def fixed_cost(seconds: Mapping[int, float]) -> float | None:
    """The time at size 0 [s] of the straight line through the `seconds` of three sizes or more, and 0 at least.

    By least squares. None where the times are on no line, so that nothing can be said of smaller sizes.
    """
    slope, intercept = statistics.linear_regression(list(seconds), list(seconds.values()))
    on_line = all(abs(intercept + slope * size - time) <= TOLERANCE * time for size, time in seconds.items())
    return max(0.0, intercept) if on_line else None
