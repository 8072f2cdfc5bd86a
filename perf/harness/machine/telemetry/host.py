"""Out: what the host is doing: clock, load, what hypervisor and quota take, memory. Through psutil, where it is."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from perf.harness.machine import load
from perf.harness.machine.telemetry.source import Unsupported, Values

# Linux kernel documentation, accounting/psi: for how long some task has waited for memory since boot [µs].
MEMORY_PRESSURE = Path("/proc/pressure/memory")
# A platform where psutil does not know something.
UNKNOWN = (OSError, NotImplementedError, AttributeError, IndexError)


def open_host() -> Host:
    """Raises Unsupported."""
    try:
        import psutil  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise Unsupported("psutil is not installed; pip install psutil") from None
    return Host(psutil)


class Host:
    """This machine, or this container."""

    def __init__(self, psutil: Any) -> None:
        self._psutil = psutil

    def sample(self) -> Values:
        """What the system says now; what it does not is not in it.

        `clock_hz`, the mean of the cores [Hz]; `load_average`, the processes that ran or waited in the last minute;
        `memory_available_bytes`; `quota_cores`; and seconds since boot, or since the container's start: `others_s`
        (CPU time that others took, as `load.foreign_cpu_s` counts it), `steal_s` (all cores together),
        `withheld_s` (by the quota), `memory_stalled_s`.
        """
        found: Values = {
            "others_s": load.foreign_cpu_s(),
            "withheld_s": load.withheld_s(),
            "quota_cores": load.quota_cores(),
            "memory_stalled_s": memory_stalled_s(),
        }
        with contextlib.suppress(*UNKNOWN):
            found["load_average"] = self._psutil.getloadavg()[0]
        with contextlib.suppress(*UNKNOWN):
            found["memory_available_bytes"] = self._psutil.virtual_memory().available
        with contextlib.suppress(*UNKNOWN):
            found["steal_s"] = self._psutil.cpu_times().steal
        with contextlib.suppress(*UNKNOWN):  # a machine without a reading has None, or 0
            found["clock_hz"] = self._psutil.cpu_freq().current * 1e6 or None
        return {key: value for key, value in found.items() if value is not None}


def memory_stalled_s() -> float | None:
    """Seconds since boot in which some task waited for memory; None where the kernel does not count them."""
    return load.counted_s(MEMORY_PRESSURE, r"^some .*\btotal=(\d+)$")
