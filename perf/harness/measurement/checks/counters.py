"""In: a device. Out: the hardware errors that it counts during the run, from NVML or from the kernel."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from perf.harness.machine.cpu import text_of
from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.source import Unreadable

# Linux kernel documentation: admin-guide/RAS, the errors of memory that were corrected, and those that could not be;
# ABI sysfs-bus-pci-devices-aer, those of each PCIe device.
EDAC, PCI = Path("/sys/devices/system/edac/mc"), Path("/sys/bus/pci/devices")
AER = {
    "PCIe corrected": ("correctable", "COR"),
    "PCIe nonfatal": ("nonfatal", "NONFATAL"),
    "PCIe fatal": ("fatal", "FATAL"),
}
# rasdaemon, ras-record.c: the table of machine checks. Intel 64 and IA-32 manual, 3B 16.3: bit 61 of their status.
RASDAEMON = Path("/var/lib/rasdaemon/ras-mc_event.db")
MACHINE_CHECKS = f"SELECT count(*), total((status & {1 << 61}) != 0) FROM mce_record"
# The kinds of errors, the counters of each by the beginning of their names, and why a device may have none.
UNCORRECTED, CORRECTED, PCIE = "uncorrected", "corrected", "PCIe"
KINDS = {
    UNCORRECTED: (
        "uncorrected",
        "remap uncorrected",
        "remap pending",
        "remap failed",
        "PCIe nonfatal",
        "PCIe fatal",
        "Xid",
    ),
    CORRECTED: ("corrected", "remap corrected"),
    PCIE: ("PCIe corrected", "PCIe replays"),
}
NO_EDAC, NO_AER = "the kernel counts no memory errors here (no EDAC driver)", "the kernel counts no PCIe errors here"
# NVIDIA's catalog of Xid errors: a program causes these, or is ended by them; hardware or driver cause the others.
PROGRAMS_XIDS = (13, 31, 43, 45, 68, 109)
# Our names for the counters, with their keys in a sample of NVML.
OF_NVML = {
    "uncorrected": "ecc_uncorrected",
    "corrected": "ecc_corrected",
    "remap corrected": "remap_corrected",
    "remap uncorrected": "remap_uncorrected",
    "remap pending": "remap_pending",
    "remap failed": "remap_failed",
    "PCIe replays": "pcie_replays",
}

Counts = Mapping[str, int]
Read = Callable[[], Counts]


class NotCounted(Exception):
    """This device counts no such errors: `str()` says why."""


class Lost(Exception):
    """The device answered when the counting began, and no longer does: `str()` says why."""


class ErrorCounters:
    """The errors that `device` counts from now on. `plant` puts a fault into the readings. Raises NotCounted."""

    def __init__(
        self,
        device: Device,
        plant: Callable[[Read], Read] = lambda read: read,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = plant(_gpu(device) if device.asynchronous else _host)
        self._lacking = dict.fromkeys(KINDS, "this device counts none")
        if not device.asynchronous:
            self._lacking = {UNCORRECTED: NO_EDAC, CORRECTED: NO_EDAC, PCIE: NO_AER}
        self._clock, self._began, self._before = clock, clock(), self._read()

    def new(self, kind: str) -> Counts:
        """The errors of a kind since the beginning, and all remaps that are pending or failed.

        Raises NotCounted or Lost.
        """
        try:
            after = self._read()
        except NotCounted as reason:
            raise Lost(str(reason)) from None
        if not any(name.startswith(KINDS[kind]) for name in after):
            raise NotCounted(self._lacking[kind])
        return {name: count for name, count in new(self._before, after).items() if name.startswith(KINDS[kind])}

    def earlier(self, kind: str) -> str:
        """What was counted before the run began, in words: nobody knows when. Empty if there was nothing."""
        told = [f"{name} {count:,}" for name, count in self._before.items() if count and name.startswith(KINDS[kind])]
        return f"counted before this run: {', '.join(told)}" if told else ""

    @property
    def minutes(self) -> float:
        """The time since the beginning, but at least a minute: one error in two seconds is no rate."""
        return max(1.0, (self._clock() - self._began) / 60)


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


def _host() -> Counts:
    """What the kernel counts. A counter that is missing has no name here."""
    return {**_edac(), **_aer(), **_machine_checks()}


def _edac() -> Counts:
    files = {"uncorrected": "ue_count", "corrected": "ce_count"}
    found = {name: [text_of(path) for path in EDAC.glob(f"mc*/{file}")] for name, file in files.items()}
    return {name: sum(map(int, filter(str.isdecimal, texts))) for name, texts in found.items() if texts}


def _aer() -> Counts:
    """The errors of each PCIe device that counts them: `PCIe corrected of 0000:00:06.0`."""
    found = {}
    for name, (file, total) in AER.items():
        for path in PCI.glob(f"*/aer_dev_{file}"):
            if counted := re.search(rf"^TOTAL_ERR_{total}\s+(\d+)", text_of(path), re.MULTILINE):
                found[f"{name} of {path.parent.name}"] = int(counted[1])
    return found


def _machine_checks() -> Counts:
    """Those that rasdaemon has kept. It keeps errors of memory and PCIe, too, but the kernel counts these itself."""
    with contextlib.suppress(sqlite3.Error):  # it does not run here, or only root may read what it keeps
        with contextlib.closing(sqlite3.connect(f"file:{RASDAEMON}?mode=ro", uri=True)) as kept:
            every, bad = map(int, kept.execute(MACHINE_CHECKS).fetchone())
        return {"corrected machine checks": every - bad, "uncorrected machine checks": bad}
    return {}


def new(before: Counts, after: Counts) -> Counts:
    """The errors counted from `before` to `after`, and all remaps that are pending or failed."""
    standing = {name: after[name] for name in ("remap pending", "remap failed") if after.get(name)}
    return {
        name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)
    } | standing


def count(found: Counts) -> int:
    """How many errors these are, without the Xid errors that a program causes."""
    programs = {f"Xid {number}" for number in PROGRAMS_XIDS}
    return sum(number for name, number in found.items() if name not in programs)
