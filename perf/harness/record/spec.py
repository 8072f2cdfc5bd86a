"""A measured reference: what machines that are known to be good reached, metric by metric, how much they differed, and
the exact bits to which training must come.

`python -m perf spec` makes the file from their qualifications; `--perf-spec=FILE` judges by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from perf.harness.record.read import convert, decode, read_text
from perf.harness.record.run import RecordError
from perf.harness.record.values import Count, Positive
from perf.harness.record.write import write_text

KEY = "stepwatch_spec"
VERSION = 1


@dataclass(frozen=True)
class Reference:
    """One metric on one model of device: the median over `runs` runs, in `unit`, and the standard deviation between
    the runs as a share of it (None for one run)."""

    check: str
    variant: str
    device_name: str
    unit: str
    value: Positive
    spread: Annotated[float, Meta(ge=0)] | None
    runs: Count


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


class _Document(Struct, frozen=True):
    references: tuple[Reference, ...]
    digests: dict[str, str] = {}


def write(path: Path, spec: Spec) -> None:
    """Raises RecordError where the file cannot be written."""
    root = {KEY: VERSION, "references": [asdict(one) for one in spec.references], "digests": dict(spec.digests)}
    write_text(path, json.dumps(root, indent=1, ensure_ascii=False) + "\n")


def load_spec(path: Path) -> Spec:
    """Raises RecordError, and nothing else, where `path` is no spec."""
    source = str(path)
    root = decode(read_text(path), source)
    if not isinstance(root, dict) or root.get(KEY) != VERSION:
        raise RecordError(source, "", f"not a spec of version {VERSION}; make one with python -m perf spec")
    found = convert(root, _Document, source)
    if not found.references and not found.digests:
        raise RecordError(source, "", "has no references")
    return Spec(path.name, found.references, found.digests)
