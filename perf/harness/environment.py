"""What a difference between two machines can come from: CPU, GPU, versions, threads; and the fingerprint of it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from perf.harness import devices
from perf.harness.devices import Device
from perf.harness.record import Scalar

CPUINFO = Path("/proc/cpuinfo")
STAT = Path("/proc/stat")
CHILDREN = "/proc/self/task/*/children"
# cgroup v2, kernel documentation, admin-guide/cgroup-v2: the time in which the group wanted a core and had used its
# quota; and quota and period [µs].
CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """How many cores this process may run on, which affinity can make fewer than the machine has."""
    return len(cores()) or os.cpu_count() or 1


def cores() -> list[int]:
    """The numbers of the cores that this process may run on; empty where a process cannot be bound to one."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def clock_hz() -> float | None:
    """The clock of the fastest core, as the system reports it now [Hz]; None where it does not."""
    try:
        found = re.findall(r"^cpu MHz\s*:\s*([0-9.]+)$", CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return max((float(megahertz) for megahertz in found), default=0.0) * 1e6 or None


def memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def environment() -> dict[str, Scalar]:
    """The facts of this machine and process that a reader of a record needs."""
    return {
        "cpu_model": cpu_model(),
        "cpu_cores": usable_cores(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": memory_bytes(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or torch.version.hip,
        "python": platform.python_version(),
        "system": platform.system(),
    }


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


def device_facts(wanted: Sequence[Device]) -> dict[str, dict[str, Scalar]]:
    """For each device its facts, or `{"absent": reason}`."""
    return {
        device.name: {"absent": device.absent} if device.absent else {**devices.describe(device)} for device in wanted
    }


# What decides how fast a run is. `memory_bytes` is left out: it moves with the hypervisor, and no step with it.
FINGERPRINT_KEYS = ("cpu_model", "cpu_cores", "cpu_capability", "threads", "torch", "cuda", "python", "system")


def fingerprint(facts: Mapping[str, Scalar], model: str, data: str, profile: str) -> dict[str, Scalar]:
    """What must be equal for two records to be compared; never clocks, temperatures, load or host names."""
    present = accelerators()
    return {
        **{key: facts[key] for key in FINGERPRINT_KEYS},
        "accelerators": "; ".join(str(facts["name"]) for facts in present) or None,
        "driver": next((facts.get("driver") for facts in present), None),
        "model": model,
        "data": data,
        "profile": profile,
    }


def accelerators() -> list[dict[str, str | int | None]]:
    """The facts of every accelerator of this machine, measured or not."""
    return [devices.describe(device) for device in devices.expand(["all"]) if device.asynchronous]


def fingerprint_id(fields: Mapping[str, Scalar]) -> str:
    """A short name for a fingerprint, fit for a folder: the readable part, then 8 hexadecimal digits of it all."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
    readable = "-".join(str(fields[key]) for key in ("profile", "model", "data"))
    return re.sub(r"[^A-Za-z0-9._-]+", "_", readable)[:60] + f"-{digest}"
