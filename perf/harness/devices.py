"""Which devices exist, why one does not, how to wait for it, and what memory it used.

Everything goes through `torch.accelerator`, so that CUDA, ROCm, XPU and MPS take the same path.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

PROC_STATUS = Path("/proc/self/status")
PROC_CLEAR_REFS = Path("/proc/self/clear_refs")
PROC_MEMINFO = Path("/proc/meminfo")
RESET_PEAK = "5"  # proc(5): writing 5 to clear_refs resets the peak resident set size
NVIDIA_SMI_TIMEOUT_S = 10
# What is promised, and not used, of a small limit.
PROMISED_BYTES = 2**30
# Enough for torch to share it among all of its threads.
SHARED_ELEMENTS = 2**22


@dataclass(frozen=True)
class Device:
    """One device asked for: `name` as the user wrote it; `absent` says why it cannot be used, or is None."""

    name: str
    absent: str | None = None

    @property
    def torch_device(self) -> torch.device:
        """The device with its index: `cuda` is the first GPU."""
        device = torch.device(self.name)
        if device.type in ("cpu", "mps") or device.index is not None:
            return device
        return torch.device(device.type, 0)

    @property
    def asynchronous(self) -> bool:
        return torch.device(self.name).type != "cpu"


def expand(names: Sequence[str]) -> tuple[Device, ...]:
    """The devices called `names`, with `all` replaced by every device that this machine has."""
    wide: list[str] = []
    for name in names:
        wide += ["cpu", *_accelerators()] if name == "all" else [name]
    return tuple(Device(name, why_absent(name)) for name in dict.fromkeys(wide))


def each(wanted: Sequence[Device]) -> tuple[Device, ...]:
    """`wanted`, with every device of its kind in the place of one without a number: `cuda:0`, `cuda:1` for `cuda`."""
    wide: list[str] = []
    for device in wanted:
        several = device.asynchronous and not device.absent and torch.device(device.name).index is None
        count = torch.accelerator.device_count() if several else 1
        wide += [f"{device.name}:{index}" for index in range(count)] if count > 1 else [device.name]
    return expand(wide)


def _accelerators() -> list[str]:
    """`cuda` for one, `cuda:0`, `cuda:1`, … for several."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    count = torch.accelerator.device_count()
    if count == 1:
        return [accelerator.type]
    return [f"{accelerator.type}:{index}" for index in range(count)]


def why_absent(name: str) -> str | None:
    """Why the device called `name` cannot be used here, or None where it can."""
    device = torch.device(name)
    if device.type == "cpu":
        return None
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None and accelerator.type == device.type:
        count = torch.accelerator.device_count()
        if (device.index or 0) < count:
            return None
        return f"this machine has {count} {device.type} device(s), numbered from 0"
    if device.type == "cuda":
        return _why_no_cuda()
    if accelerator is not None:
        return f"the accelerator of this machine is {accelerator.type}"
    return f"torch {torch.__version__} finds no {device.type} device"


def _why_no_cuda() -> str:
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever keeps CUDA from starting is the reason we are asked for
        reason = str(error).split(". ")[0].strip().rstrip(".")
    else:
        reason = "CUDA starts but shows no GPU"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and "driver" not in reason:
        return f"hidden by CUDA_VISIBLE_DEVICES={hidden!r}"
    return reason


def synchronizer(device: Device) -> Callable[[], None]:
    """A function that waits until `device` has finished all its work."""
    if not device.asynchronous:
        return _nothing
    target = device.torch_device
    return lambda: torch.accelerator.synchronize(target)


def _nothing() -> None:
    """A CPU has finished when the call returns."""


def describe(device: Device) -> dict[str, str | int | None]:
    """What a record keeps of a device that is present."""
    target = device.torch_device
    if target.type != "cuda":
        return {"name": str(target) if device.asynchronous else "CPU"}
    properties = torch.cuda.get_device_properties(target)
    return {
        "name": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "highest_clock_hz": getattr(properties, "clock_rate", 0) * 1000 or None,
        "memory_bytes": properties.total_memory,
        "driver": _nvidia_driver(),
    }


def _nvidia_driver() -> str | None:
    """The driver's version, asked of nvidia-smi, which comes with it; None where it does not answer."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split("\n")[0].strip() or None


def current(device: Device) -> contextlib.AbstractContextManager[object]:
    """Make `device` the current one of its kind: an event is recorded on the current device's stream."""
    index = device.torch_device.index
    if not device.asynchronous or index is None:
        return contextlib.nullcontext()
    return torch.accelerator.device_index(index)


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
