"""In: a run. Out: a line for each device that was watched: how it ran meanwhile, or why nothing is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perf.harness.record.run import Run, finite
from perf.harness.report import units
from perf.harness.report.machine import section

SUBJECT = "telemetry"
# What was taken from the host is worth a line from this share of the run on.
WORTH_SAYING = 0.01
SHARE = ("throttled_", "_share")
# Not a reason of its own: the share of all that slow. A power cap has words of its own.
NOT_NAMED = ("", "sw_power_cap", "applications_clocks_setting", "sync_boost", "display_clock_setting", "gpu_idle")
# NVML's abbreviations.
CAPITALS = ("hw", "sw")


def telemetry(run: Run) -> list[tuple[str, str]]:
    """(subject, text) pairs; of a device that is absent, and of a host on which all was well, there is nothing."""
    watched = section(run.perf, "telemetry")
    devices = section(run.perf, "devices")
    lines = []
    for name in watched:
        found = section(watched, name)
        if section(devices, name).get("absent"):
            continue
        text = ", ".join(filter(None, _host(found) if name == "cpu" else _gpu(found)))
        if reason := found.get("unsupported"):
            text = f"{text}; then {reason}" if text else f"none: {reason}"
        if text:
            lines.append((SUBJECT, f"{name}: {text}"))
    return lines


def _gpu(found: Mapping[str, Any]) -> list[str]:
    clock, power = finite(found.get("sm_clock_hz_median")), finite(found.get("power_w_median"))
    heat = finite(found.get("temperature_c_max"))
    return [
        "" if clock is None else units.megahertz(clock),
        "" if power is None else f"{units.significant(power)} W",
        "" if heat is None else f"up to {units.count(heat)} °C",
        _throttled(found),
        _share(found, "throttled_sw_power_cap_share", "at its power cap {} of the time"),
        _power_limit(found),
        _link(found),
        _counted(found, "new_ecc_uncorrected", "new uncorrected memory error"),
        _counted(found, "other_processes_max", "other process", "other processes"),
    ]


def _throttled(found: Mapping[str, Any]) -> str:
    if (share := finite(found.get("throttled_share"))) is None:
        return ""
    if share == 0:
        return "not throttled"
    start, end = SHARE
    named = [key[len(start) : -len(end)] for key in found if key.startswith(start) and key.endswith(end)]
    reasons = [_words(name) for name in named if name not in NOT_NAMED]
    return f"throttled {units.percent(share)} of the time: {' and '.join(reasons)}".removesuffix(": ")


def _words(name: str) -> str:
    """`hw_thermal_slowdown` as HW thermal slowdown."""
    return " ".join(word.upper() if word in CAPITALS else word for word in name.split("_"))


def _share(found: Mapping[str, Any], key: str, text: str) -> str:
    share = finite(found.get(key))
    return text.format(units.percent(share)) if share else ""


def _power_limit(found: Mapping[str, Any]) -> str:
    limit, default = finite(found.get("power_limit_w_min")), finite(found.get("power_limit_default_w"))
    if limit is None or default is None or limit >= default:
        return ""
    return f"limited to {units.significant(limit)} W of {units.significant(default)} W"


def _link(found: Mapping[str, Any]) -> str:
    """Only where it is less than it could be."""
    keys = ("pcie_generation", "pcie_width", "pcie_generation_limit", "pcie_width_limit")
    numbers = [finite(found.get(key)) for key in keys]
    generation, width, most_generation, most_width = numbers
    if generation is None or width is None or most_generation is None or most_width is None:
        return ""
    if generation >= most_generation and width >= most_width:
        return ""
    shown = [units.count(number) for number in (generation, width, most_generation, most_width)]
    return f"PCIe {shown[0]} ×{shown[1]} of {shown[2]} ×{shown[3]}"


def _counted(found: Mapping[str, Any], key: str, one: str, several: str = "") -> str:
    number = finite(found.get(key))
    return f"{units.count(number)} {one if number == 1 else several or one + 's'}" if number else ""


def _host(found: Mapping[str, Any]) -> list[str]:
    """What was taken from us, and then the clock and the load, too."""
    seconds = finite(found.get("seconds")) or 0.0
    taken = [
        text.format(units.seconds(lost))
        for key, text in (
            ("steal_s", "{} stolen by the hypervisor"),
            ("withheld_s", "{} withheld by the quota"),
            ("memory_stalled_s", "{} waiting for memory"),
        )
        if (lost := finite(found.get(key))) and lost > WORTH_SAYING * seconds
    ]
    if not taken:
        return []
    clock, load = finite(found.get("clock_hz_median")), finite(found.get("load_average_max"))
    return [
        "" if clock is None else units.megahertz(clock),
        *taken,
        "" if load is None else f"load up to {units.significant(load)}",
    ]
