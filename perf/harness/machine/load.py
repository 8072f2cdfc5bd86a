"""In: nothing. Out: how much of the cores others take: programs, the hypervisor, the container's quota."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

# The kinds of CPU time in which a core works; the guests' time is a part of `user`.
WORKING = ("user", "nice", "system", "irq", "softirq", "steal")
# psutil finds children by reading the parent of every process of the machine, which takes a core for milliseconds; the
# kernel's list is one short file for each thread.
CHILDREN = "proc/self/task/*/children"
# A child or a thread may end while we read; then we read again.
TRIES = 3
# psutil knows no cgroups. cgroup v2, kernel documentation, admin-guide/cgroup-v2: the time in which the group wanted a
# core and had used up its quota [µs]; and quota and period [µs].
CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")

Clock = Callable[[], float]


def children() -> list[int]:
    """The processes that this one has started and that still run. Raises OSError where a thread ends meanwhile."""
    lists = list(Path("/").glob(CHILDREN))
    if not lists:
        return [child.pid for child in psutil.Process().children()]
    return [int(pid) for path in lists for pid in path.read_text().split()]


def foreign_cpu_s() -> float | None:
    """CPU seconds since boot that everything but this process and its children took; steal is included.

    None where the system counts none, as some sandboxes do.
    """
    for _ in range(TRIES):
        with contextlib.suppress(OSError, psutil.Error):
            times = psutil.cpu_times()
            working = float(sum(getattr(times, kind, 0.0) for kind in WORKING))
            running = [psutil.Process(pid).cpu_times() for pid in children()]
            own = os.times()
            ours = own.user + own.system + own.children_user + own.children_system
            return working - ours - sum(child.user + child.system for child in running) if working else None
    return None


def withheld_s() -> float | None:
    """Seconds since the container's start for which its quota kept it from the cores; None without a cgroup."""
    return counted_s(CPU_STAT, r"^throttled_usec (\d+)$")


def counted_s(path: Path, pattern: str) -> float | None:
    """The number that `pattern` finds in a line of a kernel's file [µs], in seconds; None where it finds none."""
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) / 1e6 if found else None


def quota_cores() -> float | None:
    """How many cores the container's quota amounts to; None without a quota."""
    try:
        quota, period = CPU_MAX.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # the file says "max" where there is no quota
        return None


def crowding(others: float, threads: int) -> float:
    """How many cores are missing for `threads` threads of ours beside the `others` cores that others keep busy."""
    return max(0.0, others + threads - (os.cpu_count() or 1))


@dataclass(frozen=True)
class Load:
    """How many cores others kept busy, and how many the quota withheld, on average. None: the system does not say."""

    others_cores: float | None
    withheld_cores: float | None

    def missing_cores(self, threads: int) -> float | None:
        """How many of the cores for `threads` threads were missing; None where the system does not say."""
        if self.others_cores is None:
            return None
        return crowding(self.others_cores, threads) + (self.withheld_cores or 0.0)


class Meter:
    """Reads what others take from now on."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._start_s, self._others_s, self._withheld_s = clock(), foreign_cpu_s(), withheld_s()

    def read(self) -> Load:
        """What others took since this meter was made."""
        others_s, withheld = foreign_cpu_s(), withheld_s()
        seconds = self._clock() - self._start_s
        return Load(_rate(self._others_s, others_s, seconds), _rate(self._withheld_s, withheld, seconds))


def look(seconds: float, clock: Clock = time.perf_counter, wait: Callable[[float], None] = time.sleep) -> Load:
    """What others take while this process waits `seconds`."""
    meter = Meter(clock)
    wait(seconds)
    return meter.read()


def _rate(before: float | None, after: float | None, seconds: float) -> float | None:
    return None if before is None or after is None else max(0.0, after - before) / seconds
