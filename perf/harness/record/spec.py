"""A measured reference: what machines that are known to be good reached, metric by metric, how much they differed, and
the exact bits to which training must come.

`python -m perf spec` makes the file from their qualifications; `--perf-spec=FILE` judges by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perf.harness.record.read import read_text
from perf.harness.record.run import RecordError, finite
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
