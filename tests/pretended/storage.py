"""In: a size. Out: a tensor of the device whose bytes no operator of the CPU touches; and what memory is in use.

The bytes lie in this process. DLPack carries the memory between the two kinds of tensor: the kind of device stands in
a field of its header.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

# dlpack.h: the struct begins with the data's address, 8 bytes long; the kind of the device follows.
KIND_OFFSET, KIND_CPU, KIND_EXTENSION = 8, 1, 12
# What fresh memory holds: NaN in every floating-point type. Who reads a result too early, reads this.
FRESH = 0xFF
TOTAL_BYTES = 2**31

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class Memory:
    """What the device's tensors take [bytes]."""

    def __init__(self) -> None:
        self.used = self.peak = 0

    def take(self, size: int) -> None:
        if self.used + size > TOTAL_BYTES:
            raise torch.OutOfMemoryError(f"pretended out of memory. Tried to allocate {size} bytes")
        self.used += size
        self.peak = max(self.peak, self.used)

    def give_back(self, size: int) -> None:
        self.used -= size

    def reset_peak(self) -> None:
        self.peak = self.used


MEMORY = Memory()


def _as_kind(tensor: Tensor, kind: int) -> Tensor:
    """A tensor on the same memory, on the device of that kind; it keeps the memory alive."""
    capsule = torch._C._to_dlpack(tensor)
    ctypes.c_int32.from_address(_pointer(capsule, b"dltensor") + KIND_OFFSET).value = kind
    return torch._C._from_dlpack(capsule)


def on_host(tensor: Tensor) -> Tensor:
    """The memory of a tensor of the device as a tensor of the CPU: for the device's thread, and for copies."""
    return _as_kind(tensor, KIND_CPU)


def allocate(size: Sequence[int], stride: Sequence[int] | None, dtype: torch.dtype) -> Tensor:
    """An uninitialized tensor of the device."""
    if stride is None:
        stride = torch.empty(size, device="meta").stride()
    elements = 0 if 0 in size else 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = elements * dtype.itemsize
    MEMORY.take(count)
    array = numpy.full(count, FRESH, dtype=numpy.uint8)
    weakref.finalize(array, MEMORY.give_back, count)
    flat = torch.from_numpy(array).view(dtype) if count else torch.empty(0, dtype=dtype)
    return _as_kind(flat.as_strided(size, stride), KIND_EXTENSION)
