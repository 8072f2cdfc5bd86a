"""In: nothing. Out: what the control groups (cgroups, v1 and v2) of this process allow, and what they withhold.

psutil does not read them. A group is also bound by the groups that it is in. Source: the kernel's documentation,
admin-guide/cgroup-v2 and admin-guide/cgroup-v1, and for the quota of v1 scheduler/sched-bwc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from perf.harness.machine.cpu import text_of

ROOT, OF_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# v1 says that there is no limit with a number above all memory.
NO_LIMIT_BYTES = 2**60


def quota_cores() -> float | None:
    """The quota as a number of cores; None without a quota."""
    return min(filter(None, map(_quota, _groups("cpu"))), default=None)


def withheld_s() -> float | None:
    """The time since the start of the groups for which their quota withheld the cores [s]; None if none says so."""
    found = [seconds for group in _groups("cpu") if (seconds := _throttled_s(group)) is not None]
    return sum(found) if found else None


def memory_limit_bytes() -> int | None:
    """The memory that all processes of the groups may take together [bytes]; None without a limit."""
    return min((limit for limit, _ in _memory()), default=None)


def memory_left_bytes() -> int | None:
    """The memory that the groups still allow [bytes]; None without a limit. The kernel ends who takes more."""
    return min((max(0, limit - used) for limit, used in _memory()), default=None)


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the groups with the files of this `controller`, the innermost first.

    The path of a container's group may be that on the host. Then only the last of these folders is there.
    """
    for line in text_of(OF_PROCESS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = ROOT / controller if controllers else ROOT
        group = base.joinpath(*(part for part in path.split("/") if part != ".."))
        yield from (one for one in (group, *group.parents) if one.is_relative_to(base) and one.is_dir())


def _quota(group: Path) -> float | None:
    quota = re.match(r"(\d+) (\d+)", text_of(group / "cpu.max"))  # "max 100000" without a quota
    if quota:
        return int(quota[1]) / int(quota[2])
    used, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return used / period if used and period and used > 0 else None  # -1 without a quota


def _throttled_s(group: Path) -> float | None:
    counted = text_of(group / "cpu.stat")
    for pattern, unit in ((r"^throttled_usec (\d+)$", 1e-6), (r"^throttled_time (\d+)$", 1e-9)):
        if found := re.search(pattern, counted, re.MULTILINE):
            return int(found[1]) * unit
    return None


def _memory() -> Iterator[tuple[int, int]]:
    """The limit of each group that has one, and what it has used, less the files that the kernel can drop [bytes]."""
    for group in _groups("memory"):
        for limits, uses, files in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(group / limits), _number(group / uses)
            if limit is not None and used is not None and limit < NO_LIMIT_BYTES:
                dropped = re.search(rf"^{files} (\d+)$", text_of(group / "memory.stat"), re.MULTILINE)
                yield limit, used - (int(dropped[1]) if dropped else 0)


def _number(path: Path) -> int | None:
    text = text_of(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else None
