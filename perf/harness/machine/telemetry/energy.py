"""In: a device. Out: a counter of the energy that it has used. Nothing is estimated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from perf.harness.machine.cpu import text_of
from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.source import Unreadable

# Linux kernel documentation, power/powercap: `intel-rapl:N` is a package of the CPU, also of AMD's. Since Linux 5.10,
# only root may read its counter, unless the administrator allows it.
POWERCAP = Path("/sys/class/powercap")

Counter = Callable[[], float | None]


def counter(device: Device) -> Counter:
    """A function that returns the energy used up to now [J], from any zero; None if the device does not count it.

    NVML counts the whole GPU. RAPL counts all packages of the CPU.
    """
    if not device.asynchronous:
        return Packages().energy_j
    try:
        return open_gpu(device).energy_j
    except Unreadable:
        return lambda: None


class Packages:
    """The counters of the packages of the CPU. Each begins at 0 again after some minutes."""

    def __init__(self) -> None:
        zones = sorted(POWERCAP.glob("intel-rapl:*"))
        self._packages = [zone for zone in zones if text_of(zone / "name").startswith("package")]
        self._last: dict[Path, int] = {}
        self._used_uj = 0

    def energy_j(self) -> float | None:
        if not self._packages:
            return None
        for zone in self._packages:
            now, most = text_of(zone / "energy_uj"), text_of(zone / "max_energy_range_uj")
            if not now.isdecimal() or not most.isdecimal():
                return None
            self._used_uj += (int(now) - self._last.get(zone, int(now))) % (int(most) + 1)
            self._last[zone] = int(now)
        return self._used_uj * 1e-6
