"""In: the name of a device. Out: whether the device exists, or why not, its facts, and how to wait for it.

We use `torch.accelerator` where it can do the work, so that CUDA, ROCm, XPU and MPS take the same path.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from perf.harness.machine.cpu import text_of

NVIDIA_SMI_TIMEOUT_S = 10
KERNEL_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Device:
    """A device, with the `name` that the user wrote. `absent` says why the device cannot be used, or is None."""

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


def is_known(name: str) -> bool:
    """Whether torch knows a device with this name. The device need not be present; `meta` does not count."""
    try:
        return torch.device(name).type != "meta"
    except RuntimeError:
        return False


def expand(names: Sequence[str]) -> tuple[Device, ...]:
    """The devices called `names`; `all` stands for every device of this machine."""
    wide: list[str] = []
    for name in names:
        wide += ["cpu", *_accelerators()] if name == "all" else [name]
    return tuple(Device(name, why_absent(name)) for name in dict.fromkeys(wide))


def each(wanted: Sequence[Device]) -> tuple[Device, ...]:
    """The devices `wanted`. A name without a number stands for all of its kind: `cuda` for `cuda:0`, `cuda:1`, …"""
    wide: list[str] = []
    for device in wanted:
        several = device.asynchronous and not device.absent and torch.device(device.name).index is None
        count = torch.accelerator.device_count() if several else 1
        wide += [f"{device.name}:{index}" for index in range(count)] if count > 1 else [device.name]
    return expand(wide)


def _accelerators() -> list[str]:
    """The names of the accelerators: `cuda` if there is only one, otherwise `cuda:0`, `cuda:1`, …"""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    count = torch.accelerator.device_count()
    if count == 1:
        return [accelerator.type]
    return [f"{accelerator.type}:{index}" for index in range(count)]


def why_absent(name: str) -> str | None:
    """Why the device called `name` cannot be used here, or None if it can be used."""
    device = torch.device(name)
    if device.type == "cpu":
        return None
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None and accelerator.type == device.type:
        count = torch.accelerator.device_count()
        if (device.index or 0) < count:
            return _why_not_working(Device(name).torch_device)
        return f"this machine has {count} {device.type} device(s), numbered from 0"
    if device.type == "cuda":
        return _why_no_cuda()
    if accelerator is not None:
        return f"the accelerator of this machine is {accelerator.type}"
    return f"torch {torch.__version__} finds no {device.type} device"


@functools.cache
def _why_not_working(device: torch.device) -> str | None:
    """Why `device` cannot add two numbers, or None. A driver may know a GPU for which this torch has no kernels."""
    try:
        found = (torch.ones(2, device=device) + 1).tolist()
    except Exception as error:  # any error that prevents the addition is the reason
        said = str(error).strip().split("\n")[0]
        return f"{device} does not compute: {said or type(error).__name__}"
    return None if found == [2.0, 2.0] else f"{device} does not compute: twice 1 + 1 is {found} there"


def _why_no_cuda() -> str:
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # any error that prevents CUDA's start is the reason
        reason = str(error).split(". ")[0].strip().rstrip(".")
    else:
        reason = "CUDA starts but finds no GPU"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and "driver" not in reason:
        return f"hidden by CUDA_VISIBLE_DEVICES={hidden!r}"
    return reason


def synchronizer(device: Device) -> Callable[[], None]:
    """A function that waits until `device` has finished all its work."""
    if not device.asynchronous:
        return lambda: None  # a CPU has finished when the call returns
    target = device.torch_device
    return lambda: torch.accelerator.synchronize(target)


def describe(device: Device) -> dict[str, str | int | None]:
    """The facts that a record keeps of a device that is present."""
    target = device.torch_device
    if target.type != "cuda":
        return {"name": _own_name(target) if device.asynchronous else "CPU"}
    properties = torch.cuda.get_device_properties(target)
    return {
        "name": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "highest_clock_hz": getattr(properties, "clock_rate", 0) * 1000 or None,
        "memory_bytes": properties.total_memory,
        "driver": _nvidia_driver(),
    }


def _own_name(device: torch.device) -> str:
    """The name that an accelerator reports; if torch cannot ask this kind of device, a name such as `mps:0`."""
    ask = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(device if ask is None else ask(device))


@functools.cache
def _nvidia_driver() -> str | None:
    """The version of the driver, from nvidia-smi, or else from the kernel; None if neither says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True)
        said = answer.stdout.split("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        said = ""
    if not said:  # a container may lack nvidia-smi
        found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)\s", text_of(KERNEL_DRIVER))
        said = found[1] if found else ""
    return said or None


def waits(device: Device, call: Callable[[], object]) -> bool:
    """Whether `call` waits for the device within itself, as with `.item()`. Only CUDA can tell."""
    if device.torch_device.type != "cuda":
        return False
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")  # torch warns that this is a prototype
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return any("called a synchronizing" in str(one.message) for one in found)


def current(device: Device) -> contextlib.AbstractContextManager[object]:
    """Make `device` the current one of its kind, because events are recorded on the stream of the current device."""
    index = device.torch_device.index
    if not device.asynchronous or index is None:
        return contextlib.nullcontext()
    return torch.accelerator.device_index(index)
