"""In: text. Out: a file with all of the text, or the old file unchanged. Used for records and command output."""

from __future__ import annotations

import os
from pathlib import Path

from perf.harness.record.run import RecordError


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Replace the file `path` by `text` (UTF-8, `\\n` line ends) in one step: no reader ever sees half of the text.

    `mode` is the permissions of the file; None leaves them to the system.

    Raises RecordError if the file cannot be written. Then the old file stays, and no temporary file is left.
    """
    try:
        target = path.resolve()  # write to the target of a link, not over the link
        if target.exists() and not target.is_file():
            # Replacing would turn a device such as /dev/null into a plain file.
            raise RecordError(str(path), "", "cannot be written: not a regular file")
        _replace(target, text, mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, a lone surrogate in the text
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecordError(str(path), "", f"cannot be written: {reason}") from error


def _replace(target: Path, text: str, mode: int | None) -> None:
    # Not `tempfile`: its files are private (0600), and the new file would keep that mode.
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
