"""In: accepted baselines. Out: what they hold, and what changes where one replaces another."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from perf.harness.record.run import Baseline, Medians, Run
from perf.harness.report import units
from perf.harness.report.layout import Block, Column, Fixed, Heading, Paragraph, Table, page
from perf.harness.report.verdicts import NONE, change, short_name

# As git shortens a commit.
SHORT_COMMIT = 10


def listing(found: Sequence[tuple[str, Run]], storage: str, width: int) -> str:
    """Every baseline in `storage`, each with the folder of its fingerprint."""
    if not found:
        return page([Paragraph(f"No baseline in {storage}.")], width)
    known = [(folder, _of(run)) for folder, run in found]
    columns = (
        Column("name", tuple(one.name for _, one in known), right=False, flexible=True),
        Column("runs", tuple(str(len(one.runs)) for _, one in known)),
        Column("accepted", tuple(_date(one.accepted) for _, one in known), right=False),
        Column("fingerprint", tuple(folder for folder, _ in known), right=False, flexible=True),
    )
    return page([Table(f"Baselines in {storage}", columns)], width)


def detail(run: Run, width: int) -> str:
    """One baseline: its runs, and the median and spread of each benchmark between them."""
    baseline = _of(run)
    blocks: list[Block] = [
        Heading(summary(baseline)),
        Fixed((f"file         {run.source}", f"fingerprint  {run.perf.get('fingerprint_id')}"), hang=13),
        Table(
            "Runs",
            (
                Column("run", tuple(one.source for one in baseline.runs), right=False, flexible=True),
                Column("date", tuple(_date(one.datetime) for one in baseline.runs), right=False),
                Column("commit", tuple(one.commit[:SHORT_COMMIT] or NONE for one in baseline.runs), right=False),
            ),
        ),
        _benchmarks(baseline.runs),
        Paragraph("time: geometric mean of the runs' medians, ± their standard deviation between runs."),
    ]
    return page(blocks, width)


def accepted(run: Run, replaced: Run | None, width: int) -> str:
    """What `run` now stands for, and what it replaces."""
    blocks: list[Block] = [Heading(f"Accepted: {summary(_of(run))}"), Fixed((run.source,), hang=4)]
    if replaced is not None:
        blocks.append(Paragraph(f"It replaces: {summary(_of(replaced))}."))
        blocks += _changes(_of(replaced), _of(run))
    return page(blocks, width)


def removed(path: str, run: Run | None, width: int) -> str:
    """What is no more; `run` is None where it could not be read."""
    what = "it could not be read" if run is None else summary(_of(run))
    return page([Fixed((f"Removed {path}: {what}.",), hang=4)], width)


def summary(baseline: Baseline) -> str:
    runs = len(baseline.runs)
    return f"baseline {baseline.name}, {runs} run{'s' * (runs != 1)}, of {_date(baseline.accepted)}"


def _changes(before: Baseline, now: Baseline) -> list[Block]:
    old, new = _times(before.runs), _times(now.runs)
    ratios = {name: _middle(new[name]) / _middle(old[name]) for name in new if name in old}
    names = sorted(ratios, key=lambda name: -ratios[name])
    blocks: list[Block] = []
    if names:
        times = tuple(f"{units.seconds(_middle(old[name]))} → {units.seconds(_middle(new[name]))}" for name in names)
        columns = (
            Column("benchmark", tuple(map(short_name, names)), right=False, flexible=True),
            Column("before → now", times, spare=1),
            Column("change", tuple(change(ratios[name]) for name in names)),
        )
        blocks.append(Table("Medians", columns))
    blocks.append(Paragraph(f"compared {len(names)} · gone {len(old) - len(names)} · new {len(new) - len(names)}"))
    return blocks


def _benchmarks(runs: Sequence[Medians]) -> Table:
    times = _times(runs)
    return Table(
        "Benchmarks",
        (
            Column("benchmark", tuple(map(short_name, times)), right=False, flexible=True),
            Column("time", tuple(f"{units.seconds(_middle(found))}{_spread(found)}" for found in times.values())),
            Column("runs", tuple(str(len(found)) for found in times.values())),
        ),
    )


def _times(runs: Sequence[Medians]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, seconds in run.seconds.items():
            found.setdefault(name, []).append(seconds)
    return found


def _middle(times: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, times)))


def _spread(times: Sequence[float]) -> str:
    if len(times) < 2:
        return ""
    return f" ±{units.percent(math.exp(statistics.stdev(map(math.log, times))) - 1)}"


def _of(run: Run) -> Baseline:
    """What `run` was accepted as; a run by itself stands for one."""
    return run.baseline or Baseline(run.file_name, run.datetime, run.medians)


def _date(text: str) -> str:
    """`2026-11-23 12:32` of an ISO date."""
    return text[:16].replace("T", " ")
