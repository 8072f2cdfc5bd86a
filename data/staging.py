"""A work folder for files that must appear complete or not at all.

Only one process at a time works in `<root>/.staging/<name>`: it holds the lock beside it, `<name>.lock`, and renames
the finished files into place. If it is killed, the system releases the lock, and the next process removes what it
left. The lock's library may open other files beside the lock: all of them are in `<root>/.staging`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from data.errors import DataError

_LOCK_TIMEOUT_S: Final = 120.0  # making the digits takes seconds, downloading MNIST rarely more than a minute


def left_over(root: Path, name: str) -> bool:
    """Whether a process is working in the work folder, or was killed while it worked there."""
    return _workplace(root, name).exists()


@contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """An empty folder under `root` that only this process uses; it is removed when the block ends.

    Raises OSError if `root` cannot be written, and DataError if other processes hold the lock for two minutes.
    """
    work = _workplace(root, name)
    try:
        work.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(work.with_suffix(".lock"), timeout=_LOCK_TIMEOUT_S):
            if work.exists():
                shutil.rmtree(work)
            work.mkdir()
            try:
                yield work
            finally:
                shutil.rmtree(work)
    except Timeout as error:
        raise DataError(
            f"another process has been preparing data in {root} for {_LOCK_TIMEOUT_S:.0f} s (lock "
            f"{error.lock_file}). Wait until it is done, or stop it, then run again."
        ) from error


def workshop(root: Path) -> Path:
    """The folder under `root` that has the work folders and the locks."""
    return root / ".staging"


def _workplace(root: Path, name: str) -> Path:
    return workshop(root) / name
