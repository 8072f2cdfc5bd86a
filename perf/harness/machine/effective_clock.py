"""In: a number of threads. Out: the clock at which the cores really run, from a loop whose clock cycles are known.

The clock that the system reports is often the nominal one, above all in a virtual machine. The counters that would tell
(APERF and MPERF) are for root alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# x86-64: `mov rcx, rdi; mov eax, 1`, then ten times `imul rax, rax`, `dec rcx; jnz` back to the first of them, `ret`.
# Each multiplication needs the result of the one before it, and takes 3 cycles on all cores of Intel since Nehalem and
# of AMD since Zen (Agner Fog, Instruction tables, 2022). `dec` and `jnz` run beside them.
CHAIN = 10
CODE = bytes.fromhex("4889f9b801000000" + "480fafc0" * CHAIN + "48ffc975d3c3")
CYCLES = 3 * CHAIN  # in one turn of the loop
TURNS = 50_000  # half a millisecond at 3 GHz
WARM_S, LOOKS = 0.02, 20


@functools.cache
def effective_clock_hz(threads: int) -> float | None:
    """The clock of the cores while `threads` of them compute [Hz]: the median of each thread's fastest loop.

    A loop that is interrupted takes longer, so the fastest tells the clock. None on other processors than x86-64, on
    other systems than Linux, and where a program may not run code that it has made.
    """
    loop = turns()
    if loop is None:
        return None
    with ThreadPoolExecutor(threads) as pool:
        return statistics.median(pool.map(core_clock_hz, [loop] * threads))


def core_clock_hz(loop: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The clock of the core that runs this thread, if a call of `loop` is TURNS turns [Hz]."""
    end = clock() + WARM_S
    while clock() < end:  # a core that slept needs a while to reach its clock
        loop()
    fastest_s = float("inf")
    for _ in range(LOOKS):
        start = clock()
        loop()
        fastest_s = min(fastest_s, clock() - start)
    return TURNS * CYCLES / fastest_s


@functools.cache
def turns() -> Callable[[], object] | None:
    """A function that runs TURNS turns of CODE, and lets other threads run meanwhile; None if it cannot run here."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 2**32:
        return None
    with contextlib.suppress(OSError):  # SELinux and others may forbid it
        memory = mmap.mmap(-1, len(CODE), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(CODE)
        code = ctypes.c_char.from_buffer(memory)
        function = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(ctypes.addressof(code))
        function.code = code  # type: ignore[attr-defined]  # as long as the function lives, its code must
        return functools.partial(function, TURNS)
    return None
