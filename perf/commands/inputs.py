"""In: the files that a user has named. Out: the same, if none is named twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perf.harness.record import RecordError


def each_once(paths: Sequence[Path]) -> list[Path]:
    """The `paths`, resolved. Raises RecordError if two are the same file: a run that counts twice is a wrong result."""
    files = [path.resolve() for path in paths]
    for path, file in zip(paths, files, strict=True):
        if files.count(file) > 1:
            raise RecordError(str(path), "", "is given more than once; give each run once")
    return files
