"""What memory a device used, how much it may use, and how a failed allocation is recognized."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from perf.harness.machine.devices import Device, describe

PROC_STATUS = Path("/proc/self/status")
PROC_CLEAR_REFS = Path("/proc/self/clear_refs")
PROC_MEMINFO = Path("/proc/meminfo")
RESET_PEAK = "5"  # proc(5): writing 5 to clear_refs resets the peak resident set size
# Linux promises more than a small limit: this much of it is never used.
PROMISED_BYTES = 2**30
# Enough for torch to share it among all of its threads.
SHARED_ELEMENTS = 2**22


def free(device: Device) -> None:
    """Give back what the last case held, so that the next one starts as if alone; reset the peak."""
    gc.collect()
    if device.asynchronous:
        torch.accelerator.empty_cache()
        with contextlib.suppress(RuntimeError, NotImplementedError):  # MPS keeps no peak
            torch.accelerator.reset_peak_memory_stats(device.torch_device)
    else:
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
        with contextlib.suppress(OSError):  # not on Linux, or not permitted: peak_bytes then says None
            PROC_CLEAR_REFS.write_text(RESET_PEAK)


def peak_bytes(device: Device) -> int | None:
    """Peak memory since `free` [bytes]: of torch's allocator on an accelerator, of this process on the CPU."""
    if not device.asynchronous:
        return _proc_bytes(PROC_STATUS, "VmHWM")
    with contextlib.suppress(RuntimeError, NotImplementedError):
        return torch.accelerator.max_memory_allocated(device.torch_device)
    return None


def used_bytes(device: Device) -> int | None:
    """Memory of torch's allocator in use now [bytes]; None where it does not say, as that of the CPU."""
    if not device.asynchronous:
        return None
    with contextlib.suppress(RuntimeError, NotImplementedError):
        return torch.accelerator.memory_allocated(device.torch_device)
    return None


def _proc_bytes(path: Path, key: str) -> int | None:
    """The value of `key` in a /proc file of `key: N kB` lines [bytes]."""
    try:
        text = path.read_text()
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def why_unbounded(device: Device, most: int | None) -> str | None:
    """Why training must not be given ever more memory of `device`, or None where it may, up to `most` bytes."""
    kind = torch.device(device.name).type
    if kind != "cpu":
        return None if kind == "cuda" else f"torch limits no memory of {kind}"
    if most is None:
        return "give --perf-memory-limit=SIZE, as the system and other programs need memory, too"
    return None if _proc_bytes(PROC_STATUS, "VmData") else "this system does not limit the memory of a process"


def limit_bytes(device: Device, most: int | None) -> int | None:
    """`most`, or all the memory that the device has; None where it does not say."""
    total = describe(device).get("memory_bytes")
    known = [value for value in (most, total) if isinstance(value, int)]
    return min(known, default=None)


@contextlib.contextmanager
def bounded_memory(device: Device, most: int | None = None) -> Iterator[None]:
    """Let an allocation beyond the free memory fail; with `most`, one far beyond that many bytes more than now, too.

    Linux promises more memory than it has; on a CPU, RLIMIT_DATA turns the broken promise into the error that
    `is_out_of_memory` knows, before the kernel kills the process. It counts what was promised, which may be twice of
    what is used, and the stacks of threads: there `most` only stops what gets out of hand, and `memory.Tries` counts.
    On CUDA, `most` is a limit of torch's allocator.
    """
    if device.asynchronous:
        with _bounded_allocator(device, most):
            yield
        return
    used, available = _proc_bytes(PROC_STATUS, "VmData"), _proc_bytes(PROC_MEMINFO, "MemAvailable")
    if used is None or available is None:
        yield
        return
    import resource  # not on Windows, which has no /proc either

    if most is not None:
        available = min(available, most + max(most, PROMISED_BYTES))
        torch.ones(SHARED_ELEMENTS).sum()  # a thread that cannot be started later would end the process
        used = _proc_bytes(PROC_STATUS, "VmData") or used
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = min(value for value in (used + available, *before) if value != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextlib.contextmanager
def _bounded_allocator(device: Device, most: int | None) -> Iterator[None]:
    target = device.torch_device
    if most is None or target.type != "cuda":
        yield
        return
    before = torch.cuda.get_per_process_memory_fraction(target)
    total = torch.cuda.get_device_properties(target).total_memory
    used = torch.cuda.memory_reserved(target)
    torch.cuda.set_per_process_memory_fraction(min(before, (used + most) / total), target)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, target)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is torch's, or Python's, way of saying that an allocation failed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(
        words in said for words in ("can't allocate memory", "not enough memory", "std::bad_alloc")
    )
