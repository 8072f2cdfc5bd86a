"""What else uses this machine: other programs, the hypervisor, the container's quota."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from perf.harness import environment

# cgroup v2, kernel documentation, admin-guide/cgroup-v2: time in which the group wanted a core and had used its quota.
CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")


@dataclass(frozen=True)
class Load:
    """`others_cores`: how many cores others kept busy, on average; `withheld`: cores that the quota withheld. None
    where the system does not say."""

    others_cores: float | None
    withheld_cores: float | None


def look(seconds: float) -> Load:
    """What others do while this process waits `seconds`."""
    others, withheld = environment.foreign_cpu_s(), _throttled_s()
    time.sleep(seconds)
    return Load(_rate(others, environment.foreign_cpu_s(), seconds), _rate(withheld, _throttled_s(), seconds))


def _rate(before: float | None, after: float | None, seconds: float) -> float | None:
    return None if before is None or after is None else max(0.0, after - before) / seconds


def _throttled_s() -> float | None:
    try:
        found = re.search(r"^throttled_usec (\d+)$", CPU_STAT.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) / 1e6 if found else None
