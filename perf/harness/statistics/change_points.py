"""In: numbers in the order in which they were measured. Out: where they change for good.

E-divisive with binary segmentation (Matteson and James 2014, JASA 109, 334-345, sections 2.2 to 2.4): the energy
distance between what comes before and after a place says how much the two differ, and permutations say how much of that
is chance. It assumes no distribution. It finds several changes, and a slow drift as a stair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# A change has so many values on each side: fewer may be one bad day of the machine.
LEAST = 3
# A change is chance if this many of the permutations differ as much. More of them need more time, and decide little.
ALLOWED = 2
CHUNK = 128

Array = NDArray[np.float64]


def change_points(values: Sequence[float], chance: float, seed: int = 0) -> list[int]:
    """The index of the first value after each change, in order.

    `chance` is the probability that a change is found in values that have none, if they do not depend on each other.
    """
    found: list[int] = []
    distances = np.abs(np.subtract.outer(values, values)).astype(np.float64)
    random = np.random.default_rng(seed)
    while True:
        ends = [0, *sorted(found), len(values)]
        parts = [distances[a:b, a:b] for a, b in itertools.pairwise(ends)]
        divergences = [_divergences(part[..., None])[:, 0] for part in parts]
        best = max(range(len(parts)), key=lambda part: max(divergences[part], default=-math.inf))
        most = max(divergences[best], default=-math.inf)
        if most <= 0 or not _beyond_chance(most, parts, chance, random):
            return sorted(found)
        found.append(ends[best] + LEAST + int(np.argmax(divergences[best])))


def _divergences(distances: Array) -> Array:
    """The scaled energy distance [place, matrix] from a stack of matrices of distances [row, column, matrix].

    The first place is before the value number LEAST. What comes after a place counts up to where it differs most, so
    that a change is found that another one undoes. A short matrix has no place.
    """
    count = len(distances)
    sums = np.zeros((count + 1, count + 1, *distances.shape[2:]))
    sums[1:, 1:] = distances.cumsum(0)
    np.cumsum(sums, 1, out=sums)
    within_first = sums[np.arange(count + 1), np.arange(count + 1)]
    # Each place with each end that leaves LEAST values between the two, one after the other.
    place, last = (part + LEAST for part in np.triu_indices(count - 2 * LEAST + 1))
    end = last + LEAST
    within_left, across = within_first[place], sums[place, end] - within_first[place]
    within_right = within_first[end] - within_left - 2 * across
    left, right = place[:, None], (end - place)[:, None]
    scale = left * right / (left + right)
    scaled = across * (2 * scale / (left * right))
    scaled -= within_left * (scale / (left * (left - 1)))
    scaled -= within_right * (scale / (right * (right - 1)))
    most: Array = np.maximum.reduceat(scaled, np.flatnonzero(np.diff(place, prepend=0)))
    return most


def _beyond_chance(most: float, parts: Sequence[Array], chance: float, random: np.random.Generator) -> bool:
    """Whether permutations within all `parts` reach the divergence `most` in at most the share `chance` of all."""
    reached, left = 0, math.ceil((ALLOWED + 1) / chance) - 1
    while left > 0 and reached <= ALLOWED:
        size = min(CHUNK, left)
        left -= size
        top = np.full(size, -math.inf)
        for part in parts:
            if len(part) >= 2 * LEAST:
                order = random.permuted(np.tile(np.arange(len(part)), (size, 1)), axis=1).T
                top = np.maximum(top, _divergences(part[order[:, None], order[None]]).max(0))
        reached += int((top >= most * (1 - 1e-12)).sum())
    return reached <= ALLOWED
