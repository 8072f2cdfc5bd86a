"""In: what NVML says about a GPU at work. Out: the settings that make the GPU slower or less safe than possible."""

from __future__ import annotations

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.source import Values
from perf.harness.measurement.checks import probes
from perf.harness.verdict.limits import Limit, link_limit

# NVIDIA sells these GPUs with ECC off.
CONSUMER = "GeForce"
# NVIDIA's names of GPUs in notebooks have this word. They report more PCIe lanes than are wired.
LAPTOP = "Laptop"


def at_work(device: Device) -> Values:
    """A sample of `device` while bytes are copied to it, with the fastest link seen meanwhile.

    Raises telemetry.source.Unreadable.
    """
    gpu = open_gpu(device)
    found = probes.under_copies(device, gpu.sample)
    links = {key: [one[key] for one in found if key in one] for key in ("pcie_generation", "pcie_width")}
    return found[-1] | {key: max(values) for key, values in links.items() if values}


def problems(found: Values, device_name: str) -> list[str]:
    """One sentence for each wrong setting. A setting that NVML does not know is not wrong."""
    said = []
    limit, default = found.get("power_limit_w"), found.get("power_limit_default_w")
    if limit is not None and default is not None and limit < default:
        said.append(f"its power is limited to {limit:.0f} W; the default is {default:.0f} W (nvidia-smi -pl)")
    now, most = found.get("pcie_generation"), found.get("pcie_generation_limit")
    if now is not None and most is not None and now < most:
        said.append(
            f"it has PCIe generation {now} under load, but {most} is possible: reseat the GPU and check the slot"
        )
    if found.get("ecc") is False and found.get("ecc_default", CONSUMER not in device_name):
        said.append("ECC is off, so memory errors are neither corrected nor counted (nvidia-smi -e 1)")
    return said


def doubt(found: Values, device_name: str) -> str:
    """What may be wrong and may be how the board is made; empty if nothing."""
    now, most = found.get("pcie_width"), found.get("pcie_width_limit")
    if now is None or most is None or now >= most or LAPTOP in device_name:
        return ""
    return f"it has {now} PCIe lanes under load, and says that {most} are possible: check that the slot has so many"


def link(found: Values) -> Limit | None:
    """The bandwidth of the GPU's PCIe link as negotiated; None if NVML does not say."""
    if "pcie_generation" not in found or "pcie_width" not in found:
        return None
    return link_limit(found["pcie_generation"], found["pcie_width"])
