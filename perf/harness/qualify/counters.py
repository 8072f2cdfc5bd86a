"""In: a device. Out: how many hardware errors it has counted since it was started: NVML, or the kernel's EDAC."""

from __future__ import annotations

from pathlib import Path

from perf.harness.devices import Device
from perf.harness.telemetry.nvml import open_gpu
from perf.harness.telemetry.source import Unsupported

# Linux kernel documentation, admin-guide/RAS: errors that the memory controllers could not correct.
EDAC = Path("/sys/devices/system/edac/mc")
# Any new one of these is a FAIL; of the others, the number is said.
FATAL = ("uncorrected", "remap pending", "remap failed")
# What a sample of NVML calls them.
OF_NVML = {
    "uncorrected": "ecc_uncorrected",
    "remap corrected": "remap_corrected",
    "remap uncorrected": "remap_uncorrected",
    "remap pending": "remap_pending",
    "remap failed": "remap_failed",
    "PCIe replays": "pcie_replays",
}


class NotCounted(Exception):
    """This device counts no errors: `str()` says why not."""


def read(device: Device) -> dict[str, int]:
    """The counters of `device` by name. Raises NotCounted."""
    if not device.asynchronous:
        return _edac()
    try:
        sample = open_gpu(device).sample()
    except Unsupported as error:
        raise NotCounted(str(error)) from None
    found = {name: int(sample[key]) for name, key in OF_NVML.items() if key in sample}
    if not found:
        raise NotCounted("this device counts no errors")
    return found


def _edac() -> dict[str, int]:
    counts = [int(path.read_text()) for path in sorted(EDAC.glob("mc*/ue_count"))]
    if not counts:
        raise NotCounted("the kernel counts no memory errors here (no EDAC driver)")
    return {"uncorrected": sum(counts)}


def new(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was counted meanwhile, and what is pending or failed at all."""
    standing = {name: after[name] for name in ("remap pending", "remap failed") if after.get(name)}
    return {
        name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)
    } | standing
