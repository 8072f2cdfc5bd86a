"""In: a device. Out: what hardware errors it has counted since then: NVML, or the kernel's EDAC."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.source import Unreadable

# Linux kernel documentation, admin-guide/RAS: errors that the memory controllers could not correct.
EDAC = Path("/sys/devices/system/edac/mc")
# Any new one of these is a FAIL; of the others, the number is said.
FATAL = ("uncorrected", "remap pending", "remap failed")
XID = re.compile(r"Xid (\d+)")
# NVIDIA's catalog of Xid errors: what a program does wrong, or what ends it; any other is the hardware or its driver.
PROGRAMS_XIDS = (13, 31, 43, 45, 68, 109)
# What a sample of NVML calls them.
OF_NVML = {
    "uncorrected": "ecc_uncorrected",
    "remap corrected": "remap_corrected",
    "remap uncorrected": "remap_uncorrected",
    "remap pending": "remap_pending",
    "remap failed": "remap_failed",
    "PCIe replays": "pcie_replays",
}

Counts = Mapping[str, int]


class NotCounted(Exception):
    """This device counts no errors: `str()` says why not."""


class Watch:
    """The errors that `device` counts from now on. Raises NotCounted."""

    def __init__(self, device: Device) -> None:
        self._read = _gpu(device) if device.asynchronous else _edac
        self._before = self._read()

    def new(self) -> Counts:
        """What was counted meanwhile, and what is pending or failed at all. Raises NotCounted."""
        return new(self._before, self._read())


def _gpu(device: Device) -> Callable[[], Counts]:
    """What reads the counters of a GPU, and the Xid errors since now. Raises NotCounted."""
    xids: Counter[str] = Counter()
    try:
        gpu = open_gpu(device)
    except Unreadable as error:
        raise NotCounted(str(error)) from None
    try:
        reported = gpu.xids()
    except Unreadable:  # some counters are better than none
        reported = list

    def read() -> Counts:
        xids.update(f"Xid {number}" for number in reported())
        try:
            sample = gpu.sample()
        except Unreadable as error:
            raise NotCounted(str(error)) from None
        found = {name: int(sample[key]) for name, key in OF_NVML.items() if key in sample}
        if not found:
            raise NotCounted("this device counts no errors")
        return found | xids

    return read


def _edac() -> Counts:
    counts = [int(path.read_text()) for path in sorted(EDAC.glob("mc*/ue_count"))]
    if not counts:
        raise NotCounted("the kernel counts no memory errors here (no EDAC driver)")
    return {"uncorrected": sum(counts)}


def new(before: Counts, after: Counts) -> Counts:
    """What was counted in between, and what is pending or failed at all."""
    standing = {name: after[name] for name in ("remap pending", "remap failed") if after.get(name)}
    return {
        name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)
    } | standing


def fatal(found: Counts) -> int:
    """How many of them no healthy device has."""
    return sum(count for name, count in found.items() if name in FATAL or _of_hardware(name))


def _of_hardware(name: str) -> bool:
    xid = XID.fullmatch(name)
    return xid is not None and int(xid[1]) not in PROGRAMS_XIDS
