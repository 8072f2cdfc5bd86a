"""In: a folder. Out: how fast a file in it is read from the disk, not from memory."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import torch

from perf.harness.measurement.calls import laps
from perf.harness.measurement.checks.probes import Fault, Measured

FILE_BYTES, CHUNK_BYTES = 256 * 2**20, 16 * 2**20
READ_S, READ_LEAST = 2.0, 5


class Unread(Exception):
    """The disk cannot be read past the memory: `str()` says why."""


def read_rate(folder: Path, fault: Fault | None = None) -> Measured:
    """The bytes read in a second from a new file of random bytes in `folder`, which is deleted again. Raises Unread."""
    if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
        raise Unread("this system cannot take a file out of its memory")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            for _ in range(FILE_BYTES // CHUNK_BYTES):  # file systems compress what repeats
                file.write(torch.empty(CHUNK_BYTES // 8, dtype=torch.int64).random_().numpy().data)
            os.fsync(file.fileno())
            return _rates(file.fileno(), folder, fault)
    except OSError as error:
        raise Unread(f"no file can be written to {folder}, or read from it: {error.strerror}") from None


def _rates(file: int, folder: Path, fault: Fault | None) -> Measured:
    buffer = bytearray(CHUNK_BYTES)

    def drop() -> None:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def read() -> None:
        for start in range(0, FILE_BYTES, CHUNK_BYTES):
            os.preadv(file, [buffer], start)

    def read_anew() -> None:
        drop()
        read()

    call = fault(read_anew) if fault else read  # what is read a second time must come from the disk, too
    rates: list[float] = []
    end = time.perf_counter() + READ_S
    while len(rates) < READ_LEAST or time.perf_counter() < end:
        drop()
        if _in_memory(file, buffer):
            raise Unread(f"the system keeps the files of {folder} in its memory")
        rates += [FILE_BYTES / taken for taken in laps(call, time.perf_counter, most_s=0.0, least=1)]
    return Measured(tuple(rates), f"{FILE_BYTES // 2**20} MiB in {folder}")


def _in_memory(file: int, buffer: bytearray) -> bool:
    """Whether the middle of the file can be read without waiting for the disk."""
    try:
        os.preadv(file, [buffer], FILE_BYTES // 2, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        raise Unread("the file system of the data does not say what it keeps in memory") from None
    return True
