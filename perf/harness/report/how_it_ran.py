"""In: a run. Out: how its devices ran: clocks, power, what slowed them down, and what the host lost."""

from __future__ import annotations

from perf.harness.record.run import Run, Section, finite, section
from perf.harness.report import quantities
from perf.harness.report.fields import how_many, known, listed, number

# Time that the host lost is shown if it is more than this share of the run.
WORTH_SAYING = 0.01
THROTTLED = ("throttled_", "_share")
# These reasons do not slow a device down, or have their own text. "" is the share of all reasons that slow it down.
NOT_NAMED = ("", "sw_power_cap", "applications_clocks_setting", "sync_boost", "display_clock_setting", "gpu_idle")
# NVML's abbreviations, which the report writes in capitals.
CAPITALS = ("hw", "sw")


def how_it_ran(run: Run, devices: Section) -> list[str]:
    """One line for each device that was watched: how it ran, or why nothing is known about it.

    An absent device has no line. The host has a line only if it lost time, or if it cannot be watched.
    """
    watched = section(run.perf, "telemetry")
    found = []
    for name in watched:
        seen = section(watched, name)
        text = _host(seen) if name == "cpu" else _gpu(seen)
        if reason := seen.get("unsupported"):
            text = f"{text}; then {reason}" if text else f"none: {reason}"
        if text and not section(devices, name).get("absent"):
            found.append(f"{name}: {text}")
    return found


def _gpu(found: Section) -> str:
    return listed(
        known(found, "sm_clock_hz_median", quantities.megahertz),
        known(found, "power_w_median", _watts),
        known(found, "temperature_c_max", lambda heat: f"up to {quantities.count(heat)} °C"),
        known(found, "throttled_share", lambda share: _throttled(share, found)),
        number(found.get("throttled_sw_power_cap_share"), _power_cap),
        _power_limit(found),
        _link(found),
        how_many(found.get("new_ecc_uncorrected"), "new uncorrected memory error"),
        how_many(found.get("other_processes_max"), "other process", "other processes"),
    )


def _watts(value: float) -> str:
    return f"{quantities.significant(value)} W"


def _throttled(share: float, found: Section) -> str:
    if share == 0:
        return "not throttled"
    start, end = THROTTLED
    named = [key[len(start) : -len(end)] for key in found if key.startswith(start) and key.endswith(end)]
    reasons = [_in_words(name) for name in named if name not in NOT_NAMED]
    return f"throttled {quantities.percent(share)} of the time: {' and '.join(reasons)}".removesuffix(": ")


def _in_words(name: str) -> str:
    """A throttle reason in words: `hw_thermal_slowdown` becomes `HW thermal slowdown`."""
    return " ".join(word.upper() if word in CAPITALS else word for word in name.split("_"))


def _power_cap(share: float) -> str:
    return f"at its power cap {quantities.percent(share)} of the time"


def _power_limit(found: Section) -> str:
    limit, default = finite(found.get("power_limit_w_min")), finite(found.get("power_limit_default_w"))
    if limit is None or default is None or limit >= default:
        return ""
    return f"limited to {_watts(limit)} of {_watts(default)}"


def _link(found: Section) -> str:
    """The PCIe link, if it is slower than it could be; else empty."""
    keys = ("pcie_generation", "pcie_width", "pcie_generation_limit", "pcie_width_limit")
    numbers = [number for key in keys if (number := finite(found.get(key))) is not None]
    if len(numbers) < len(keys) or (numbers[0] >= numbers[2] and numbers[1] >= numbers[3]):
        return ""
    generation, width, most_generation, most_width = map(quantities.count, numbers)
    return f"PCIe {generation} ×{width} of {most_generation} ×{most_width}"


def _host(found: Section) -> str:
    """The time that the host lost; if it lost any, also the clock and the load."""
    least = WORTH_SAYING * (finite(found.get("seconds")) or 0.0)
    taken = [
        f"{quantities.seconds(lost)} {what}"
        for key, what in (
            ("steal_s", "stolen by the hypervisor"),
            ("withheld_s", "withheld by the quota"),
            ("memory_stalled_s", "waiting for memory"),
        )
        if (lost := finite(found.get(key))) and lost > least
    ]
    if not taken:
        return ""
    load = known(found, "load_average_max", lambda load: f"load up to {quantities.significant(load)}")
    return listed(known(found, "clock_hz_median", quantities.megahertz), *taken, load)
