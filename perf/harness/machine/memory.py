"""In: a device. Out: the used memory, a limit on the memory, and whether an error means that memory ran out."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from perf.harness.machine import cgroup
from perf.harness.machine.devices import Device, describe

# psutil reports neither the peak that can be reset (VmHWM), nor exactly the memory that RLIMIT_DATA counts (VmData).
PROC_STATUS = Path("/proc/self/status")
PROC_CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): writing 5 to clear_refs resets the peak resident set size
# Linux promises memory that is never used, so promised memory may exceed a limit by at least this much.
PROMISED_BYTES = 2**30
# Error texts of the allocators of torch, CUDA and its libraries, and MPS. torch has an error class for only some.
OUT_OF_MEMORY = (
    "can't allocate memory", "not enough memory", "std::bad_alloc", "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip
# A tensor with this many elements makes torch use all of its threads.
SHARED_ELEMENTS = 2**22


def free(device: Device) -> None:
    """Release the memory of the last case, and reset the peak, so that the next case starts as if it ran alone."""
    gc.collect()
    if device.asynchronous:
        with contextlib.suppress(torch.AcceleratorError):  # the device is lost; the case has said so
            if device.torch_device.type == "mps":
                torch.mps.empty_cache()  # torch.accelerator.empty_cache fails on MPS up to torch 2.11 (pytorch#186430)
            else:
                torch.accelerator.empty_cache()
        with contextlib.suppress(RuntimeError, NotImplementedError):  # MPS keeps no peak
            torch.accelerator.reset_peak_memory_stats(device.torch_device)
    else:
        with contextlib.suppress(AttributeError):  # a C library other than glibc
            ctypes.CDLL(None).malloc_trim(0)
        with contextlib.suppress(OSError):  # another system, or no permission: the peak stays an earlier one
            PROC_CLEAR_REFS.write_text(RESET_PEAK)


def peak_bytes(device: Device) -> int | None:
    """Peak memory since `free` [bytes]: torch's allocator on an accelerator, this process on a CPU. None if unknown."""
    if not device.asynchronous:
        return _status_bytes("VmHWM")
    with contextlib.suppress(RuntimeError, NotImplementedError):
        return torch.accelerator.max_memory_allocated(device.torch_device)
    return None


def used_bytes(device: Device) -> int | None:
    """The memory in use now in torch's allocator [bytes]; None if the allocator does not say, as on the CPU."""
    if not device.asynchronous:
        return None
    with contextlib.suppress(RuntimeError, NotImplementedError):
        return torch.accelerator.memory_allocated(device.torch_device)
    return None


def _status_bytes(key: str) -> int | None:
    """The value of `key` in the kernel's status of this process [bytes]; None on systems other than Linux."""
    try:
        text = PROC_STATUS.read_text()
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def free_bytes(device: Device) -> int | None:
    """The memory of an accelerator that no program has [bytes]; None if unknown."""
    with contextlib.suppress(RuntimeError, NotImplementedError, AttributeError):
        return torch.accelerator.get_memory_info(device.torch_device)[0]
    return None


def available_bytes() -> int:
    """The memory of the host that this process can have without swapping, and without being ended [bytes]."""
    free, left = int(psutil.virtual_memory().available), cgroup.memory_left_bytes()
    return free if left is None else min(free, left)


def searchable_bytes(device: Device, most: int | None) -> int | None:
    """`most`, but no more than is free on an accelerator: Windows and WSL2 would go on in the memory of the host."""
    known = [value for value in (most, free_bytes(device) if device.asynchronous else None) if value is not None]
    return min(known, default=None)


def why_unbounded(device: Device, most: int | None) -> str | None:
    """Why a search must not fill the memory of `device`; None if it may, up to `most` bytes."""
    kind = torch.device(device.name).type
    if kind not in ("cpu", "cuda"):
        return f"torch limits no memory of {kind}"
    if kind == "cuda":
        shares = most is None and _is_integrated(device)
        return "needs --perf-memory-limit=SIZE, because it shares the memory of the host" if shares else None
    if most is None:
        return "needs --perf-memory-limit=SIZE, because the system and other programs need memory too"
    return None if _status_bytes("VmData") else "this system cannot limit the memory of a process"


def _is_integrated(device: Device) -> bool:
    return bool(getattr(torch.cuda.get_device_properties(device.torch_device), "is_integrated", False))


def limit_bytes(device: Device, most: int | None) -> int | None:
    """`most`, but no more than the memory that the device has; None if neither is known."""
    total = describe(device).get("memory_bytes")
    known = [value for value in (most, total) if isinstance(value, int)]
    return min(known, default=None)


@contextlib.contextmanager
def bounded_memory(device: Device, most: int | None = None) -> Iterator[None]:
    """Make an allocation fail if it exceeds the free memory, or goes far above the memory used now plus `most` bytes.

    Linux promises more memory than it has, and kills a process that uses too much. On a CPU, RLIMIT_DATA makes the
    allocation fail before that, with an error that `is_out_of_memory` knows. RLIMIT_DATA counts promised memory, which
    can be twice the used memory, and the stacks of threads. So `most` is only a coarse limit there. On CUDA, torch's
    allocator may reserve `most` bytes more than now. Other devices, and systems without RLIMIT_DATA, get no limit.
    """
    if device.asynchronous:
        with _bounded_allocator(device, most):
            yield
        return
    used = _status_bytes("VmData")
    if used is None:
        yield
        return
    import resource  # Windows has none

    available = available_bytes()
    if most is not None:
        available = min(available, most + max(most, PROMISED_BYTES))
        torch.ones(SHARED_ELEMENTS).sum()  # start the threads now: a thread that fails to start later ends the process
        used = _status_bytes("VmData") or used
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
    """Whether `error` means a failed allocation: an error class of torch or Python, or a text in OUT_OF_MEMORY."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
