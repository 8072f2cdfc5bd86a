"""Arrays of uint8 from and to files in the IDX format, in which MNIST is published.

Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format". torchvision reads such files, too.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_UINT8: Final = 8  # the format's code for unsigned bytes


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write `array`, uint8 of any shape, as an IDX file: magic number, big-endian sizes, then the bytes."""
    if array.dtype != np.uint8:
        raise ValueError(f"IDX files are written from uint8 arrays, not {array.dtype}")
    with path.open("wb") as file:
        file.write(struct.pack(f">BBBB{array.ndim}I", 0, 0, _UINT8, array.ndim, *array.shape))
        file.write(np.ascontiguousarray(array).data)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of uint8 in an IDX file. The caller knows that the file is one, and whole."""
    with path.open("rb") as file:
        *_, dimensions = file.read(4)
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        return np.fromfile(file, np.uint8).reshape(shape)
