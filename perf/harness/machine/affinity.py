"""In: nothing. Out: the cores that this process may run on.

With OMP_PROC_BIND, the OpenMP of torch binds the first thread to one core as soon as torch is imported, and processes
that this thread starts may run on that core only. So this module looks before that: `perf` imports it first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cores() -> list[int]:
    """The numbers of the cores that this process may run on; empty if the system cannot bind processes to cores."""
    return list(_cores)


def usable_cores() -> int:
    """How many cores this process may run on. They may be fewer than the machine has."""
    return len(_cores) or os.cpu_count() or 1


def move_to(cores: Sequence[int]) -> None:
    """From now on, this process and those that it starts run on `cores`."""
    if cores:
        os.sched_setaffinity(0, cores)
        _cores[:] = sorted(cores)


@contextlib.contextmanager
def inherited() -> Iterator[None]:
    """Processes that are started inside may run on all `cores()`."""
    before = os.sched_getaffinity(0) if _cores else set()
    if before == set(_cores):
        yield
        return
    os.sched_setaffinity(0, _cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
