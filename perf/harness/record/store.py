"""Where a run is kept: one file, rewritten after each benchmark, which gets its number once the run is whole.

`partial_<time>_<pid>.json` is a run going on, killed, failed, or of a part of the cases: it can be reported and named
in `--benchmark-compare=…`, but a plain `--benchmark-compare` does not take it. `0001_<name>.json` is a whole run, in
pytest-benchmark's own naming.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.harness.record.run import PARTIAL, RecordError
from perf.harness.record.write import write_text

# No write takes this long: what is older was left by a run that was killed.
WRITING_S = 600
NUMBERED = "[0-9][0-9][0-9][0-9]_*.json"


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities, which it cannot, become None; unknown objects their text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return str(value)


def keep(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the file by `document`, at once: a reader sees the old one or the new one. Raises RecordError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(str(path), "", f"cannot be written: {error.strerror}") from error
    write_text(path, json.dumps(plain(document), indent=1))


def numbered(folder: Path) -> list[Path]:
    """The whole runs in `folder`, oldest first."""
    return sorted(folder.glob(NUMBERED))


class RunFile:
    """The file of one run in `folder`; `stamp` tells it from other runs at the same time."""

    def __init__(self, folder: Path, stamp: str) -> None:
        self.stamp = stamp
        self.path = folder / f"{PARTIAL}{stamp}.json"

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the file by `document`, at once: a reader sees the old one or the new one. Raises RecordError."""
        keep(self.path, document)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what runs left that were killed while they wrote."""
        now = self.path.stat().st_mtime
        for litter in self.path.parent.glob(".*.partial"):
            with contextlib.suppress(FileNotFoundError):  # another run sweeps too
                if now - litter.stat().st_mtime > WRITING_S:
                    litter.unlink()

    def number(self, name: str) -> Path:
        """Give the file the next number in its folder, under `name`: the run is whole."""
        number = 1 + max((int(path.name[:4]) for path in numbered(self.path.parent)), default=0)
        self.path = self.path.replace(self.path.with_name(f"{number:04}_{name}.json"))
        return self.path
