"""In: histories of runs. Out: text: for each case its last time, the change since the first, and a plot."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Sequence

from perf.harness.record.run import Run, short_name, some_of, told_apart
from perf.harness.record.values import Scalar
from perf.harness.report import quantities
from perf.harness.report.export import csv_table
from perf.harness.report.facts import machine
from perf.harness.report.layout import PLOT, Block, Column, Heading, Notes, Table, formatted
from perf.harness.report.verdicts import change
from perf.harness.verdict.stored_runs import SHORT_COMMIT, several_hosts
from perf.harness.verdict.trend import CHANCE, History, Trend

FORMATS = ("terminal", "github", "csv", "json")
# The columns of the CSV: a row for each point, with the lasting change that begins there.
POINT = ("history", "gates", "benchmark", "file", "datetime", "commit", "seconds", "change")
# The plot is so wide [columns]; of more runs, some share a column.
WIDTH = 24
# The whole height of a plot is at least this ratio, so that noise looks like noise.
LEAST_HEIGHT = math.log(1.1)
NOTES = (
    "plot: the oldest run is on the left. From bottom to top is a factor of 1.1 or more.",
    "changed: advice, no verdict. If runs do not depend on each other, at most "
    f"{CHANCE:.0%} of histories show a change by chance. It takes about 15 runs to see one.",
)


def render_trends(found: Sequence[History], skipped: Sequence[str], *, width: int, format: str = "terminal") -> str:
    """The report on the histories in one of FORMATS; `skipped` says what was not read, and why."""
    if format == "json":
        made = {"histories": [_record(history) for history in found], "not_read": list(skipped)}
        return json.dumps(made, indent=1, allow_nan=False, ensure_ascii=True)
    if format == "csv":
        return csv_table([point for number, one in enumerate(found, start=1) for point in _points(number, one)], POINT)
    several = [history for history in found if len(history.runs) > 1]
    blocks: list[Block] = [Heading("Stepwatch: trend"), *(block for history in several for block in _blocks(history))]
    if alone := [history.runs[0].file_name for history in found if len(history.runs) == 1]:
        blocks.append(
            Notes([f"Without a trend, each the only run of its machine, settings and benchmarks: {some_of(alone)}."])
        )
    return formatted([*blocks, *([Notes(NOTES)] if several else []), *_skipped(skipped)], format, width, FORMATS)


def _skipped(skipped: Sequence[str]) -> list[Block]:
    return [Notes(["Not read:", *skipped])] if skipped else []


def _blocks(history: History) -> list[Block]:
    first, last = history.runs[0], history.runs[-1]
    kind = "gate" if history.gates else "run"
    what = " (times of head)" if history.gates else " of a part" if first.unfit else ""
    title = f"{quantities.counted(len(history.runs), kind)}{what}, {_day(first)} to {_day(last)}"
    names = _names(history)
    columns = (
        Column.names("benchmark", names),
        Column("runs", [str(len(trend.points)) for trend in history.trends]),
        Column("last", [quantities.seconds(trend.points[-1].seconds) for trend in history.trends]),
        Column("since first", [change(trend.since_first) for trend in history.trends]),
        Column.words("plot", [_plot(trend) for trend in history.trends], spare=1),
        Column.words("changed", [_newest(trend) for trend in history.trends]),
    )
    about = "; ".join(filter(None, [machine(last) or "an unknown machine", _made_with(last)]))
    told = [f"{name}: {_told(trend)}" for name, trend in zip(names, history.trends, strict=True) if trend.changes]
    return [Notes([about, *several_hosts(history.runs)]), Table(title, columns), *([Notes(told)] if told else [])]


def _names(history: History) -> list[str]:
    full = [trend.name for trend in history.trends]
    return told_apart(list(map(short_name, full)), full)


def _made_with(run: Run) -> str:
    """What else tells this history from others: profile, network and data."""
    keys = ("profile", "model", "data")
    known = run.fingerprint
    return ", ".join(f"{key} {known[key]}" for key in keys if known.get(key))


def _day(run: Run) -> str:
    return run.datetime[:10] or "unknown date"


def _newest(trend: Trend) -> str:
    """The newest change, and how many there were before."""
    if not trend.changes:
        return quantities.NONE
    last, *earlier = reversed(trend.changes)
    return f"{change(last.ratio)}, {len(earlier)} more" if earlier else change(last.ratio)


def _told(trend: Trend) -> str:
    """Each change with the commit from which on it shows."""
    return "; ".join(f"{change(one.ratio)} from {_place(one.first)} on" for one in trend.changes)


def _place(run: Run) -> str:
    return f"{_day(run)} ({run.commit[:SHORT_COMMIT]})" if run.commit else f"{_day(run)} ({run.file_name})"


def _plot(trend: Trend) -> str:
    logs = [math.log(point.seconds) for point in trend.points]
    columns = min(WIDTH, len(logs))
    ends = [round(place * len(logs) / columns) for place in range(columns + 1)]
    levels = [statistics.median(logs[a:b]) for a, b in itertools.pairwise(ends)]
    low, high = min(levels), max(levels)
    spare = max(0.0, LEAST_HEIGHT - (high - low)) / 2
    scale = (len(PLOT) - 1) / (high - low + 2 * spare)
    return "".join(PLOT[round((level - low + spare) * scale)] for level in levels)


def _points(number: int, history: History) -> list[dict[str, Scalar]]:
    made: list[dict[str, Scalar]] = []
    for trend in history.trends:
        changes = {one.first.source: one.ratio for one in trend.changes}
        for point in trend.points:
            run = point.run
            values = (number, history.gates, trend.name, run.source, run.datetime, run.commit, point.seconds)
            made.append(dict(zip(POINT, (*values, changes.get(run.source)), strict=True)))
    return made


def _record(history: History) -> dict[str, object]:
    return {
        "gates": history.gates,
        "fingerprint": {key: value for key, value in history.runs[-1].fingerprint.items()},
        "benchmarks": [
            {
                "name": trend.name,
                "since_first": trend.since_first,
                "runs": [
                    {"file": point.run.source, "datetime": point.run.datetime, "commit": point.run.commit,
                     "seconds": point.seconds}
                    for point in trend.points
                ],
                "changes": [{"file": one.first.source, "ratio": one.ratio} for one in trend.changes],
            }
            for trend in history.trends
        ],
    }  # fmt: skip
