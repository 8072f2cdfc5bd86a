"""Accepted baselines: `<storage>/<fingerprint id>/baseline-<name>.json`, read-only, and never changed by a run.

A baseline file is the document of its newest run, plus the medians of every accepted run in `perf.baseline`. So
everything that reads a run can read a baseline, and a baseline needs no other file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from perf.harness.record.read import load, read_text
from perf.harness.record.run import Baseline, Medians, RecordError, Run
from perf.harness.record.store import numbered
from perf.harness.record.write import write_text
from perf.here import suite

# Where a run is kept, seen from the folder in which it was started.
STORAGE = Path(".benchmarks")
DEFAULT_NAME = "default"
# This many of the newest runs show how much runs differ. Since older runs, the machine may have changed.
MOST_RUNS = 20
READ_ONLY = 0o444
PREFIX = "baseline-"
NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
# The storage itself, the folder of each fingerprint, and in there pytest-benchmark's folder for system and Python.
DEPTHS = ("", "*/", "*/*/")


def baselines(storage: Path, name: str | None = None) -> list[Path]:
    """The files of the accepted baselines of every fingerprint; with `name`, only those called `name`."""
    return [path for path in _files(storage, f"{PREFIX}*.json") if name in (None, name_of(path))]


def name_of(path: Path) -> str:
    return path.stem.removeprefix(PREFIX)


def baseline(storage: Path, name: str) -> Path:
    """The only baseline called `name`. Raises RecordError if no folder has one, or if several folders do."""
    found = baselines(storage, checked(name))
    if len(found) > 1:
        folders = ", ".join(str(path.parent) for path in found)
        raise RecordError(str(storage), "", f"several baselines {name!r}; name one by --storage: {folders}")
    if not found:
        there = ", ".join(sorted({name_of(path) for path in baselines(storage)})) or "none"
        raise RecordError(str(storage), "", f"no baseline {name!r}; there: {there}")
    return found[0]


def checked(name: str) -> str:
    """Return `name` if it can be part of a file name, otherwise raise RecordError."""
    if not re.fullmatch(NAME, name):
        raise RecordError(repr(name), "", "not a valid name for a baseline: use letters, digits, . _ and -")
    return name


def find_run(storage: Path, wanted: str) -> Path:
    """The file `wanted`, or the only run in `storage` whose name begins with `wanted`. Raises RecordError."""
    if Path(wanted).is_file():
        return Path(wanted)
    if wanted and Path(wanted).is_dir():
        raise RecordError(wanted, "", "is a folder: name a run, or choose the folder with --storage")
    found = [path for path in _files(storage, "*.json") if wanted and path.name.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    several = ", ".join(map(str, found[:3]))
    reason = f"several runs have such a name: {several}; name the file" if found else f"no such run in {storage}"
    raise RecordError(wanted or "''", "", reason)


def stored_run(path: Path) -> Run:
    """The run in the file `path`. Raises RecordError, with what to do about a damaged one."""
    try:
        return load(path)
    except RecordError as error:
        raise RecordError(str(path), "", f"{error.why}; remove that file, or name the runs to accept") from None


def newest_runs(storage: Path) -> list[Path]:
    """The newest whole runs (at most MOST_RUNS) of the fingerprint that was measured last, oldest first.

    Smoke runs are returned only if there are no others. Raises RecordError if there are no whole runs.
    """
    folders = {path.parent for path in _files(storage, "[0-9]*.json") if numbered(path.parent)}
    runs = sorted((numbered(folder) for folder in folders), key=lambda paths: paths[-1].stat().st_mtime, reverse=True)
    if not runs:
        parts = len(_files(storage, "selection-*/[0-9]*.json"))
        of_parts = f", only {parts} of a selection; run the same command without the selection (-k, a file) first"
        reason = of_parts if parts else f"; run {suite()} first"
        raise RecordError(str(storage), "", f"no complete run in this folder{reason}")
    return next((paths for paths in runs if not stored_run(paths[-1]).smoke), runs[0])[-MOST_RUNS:]


def target(storage: Path, run: Run, name: str) -> Path:
    """The path of the baseline `name` for the fingerprint of `run`. Raises RecordError."""
    folder = run.perf.get("fingerprint_id")
    if not isinstance(folder, str) or not re.fullmatch(NAME, folder):
        raise RecordError(run.source, "perf.fingerprint_id", "not a valid folder name")
    inside = storage.name == folder  # --storage names this folder itself
    return (storage if inside else storage / folder) / f"{PREFIX}{checked(name)}.json"


def accept(path: Path, newest: Path, name: str, accepted: str, runs: Sequence[Medians]) -> None:
    """Write the baseline `path`: the document of `newest`, plus the medians of all `runs`. Raises RecordError."""
    document: dict[str, Any] = json.loads(read_text(newest))
    document["perf"]["baseline"] = msgspec.to_builtins(Baseline(name, accepted, tuple(runs)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(str(path), "", f"cannot be written: {error.strerror}") from error
    write_text(path, json.dumps(document, indent=1), READ_ONLY)


def remove(path: Path) -> None:
    """Remove the file. Raises RecordError if the file cannot be removed."""
    try:
        path.unlink()
    except OSError as error:
        raise RecordError(str(path), "", f"cannot be removed: {error.strerror}") from error


def _files(storage: Path, pattern: str) -> list[Path]:
    return sorted(path for depth in DEPTHS for path in storage.glob(depth + pattern) if path.is_file())
