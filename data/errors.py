"""The error that a user of this package sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DataError(Exception):
    """The data cannot be used: the message says what is wrong, where, and what to do."""


@contextmanager
def system_errors_explained(root: Path) -> Iterator[None]:
    """Turn OSErrors from work under a data root (no permission, disk full) into DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot use the data root {root} ({error}). Free disk space or give write permission there, "
            "or choose another data root: --perf-data-root=DIR for the benchmarks, --data-root=DIR elsewhere."
        ) from error
