"""A measured reference: what machines that are known to be good reached, metric by metric, how much they differed, and
the exact bits to which training must come.

`python -m perf spec` makes the file from their qualifications; `--perf-spec=FILE` judges by it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perf.harness.record.check import BUSY_CORES, Check, CheckVerdict
from perf.harness.record.read import read_text
from perf.harness.record.run import RecordError, Run, finite
from perf.harness.record.write import write_text

KEY = "stepwatch_spec"
VERSION = 1
TEXTS = ("check", "variant", "device_name", "unit")


@dataclass(frozen=True)
class Reference:
    """One metric on one model of device: the median over `runs` runs, in `unit`, and the standard deviation between
    the runs as a share of it (None for one run)."""

    check: str
    variant: str
    device_name: str
    unit: str
    value: float
    spread: float | None
    runs: int


@dataclass(frozen=True)
class Spec:
    """What a spec file says; `source` is its name. `digests` are those of the weights that a training comes to, by all
    that they depend on."""

    source: str
    references: tuple[Reference, ...]
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def devices(self) -> list[str]:
        """The models of the devices that it has a reference of."""
        return list(dict.fromkeys(one.device_name for one in self.references))

    def knows(self, device_name: str) -> bool:
        """Whether anything of such a device can be held against it."""
        return device_name in self.devices or any(f", {device_name}" in key for key in self.digests)

    def find(self, check: str, variant: str, device_name: str) -> Reference | None:
        wanted = (check, variant, device_name)
        return next((one for one in self.references if (one.check, one.variant, one.device_name) == wanted), None)


def make(runs: Sequence[Run]) -> Spec:
    """What qualifications say together, without what `left_out` names. Raises RecordError where one is none, or none to
    trust, or where they differ in what must not."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    digests: dict[str, str] = {}
    for run in runs:
        if reason := why_no_reference(run):
            raise RecordError(run.source, "", f"cannot serve as a reference: {reason}")
        for check in run.checks:
            if _is_reference(check) and not _doubtful(check):
                key = (check.check, check.variant, device_name(run, check.device), check.unit)
                found.setdefault(key, []).append(float(check.value or 0.0))
            if (digest := check.details.get("digest")) is not None:
                of = str(check.details.get("digest_key"))
                if digests.setdefault(of, str(digest)) != digest:
                    raise RecordError(run.source, "", f"trains to other bits than the runs before it: {of}")
    if not found and not digests:
        raise RecordError(", ".join(run.source for run in runs), "", "no metric that a machine could be held against")
    references = tuple(
        Reference(*key, statistics.median(values), _spread(values), len(values)) for key, values in found.items()
    )
    return Spec("", references, digests)


def why_no_reference(run: Run) -> str | None:
    """Why no other machine may be held against this run, or None where it may."""
    if run.qualification is None:
        return "not a run of pytest perf/ --perf-profile=qualify"
    if any(check.injected for check in run.checks):
        return "a fault was planted in it"
    for check in run.checks:
        if check.verdict is CheckVerdict.FAIL:
            return f"{check.name} on {check.device} is FAIL"
        if check.check == "preconditions" and check.verdict is CheckVerdict.INCONCLUSIVE:
            return f"{check.reason}; measure again when nothing else runs"
    return None


def left_out(run: Run) -> list[str]:
    """The metrics of `run` that are no reference, each with its reason: other programs had a part of the cores."""
    return [f"{check.name} on {check.device}: {check.reason}" for check in run.checks if _doubtful(check)]


def _is_reference(check: Check) -> bool:
    """Whether it is a metric with a unit and an interval: no count, and no bare ratio, which have bars of their own."""
    return bool(check.unit) and check.value is not None and check.value > 0 and check.low is not None


def _doubtful(check: Check) -> bool:
    crowded = check.crowding is not None and check.crowding > BUSY_CORES
    return _is_reference(check) and (crowded or check.verdict is CheckVerdict.INCONCLUSIVE)


def device_name(run: Run, device: str) -> str:
    """The model of a device of `run`: `NVIDIA H200`, or the CPU's."""
    if device == "cpu":
        return str(run.perf.get("environment", {}).get("cpu_model"))
    facts = run.perf.get("devices", {}).get(device, {})
    return str(facts.get("name")) if isinstance(facts, dict) else device


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(map(math.log, values)) if len(values) > 1 else None


def write(path: Path, spec: Spec) -> None:
    """Raises RecordError where the file cannot be written."""
    root = {KEY: VERSION, "references": [asdict(one) for one in spec.references], "digests": dict(spec.digests)}
    write_text(path, json.dumps(root, indent=1, ensure_ascii=False) + "\n")


def load_spec(path: Path) -> Spec:
    """Raises RecordError, and nothing else, where `path` is no spec."""
    source = str(path)
    try:
        root = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordError(source, "", f"not JSON: {error}") from None
    if not isinstance(root, dict) or root.get(KEY) != VERSION or not isinstance(root.get("references"), list):
        raise RecordError(source, "", f"not a spec of version {VERSION}; make one with python -m perf spec")
    digests = root.get("digests", {})
    if not isinstance(digests, dict) or not all(isinstance(digest, str) for digest in digests.values()):
        raise RecordError(source, "digests", "expected an object of texts")
    references = tuple(_reference(item, i, source) for i, item in enumerate(root["references"]))
    if not references and not digests:
        raise RecordError(source, "", "has no references")
    return Spec(path.name, references, digests)


def _reference(item: Any, i: int, source: str) -> Reference:
    place = f"references[{i}]"
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in TEXTS):
        raise RecordError(source, place, f"expected an object with {', '.join(TEXTS)}")
    value, spread, runs = finite(item.get("value")), finite(item.get("spread")), item.get("runs")
    if value is None or value <= 0 or not isinstance(runs, int) or (spread is not None and spread < 0):
        raise RecordError(source, place, "expected a value above 0, a spread of 0 or more, and a number of runs")
    check, variant, device, unit = (str(item[key]) for key in TEXTS)
    return Reference(check, variant, device, unit, value, spread, runs)
