"""In: a run. Out: its header: one line each for devices, software, data, settings, and how the devices ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perf.harness.record.extra_info import BETWEEN
from perf.harness.record.run import Run, Section, finite, section
from perf.harness.report import quantities
from perf.harness.report.fields import how_many, listed, named, number
from perf.harness.report.how_it_ran import how_it_ran
from perf.harness.report.layout import PAGE, hanging

# The width of the subjects at the beginning of lines. The longest subject is `telemetry`.
SUBJECT = 10
SPLITS = {"train": "training", "test": "test"}


def header(run: Run) -> list[str]:
    """The header of `run` in short lines: its devices, or why a device is absent, its software, data and settings."""
    return [part for line in lines(run) for part in hanging(line, PAGE, SUBJECT)]


def lines(run: Run) -> list[str]:
    """One line for each subject about which something is known."""
    devices = section(run.perf, "devices")
    facts = [
        ("cpu", _cpu(run)),
        *((name, _accelerator(section(devices, name))) for name in devices if name != "cpu"),
        ("software", _software(run)),
        ("set-up", _set_up(run)),
        *(("tuned", text) for text in _tuned(run)),
        ("data", _data(run)),
        ("model", _models(run)),
        *(("training", text) for text in _training(run)),
        ("run", _made(run)),
        ("settings", _settings(run)),
        *(("telemetry", text) for text in how_it_ran(run, devices)),
    ]
    return [f"{subject:<{SUBJECT - 1}} {text}" for subject, text in facts if text]


def absent(run: Run) -> list[str]:
    """The names of the devices that were asked for and are not there."""
    devices = section(run.perf, "devices")
    return [name for name in devices if section(devices, name).get("absent")]


def machine(run: Run) -> str:
    """The machine in one line: CPU, accelerators, software."""
    devices = section(run.perf, "devices")
    accelerators = [section(devices, name) for name in devices if name != "cpu"]
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


def _cpu(run: Run) -> str:
    environment, machine = section(run.perf, "environment"), section(run.machine, "cpu")
    name = environment.get("cpu_model") or machine.get("brand_raw")
    return listed(
        name or section(section(run.perf, "devices"), "cpu").get("name"),
        how_many(environment.get("cpu_cores", machine.get("count")), "core"),
        *_scarce(environment),
        environment.get("cpu_capability"),
        number(environment.get("memory_bytes"), quantities.size),
    )


def _scarce(environment: Section) -> list[str]:
    """Why the machine has fewer cores than it seems: physical cores, quota."""
    cores, physical = finite(environment.get("cpu_cores")), finite(environment.get("physical_cores"))
    quota = number(environment.get("quota_cores"), quantities.significant)
    return [
        f"{quantities.count(physical)} physical" if cores and physical and physical < cores else "",
        f"quota {quota} cores" if quota else "",
    ]


def _threads(environment: Section) -> str:
    """The number of threads: `2 threads`. If fewer threads can compute at the same time, the text says so."""
    said = how_many(environment.get("threads"), "thread")
    threads, physical, quota = (finite(environment.get(key)) for key in ("threads", "physical_cores", "quota_cores"))
    if threads and quota and threads > quota:
        return f"{said} (more than the quota of {quantities.significant(quota)} cores)"
    if threads and physical and threads > physical:
        return f"{said} (more than the {how_many(physical, 'physical core')})"
    return said


def _set_up(run: Run) -> str:
    """The CPU settings that are not the usual ones: governor, allocator, OpenMP, denormals."""
    environment = section(run.perf, "environment")
    governor, allocator = environment.get("governor"), environment.get("allocator")
    return listed(
        named("governor", governor) if governor != "performance" else "",
        allocator if allocator and not str(allocator).startswith("glibc") else "",
        environment.get("allocator_settings"),
        environment.get("openmp_settings"),
        "denormals flushed" if environment.get("denormals") == "flushed" else "",
    )


def cpu_state(run: Run) -> str:
    """How the CPU was run: threads, physical cores, allocator, clock, and whether it was tuned; empty if unknown."""
    environment = section(run.perf, "environment")
    clock = finite(section(section(run.perf, "telemetry"), "cpu").get("clock_hz_median"))
    cores = how_many(environment.get("physical_cores"), "physical core")
    threads = how_many(environment.get("threads"), "thread")
    if not threads:
        return ""
    how = listed(
        f"with {threads}{f' on {cores}' if cores else ''}",
        named("allocator", environment.get("allocator")),
        f"clock {quantities.megahertz(clock)}" if clock else "",
    )
    tuned = bool(section(run.perf, "tuned_cpu"))
    return f"{how}; {'tuned' if tuned else 'not tuned: --perf-tuned-cpu tries what that is worth'}"


def _tuned(run: Run) -> list[str]:
    """How `--perf-tuned-cpu` runs the CPU, and how many times as fast that makes each training step."""
    tuned = section(run.perf, "tuned_cpu")
    gains = {
        name: quantities.spanned(numbers)
        for name, found in section(tuned, "gains").items()
        if isinstance(found, list) and (numbers := [one for value in found if (one := finite(value)) is not None])
    }
    before = how_many(tuned.get("usual_threads"), "thread")
    worth = [f"{gain} as fast as not tuned, with {before}: {name}" for name, gain in gains.items()]
    return [str(tuned["how"]), *worth] if "how" in tuned else []


def _accelerator(device: Section) -> str:
    if device.get("absent"):
        return f"absent: {device['absent']}"
    return listed(
        device.get("name"),
        how_many(device.get("multiprocessors"), "multiprocessor"),
        number(device.get("memory_bytes"), quantities.size),
        named("driver", device.get("driver")),
    )


def _software(run: Run) -> str:
    environment = section(run.perf, "environment")
    return listed(
        named("torch", environment.get("torch")),
        named("CUDA", environment.get("cuda")),
        _threads(environment),
        named("Python", environment.get("python") or run.machine.get("python_version")),
    )


def _data(run: Run) -> str:
    data = section(run.perf, "data")
    sets = data.get("sets")
    known = [one for one in sets if isinstance(one, Mapping)] if isinstance(sets, list) else [data]
    return "; ".join(filter(None, map(_data_set, known)))


def _data_set(data: Section) -> str:
    if data.get("name") == "auto":  # a gate asks for it, and its sides choose
        return ""
    train, test = (how_many(data.get(f"{part}_samples"), f"{name} sample") for part, name in SPLITS.items())
    text = listed(data.get("name"), train, test)
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
    return "; ".join(listed(name, *known.values()) for name, known in found.items())


def _training(run: Run) -> list[str]:
    """For each task: what it trains with, and what of it is not used."""
    found = {}
    for benchmark in run.benchmarks:
        known, name = benchmark.texts("training"), benchmark.text("model")
        if known and name and name not in found:
            # `loss(batch)` says itself that it is a loss.
            said = [
                text if text.startswith(subject) else f"{subject} {text}"
                for subject, text in known.items()
                if subject != "unused"
            ]
            if (trained := benchmark.number("trained_parameters")) != benchmark.number("parameters") and trained:
                said.append(f"{quantities.count(trained)} parameters trained")
            if unit := benchmark.text("unit"):
                size = number(benchmark.number("units_per_sample"), quantities.significant)
                said.append(f"counted in {unit}" + (f" ({size} per sample)" if size else ""))
            unused = [f"{name}, not used: {one}" for one in known.get("unused", "").split(BETWEEN) if one]
            found[name] = [f"{name}: {', '.join(said)}", *unused]
    return [line for lines in found.values() for line in lines]


def _made(run: Run) -> str:
    made = run.datetime[:19].replace("T", " ")
    if run.datetime.endswith(("+00:00", "Z")):
        made += " UTC"
    return listed(named("profile", run.perf.get("profile")), made, named("on", run.host))


def _settings(run: Run) -> str:
    settings = section(run.perf, "settings")
    # The line `run` has the profile.
    shown = {key: value for key, value in settings.items() if value is not None and key != "profile"}
    return listed(*(f"{key}={value}" for key, value in shown.items() if not isinstance(value, Mapping | list)))
