"""In: text. Out: a file that holds all of it, or the file as it was. Records and command output are written here."""

from __future__ import annotations

import os
from pathlib import Path

from perf.harness.record.run import RecordError


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Replaces the file `path` by `text` (UTF-8, `\\n` line ends) in one step: nobody ever reads half of it.

    `mode` is its permissions; None leaves them to the system.

    Raises RecordError where it cannot, and then leaves the old file and no other behind.
    """
    try:
        target = path.resolve()  # a link stays a link
        if target.exists() and not target.is_file():
            # Replacing would turn a device such as /dev/null into a plain file.
            raise RecordError(str(path), "", "cannot be written: not a regular file")
        _replace(target, text, mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, a lone surrogate in the text
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecordError(str(path), "", f"cannot be written: {reason}") from error


def _replace(target: Path, text: str, mode: int | None) -> None:
    # Not `tempfile`: its files are private (0600), and the replaced file would stay so.
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            partial.chmod(mode)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
