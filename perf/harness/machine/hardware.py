"""In: nothing, or a GPU. Out: which machine this is, down to serial numbers and firmware, for a ticket.

Nothing here needs root. What cannot be read has its reason instead.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perf.harness.machine import cgroup, cpu
from perf.harness.machine.devices import Device
from perf.harness.machine.identity import CPUINFO, is_virtual
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.source import Unreadable
from perf.harness.record.values import Scalar

# Linux files; see the kernel documentation: admin-guide/abi (sysfs), filesystems/proc.
DMI = Path("/sys/class/dmi/id")
OF_DMI = {
    "vendor": "sys_vendor", "product": "product_name", "serial": "product_serial", "board vendor": "board_vendor",
    "board": "board_name", "board serial": "board_serial", "BIOS": "bios_version", "BIOS date": "bios_date",
}  # fmt: skip
MEMINFO, COMMAND_LINE = Path("/proc/meminfo"), Path("/proc/cmdline")
SMT = cpu.CPUS / "smt/active"
MODULES, NETWORK = Path("/sys/devices/system/edac/mc"), Path("/sys/class/net")
# What containers have at their root, and what Kubernetes and systemd tell the processes in one.
CONTAINERS = {
    Path("/.dockerenv"): "docker", Path("/run/.containerenv"): "podman", Path("/.singularity.d"): "apptainer",
}  # fmt: skip
IN_KUBERNETES, OF_SYSTEMD = "KUBERNETES_SERVICE_HOST", Path("/run/systemd/container")
# What says whose machine it is: left out of anonymous records.
PRIVATE = ("serial", "board serial", "UUID", "PCI address", "network", "kernel command line")
ROOT_ONLY = "only root may read it"


@dataclass
class Facts:
    """What is `known` by name, and the reason for what is `unknown`."""

    known: dict[str, Scalar] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, found: Scalar, reason: str) -> None:
        if found in (None, ""):
            self.unknown[name] = reason
        else:
            self.known[name] = found

    def read(self, name: str, path: Path, pattern: str = r"(.+)") -> None:
        """Add the first match of `pattern` in the file `path`."""
        try:
            found = re.search(pattern, path.read_text(errors="replace"))
        except PermissionError:
            self.unknown[name] = ROOT_ONLY
        except OSError:
            self.unknown[name] = f"this system has no {path}"
        else:
            self.add(name, found and found[1].strip(), f"{path} does not say")

    def as_record(self, anonymous: bool) -> dict[str, dict[str, Scalar]]:
        left_out = PRIVATE if anonymous else ()
        return {
            "known": {name: value for name, value in self.known.items() if name not in left_out},
            "unknown": {name: reason for name, reason in self.unknown.items() if name not in left_out},
        }


def host(cores: Sequence[int]) -> Facts:
    """The machine, its firmware and its kernel. `cores` are those that this process may run on."""
    found = Facts()
    for name, file in OF_DMI.items():
        found.read(name, DMI / file)
    found.known["virtual machine"] = "yes" if is_virtual() else "no"
    found.read("microcode", CPUINFO, r"microcode\s*:\s*(\S+)")
    found.add("sockets", _sockets(cores), f"{cpu.CPUS} does not say")
    found.read("SMT", SMT)
    if "SMT" in found.known:
        found.known["SMT"] = "on" if found.known["SMT"] == "1" else "off"
    set_up = cpu.set_up(cores)
    for name, key in (("NUMA nodes", "numa_nodes"), ("governor", "governor"), ("huge pages", "transparent_huge_pages")):
        found.add(name, set_up[key], "this system does not say")
    found.read("reserved huge pages", MEMINFO, r"HugePages_Total:\s*(\d+)")
    found.known["kernel"] = platform.release()
    found.read("kernel command line", COMMAND_LINE)
    found.add("memory modules", _modules(), "no EDAC driver lists them, and only root may read the firmware's list")
    found.add("network", ", ".join(_interfaces()), f"this system has no {NETWORK}")
    found.add("container", _container(), "none is known")
    found.known["cgroup CPU limit [cores]"] = cgroup.quota_cores() or "none"
    found.known["cgroup memory limit [bytes]"] = cgroup.memory_limit_bytes() or "none"
    return found


def gpu(device: Device) -> Facts:
    """A GPU and its firmware, as NVML reports them."""
    try:
        answers = open_gpu(device).identity()
    except Unreadable as error:
        return Facts(unknown={"GPU": str(error)})
    found = Facts()
    for name, answer in answers.items():
        found.add(name, answer, "NVML does not say")
    return found


def hardware(
    devices: Sequence[Device], cores: Sequence[int], *, anonymous: bool
) -> dict[str, dict[str, dict[str, Scalar]]]:
    """The facts of the host and of each accelerator, by name; without those of PRIVATE if `anonymous`."""
    found = {"host": host(cores)} | {device.name: gpu(device) for device in devices if device.asynchronous}
    return {name: facts.as_record(anonymous) for name, facts in found.items()}


def _container() -> str:
    """The kind of container, `kubernetes docker` if one is in the other; "" if none is known."""
    known = ["kubernetes"] * (IN_KUBERNETES in os.environ)
    known += [name for file, name in CONTAINERS.items() if file.exists()]
    return " ".join(known) or cpu.text_of(OF_SYSTEMD)


def _sockets(cores: Sequence[int]) -> int | None:
    packages = {cpu.text_of(cpu.CPUS / f"cpu{core}" / "topology/physical_package_id") for core in cores} - {""}
    return len(packages) or None


def _modules() -> str:
    """The memory modules that EDAC lists: `16384 MiB Registered-DDR5`, how many of each."""
    listed = [
        f"{cpu.text_of(module / 'size')} MiB {cpu.text_of(module / 'dimm_mem_type')}"
        for module in MODULES.glob("mc*/dimm*")
        if cpu.text_of(module / "size")
    ]
    return ", ".join(f"{listed.count(kind)} × {kind}" for kind in dict.fromkeys(listed))


def _interfaces() -> list[str]:
    """The network interfaces of a device, not the virtual ones."""
    return sorted(path.parent.name for path in NETWORK.glob("*/device"))
