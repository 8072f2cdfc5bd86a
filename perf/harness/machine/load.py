"""What else uses this machine: other programs, the hypervisor, the container's quota."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
CHILDREN = "/proc/self/task/*/children"
# cgroup v2, kernel documentation, admin-guide/cgroup-v2: the time in which the group wanted a core and had used its
# quota; and quota and period [µs].
CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def children() -> list[int]:
    """The processes that this one has started and that go on; none off Linux. Raises OSError where a thread ends."""
    return [int(pid) for path in Path("/").glob(CHILDREN[1:]) for pid in path.read_text().split()]


def foreign_cpu_s() -> float | None:
    """CPU seconds since boot that everything but this process and its children took, steal included; None off Linux.

    Of proc(5), `cpu`: user nice system idle iowait irq softirq steal, in clock ticks; user has the guests' in it.
    """
    try:
        fields = [int(field) for field in STAT.read_text().split("\n", 1)[0].split()[1:9]]
        stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in children()]
    except (OSError, ValueError, IndexError):  # a child ended meanwhile, too
        return None
    ticks = sum(fields) - fields[3] - fields[4] - sum(int(stat[11]) + int(stat[12]) for stat in stats)
    own = os.times()
    return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system - own.children_user - own.children_system


def withheld_s() -> float | None:
    """Seconds since its start for which the container's quota kept it from the cores; None where there is no such."""
    return counted_s(CPU_STAT, r"^throttled_usec (\d+)$")


def counted_s(path: Path, pattern: str) -> float | None:
    """The number that `pattern` finds in a line of a file of the kernel [µs], in seconds; None where it does not."""
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) / 1e6 if found else None


def quota_cores() -> float | None:
    """How many cores the container's quota amounts to; None where there is none."""
    try:
        quota, period = CPU_MAX.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # of no quota, it says "max"
        return None


def crowding(others: float, threads: int) -> float:
    """How many cores too few there are for `threads` of ours beside the `others` that other programs keep busy."""
    return max(0.0, others + threads - (os.cpu_count() or 1))


@dataclass(frozen=True)
class Load:
    """`others_cores`: how many cores others kept busy, on average; `withheld`: cores that the quota withheld. None
    where the system does not say."""

    others_cores: float | None
    withheld_cores: float | None


def look(seconds: float) -> Load:
    """What others do while this process waits `seconds`."""
    others, withheld = foreign_cpu_s(), withheld_s()
    time.sleep(seconds)
    return Load(_rate(others, foreign_cpu_s(), seconds), _rate(withheld, withheld_s(), seconds))


def _rate(before: float | None, after: float | None, seconds: float) -> float | None:
    return None if before is None or after is None else max(0.0, after - before) / seconds
