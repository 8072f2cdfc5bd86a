"""`python -m perf report`: print the results of one or several runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.commands.inputs import each_once
from perf.commands.output import EXIT_USAGE, add_output, deliver, width
from perf.harness.record.read import load
from perf.harness.record.run import RecordError, Run, one_line
from perf.harness.record.spec import load_spec
from perf.harness.report import FORMATS, fleet, render
from perf.harness.verdict.rejudged import rejudged
from perf.harness.verdict.tally import standing_exit
from perf.here import offline

# Qualifications in one report: a page of each of more is longer than anybody reads.
MANY = 10


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "report",
        help="print the results of one or several runs",
        description="Print what one or several runs say: the JSON files of `pytest perf/ --benchmark-json=FILE`, "
        "also from other machines. Exit code: 0; with --spec, that of the worst verdict on a machine; 4 if a file "
        "cannot be read.",
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
    parser.add_argument(
        "--brief",
        action=argparse.BooleanOptionalAction,
        help=f"of several qualifications, print the table of the machines only (default: of more than {MANY})",
    )
    add_output(parser)
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    each_once(arguments.files)
    spec = None if arguments.spec is None else load_spec(arguments.spec)
    runs: list[Run] = []
    unread: list[RecordError] = []
    for path in arguments.files:
        try:
            run = load(path)
            runs.append(run if spec is None else rejudged(run, spec))
        except RecordError as error:
            unread.append(error)
    # Without one of its files, a comparison would be another; the verdicts on the machines of a fleet are their own.
    if unread and not (runs and all(run.qualification for run in runs)):
        raise unread[0]
    page = {"format": arguments.format, "width": width(arguments.output)}
    brief = _is_long(runs, arguments) if arguments.brief is None else arguments.brief
    if brief:
        text = fleet(_qualifications(runs, arguments.format, arguments.reference), **page)
    else:
        text = render(runs, reference=arguments.reference, **page)
    deliver(text, arguments.output, format=arguments.format)
    if brief and arguments.brief is None:
        print(f"{offline()}: only the table, of more than {MANY} machines; --no-brief prints all", file=sys.stderr)
    for why in unread:
        print(one_line(f"{offline()}: not in this report: {why}"), file=sys.stderr)
    if unread:
        return EXIT_USAGE
    return 0 if spec is None else standing_exit(run.qualification.standing for run in runs if run.qualification)


def _is_long(runs: Sequence[Run], arguments: argparse.Namespace) -> bool:
    """Whether a report for people would have a page for each of too many machines."""
    for_people = arguments.format not in ("csv", "json") and arguments.reference is None
    return for_people and len(runs) > MANY and all(run.qualification for run in runs)


def _qualifications(runs: Sequence[Run], format: str, reference: str | None) -> Sequence[Run]:
    """`runs`, if --brief can be said of them. Raises RecordError otherwise."""
    if reference is not None:
        raise RecordError("--reference", "", "is of speedups, and --brief prints none: leave one of them out")
    if format in ("csv", "json"):
        raise RecordError("--brief", "", f"is for people: leave it out with --format={format}")
    if other := next((run for run in runs if run.qualification is None), None):
        why = "is no qualification, and --brief prints only those: leave out the file, or --brief"
        raise RecordError(other.source, "", why)
    if len(runs) < 2:
        raise RecordError("--brief", "", "needs two qualifications or more")
    return runs
