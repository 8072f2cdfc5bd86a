"""`python -m perf COMMAND`: work with recorded runs, and try what the gate can detect on this machine.

`python STEPWATCH/perf COMMAND` does the same from any folder.

The commands are in `perf/commands/`, one per module. This module has what they share: options, errors, exit codes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

if __package__ in (None, ""):  # called as `python STEPWATCH/perf`, from any folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from perf.here import offline
from perf.needs import missing

if absent := missing():
    sys.exit(f"{offline()}: {absent}")

from perf.commands import baseline, compare, report, selftest, spec, trend
from perf.commands.output import EXIT_INTERRUPT, EXIT_USAGE
from perf.harness.record.run import RecordError, one_line
from perf.harness.report import UnknownReference
from perf.harness.verdict.stored_runs import Incomparable

# The code that shells use: 128 + SIGPIPE.
EXIT_PIPE = 141


class _Parser(argparse.ArgumentParser):
    """Exits with EXIT_USAGE on a wrong option. argparse would exit with 2, which is pytest's code for an interrupt."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {one_line(message)}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (None: this process's), and return the exit code. argparse may raise SystemExit."""
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except (RecordError, UnknownReference, Incomparable) as error:
        print(one_line(f"{offline()}: {error}"), file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        # The reader has closed the pipe. Python must not report an error for that at exit (docs: library/signal).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=offline(), description="Work with the recorded runs of Stepwatch, and try its gate.")

    def help_(arguments: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    parser.set_defaults(run=help_)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (report, compare, trend, baseline, spec, selftest):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
