"""In: nothing. Out: the facts in which machines differ (CPU, GPU, versions, threads), and the fingerprint of them."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import torch

from perf.harness.machine import cpu, devices
from perf.harness.machine.affinity import cores, usable_cores
from perf.harness.machine.cgroup import quota_cores
from perf.harness.machine.devices import Device
from perf.harness.record import Scalar

# psutil does not report the name of the CPU.
CPUINFO = Path("/proc/cpuinfo")
BLOCKS = Path("/sys/dev/block")


def cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def clock_hz() -> float | None:
    """The current clock of the fastest core, as the system reports it [Hz]; None if the system reports no clock."""
    return max((current for current, _ in _clocks_hz()), default=0.0) or None


def highest_clock_hz() -> float | None:
    """The highest clock that a core may reach, or reaches now [Hz]; None if the system reports no clock."""
    return max(itertools.chain(*_clocks_hz()), default=0.0) or None


def _clocks_hz() -> list[tuple[float, float]]:
    """The clock of each core now, and the highest that the system allows or 0 [Hz]; empty if it reports no clock."""
    try:
        return [(1e6 * float(core.current), 1e6 * float(core.max)) for core in psutil.cpu_freq(percpu=True) or ()]
    except (OSError, NotImplementedError, AttributeError):  # the platform reports no clock
        return []


def cpu_kind() -> tuple[str, int, int] | None:
    """The maker, family and model of the CPU, as its instruction CPUID gives them; None if the system does not say."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return None
    fields = [re.search(rf"^{name}\s*:\s*(\S+)$", text, re.MULTILINE) for name in ("vendor_id", "cpu family", "model")]
    maker, family, model = (found and found[1] for found in fields)
    return (maker, int(family), int(model)) if maker and family and model else None


def _cpu_kind() -> str | None:
    """As `cpu_kind`, in words: a virtual machine may hide which CPU it has behind a name such as "AMD EPYC"."""
    found = cpu_kind()
    return found and f"{found[0]}, family {found[1]}, model {found[2]}"


@functools.cache
def disk(folder: Path) -> str | None:
    """The file system that has `folder`, and the model of its disk: `ext4 on Samsung SSD 990`, `nfs4`; None if unknown.

    A file system over others, as a container has it, does not say on which disk it is.
    """
    place = folder.expanduser().resolve()
    over = [one for one in psutil.disk_partitions(all=True) if place.is_relative_to(one.mountpoint)]
    if not over:
        return None
    found = max(over, key=lambda one: len(one.mountpoint))
    block = _block(found.device)
    parts = [] if block is None else [block, *block.glob("slaves/*")]
    models = [cpu.text_of(one / "device/model") for part in parts for one in (part, part.resolve().parent)]
    return " on ".join([found.fstype, *list(filter(None, models))[:1]])


def _block(path: str) -> Path | None:
    """What Linux says of the block device at `path`; None if there is no such file."""
    try:
        number = Path(path).stat().st_rdev
    except OSError:
        return None
    return BLOCKS / f"{os.major(number)}:{os.minor(number)}"


def is_virtual() -> bool:
    """Whether this is a virtual machine, as the processor says (x86): others may use the same cores unseen."""
    return bool(re.search(r"^flags\s*:.*\bhypervisor\b", cpu.text_of(CPUINFO), re.MULTILINE))


def environment() -> dict[str, Scalar]:
    """The facts of this machine and process that the reader of a record needs."""
    return {
        "cpu_model": cpu_model(),
        "cpu_kind": _cpu_kind(),
        "cpu_cores": usable_cores(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or torch.version.hip,
        "python": platform.python_version(),
        "system": platform.system(),
        **cpu.set_up(cores()),
        "quota_cores": quota_cores(),
    }


def device_facts(wanted: Sequence[Device]) -> dict[str, dict[str, Scalar]]:
    """The facts of each device by its name, or `{"absent": reason}`."""
    return {
        device.name: {"absent": device.absent} if device.absent else {**devices.describe(device)} for device in wanted
    }


# The facts that decide how fast a run is. `memory_bytes` is not included: a hypervisor can change it, with no effect
# on the time of a step.
FINGERPRINT_KEYS = (
    "cpu_model", "cpu_cores", "cpu_capability", "threads", "torch", "cuda", "python", "system",
    "physical_cores", "quota_cores", "numa_nodes", "numa_memory", "governor", "transparent_huge_pages",
    "allocator", "allocator_settings", "openmp", "openmp_settings", "denormals",
)  # fmt: skip


def fingerprint(facts: Mapping[str, Scalar], model: str, data: str, profile: str) -> dict[str, Scalar]:
    """The fields that must be equal before two records are compared. No clocks, temperatures or host names."""
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
    """The facts of every accelerator of this machine, whether it is measured or not."""
    return [devices.describe(device) for device in devices.expand(["all"]) if device.asynchronous]


def fingerprint_id(fields: Mapping[str, Scalar]) -> str:
    """A short folder name for a fingerprint: a readable part, then 8 hexadecimal digits that depend on all fields."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
    readable = "-".join(str(fields[key]) for key in ("profile", "model", "data"))
    return re.sub(r"[^A-Za-z0-9._-]+", "_", readable)[:60] + f"-{digest}"
