"""A measured reference: the value that good machines reached in each metric, and how much they differed.

It also has digests of the exact weights that a training must produce. `python -m perf spec` makes the file from the
qualifications of good machines; `--perf-spec=FILE` judges a machine by the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from perf.harness.record import checksum
from perf.harness.record.read import SPEC, convert, decode, read_text
from perf.harness.record.run import RecordError, Run
from perf.harness.record.values import Count, Positive, Scalar
from perf.harness.record.write import write_text
from perf.here import offline

# Fewer machines, or runs of one machine, do not tell how much good machines differ.
LEAST = 3
VERSION = 2
UNKEYED = 1  # the version whose references were keyed by the name of the device alone


@dataclass(frozen=True)
class Reference:
    """One metric: `value` is the median over `machines`, in `unit`, from `runs` runs in all.

    `spread` is how much they differ, as a standard deviation of their logarithms: 0.06 is 6%. `key` has all that the
    metric depends on: it judges only where all of these are equal.
    """

    check: str
    variant: str
    unit: str
    value: Positive
    spread: Annotated[float, Meta(ge=0)]
    runs: Count
    machines: Count
    key: Mapping[str, Scalar]

    @property
    def device_name(self) -> str:
        return str(self.key.get("device"))

    @property
    def rests_on(self) -> str:
        """What the value rests on: `5 machines`, `3 runs of 1 machine`."""
        if self.machines >= LEAST:
            return f"{self.machines} machines"
        return f"{self.runs} runs of {self.machines} machine{'s' * (self.machines != 1)}"


@dataclass(frozen=True)
class Spec:
    """The content of a spec file; `source` is the name of the file.

    `digests` are the digests of the weights after a training. Each key names all that these weights depend on.
    """

    source: str
    references: tuple[Reference, ...]
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def devices(self) -> list[str]:
        """The device models that have a reference."""
        return list(dict.fromkeys(one.device_name for one in self.references))

    def knows(self, device_name: str) -> bool:
        """Whether the spec has a reference or a digest for this device model."""
        return device_name in self.devices or any(f", {device_name}" in key for key in self.digests)


class _Document(Struct, frozen=True):
    references: tuple[Reference, ...]
    digests: dict[str, str] = {}


def write(path: Path, spec: Spec, runs: Sequence[Run] = ()) -> None:
    """Write `spec`, and from which `runs` it was made, to `path`. Raises RecordError if the file cannot be written."""
    root = {SPEC: VERSION, "references": [asdict(one) for one in spec.references], "digests": dict(spec.digests)}
    root["made_from"] = [
        {"file": run.file_name, "host": run.host, "datetime": run.datetime, "checksum": run.perf.get(checksum.CHECKSUM)}
        for run in runs
    ]
    root |= {checksum.CHECKSUM: checksum.of(root)}
    write_text(path, json.dumps(root, indent=1, ensure_ascii=False) + "\n")


def load_spec(path: Path) -> Spec:
    """Read the spec file `path`. Raises RecordError, and no other error, if the file is not a spec."""
    source = str(path)
    root = decode(read_text(path), source)
    if isinstance(root, dict) and root.get(SPEC) == UNKEYED:
        raise RecordError(
            source, "", "of an older Stepwatch, and does not say what its values depend on; make it again from the "
            f"same records with {offline('spec')}"
        )  # fmt: skip
    if not isinstance(root, dict) or root.get(SPEC) != VERSION:
        raise RecordError(source, "", f"not a spec of version {VERSION}; make one with {offline('spec')}")
    if root.pop(checksum.CHECKSUM, None) not in (None, checksum.of(root)):
        raise RecordError(
            source, "", "was changed since it was made; make it again from the same records with "
            f"{offline('spec')}, or remove its `{checksum.CHECKSUM}` if you mean the change"
        )  # fmt: skip
    found = convert(root, _Document, source)
    if not found.references and not found.digests:
        raise RecordError(source, "", "has no references")
    return Spec(path.name, found.references, found.digests)
