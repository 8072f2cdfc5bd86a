"""`python -m perf report`: print the results of one or several runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from perf.commands.inputs import each_once
from perf.commands.output import add_output, deliver, width
from perf.harness.record.read import load
from perf.harness.record.spec import load_spec
from perf.harness.report import FORMATS, render
from perf.harness.verdict.rejudged import rejudged
from perf.harness.verdict.tally import standing_exit


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "report",
        help="print the results of one or several runs",
        description="Print what one or several runs say: the JSON files of `pytest perf/ --benchmark-json=FILE`, "
        "also from other machines. Exit code: 0; with --spec, that of the worst verdict on a machine.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="JSON of a run")
    parser.add_argument(
        "--reference",
        metavar="DEVICE",
        help="what speedups are over: cpu, cuda, or A:cpu, B:cuda, … of several files (default: the first cpu)",
    )
    parser.add_argument(
        "--spec",
        metavar="FILE",
        type=Path,
        help="judge qualifications by this spec, too, which may have been made later",
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="github: Markdown (default: %(default)s)")
    add_output(parser)
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    each_once(arguments.files)
    runs = [load(path) for path in arguments.files]
    if arguments.spec is not None:
        spec = load_spec(arguments.spec)
        runs = [rejudged(run, spec) for run in runs]
    text = render(runs, format=arguments.format, reference=arguments.reference, width=width(arguments.output))
    deliver(text, arguments.output, format=arguments.format)
    return (
        0 if arguments.spec is None else standing_exit(run.qualification.standing for run in runs if run.qualification)
    )
