"""In: a number of samples and a seed. Out: grey 28 x 28 images of digits that look handwritten, and their labels.

Each *hand* (a writer) writes every digit in one of the styles of `data.strokes`. We store each digit of a hand as a
distance field: the distance from each point of the plane to the pen's line. Each sample reads a field through its own
random warp, and turns distance into ink. Training and test samples come from different hands, as in MNIST.

The bits are the same on every machine and for every number of threads. For this, we use only numpy's frozen
`RandomState`, with a new seed for each chunk, and element-wise + - * /, square root, truncation and comparisons: IEEE
754 allows only one result for each. We do not use sines, logarithms, matrix products or sums over an axis.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from data.strokes import STYLES, Point, Stroke, Style

SIDE: Final = 28
"""Pixels along each side of an image."""

_CHUNK: Final = 250  # samples drawn at once: each temporary array takes 0.8 MB and stays in a core's cache
_HANDS: Final = 48  # hands for each digit: so many that new hands are no harder for a network than new samples
_BOX: Final = 20.0  # side of the box in which strokes are given
_MARGIN: Final = 6.0  # the field extends this far beyond each side of the box
_STEP: Final = 0.5  # distance of the field's points: at half a pixel, bilinear look-up leaves no visible corners
_FIELD: Final = int((_BOX + 2 * _MARGIN) / _STEP) + 1  # points along each side of a field
_PIECES: Final = 5  # straight pieces between two points of a curve

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def draw(count: int, seed: int, threads: int = 2) -> tuple[Bytes, Bytes]:
    """Draw `count` digits: images uint8 (count, 28, 28), 0 is paper and 255 ink, and labels uint8 (count,).

    `seed` chooses the hands and the samples; `threads` changes the time, never the bits.
    """
    images = np.empty((count, SIDE, SIDE), np.uint8)
    labels = np.empty(count, np.uint8)
    fields = _fields(RandomState([seed, 0]))

    def draw_chunk(number: int) -> None:
        start, stop = number * _CHUNK, min((number + 1) * _CHUNK, count)
        random = RandomState([seed, 1 + number])
        images[start:stop], labels[start:stop] = _draw_chunk(random, fields, stop - start)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(draw_chunk, range(-(-count // _CHUNK))):
            pass  # fetching a result raises the error of its thread
    return images, labels


def _spread(random: RandomState, *shape: int) -> Doubles:
    """Bell-shaped random numbers from -1 to 1, mean 0, standard deviation 1/3: the scaled sum of three uniform ones."""
    total = random.random_sample(shape) + random.random_sample(shape) + random.random_sample(shape)
    return total * (2 / 3) - 1


def _fields(random: RandomState) -> Floats:
    """The distance fields of all digits and hands, flat: float32 (10 * _HANDS * _FIELD**2,), in box units."""
    fields = np.empty((len(STYLES), _HANDS, _FIELD, _FIELD), np.float32)
    for digit, styles in enumerate(STYLES):
        for number, style in enumerate(styles):
            hands = fields[digit, number :: len(styles)]
            hands[...] = _distances(_lines(style, random, len(hands)))
    return fields.reshape(-1)


def _lines(style: Style, random: RandomState, hands: int) -> Doubles:
    """The straight pieces of a style, for several hands: float64 (pieces, 2 ends, x and y, hands).

    Each hand moves the points at random. Then its digit is scaled and centred to fill the box, as in MNIST.
    """
    moved: dict[Point, Doubles] = {}
    for point in dict.fromkeys(point for stroke in style for point in stroke):
        moved[point] = np.array(point)[:, None] + 2.2 * _spread(random, 2, hands)
    pieces = np.array([piece for stroke in style for piece in _pieces(stroke, moved)])
    low, high = pieces.min(axis=(0, 1)), pieces.max(axis=(0, 1))
    size = np.maximum(high[1] - low[1], high[0] - low[0])
    filling: Doubles = (pieces - (low + high) / 2) * (_BOX / size) + _BOX / 2
    return filling


def _pieces(stroke: Stroke, moved: dict[Point, Doubles]) -> list[tuple[Doubles, Doubles]]:
    """The straight pieces (from, to) of a stroke: the Catmull-Rom spline through its moved points."""
    knots = [moved[point] for point in stroke]
    if len(knots) == 2:
        return [(knots[0], knots[1])]
    closed = stroke[0] == stroke[-1]
    knots = [knots[-2 if closed else 0], *knots, knots[1 if closed else -1]]
    line = [knots[1]]
    for before, start, end, after in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        for step in range(1, _PIECES + 1):
            t = step / _PIECES
            bend = (2 * before - 5 * start + 4 * end - after) + (3 * start - before - 3 * end + after) * t
            line.append(start + ((end - before) + bend * t) * (t / 2))
    return list(pairwise(line))


def _distances(lines: Doubles) -> Floats:
    """The distance fields of the `lines` that `_lines` returns: float32 (hands, _FIELD, _FIELD)."""
    axis = np.arange(_FIELD, dtype=np.float32) * np.float32(_STEP) - np.float32(_MARGIN)
    x, y = axis[None, None, :], axis[None, :, None]
    nearest = np.full((lines.shape[-1], _FIELD, _FIELD), np.inf, np.float32)
    for (from_x, from_y), (to_x, to_y) in lines.astype(np.float32)[..., None, None]:
        along_x, along_y = to_x - from_x, to_y - from_y
        beside_x, beside_y = x - from_x, y - from_y
        share = (beside_x * along_x + beside_y * along_y) / (along_x * along_x + along_y * along_y)
        share = np.clip(share, 0, 1)  # where on the piece the nearest point lies, from 0 to 1
        off_x, off_y = beside_x - share * along_x, beside_y - share * along_y
        np.minimum(nearest, off_x * off_x + off_y * off_y, out=nearest)
    return np.sqrt(nearest)


def _draw_chunk(random: RandomState, fields: Floats, count: int) -> tuple[Bytes, Bytes]:
    """Draw one chunk from one random state: images uint8 (count, 28, 28) and labels uint8 (count,)."""
    labels = random.randint(len(STYLES), size=count, dtype=np.int64)
    hands = random.randint(_HANDS, size=count, dtype=np.int64)
    x, y = _warp(random, count)
    ink = _ink(random, _look_up(fields, labels * _HANDS + hands, x, y))
    return (ink * np.float32(255) + np.float32(0.5)).astype(np.uint8), labels.astype(np.uint8)


def _warp(random: RandomState, count: int) -> tuple[Floats, Floats]:
    """The place in the box that each pixel reads: x and y, float32 (count, 28, 28) each, in box units.

    The warp is an affine map (size, width, slant, turn, shift) plus a cubic bend. We tuned the amounts by eye, and so
    that the reference network learns these digits about as well as MNIST.
    """
    size = 1 / (0.94 + 0.19 * _spread(random, count))
    width = 1 / (0.95 + 0.3 * _spread(random, count))
    slant, turn = 0.2 + 0.7 * _spread(random, count), 0.4 * _spread(random, count)
    shift, bends = 0.25 * _spread(random, 2, count), 0.22 * _spread(random, 2, 7, count)
    across = _bent([shift[0], size * width, size * width * (slant + turn), *bends[0]])
    down = _bent([shift[1], -size * turn, size, *bends[1]])
    return across, down


def _bent(terms: list[Doubles]) -> Floats:
    """A cubic in the pixel's place: float32 (count, 28, 28), in box units. `terms` are (count,) each, in half boxes."""
    axis = (np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)) / np.float32(_BOX / 2)
    x, y = axis[None, None, :], axis[None, :, None]
    t = [(term * (_BOX / 2)).astype(np.float32)[:, None, None] for term in terms]
    line = (t[0] + np.float32(_BOX / 2)) + t[1] * x + t[2] * y
    square = (t[3] * x + t[4] * y) * x + t[5] * (y * y)
    cube = ((t[6] * x + t[7] * y) * x + t[8] * (y * y)) * x + t[9] * (y * y * y)
    bent: Floats = line + (square + cube * np.float32(0.6))
    return bent


def _look_up(fields: Floats, which: NDArray[np.int64], x: Floats, y: Floats) -> Floats:
    """The value of each sample's field at (x, y), bilinear: float32 (count, 28, 28). Points outside take the edge's."""
    last = np.float32(_FIELD - 1.001)
    x = np.clip((x + np.float32(_MARGIN)) / np.float32(_STEP), 0, last)
    y = np.clip((y + np.float32(_MARGIN)) / np.float32(_STEP), 0, last)
    column, row = x.astype(np.int32), y.astype(np.int32)
    right, down = x - column.astype(np.float32), y - row.astype(np.float32)
    corner = (which * (_FIELD * _FIELD))[:, None, None] + row * _FIELD + column
    top = fields.take(corner)
    top += (fields.take(corner + 1) - top) * right
    bottom = fields.take(corner + _FIELD)
    bottom += (fields.take(corner + (_FIELD + 1)) - bottom) * right
    inside: Floats = top + (bottom - top) * down
    return inside


def _ink(random: RandomState, distance: Floats) -> Floats:
    """Turn the distance from the pen's line into ink, 0 to 1, with a random width, softness, pressure and grain."""

    def pen(middle: float, spread: float) -> Floats:
        return (middle + spread * _spread(random, len(distance))).astype(np.float32)[:, None, None]

    half_width, softness, pressure = pen(1.3, 0.75), pen(1.5, 0.8), pen(1.2, 0.35)
    grain: Floats = random.randint(0, 256, distance.shape, np.uint8).astype(np.float32)
    depth: Floats = half_width - distance + (grain / np.float32(425) - np.float32(0.3))
    ink: Floats = np.clip(depth / softness + np.float32(0.5), 0, 1) * np.minimum(pressure, np.float32(1))
    return ink
