"""`python -m perf compare`: compare a run with stored runs, print the verdicts, and return their exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.commands.output import add_output, deliver, width
from perf.harness.options import effect
from perf.harness.record.read import load
from perf.harness.record.run import RecordError, Run, one_line
from perf.harness.report.commands import gate as side_by_side
from perf.harness.report.verdicts import FORMATS, render_verdicts, way_out
from perf.harness.verdict.stored_runs import Base, compare, medians_of
from perf.harness.verdict.tally import DEFAULT_MIN_EFFECT, EXIT_FAILED, exit_code
from perf.here import offline


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "compare",
        help="say what changed between stored runs and a later one",
        description="Say what changed from the stored runs BASE to the run HEAD, all of one machine with the same "
        "settings. Exit code: 1 where a benchmark is SLOWER or MISSING, 10 where one is INCONCLUSIVE or NOT "
        "JUDGED YET, else 0.",
    )
    parser.add_argument("bases", metavar="BASE", nargs="+", type=Path, help="JSON of a run, or of a baseline")
    parser.add_argument("head", metavar="HEAD", type=Path, help="JSON of the run to judge")
    parser.add_argument(
        "--min-effect",
        metavar="SHARE",
        type=_effect,
        default=DEFAULT_MIN_EFFECT,
        help=f"the smallest slowdown that matters (default: {DEFAULT_MIN_EFFECT:.1%})".replace("%", "%%"),
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="github: Markdown (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="show what is the same, however many")
    add_output(parser)
    parser.set_defaults(run=_compare)


def _effect(text: str) -> float:
    try:
        return effect(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.head.resolve() in (base.resolve() for base in arguments.bases):
        raise RecordError(
            str(arguments.head), "", "is both BASE and HEAD, and a run does not differ from itself: name two runs"
        )
    bases, head = [load(path) for path in arguments.bases], load(arguments.head)
    found = compare(bases, head, arguments.min_effect)
    if not found.overlap:
        if other := next((run for run in (*bases, head) if run.qualification), None):
            how = f"{offline('report --spec=FILE')} judges it"
            raise RecordError(str(other.source), "", f"is a qualification, which has no benchmark: {how}")
        print(one_line(f"{offline()}: {_nothing_shared(bases, head)}"), file=sys.stderr)
        return EXIT_FAILED
    base = Base.of("", bases)
    same = base.commit == head.commit != "" and not head.dirty  # then there are no two sides
    text = render_verdicts(
        found.judgements,
        width=width(arguments.output),
        verbose=arguments.verbose,
        format=arguments.format,
        notes=found.notes,
        skipped=found.skipped,
        unselected=found.unselected,
        last=way_out(found.judgements, "", side_by_side(head, base.git_ref) if head.perf and not same else ""),
    )
    deliver(text, arguments.output, format=arguments.format)
    return exit_code(found.judgements)


def _nothing_shared(bases: Sequence[Run], head: Run) -> str:
    shared = f"{bases[-1].source} and {head.source} have no benchmark in common"
    names = [next(iter(medians_of(run)[-1].seconds), "nothing") for run in (bases[-1], head)]
    return f"{shared}: {names[0][:80]} … and {names[1][:80]} …"
