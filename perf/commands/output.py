"""In: text. Out: the text in a file, or on the terminal, in its width and its characters."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from perf.harness.record import RecordError
from perf.harness.record.read import keeps
from perf.harness.record.write import write_text
from perf.harness.report import FORMATS, PAGE, WIDE_PAGE, encodable
from perf.here import local

# pytest's code for a wrong usage.
EXIT_USAGE = 4
# The code that shells use: 128 + SIGINT.
EXIT_INTERRUPT = 130


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", type=Path, help="write there instead of to the terminal")


def width(output: Path | None = None) -> int:
    """The width [columns] of a page for the file `output`, or for the terminal."""
    return PAGE if output is not None else min(WIDE_PAGE, shutil.get_terminal_size((PAGE, 0)).columns)


def spare(output: Path, *those: str) -> None:
    """Raise RecordError if `output` keeps one of `those`, as `keeps` names them: it took time to measure."""
    if (found := keeps(output)) in those:
        raise RecordError(str(output), "", f"--output would overwrite {found}; name another file")


def deliver(text: str, output: Path | None = None, *, format: str = FORMATS[0]) -> None:
    """Write `text` and a line end. Raises RecordError if the file or the standard output cannot be written.

    A file that keeps a run or a spec is not replaced.
    The commands of a page for the terminal work in the current folder.
    """
    if output is not None:
        spare(output, "a run", "a spec")
        write_text(output, text + "\n")
    else:
        text = local(text) if format == FORMATS[0] else text
        try:
            sys.stdout.write(encodable(text + "\n", sys.stdout.encoding or "utf-8"))
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has had enough
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left in its buffer
            raise RecordError("standard output", "", f"cannot be written: {error.strerror}") from error
