"""In: a metric, a device and the facts of a record. Out: what the metric depends on, and the reference that fits it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from perf.harness.record.spec import Reference, Spec
from perf.harness.record.values import Scalar
from perf.harness.verdict.checks import UNLIKE
from perf.harness.verdict.stored_runs import changed_fields

COMPUTE = ("device", "cores", "threads", "instruction set", "torch", "driver")
# What each metric that a spec can judge depends on. A reference judges only where all of these are equal.
# `docs/qualify.md` has the same table.
DEPENDS_ON: Mapping[str, tuple[str, ...]] = {
    "matmul": COMPUTE,
    "memory": ("device", "memory", "cores", "threads"),
    "copies": ("device", "memory", "threads", "host CPU", "driver"),
    "launch": ("device", "host CPU", "threads", "torch", "driver"),
    "disk": ("device", "cores", "disk"),
    "sustained": COMPUTE,
    "step": (*COMPUTE, "task", "data", "precision"),
    "loader": ("device", "host CPU", "host cores", "threads", "torch", "task", "data"),
}
GIB = 2**30


def key_of(check: str, device: str, perf: Mapping[str, Any]) -> dict[str, Scalar]:
    """What the metrics of `check` on `device` depend on, from `perf` of a record. Unknown facts are left out."""
    facts = _facts(device, perf)
    return {name: facts[name] for name in DEPENDS_ON.get(check, ()) if facts.get(name) is not None}


def _facts(device: str, perf: Mapping[str, Any]) -> dict[str, Scalar]:
    host, settings, identity = (_flat(perf, name) for name in ("environment", "settings", "fingerprint"))
    own = _flat(perf.get("devices"), device)
    common = {
        "host CPU": _cpu(host),
        "host cores": host.get("cpu_cores"),
        "torch": host.get("torch"),
        "task": identity.get("model"),
        "data": identity.get("data"),
        "precision": settings.get("precisions"),
    }
    if device != "cpu":  # the threads of the host and its instructions are not the device's
        return common | {"device": own.get("name"), "driver": own.get("driver"), "memory": _size(own)}
    return common | {
        "device": _cpu(host),
        "cores": host.get("physical_cores") or host.get("cpu_cores"),
        "threads": host.get("threads"),
        "instruction set": host.get("cpu_capability"),
        "disk": perf.get("disk") if isinstance(perf.get("disk"), str) else None,
        "memory": _size(host),
    }


def _cpu(host: Mapping[str, Scalar]) -> Scalar:
    """The CPU by name and kind: in virtual machines, CPUs of several generations have one name."""
    name, kind = host.get("cpu_model"), host.get("cpu_kind")
    return f"{name} ({kind})" if name and kind else name


def _flat(mapping: object, name: str) -> dict[str, Scalar]:
    """The values of the object `name` in a record that may hold anything."""
    found = mapping.get(name) if isinstance(mapping, Mapping) else None
    items = found.items() if isinstance(found, Mapping) else ()
    return {key: value for key, value in items if isinstance(value, str | int | float)}


def _size(facts: Mapping[str, Any]) -> str | None:
    """The size of a memory in two digits: machines that were bought alike differ by what their firmware keeps."""
    size = facts.get("memory_bytes")
    return f"about {float(f'{size / GIB:.2g}'):,.0f} GiB" if isinstance(size, int | float) else None


def keys_apart(keys: Sequence[Mapping[str, Scalar]]) -> list[str]:
    """For each of several keys of one metric, the fields that tell it from the others: `torch 2.11.0, threads 2`."""
    fields = [name for name in dict.fromkeys(itertools.chain(*keys)) if len({key.get(name) for key in keys}) > 1]
    known = [", ".join(f"{name} {key[name]}" for name in fields if name in key) for key in keys]
    if len(set(known)) == len(known) and all(known):  # what a device does not depend on is not unknown
        return known
    return [", ".join(f"{name} {key.get(name, 'unknown')}" for name in fields) for key in keys]


def model_of(device: str, perf: Mapping[str, Any]) -> str:
    """The name of a device: `NVIDIA H200`; of `cpu`, that of the CPU."""
    return str(_facts(device, perf).get("device"))


def reference_of(spec: Spec, check: str, variant: str, key: Mapping[str, Scalar]) -> Reference | str:
    """The reference in `spec` for a metric with this `key`, or why there is none: the fields that differ."""
    of_metric = [one for one in spec.references if (one.check, one.variant) == (check, variant)]
    differ = {tuple(changed_fields(one.key, key)): one for one in of_metric}
    if () in differ:
        return differ[()]
    if not differ:
        return f"{spec.source} has no reference for it"
    fewest: tuple[str, ...] = min(differ, key=lambda fields: len(fields))
    return f"{UNLIKE} {spec.source}: {', '.join(fewest)}"
