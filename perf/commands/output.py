"""In: text. Out: the text in a file, or on the terminal, in its width and its characters."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from perf.harness.record.write import write_text
from perf.harness.report import PAGE, encodable

# pytest's code for a wrong usage.
EXIT_USAGE = 4
# The code that shells use: 128 + SIGINT.
EXIT_INTERRUPT = 130


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", type=Path, help="write there instead of to the terminal")


def width(output: Path | None = None) -> int:
    """The width [columns] of a page for the file `output`, or for the terminal."""
    return PAGE if output is not None else min(PAGE, shutil.get_terminal_size((PAGE, 0)).columns)


def deliver(text: str, output: Path | None = None) -> None:
    """Write `text` and a line end. Raises RecordError if the file cannot be written."""
    if output is not None:
        write_text(output, text + "\n")
    else:
        sys.stdout.write(encodable(text + "\n", sys.stdout.encoding or "utf-8"))
