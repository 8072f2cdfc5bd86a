"""In: a device. Out: the hardware errors that it counts during the run, from NVML or from the kernel's EDAC."""

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
# A new error of these kinds is a FAIL; the other kinds are only reported.
FATAL = ("uncorrected", "remap pending", "remap failed")
XID = re.compile(r"Xid (\d+)")
# NVIDIA's catalog of Xid errors: a program causes these, or is ended by them; hardware or driver cause the others.
PROGRAMS_XIDS = (13, 31, 43, 45, 68, 109)
# Our names for the counters, with their keys in a sample of NVML.
OF_NVML = {
    "uncorrected": "ecc_uncorrected",
    "remap corrected": "remap_corrected",
    "remap uncorrected": "remap_uncorrected",
    "remap pending": "remap_pending",
    "remap failed": "remap_failed",
    "PCIe replays": "pcie_replays",
}

Counts = Mapping[str, int]
Read = Callable[[], Counts]


class NotCounted(Exception):
    """This device counts no errors: `str()` says why."""


class ErrorCounters:
    """The errors that `device` counts from now on. `plant` puts a fault into the readings. Raises NotCounted."""

    def __init__(self, device: Device, plant: Callable[[Read], Read] = lambda read: read) -> None:
        self._read = plant(_gpu(device) if device.asynchronous else _edac)
        self._before = self._read()

    def new(self) -> Counts:
        """The errors counted since the beginning, and all remaps that are pending or failed. Raises NotCounted."""
        return new(self._before, self._read())


def _gpu(device: Device) -> Read:
    """A function that reads the counters of a GPU, and the Xid errors from now on. The function raises NotCounted."""
    try:
        gpu = open_gpu(device)
    except Unreadable as error:
        said = str(error)

        def nothing() -> Counts:
            raise NotCounted(said)

        return nothing
    try:
        reported = gpu.xids()
    except Unreadable:  # some counters are better than none
        reported = list
    xids: Counter[str] = Counter()

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
    """The errors counted from `before` to `after`, and all remaps that are pending or failed."""
    standing = {name: after[name] for name in ("remap pending", "remap failed") if after.get(name)}
    return {
        name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)
    } | standing


def fatal(found: Counts) -> int:
    """How many of these errors a healthy device never has."""
    return sum(count for name, count in found.items() if name in FATAL or _of_hardware(name))


def _of_hardware(name: str) -> bool:
    xid = XID.fullmatch(name)
    return xid is not None and int(xid[1]) not in PROGRAMS_XIDS
