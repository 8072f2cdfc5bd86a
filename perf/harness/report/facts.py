"""In: a run. Out: its header: one line each for devices, software, data, settings, and how the devices ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perf.harness.record.run import Run, finite
from perf.harness.report import quantities
from perf.harness.report.layout import PAGE, hanging

Section = Mapping[str, Any]

# The width of the subjects at the beginning of lines. The longest subject is `telemetry`.
SUBJECT = 10
# Time that the host lost is shown if it is more than this share of the run.
WORTH_SAYING = 0.01
THROTTLED = ("throttled_", "_share")
# These reasons do not slow a device down, or have their own text. "" is the share of all reasons that slow it down.
NOT_NAMED = ("", "sw_power_cap", "applications_clocks_setting", "sync_boost", "display_clock_setting", "gpu_idle")
SPLITS = {"train": "training", "test": "test"}
# NVML's abbreviations, which the report writes in capitals.
CAPITALS = ("hw", "sw")


def header(run: Run) -> list[str]:
    """The header of `run` in short lines: its devices, or why a device is absent, its software, data and settings."""
    return [part for line in lines(run) for part in hanging(line, PAGE, SUBJECT)]


def lines(run: Run) -> list[str]:
    """One line for each subject about which something is known."""
    devices = _section(run.perf, "devices")
    facts = [
        ("cpu", _cpu(run)),
        *((name, _accelerator(_section(devices, name))) for name in devices if name != "cpu"),
        ("software", _software(run)),
        ("set-up", _set_up(run)),
        *(("tuned", text) for text in _tuned(run)),
        ("data", _data(run)),
        ("model", _models(run)),
        *(("training", text) for text in _training(run)),
        ("run", _made(run)),
        ("settings", _settings(run)),
        *(("telemetry", text) for text in _telemetry(run, devices)),
    ]
    return [f"{subject:<{SUBJECT - 1}} {text}" for subject, text in facts if text]


def absent(run: Run) -> list[str]:
    """The names of the devices that were asked for and are not there."""
    devices = _section(run.perf, "devices")
    return [name for name in devices if _section(devices, name).get("absent")]


def machine(run: Run) -> str:
    """The machine in one line: CPU, accelerators, software."""
    devices = _section(run.perf, "devices")
    accelerators = [_section(devices, name) for name in devices if name != "cpu"]
    return "; ".join(filter(None, [
        _cpu(run),
        *(str(one["name"]) for one in accelerators if one.get("name") and not one.get("absent")),
        _software(run),
    ]))  # fmt: skip


def same_machine(run: Run, earlier: Sequence[tuple[str, Run]]) -> str | None:
    """The letter of the first earlier run with the same fingerprint as `run`; None if there is none."""
    mine = _fingerprint(run)
    return next((letter for letter, other in earlier if mine and _fingerprint(other) == mine), None)


def _fingerprint(run: Run) -> object:
    return run.perf.get("fingerprint_id") or tuple(sorted((k, str(v)) for k, v in run.fingerprint.items()))


def _section(values: Section, key: str) -> Section:
    """`values[key]` if it is a dictionary, else an empty dictionary, because a foreign file may hold anything there."""
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def _listed(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def _named(name: str, value: object) -> str:
    return f"{name} {value}" if value else ""


def _number(value: object, form: Callable[[float], str]) -> str:
    number = finite(value)
    return form(number) if number else ""


def _counted(value: object, one: str, several: str = "") -> str:
    """A number of things: `2 cores`. Empty for 0, or if `value` is no number."""
    return _number(value, lambda number: quantities.counted(number, one, several))


def _cpu(run: Run) -> str:
    environment, machine = _section(run.perf, "environment"), _section(run.machine, "cpu")
    name = environment.get("cpu_model") or machine.get("brand_raw")
    return _listed(
        name or _section(_section(run.perf, "devices"), "cpu").get("name"),
        _counted(environment.get("cpu_cores", machine.get("count")), "core"),
        *_scarce(environment),
        environment.get("cpu_capability"),
        _number(environment.get("memory_bytes"), quantities.size),
    )


def _scarce(environment: Section) -> list[str]:
    """Why the machine has fewer cores than it seems: physical cores, quota."""
    cores, physical = finite(environment.get("cpu_cores")), finite(environment.get("physical_cores"))
    quota = _number(environment.get("quota_cores"), quantities.significant)
    return [
        f"{quantities.count(physical)} physical" if cores and physical and physical < cores else "",
        f"quota {quota} cores" if quota else "",
    ]


def _threads(environment: Section) -> str:
    """The number of threads: `2 threads`. If fewer threads can compute at the same time, the text says so."""
    said = _counted(environment.get("threads"), "thread")
    threads, physical, quota = (finite(environment.get(key)) for key in ("threads", "physical_cores", "quota_cores"))
    if threads and quota and threads > quota:
        return f"{said} (more than the quota of {quantities.significant(quota)} cores)"
    if threads and physical and threads > physical:
        return f"{said} (more than the {_counted(physical, 'physical core')})"
    return said


def _set_up(run: Run) -> str:
    """The CPU settings that are not the usual ones: governor, allocator, OpenMP, denormals."""
    environment = _section(run.perf, "environment")
    governor, allocator = environment.get("governor"), environment.get("allocator")
    return _listed(
        _named("governor", governor) if governor != "performance" else "",
        allocator if allocator and not str(allocator).startswith("glibc") else "",
        environment.get("allocator_settings"),
        environment.get("openmp_settings"),
        "denormals flushed" if environment.get("denormals") == "flushed" else "",
    )


def cpu_state(run: Run) -> str:
    """How the CPU was run: threads, physical cores, allocator, clock, and whether it was tuned; empty if unknown."""
    environment = _section(run.perf, "environment")
    clock = finite(_section(_section(run.perf, "telemetry"), "cpu").get("clock_hz_median"))
    cores = _counted(environment.get("physical_cores"), "physical core")
    threads = _counted(environment.get("threads"), "thread")
    if not threads:
        return ""
    how = _listed(
        f"with {threads}{f' on {cores}' if cores else ''}",
        _named("allocator", environment.get("allocator")),
        f"clock {quantities.megahertz(clock)}" if clock else "",
    )
    tuned = bool(_section(run.perf, "tuned_cpu"))
    return f"{how}; {'tuned' if tuned else 'not tuned: --perf-tuned-cpu tries what that is worth'}"


def _tuned(run: Run) -> list[str]:
    """How `--perf-tuned-cpu` runs the CPU, and how many times as fast that makes each training step."""
    tuned = _section(run.perf, "tuned_cpu")
    gains = {
        name: quantities.spanned(numbers)
        for name, found in _section(tuned, "gains").items()
        if isinstance(found, list) and (numbers := [one for value in found if (one := finite(value)) is not None])
    }
    before = _counted(tuned.get("usual_threads"), "thread")
    worth = [f"{gain} as fast as not tuned, with {before}: {name}" for name, gain in gains.items()]
    return [str(tuned["how"]), *worth] if "how" in tuned else []


def _accelerator(device: Section) -> str:
    if device.get("absent"):
        return f"absent: {device['absent']}"
    return _listed(
        device.get("name"),
        _counted(device.get("multiprocessors"), "multiprocessor"),
        _number(device.get("memory_bytes"), quantities.size),
        _named("driver", device.get("driver")),
    )


def _software(run: Run) -> str:
    environment = _section(run.perf, "environment")
    return _listed(
        _named("torch", environment.get("torch")),
        _named("CUDA", environment.get("cuda")),
        _threads(environment),
        _named("Python", environment.get("python") or run.machine.get("python_version")),
    )


def _data(run: Run) -> str:
    data = _section(run.perf, "data")
    sets = data.get("sets")
    known = [one for one in sets if isinstance(one, Mapping)] if isinstance(sets, list) else [data]
    return "; ".join(filter(None, map(_data_set, known)))


def _data_set(data: Section) -> str:
    if data.get("name") == "auto":  # a gate asks for it, and its sides choose
        return ""
    train, test = (_counted(data.get(f"{part}_samples"), f"{name} sample") for part, name in SPLITS.items())
    text = _listed(data.get("name"), train, test)
    return f"{text} ({data['note']})" if text and data.get("note") else text


def _models(run: Run) -> str:
    """Each network once, with the parameters and FLOP from its first benchmark that knows them."""
    found: dict[str, dict[str, str]] = {}
    for benchmark in run.benchmarks:
        name = benchmark.text("model")
        if not benchmark.ours or name is None:
            continue
        known = found.setdefault(name, {})
        if parameters := benchmark.number("parameters"):
            known.setdefault("parameters", quantities.counted(parameters, "parameter"))
        # A forward pass needs a third of the FLOP of a training step, so only training steps count.
        if benchmark.text("benchmark") == "training_step" and (flop := benchmark.number("flop_per_sample")):
            known.setdefault("flop", f"{quantities.large(flop, 'FLOP')} per sample and training step")
        if uncounted := benchmark.text("flop_uncounted"):
            known.setdefault("flop", f"FLOP not counted: {uncounted}")
    return "; ".join(_listed(name, *known.values()) for name, known in found.items())


def _training(run: Run) -> list[str]:
    """For each task: what it trains with, and what of it is not used."""
    found = {}
    for benchmark in run.benchmarks:
        known, name = benchmark.texts("training"), benchmark.text("model")
        if known and name and name not in found:
            said = [f"{subject} {text}" for subject, text in known.items() if subject != "unused"]
            if (trained := benchmark.number("trained_parameters")) != benchmark.number("parameters") and trained:
                said.append(f"{quantities.count(trained)} parameters trained")
            if unit := benchmark.text("unit"):
                said.append(f"counted in {unit}")
            unused = [f"{name}, not used: {known['unused']}"] if "unused" in known else []
            found[name] = [f"{name}: {', '.join(said)}", *unused]
    return [line for lines in found.values() for line in lines]


def _made(run: Run) -> str:
    made = run.datetime[:19].replace("T", " ")
    return _listed(_named("profile", run.perf.get("profile")), made, _named("on", host(run)))


def host(run: Run) -> str:
    """The name of the machine; "" if the record does not say it."""
    return str(run.perf.get("host_name") or run.machine.get("node") or "")


def _settings(run: Run) -> str:
    settings = _section(run.perf, "settings")
    # The line `run` has the profile.
    shown = {key: value for key, value in settings.items() if value is not None and key != "profile"}
    return _listed(*(f"{key}={value}" for key, value in shown.items() if not isinstance(value, Mapping | list)))


def _telemetry(run: Run, devices: Section) -> list[str]:
    """One line for each device that was watched: how it ran, or why nothing is known about it.

    An absent device has no line. The host has a line only if it lost time, or if it cannot be watched.
    """
    watched = _section(run.perf, "telemetry")
    found = []
    for name in watched:
        known = _section(watched, name)
        text = _host(known) if name == "cpu" else _gpu(known)
        if reason := known.get("unsupported"):
            text = f"{text}; then {reason}" if text else f"none: {reason}"
        if text and not _section(devices, name).get("absent"):
            found.append(f"{name}: {text}")
    return found


def _gpu(found: Section) -> str:
    return _listed(
        _known(found, "sm_clock_hz_median", quantities.megahertz),
        _known(found, "power_w_median", _watts),
        _known(found, "temperature_c_max", lambda heat: f"up to {quantities.count(heat)} °C"),
        _known(found, "throttled_share", lambda share: _throttled(share, found)),
        _number(found.get("throttled_sw_power_cap_share"), _power_cap),
        _power_limit(found),
        _link(found),
        _counted(found.get("new_ecc_uncorrected"), "new uncorrected memory error"),
        _counted(found.get("other_processes_max"), "other process", "other processes"),
    )


def _known(found: Section, key: str, form: Callable[[float], str]) -> str:
    """A number in the given `form`; empty if unknown. Unlike `_number`, it shows 0."""
    number = finite(found.get(key))
    return "" if number is None else form(number)


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
    load = _known(found, "load_average_max", lambda load: f"load up to {quantities.significant(load)}")
    return _listed(_known(found, "clock_hz_median", quantities.megahertz), *taken, load)
