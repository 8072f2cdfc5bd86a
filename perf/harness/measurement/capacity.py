"""In: whether a batch size fits, which is tried. Out: the largest that does, and the one that suffices.

Knows no torch: what tries is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Nearer is not worth the tries: what a step needs differs by as much from one to the next.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Largest:
    """`size` fits; it is 0 where nothing does. `refused` is a larger one that does not, None where all do."""

    size: int
    refused: int | None


def largest(fits: Callable[[int], bool], start: int, most: int) -> Largest:
    """The largest batch size up to `most` that fits, or one up to TOLERANCE below it.

    From `start` it is doubled, then bisected. A size has failed that fails twice: what a larger one has left behind, or
    another program, may have been in its way. The result was seen to fit, and once more at the end; else a lower one
    is taken.
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
    """Two sizes, of which the first fits, or is 0, and the second, at most twice of it, does not, or is None."""
    low, size = 0, min(start, most)
    while _fits_in_two(fits, size):
        if size == most:
            return size, None
        low, size = size, min(2 * size, most)
    return low, size


def _fits_in_two(fits: Callable[[int], bool], size: int) -> bool:
    return fits(size) or fits(size)


def _confirmed(fits: Callable[[int], bool], found: Largest) -> Largest:
    """`found`, or one that is lower by ever more, until one fits."""
    size, refused = found.size, found.refused
    down = max(1, int(TOLERANCE * size))
    while size and not _fits_in_two(fits, size):
        size, refused, down = max(0, size - down), size, 2 * down
    return Largest(size, refused)


def sufficient(rates: Mapping[int, float], growth: float = 0.05) -> int:
    """The batch size from which on no doubling makes more than `growth` of throughput, the share of the best before it.

    `rates` are samples/s by batch size, each twice the one before. Raises ValueError where there are none.
    """
    if not rates:
        raise ValueError("no throughput is known")
    chosen, best = 0, 0.0
    for size in sorted(rates):
        if not chosen or rates[size] >= best * (1 + growth):
            chosen = size
        best = max(best, rates[size])
    return chosen
