"""In: nothing. Out: the state of the host: clock, load, memory, and the CPU time that hypervisor and quota take."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import psutil

from perf.harness.machine import cgroup, load, memory
from perf.harness.machine.cpu import text_of
from perf.harness.machine.telemetry.source import Values

# psutil does not read this file. Linux kernel documentation, accounting/psi: the time since boot for which some task
# has waited for memory [µs].
MEMORY_PRESSURE = Path("/proc/pressure/memory")
# psutil raises one of these errors on a platform that does not report a value.
UNKNOWN = (OSError, NotImplementedError, AttributeError, IndexError)


class Host:
    """This machine, or this container."""

    def sample(self) -> Values:
        """The values that the system reports now. A value that the system does not know is left out.

        `clock_hz`: the mean of the cores [Hz]. `load_average`: the processes that ran or waited in the last minute.
        `memory_available_bytes`. `quota_cores`: the container's quota. Seconds since boot, or since the container's
        start: `others_s` (CPU time of others, from `load.foreign_cpu_s`), `steal_s` (of all cores), `withheld_s` (by
        the quota) and `memory_stalled_s` (from `memory_stalled_s()`).
        """
        found: Values = {
            "others_s": load.foreign_cpu_s(),
            "withheld_s": cgroup.withheld_s(),
            "quota_cores": cgroup.quota_cores(),
            "memory_stalled_s": memory_stalled_s(),
        }
        with contextlib.suppress(*UNKNOWN):
            found["load_average"] = psutil.getloadavg()[0]
        with contextlib.suppress(*UNKNOWN):
            found["memory_available_bytes"] = memory.available_bytes()
        with contextlib.suppress(*UNKNOWN):
            found["steal_s"] = psutil.cpu_times().steal
        with contextlib.suppress(*UNKNOWN):  # None or 0 if the machine reports no clock
            found["clock_hz"] = psutil.cpu_freq().current * 1e6 or None
        return {key: value for key, value in found.items() if value is not None}


def memory_stalled_s() -> float | None:
    """Seconds since boot for which some task waited for memory; None if the kernel does not count them."""
    found = re.search(r"^some .*\btotal=(\d+)$", text_of(MEMORY_PRESSURE), re.MULTILINE)
    return int(found[1]) / 1e6 if found else None
