"""The file of a run: rewritten after each benchmark, and numbered once the run is whole.

`partial_<time>_<random>.json` is a run that is still going on, was killed, failed, or measured only a part of the
cases. A report can read the file, and `--benchmark-compare=…` can name it; a plain `--benchmark-compare` ignores it.
`0001_<name>.json` is a whole run, named as pytest-benchmark names its files.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.harness.record.run import PARTIAL, RecordError
from perf.harness.record.write import write_text

# No write takes this long [s]: an older temporary file was left by a run that was killed.
WRITING_S = 600
# More than a qualification, a gate or a run without very many rounds keeps.
TRIAL_BYTES = 2**20
NUMBERED = "[0-9][0-9][0-9][0-9]_*.json"


def plain(value: Any) -> Any:
    """Convert `value` to JSON types: NaN and infinities become None, unknown objects become their text."""
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
    """Replace the file by `document` in one step: a reader sees the old or the new document. Raises RecordError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(str(path), "", f"cannot be written: {error.strerror}") from error
    write_text(path, json.dumps(plain(document), indent=1))


def claim(path: Path) -> None:
    """Create the file `path`, empty. Raises RecordError if it exists: no run overwrites the record of another one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("x").close()
    except OSError as error:
        raise RecordError(str(path), "", f"cannot be written: {error.strerror}") from error


def try_folder(folder: Path) -> None:
    """Write TRIAL_BYTES to a file in `folder`, and remove it. Raises RecordError if that fails, or the disk is full."""
    path = folder / f".{secrets.token_hex(4)}.partial"
    try:
        claim(path)
        write_text(path, TRIAL_BYTES * " ")
    except RecordError as error:
        raise RecordError(str(folder), "", str(error).rpartition(f"{path}: ")[2]) from None
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def numbered(folder: Path) -> list[Path]:
    """The whole runs in `folder`, oldest first."""
    return sorted(folder.glob(NUMBERED))


class RunFile:
    """The file of one run in `folder`; `stamp` distinguishes it from other runs at the same time."""

    def __init__(self, folder: Path, stamp: str) -> None:
        self.stamp = stamp
        self.path = folder / f"{PARTIAL}{stamp}.json"
        self.numbered = False

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the file by `document` in one step: a reader sees the old or the new document. Raises RecordError."""
        keep(self.path, document)
        self._sweep()

    def _sweep(self) -> None:
        """Remove the temporary files of runs that were killed while they wrote."""
        now = self.path.stat().st_mtime
        for litter in self.path.parent.glob(".*.partial"):
            with contextlib.suppress(FileNotFoundError):  # another run may remove the file first
                if now - litter.stat().st_mtime > WRITING_S:
                    litter.unlink()

    def number(self, name: str) -> Path:
        """Rename the file of a whole run to the next number in its folder plus `name`. Returns the new path.

        Another run that ends at the same time, also on another machine that shares the folder, is not overwritten.
        """
        number = 1 + max((int(path.name[:4]) for path in numbered(self.path.parent)), default=0)
        while not _renamed(self.path, target := self.path.with_name(f"{number:04}_{name}.json")):
            number += 1
        self.path, self.numbered = target, True
        return target


def _renamed(path: Path, target: Path) -> bool:
    """Rename a file. Returns False, and does nothing, if the `target` exists: a plain rename would replace it."""
    try:
        os.link(path, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            target.open("x").close()
        except FileExistsError:
            return False
        path.replace(target)
        return True
    path.unlink()
    return True
