"""In: nothing, or a device. Out: which clock the kernel uses, and how far the machine's clocks differ."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from perf.harness.machine.cpu import text_of
from perf.harness.machine.devices import Device

SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
# Linux kernel documentation, admin-guide/kernel-parameters: the kernel takes these if the processor's own counter is
# not reliable. Each look at them costs about a microsecond, and much more in a virtual machine.
SLOW_SOURCES = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")
# 0.1%. The kernel corrects its clock by at most 500 ppm for its frequency, and by as much for its offset (adjtimex(2)).
MOST_PPM = 1000.0
LOOK_S, LONG_S, LOOKS, MILLION = 0.2, 2.0, 5, 1e6


@dataclass(frozen=True)
class Reading:
    """The clocks at one moment [s]: the one that measures, the time of day, and the one that nothing corrects."""

    monotonic: float
    day: float
    raw: float | None

    @classmethod
    def now(cls, plant: float = 0.0) -> Reading:
        """`plant` [s] is added to the time of day."""
        raw = time.clock_gettime(time.CLOCK_MONOTONIC_RAW) if hasattr(time, "CLOCK_MONOTONIC_RAW") else None
        return cls(time.perf_counter(), time.time() + plant, raw)

    def drift_ppm(self, before: Reading) -> float:
        """By how much the other clocks have run faster or slower than the first since `before` [parts per million]."""
        passed = self.monotonic - before.monotonic
        others = [self.day - before.day]
        if self.raw is not None and before.raw is not None:
            others.append(self.raw - before.raw)
        return max(abs(other / passed - 1) for other in others) * MILLION


def source() -> str:
    """The kernel's clock source; "" if it does not say."""
    return text_of(SOURCE)


def device_drift_ppm(device: Device, plant: float = 1.0, look_s: float = LOOK_S) -> float:
    """By how much the clock of `device` differs from that of the host [parts per million]: the median of LOOKS looks.

    How late an event is recorded varies, and counts as drift: less, the longer a look takes. `plant` is a factor for
    the device's times.
    """
    target = device.torch_device

    def event() -> tuple[torch.Event, float]:
        made = torch.Event(target, enable_timing=True)
        torch.accelerator.synchronize(target)
        made.record()
        torch.accelerator.synchronize(target)
        return made, time.perf_counter()

    found = []
    for _ in range(LOOKS):
        first, start = event()
        time.sleep(look_s)
        second, end = event()
        found.append(abs(plant * first.elapsed_time(second) / 1e3 / (end - start) - 1) * MILLION)
    return statistics.median(found)
