"""In: nothing. Out: how much of our cores other programs, the hypervisor and the container's quota take."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from perf.harness.machine import affinity, cpu
from perf.harness.machine.cgroup import withheld_s

# The kinds of CPU time in which a core is busy. `user` includes the time of guests (virtual machines).
WORKING = ("user", "nice", "system", "irq", "softirq", "steal")
# psutil finds children by reading the parent of every process of the machine, which takes milliseconds of a core. The
# kernel's list is one short file for each thread of a process.
CHILDREN = "proc/{pid}/task/*/children"
# How often we try to read: a child or a thread may end while we read.
TRIES = 3

# The kernel counts CPU time in hundredths of a second. So the load during a shorter time than this [s] is unknown.
SHORTEST_S = 0.3

# The cores that are missing, per thread. Beside two busy loops on two cores, half of them are; steps then take 1 to 100
# times as long.
STARVED = 0.4

# linux/posix-timers_types.h
CPUCLOCK_SCHED = 2

Clock = Callable[[], float]

# The processes that this one works for, by pid. What they compute between two cases is not of other programs.
works_for: set[int] = set()


def descendants(pid: int | str = "self") -> list[int]:
    """The pids of the running processes that process `pid` has started, that these have started, and so on.

    Raises OSError if a thread ends during the call.
    """
    lists = list(Path("/").glob(CHILDREN.format(pid=pid)))
    if not lists and pid == "self":
        return [child.pid for child in psutil.Process().children(recursive=True)]
    found = [int(child) for path in lists for child in path.read_text().split()]
    return [*found, *(deeper for child in found for deeper in descendants(child))]


def foreign_cpu_s() -> float | None:
    """The CPU time since boot of everything except this process, its descendants and `works_for` [s], with steal time.

    It is that of the cores on which this process may run. None if the system does not count CPU time, as in some
    sandboxes, or if no try succeeds.
    """
    for _ in range(TRIES):
        with contextlib.suppress(OSError, psutil.Error):
            working = float(sum(getattr(times, kind, 0.0) for times in _cpu_times() for kind in WORKING))
            ours = [os.times(), *(psutil.Process(pid).cpu_times() for pid in (*descendants(), *works_for))]
            # The children of these times are those that have ended.
            used = sum(one.user + one.system + one.children_user + one.children_system for one in ours)
            return working - used if working else None
    return None


def _cpu_times() -> list[Any]:
    """The times of the whole machine; those of each of our cores, if there are others."""
    online = cpu.online()
    if not (ours := set(affinity.cores())) or ours.issuperset(online):
        return [psutil.cpu_times()]
    each: list[Any] = psutil.cpu_times(percpu=True)
    if len(each) != len(online):  # a container that shows only its own cores
        return each
    return [times for number, times in zip(online, each, strict=True) if number in ours]


def crowding(others: float, threads: int) -> float:
    """How many cores our `threads` threads lack while others keep `others` cores busy.

    Others first run where no thread of ours runs. Beside a thread of ours, on the same physical core, they take half of
    this core. If no core is left at all, they take what they use. More threads than cores lack cores because of
    themselves, and not because of others.
    """
    logical = affinity.usable_cores()
    threads = min(threads, logical)
    physical = min(logical, cpu.physical_cores(affinity.cores()) or logical)
    beside = max(0.0, others - max(0, physical - threads))
    instead = max(0.0, others + threads - logical)
    return instead + max(0.0, beside - instead) / 2


def starved(missing_cores: float | None, threads: int) -> bool:
    """Whether so many cores are missing for `threads` threads that times only say how busy the machine is."""
    return (missing_cores or 0.0) >= STARVED * threads


@dataclass(frozen=True)
class Load:
    """How many cores others kept busy, and how many the quota withheld, on average. None if the system does not say."""

    others_cores: float | None
    withheld_cores: float | None

    def missing_cores(self, threads: int) -> float | None:
        """How many cores were missing for `threads` threads, because of others or the quota; None if unknown."""
        if self.others_cores is None:
            return None
        return crowding(self.others_cores, threads) + (self.withheld_cores or 0.0)


class Meter:
    """Measures how much of the cores others take, from the creation of the meter on."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._start_s, self._others_s, self._withheld_s = clock(), foreign_cpu_s(), withheld_s()

    def read(self) -> Load:
        """The load by others since this meter was created."""
        others_s, withheld = foreign_cpu_s(), withheld_s()
        seconds = self._clock() - self._start_s
        return Load(_rate(self._others_s, others_s, seconds), _rate(self._withheld_s, withheld, seconds))


class Company:
    """What others use of the cores, and a quota withholds, while a case runs, for case after case in one process.

    A case may end before the kernel has counted enough. Then the time before it counts too, from an earlier reading on.
    """

    def __init__(
        self,
        clock: Clock = time.perf_counter,
        foreign: Callable[[], float | None] = foreign_cpu_s,
        withheld: Callable[[], float | None] = withheld_s,
    ) -> None:
        self._clock, self._foreign, self._withheld = clock, foreign, withheld
        self._seen: list[tuple[float, float | None, float | None]] = []  # clock, others and quota, at begins and ends
        self._read()

    def begin(self) -> None:
        """A case begins."""
        self._read()

    def load(self) -> Load:
        """A case ends: the load since it began, or longer."""
        now, others, withheld = self._read()
        long_ago = [index for index, (when, *_) in enumerate(self._seen) if now - when >= SHORTEST_S]
        if not long_ago:
            return Load(None, None)
        self._seen = self._seen[long_ago[-1] :]
        start, others_before, withheld_before = self._seen[0]
        return Load(_rate(others_before, others, now - start), _rate(withheld_before, withheld, now - start))

    def _read(self) -> tuple[float, float | None, float | None]:
        self._seen.append((self._clock(), self._foreign(), self._withheld()))
        return self._seen[-1]


def look(seconds: float, clock: Clock = time.perf_counter, wait: Callable[[float], None] = time.sleep) -> Load:
    """The load by others while this process waits `seconds`."""
    meter = Meter(clock)
    wait(seconds)
    return meter.read()


def _rate(before: float | None, after: float | None, seconds: float) -> float | None:
    return None if before is None or after is None else max(0.0, after - before) / seconds


def cpu_s(pid: int) -> float | None:
    """The CPU time of another process so far, by the kernel's count [s]; None if it has ended, or if not under Linux.

    The number of its clock is that of clock_getcpuclockid(3).
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)
    except OSError:
        return None


def end_descendants(pid: int) -> None:
    """End the processes that the process `pid` has started, those that they have started, and so on."""
    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                one.kill()
