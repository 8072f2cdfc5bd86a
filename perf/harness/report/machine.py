"""In: a run. Out: short lines that name the machine, the software, the data and the settings it was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perf.harness.record.run import Run, finite
from perf.harness.report import units


def section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """`values[key]` where it is a dictionary, else an empty one."""
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def facts(run: Run) -> list[tuple[str, str]]:
    """(subject, text) pairs: each device, then software, data, model, run and settings; the unknown is left out."""
    devices = section(run.perf, "devices")
    accelerators = [(name, _accelerator(section(devices, name))) for name in devices if name != "cpu"]
    pairs = [
        ("cpu", cpu(run)),
        *accelerators,
        ("software", software(run)),
        ("data", _data(run)),
        ("model", _models(run)),
        ("run", _made(run)),
        ("settings", _settings(run)),
    ]
    return [(subject, text) for subject, text in pairs if text]


def cpu(run: Run) -> str:
    environment, machine = section(run.perf, "environment"), section(run.machine, "cpu")
    cores = finite(environment.get("cpu_cores", machine.get("count")))
    name = environment.get("cpu_model") or machine.get("brand_raw")
    if not name:
        name = section(section(run.perf, "devices"), "cpu").get("name")
    return _listed(
        name,
        cores and f"{units.count(cores)} core{'s' * (cores != 1)}",
        environment.get("cpu_capability"),
        _size(environment.get("memory_bytes")),
    )


def gpus(run: Run) -> str:
    """The accelerators that are present, in a few words."""
    devices = section(run.perf, "devices")
    present = [section(devices, name) for name in devices if name != "cpu"]
    return _listed(*dict.fromkeys(str(d["name"]) for d in present if d.get("name") and not d.get("absent")))


def software(run: Run) -> str:
    environment = section(run.perf, "environment")
    python = environment.get("python") or run.machine.get("python_version")
    threads = finite(environment.get("threads"))
    return _listed(
        _named("torch", environment.get("torch")),
        _named("CUDA", environment.get("cuda")),
        threads and f"{units.count(threads)} thread{'s' * (threads != 1)}",
        _named("Python", python),
    )


def _accelerator(device: Mapping[str, Any]) -> str:
    if device.get("absent"):
        return f"absent: {device['absent']}"
    multiprocessors = finite(device.get("multiprocessors"))
    return _listed(
        device.get("name"),
        multiprocessors and f"{units.count(multiprocessors)} multiprocessors",
        _size(device.get("memory_bytes")),
        _named("driver", device.get("driver")),
    )


def _data(run: Run) -> str:
    data = section(run.perf, "data")
    sets = data.get("sets")
    known = [one for one in sets if isinstance(one, Mapping)] if isinstance(sets, list) else [data]
    return "; ".join(filter(None, map(_data_set, known)))


def _data_set(data: Mapping[str, Any]) -> str:
    train, test = finite(data.get("train_samples")), finite(data.get("test_samples"))
    text = _listed(
        data.get("name"),
        train and f"{units.count(train)} training samples",
        test and f"{units.count(test)} test samples",
    )
    return f"{text} ({data['note']})" if text and data.get("note") else text


def _models(run: Run) -> str:
    """Each network once, with the parameters and FLOP of the first benchmark of it that knows them."""
    found: dict[str, dict[str, str]] = {}
    for benchmark in run.benchmarks:
        name = benchmark.text("model")
        if not benchmark.ours or name is None:
            continue
        known = found.setdefault(name, {})
        if parameters := benchmark.number("parameters"):
            known.setdefault("parameters", f"{units.count(parameters)} parameters")
        # A pass forward needs a third of a training step: only steps are counted here.
        if benchmark.text("benchmark") == "training_step" and (flop := benchmark.number("flop_per_sample")):
            known.setdefault("flop", f"{units.large(flop, 'FLOP')} per sample and training step")
    return "; ".join(_listed(name, *known.values()) for name, known in found.items())


def _made(run: Run) -> str:
    profile = run.perf.get("profile")
    host = run.perf.get("host_name") or run.machine.get("node")
    return _listed(
        profile and f"profile {profile}",
        run.datetime[:19].replace("T", " "),
        _named("on", host),
    )


def _settings(run: Run) -> str:
    settings = section(run.perf, "settings")
    # The profile has its place above.
    shown = {key: value for key, value in settings.items() if value is not None and key != "profile"}
    return _listed(*(f"{key}={value}" for key, value in shown.items() if not isinstance(value, Mapping | list)))


def _listed(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def _named(name: str, value: object) -> str:
    return f"{name} {value}" if value else ""


def _size(value: object) -> str:
    number = finite(value)
    return units.size(number) if number else ""


def same_machine(run: Run, earlier: Sequence[tuple[str, Run]]) -> str | None:
    """The letter of the first earlier run with the fingerprint of `run`, if it has one."""
    mine = fingerprint(run)
    return next((letter for letter, other in earlier if mine and fingerprint(other) == mine), None)


def fingerprint(run: Run) -> object:
    return run.perf.get("fingerprint_id") or tuple(sorted((k, str(v)) for k, v in run.fingerprint.items()))
