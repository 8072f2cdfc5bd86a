"""In: a device. Out: how many hardware errors it has counted since it was started: NVML, or the kernel's EDAC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from perf.harness.devices import Device

# Linux kernel documentation, admin-guide/RAS: errors that the memory controllers could not correct.
EDAC = Path("/sys/devices/system/edac/mc")
# Any new one of these is a FAIL; of the others, the number is said.
FATAL = ("uncorrected", "remap pending", "remap failed")


class NotCounted(Exception):
    """This device counts no errors: `str()` says why not."""


def read(device: Device) -> dict[str, int]:
    """The counters of `device` by name. Raises NotCounted."""
    if not device.asynchronous:
        return _edac()
    if device.torch_device.type != "cuda" or torch.version.hip:
        raise NotCounted(f"no counters are known of {device.name}")
    properties = torch.cuda.get_device_properties(device.torch_device)
    return _nvml(f"GPU-{properties.uuid}")


def _edac() -> dict[str, int]:
    counts = [int(path.read_text()) for path in sorted(EDAC.glob("mc*/ue_count"))]
    if not counts:
        raise NotCounted("the kernel counts no memory errors here (no EDAC driver)")
    return {"uncorrected": sum(counts)}


def _nvml(uuid: str) -> dict[str, int]:
    """Of the device with that UUID: its index is another one than torch's where CUDA_VISIBLE_DEVICES is set."""
    try:
        import pynvml  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise NotCounted("nvidia-ml-py is not installed; pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        raise NotCounted(f"NVML: {error}") from None
    found: dict[str, int] = {}
    for names, ask in (
        (("uncorrected",), lambda: (pynvml.nvmlDeviceGetTotalEccErrors(handle, UNCORRECTED, VOLATILE),)),
        (("remap corrected", "remap uncorrected", "remap pending", "remap failed"),
         lambda: pynvml.nvmlDeviceGetRemappedRows(handle)),
        (("PCIe replays",), lambda: (pynvml.nvmlDeviceGetPcieReplayCounter(handle),)),
    ):  # fmt: skip
        found |= _asked(pynvml, names, ask)
    if not found:
        raise NotCounted("this device counts no errors")
    return found


# nvml.h: nvmlMemoryErrorType_t and nvmlEccCounterType_t.
UNCORRECTED, VOLATILE = 1, 0


def _asked(pynvml: Any, names: tuple[str, ...], ask: Any) -> dict[str, int]:
    try:
        return dict(zip(names, map(int, ask()), strict=True))
    except pynvml.NVMLError:  # not every device has each of them
        return {}


def new(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was counted meanwhile, and what is pending or failed at all."""
    standing = {name: after[name] for name in ("remap pending", "remap failed") if after.get(name)}
    return {
        name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)
    } | standing
