"""In: accepted baselines. Out: text: what they contain, and what changes when one baseline replaces another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perf.harness.record.run import Baseline, Medians, Run, short_name
from perf.harness.report import quantities
from perf.harness.report.layout import Block, Column, Fixed, Heading, Notes, Table, page
from perf.harness.report.verdicts import change
from perf.harness.statistics.intervals import exp, geometric_mean, log_deviation
from perf.harness.verdict.stored_runs import SHORT_COMMIT, medians_of


def listing(found: Sequence[tuple[str, Run]], storage: str, width: int) -> str:
    """Every baseline in `storage`, each with the folder of its fingerprint."""
    if not found:
        return page([Notes([f"No baseline in {storage}."])], width)
    known = [(folder, _of(run)) for folder, run in found]
    columns = (
        Column.names("name", [one.name for _, one in known]),
        Column("runs", [str(len(one.runs)) for _, one in known]),
        Column.words("accepted", [_date(one.accepted) for _, one in known]),
        Column.names("fingerprint", [folder for folder, _ in known]),
    )
    return page([Table(f"Baselines in {storage}", columns)], width)


def detail(run: Run, width: int) -> str:
    """One baseline: its runs, and for each benchmark the mean of the medians and their spread between runs."""
    baseline = _of(run)
    runs, times = baseline.runs, _times(baseline.runs)
    columns = (
        Column.names("run", [one.source for one in runs]),
        Column.words("date", [_date(one.datetime) for one in runs]),
        Column.words("commit", [one.commit[:SHORT_COMMIT] or quantities.NONE for one in runs]),
    )
    benchmarks = (
        Column.names("benchmark", list(map(short_name, times))),
        Column("time", [f"{quantities.seconds(geometric_mean(found))}{_spread(found)}" for found in times.values()]),
        Column("runs", [str(len(found)) for found in times.values()]),
    )
    blocks: list[Block] = [
        Heading(baseline_line(baseline)),
        Fixed([f"file         {run.source}", f"fingerprint  {run.perf.get('fingerprint_id')}"], hang=13),
        Table("Runs", columns),
        Table("Benchmarks", benchmarks),
        Notes(["time: the geometric mean of the runs' medians, ± their standard deviation between runs."]),
    ]
    return page(blocks, width)


def accepted(run: Run, replaced: Run | None, width: int) -> str:
    """The baseline that `run` has become, and the baseline that it replaces, with the changes."""
    blocks: list[Block] = [Heading(f"Accepted: {baseline_line(_of(run))}"), Fixed([run.source], hang=4)]
    if replaced is not None:
        blocks.append(Notes([f"It replaces {baseline_line(_of(replaced))}."]))
        blocks += _changes(_of(replaced), _of(run))
    return page(blocks, width)


def removed(path: str, run: Run | None, width: int) -> str:
    """The baseline that was removed; `run` is None if it could not be read."""
    what = "it could not be read" if run is None else baseline_line(_of(run))
    return page([Fixed([f"Removed {path}: {what}."], hang=4)], width)


def baseline_line(baseline: Baseline) -> str:
    return f"baseline {baseline.name}, {quantities.counted(len(baseline.runs), 'run')}, of {_date(baseline.accepted)}"


def _changes(before: Baseline, now: Baseline) -> list[Block]:
    old, new = _times(before.runs), _times(now.runs)
    ratios = {name: geometric_mean(new[name]) / geometric_mean(old[name]) for name in new if name in old}
    names = sorted(ratios, key=lambda name: -ratios[name])
    blocks: list[Block] = []
    if names:
        times = [" → ".join(quantities.seconds(geometric_mean(side[name])) for side in (old, new)) for name in names]
        columns = (
            Column.names("benchmark", list(map(short_name, names))),
            Column("before → now", times, spare=1),
            Column("change", [change(ratios[name]) for name in names]),
        )
        blocks.append(Table("Medians", columns))
    blocks.append(Notes([f"compared {len(names)} · gone {len(old) - len(names)} · new {len(new) - len(names)}"]))
    return blocks


def _times(runs: Sequence[Medians]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, seconds in run.seconds.items():
            found.setdefault(name, []).append(seconds)
    return found


def _spread(times: Sequence[float]) -> str:
    return f" ±{quantities.percent(exp(log_deviation(times)) - 1)}" if len(times) > 1 else ""


def _of(run: Run) -> Baseline:
    """The baseline that `run` was accepted as. A run that was not accepted counts as a baseline with one run."""
    return run.baseline or Baseline(run.file_name, run.datetime, medians_of(run))


def _date(text: str) -> str:
    """The date and time of an ISO date: `2026-11-23 12:32`."""
    return text[:16].replace("T", " ")
