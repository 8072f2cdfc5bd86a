"""`python -m perf COMMAND`: what can be done with recorded runs, without measuring and without torch.

A command is one function from its arguments to an exit code, and one `_add_…` function that declares the arguments.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from perf.harness.record.read import load
from perf.harness.record.run import RecordError, one_line
from perf.harness.record.write import write_text
from perf.harness.report import FORMATS, PAGE, UnknownReference, encodable, render

# As pytest has it: what was asked for cannot be done.
EXIT_USAGE = 4
# As shells count: 128 + SIGINT, 128 + SIGPIPE.
EXIT_INTERRUPT, EXIT_PIPE = 130, 141


class _Parser(argparse.ArgumentParser):
    """argparse exits with 2 on a wrong option, which is pytest's code for an interrupt."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {one_line(message)}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` (None: of this process); returns the exit code. argparse may raise SystemExit."""
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except (RecordError, UnknownReference) as error:
        print(f"python -m perf: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        # Whoever read has had enough; Python must not complain about it at exit (docs: library/signal).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m perf", description="Work with the recorded runs of Stepwatch.")

    def help_(arguments: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    parser.set_defaults(run=help_)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_report(commands)
    return parser


def _add_report(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "report",
        help="print what one or several runs say",
        description="Print what one or several runs say: the JSON files of `pytest perf/ --benchmark-json=FILE`, "
        "of other machines too.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="JSON of a run")
    parser.add_argument(
        "--reference",
        metavar="DEVICE",
        help="what speedups are over: cpu, cuda, or A:cpu, B:cuda, … of several files (default: the first cpu)",
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="github: Markdown (default: %(default)s)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write there instead of to the terminal")
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    runs = [load(path) for path in arguments.files]
    to_file = arguments.output is not None
    width = PAGE if to_file else min(PAGE, shutil.get_terminal_size((PAGE, 0)).columns)
    text = render(runs, format=arguments.format, reference=arguments.reference, width=width) + "\n"
    if to_file:
        write_text(arguments.output, text)
    else:
        sys.stdout.write(encodable(text, sys.stdout.encoding or "utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
