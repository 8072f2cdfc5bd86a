"""`python -m perf spec`: make a spec from qualifications of good machines, by which other machines are judged."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from perf.commands.inputs import each_once
from perf.commands.output import deliver, spare, width
from perf.harness.record import RecordError
from perf.harness.record.read import load
from perf.harness.record.spec import write
from perf.harness.report.qualification import references
from perf.harness.verdict.by_spec import spec_bar
from perf.harness.verdict.references import references_of
from perf.harness.verdict.rejudged import rejudged
from perf.here import suite


def add(commands: argparse._SubParsersAction[Any]) -> None:
    about = "make a reference for --perf-spec from qualifications of machines that are known to be good"
    parser = commands.add_parser("spec", help=about, description=f"{about.capitalize()}.")
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="JSON of a qualification")
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="the spec to write")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse runs that are not whole, conclusive and of a quiet machine (default: skip and list them)",
    )
    parser.set_defaults(run=_spec)


def _spec(arguments: argparse.Namespace) -> int:
    each_once(arguments.files)
    spare(arguments.output, "a run")
    runs, unread = [], []
    for path in arguments.files:
        try:
            runs.append(load(path))
        except RecordError as error:
            if arguments.strict or len(arguments.files) == 1 or not path.exists():
                raise
            unread.append(str(error))
    if not runs:
        raise RecordError(f"{len(unread)} files", "", f"none of them can be read: {'; '.join(unread)}")
    made = references_of(runs, strict=arguments.strict)
    write(arguments.output, made.spec, made.used)
    bars = [spec_bar(one, arguments.output.name) for one in made.spec.references]
    judged = [rejudged(run, replace(made.spec, source=arguments.output.name)) for run in made.used]
    skipped = [*unread, *made.skipped]
    deliver(references(made.spec, bars, str(arguments.output), width(), skipped, made.left_out, judged, suite()))
    return 0
