"""In: what NVML says of a GPU at work. Out: how it is set up otherwise than it could be: slower, or less safe."""

from __future__ import annotations

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.source import Values
from perf.harness.measurement.checks import probes
from perf.harness.verdict.limits import Limit, link_limit

# Sold with ECC switched off.
CONSUMER = "GeForce"


def at_work(device: Device) -> Values:
    """A sample of `device` while bytes are copied to it. Raises telemetry.source.Unreadable."""
    gpu = open_gpu(device)
    return probes.under_copies(device, gpu.sample)


def problems(found: Values, device_name: str) -> list[str]:
    """What is wrong, one sentence each; what NVML does not say is not."""
    said = []
    limit, default = found.get("power_limit_w"), found.get("power_limit_default_w")
    if limit is not None and default is not None and limit < default:
        said.append(f"its power is limited to {limit:.0f} W, {default:.0f} W is the default (nvidia-smi -pl)")
    for key, what in (("pcie_generation", "PCIe generation"), ("pcie_width", "PCIe lanes")):
        now, most = found.get(key), found.get(f"{key}_limit")
        if now is not None and most is not None and now < most:
            said.append(f"{what} {now} under load, {most} are possible: reseat it, and look at the slot")
    if found.get("ecc") is False and CONSUMER not in device_name:
        said.append("ECC is off: errors of its memory are neither corrected nor counted (nvidia-smi -e 1)")
    return said


def link(found: Values) -> Limit | None:
    """What the link to it carries, as negotiated; None where NVML does not say."""
    if "pcie_generation" not in found or "pcie_width" not in found:
        return None
    return link_limit(found["pcie_generation"], found["pcie_width"])
