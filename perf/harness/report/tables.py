"""In: rows. Out: one table per kind of benchmark, in plain words, with only the columns that say something."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from perf.harness.report import capacity, modes, units
from perf.harness.report.cells import bound_by, cells, differing, identity, over, saying, shown, spread, time, title
from perf.harness.report.layout import Column, Notes, Table
from perf.harness.report.rows import MODE, PLAIN_PIPELINE, Comparison, Key, Row
from perf.harness.statistics.intervals import Ratio


def tables(comparison: Comparison) -> list[Table]:
    """Training steps by mode, one table per kind of the rest, then memory and start-up, then what is not ours."""
    by_mode, rest = modes.split(comparison.rows)
    kinds = [_table(list(rows), comparison.reference) for _, rows in groupby(rest, lambda row: row.kind)]
    steps = modes.tables(by_mode, comparison.reference)
    memory = capacity.tables(comparison.untimed)
    return [*steps, *kinds, *_resources(comparison.rows), *memory, *_foreign(comparison.foreign)]


def footnotes(comparison: Comparison) -> list[Notes]:
    """What the columns mean, as far as they are there."""
    rows = [*comparison.rows, *comparison.foreign]
    notes = []
    if any(row.summary.spread is not None for row in rows):
        notes.append("time: median, ± half the interquartile range.")
    if any(ratio is not None and ratio.low is not None for row in rows for ratio in _ratios(row)):
        notes.append(
            "[…]: 95% interval of the ratio of medians, from within one run; two runs of the same code differ by more."
        )
    bounds = {bound.by for row in rows if (bound := row.bound) is not None}
    notes += [text for names, text in BOUNDS if bounds & names]
    if any(row.benchmark.number("peak_bytes") for row in comparison.rows):
        notes.append("peak memory: of torch's allocator on an accelerator, of the whole process on a CPU.")
    notes += [*modes.notes(comparison), *capacity.notes(comparison.untimed)]
    return [Notes(tuple(notes))] if notes else []


BOUNDS = (
    (
        {"overhead", "compute"},
        "bound by overhead: the fixed cost of a call, whatever the batch; compute: the work on the samples.",
    ),
    ({"launch", "device"}, "bound by launch: the host cannot enqueue faster; device: the device is busy."),
    (
        {"input", "step"},
        "bound by input: the share of an epoch spent waiting for and copying batches; step: the training steps.",
    ),
)


def _ratios(row: Row) -> tuple[Ratio | None, ...]:
    return row.speedup, row.pipeline_speedup, row.mode_speedup


def _table(rows: Sequence[Row], reference: str | None) -> Table:
    across = any(row.speedup for row in rows)
    columns = [
        *identity(rows),
        Column("time", cells(rows, lambda row: time(row.summary))),
        Column("samples/s", cells(rows, lambda row: shown(units.rate, row.samples_per_s)), spare=2),
    ]
    if across:
        of_device = cells(rows, lambda row: over(row.speedup, is_base=row.reference))
        columns.append(Column(f"speedup vs {reference}", of_device))
    piped = across or any(row.pipeline_speedup for row in rows)
    # Of several speedups, only the first has its interval, for want of width.
    of_pipeline = cells(
        rows, lambda row: over(row.pipeline_speedup, is_base=row.pipeline == PLAIN_PIPELINE, short=across)
    )
    columns += [
        Column(f"vs {PLAIN_PIPELINE}", of_pipeline, spare=3),
        modes.over_plain(rows, short=piped),
        Column("bound by", cells(rows, bound_by), right=False, spare=1),
        Column("accuracy", cells(rows, lambda row: shown(_accuracy, row.benchmark.number("accuracy")))),
        Column("final loss", cells(rows, _final_loss), spare=4),
    ]
    return Table(title(rows), saying(columns))


def _resources(rows: Sequence[Row]) -> list[Table]:
    """The slowest first call and the highest memory of each kind on each device: they hardly vary within it.

    Where there are modes, of each network and mode.
    """
    names = () if all(row.plain for row in rows) else ("model", *MODE)
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.label, *(row.workload[name] for name in names)), []).append(row)
    lines = [(group, _cold_start(group), _peak(group)) for group in groups.values()]
    lines = [line for line in lines if line[1] or line[2]]
    if not lines:
        return []
    known, starts, peaks = zip(*lines, strict=True)
    firsts = [group[0] for group in known]
    columns = (
        Column("benchmark", tuple(map(title, known)), right=False, flexible=True),
        *differing(firsts, names),
        Column("device", cells(firsts, lambda row: row.label), right=False, flexible=True),
        Column("first call, at most", starts),
        # With more columns, too wide for 80; the tables by mode have it, too.
        Column("peak memory, at most", peaks, spare=1 if names else 0),
    )
    return [Table("Start-up and memory", saying(columns))]


def _cold_start(rows: Sequence[Row]) -> str:
    found = [start for row in rows if (start := row.benchmark.number("cold_start_s")) and start > 0]
    return units.seconds(max(found)) if found else ""


def _peak(rows: Sequence[Row]) -> str:
    found = [(peak, row.batch_size) for row in rows if (peak := row.benchmark.number("peak_bytes")) and peak > 0]
    if not found:
        return ""
    peak, batch = max(found, key=lambda pair: pair[0])
    return units.size(peak) + (f" (batch {units.batch(batch)})" if batch is not None else "")


def _foreign(rows: Sequence[Row]) -> list[Table]:
    if not rows:
        return []
    columns = (
        Column("file", cells(rows, lambda row: row.letter), right=False),
        Column("name", cells(rows, lambda row: row.benchmark.name), right=False, flexible=True),
        Column("median", cells(rows, lambda row: units.seconds(row.summary.median))),
        Column("spread", cells(rows, lambda row: shown(spread, row.summary.spread))),
        Column("rounds", cells(rows, lambda row: units.count(row.summary.rounds))),
    )
    return [Table("Other benchmarks", saying(columns))]


def _accuracy(value: float) -> str:
    """One more digit than a share of time: accuracies differ in it."""
    return f"{100 * value:.1f}%" if 0 <= value <= 1 else ""


def _final_loss(row: Row) -> str:
    if row.kind != "training_run":
        return ""
    return shown(units.significant, row.benchmark.number("loss_last"))
