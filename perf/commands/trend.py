"""`python -m perf trend`: how the times of stored runs and gates have changed over the commits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from perf.commands.output import EXIT_USAGE, add_output, deliver, width
from perf.harness.record.baseline import PREFIX, STORAGE
from perf.harness.record.read import load
from perf.harness.record.run import RecordError, Run, one_line, some_of
from perf.harness.report.trend import FORMATS, render_trends
from perf.harness.verdict.acceptance import why_partial
from perf.harness.verdict.trend import histories


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "trend",
        help="show how times have changed over many runs or gates",
        description="Show how the time of each benchmark has changed over stored runs and gates of one machine, and "
        "where. This is advice: the exit code is 0 whatever it finds, and 4 if there is nothing to read, or a file "
        "that you name cannot be read.",
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", type=Path, help="files of runs or gates, or folders (default: .benchmarks)"
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="github: Markdown (default: %(default)s)")
    add_output(parser)
    parser.set_defaults(run=_trend)


def _trend(arguments: argparse.Namespace) -> int:
    runs: list[Run] = []
    unread: list[tuple[Path, str]] = []
    code = 0
    for path, named in _files(arguments.paths or [STORAGE]):
        try:
            run = load(path)
        except RecordError as error:
            unread.append((path, error.why))
            code = EXIT_USAGE if named else code
            continue
        if why := _why_not(run):
            unread.append((path, why))
        else:
            runs.append(run)
    if not runs:
        raise _nothing(arguments.paths or [STORAGE], unread)
    skipped = [f"{path}: {why}" for path, why in unread]
    text = render_trends(histories(runs), skipped, width=width(arguments.output), format=arguments.format)
    deliver(text, arguments.output, format=arguments.format)
    if arguments.format == "csv":  # a table has no room for it
        for why in skipped:
            print(one_line(f"not read: {why}"), file=sys.stderr)
    return code


def _nothing(places: list[Path], unread: list[tuple[Path, str]]) -> RecordError:
    """What to say where no file can be used: each reason once."""
    if [path for path, _ in unread] == places and len(places) == 1:
        return RecordError(str(places[0]), "", unread[0][1])
    files: dict[str, list[str]] = {}
    for path, why in unread:
        files.setdefault(why, []).append(str(path))
    reasons = [f"{some[0] if len(some) == 1 else f'{len(some)} files'}: {why}" for why, some in files.items()]
    said = f"no whole run and no gate here{': ' if reasons else ''}{some_of(reasons)}"
    return RecordError(some_of([*map(str, places)]), "", said)


def _files(paths: list[Path]) -> Iterator[tuple[Path, bool]]:
    """The files, each with whether the user has named it. A baseline repeats runs that are files of their own."""
    for path in paths:
        if path.is_dir():
            yield from ((one, False) for one in sorted(path.rglob("*.json")) if not one.name.startswith(PREFIX))
        else:
            yield path, True


def _why_not(run: Run) -> str | None:
    """Why a run is no part of a history; None if it is. A gate counts whatever its verdicts are."""
    if run.qualification is not None:
        return "a qualification, which times no benchmark"
    if run.gate is not None:
        if not any(judged.head_s for judged in run.judgements):
            return "a gate that has measured nothing"
        return None if run.complete else "the gate did not finish"
    if run.smoke:
        return "a smoke run is too short"
    return why_partial(replace(run, unfit=()))  # a part is a history of its own
