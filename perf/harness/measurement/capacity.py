"""In: a function that tries a batch size, and throughputs. Out: the largest size that fits, and the sufficient size.

This module does not import torch: the function that tries is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# More precision is not worth more tries: the memory that a step needs varies by this much from step to step.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Largest:
    """`size` fits; it is 0 if no size fits. `refused` is a larger size that does not fit; None if all sizes fit."""

    size: int
    refused: int | None


def largest(fits: Callable[[int], bool], start: int, most: int) -> Largest:
    """The largest batch size up to `most` that fits, or a size up to TOLERANCE below it.

    The search doubles the size from `start`, then bisects. A size counts as failed only after it fails twice, because
    leftovers of a larger size, or another program, may have been in the way. At the end, the result must fit once
    more; if it does not, a smaller size is taken.
    """
    low, high = _bracket(fits, start, most)
    while high is not None and high - low > max(1, int(TOLERANCE * low)):
        middle = (low + high) // 2
        if _fits_in_two(fits, middle):
            low = middle
        else:
            high = middle
    return _confirmed(fits, Largest(low, high))


def _bracket(fits: Callable[[int], bool], start: int, most: int) -> tuple[int, int | None]:
    """The last doubled size that fits (0 if `start` does not fit), and the first that does not (None if all fit)."""
    low, size = 0, min(start, most)
    while _fits_in_two(fits, size):
        if size == most:
            return size, None
        low, size = size, min(2 * size, most)
    return low, size


def _fits_in_two(fits: Callable[[int], bool], size: int) -> bool:
    return fits(size) or fits(size)


def _confirmed(fits: Callable[[int], bool], found: Largest) -> Largest:
    """`found` if its size fits once more; else a smaller size that fits. The steps down double each time."""
    size, refused = found.size, found.refused
    down = max(1, int(TOLERANCE * size))
    while size and not _fits_in_two(fits, size):
        size, refused, down = max(0, size - down), size, 2 * down
    return Largest(size, refused)


def sufficient(rates: Mapping[int, float], growth: float = 0.05) -> int:
    """The batch size after which no doubling exceeds the best throughput so far by the share `growth` or more.

    `rates` are samples/s by batch size, each size twice the size before. Raises ValueError if `rates` is empty.
    """
    if not rates:
        raise ValueError("no throughput is known")
    chosen, best = 0, 0.0
    for size in sorted(rates):
        if not chosen or rates[size] >= best * (1 + growth):
            chosen = size
        best = max(best, rates[size])
    return chosen
