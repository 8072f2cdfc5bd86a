"""In: rows. Out: one table per kind of benchmark, in plain words, with only the columns that say something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from perf.harness.record.run import Scalar, finite
from perf.harness.report import units
from perf.harness.report.layout import Column, Notes, Table
from perf.harness.report.rows import PLAIN_PIPELINE, SMOKE, Comparison, Row
from perf.harness.stats import Ratio, Summary

NOTHING = "–"


def tables(comparison: Comparison) -> list[Table]:
    """One table per kind, then memory and start-up, then what is not ours."""
    kinds = [_table(list(rows), comparison.reference) for _, rows in groupby(comparison.rows, lambda row: row.kind)]
    return [*kinds, *_resources(comparison.rows), *_foreign(comparison.foreign)]


def title(rows: Sequence[Row]) -> str:
    """The kind of `rows` in plain words."""
    words = rows[0].kind.replace("_", " ").capitalize()
    epochs = {row.benchmark.number("epochs") for row in rows}
    number = epochs.pop() if len(epochs) == 1 else None
    if number is not None:
        words += f" ({units.count(number)} epoch{'s' * (number != 1)})"
    smoke = [row.profile == SMOKE for row in rows]
    # Of mixed rows, each says its profile in a column.
    return f"{words} – {'' if all(smoke) else 'partly '}SMOKE" if any(smoke) else words


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


def _ratios(row: Row) -> tuple[Ratio | None, Ratio | None]:
    return row.speedup, row.pipeline_speedup


def _table(rows: Sequence[Row], reference: str | None) -> Table:
    across = any(row.speedup for row in rows)
    columns = [
        *_identity(rows),
        Column("time", _cells(rows, lambda row: time(row.summary))),
        Column("samples/s", _cells(rows, lambda row: _shown(units.rate, row.samples_per_s)), spare=2),
    ]
    if across:
        columns.append(Column(f"speedup vs {reference}", _cells(rows, _speedup)))
    columns += [
        # Where both speedups are there, the second goes without its interval for want of width.
        Column(f"vs {PLAIN_PIPELINE}", _cells(rows, lambda row: _over_plain(row, across)), spare=3),
        Column("bound by", _cells(rows, _bound), right=False, spare=1),
        Column("accuracy", _cells(rows, lambda row: _shown(_accuracy, row.benchmark.number("accuracy")))),
        Column("final loss", _cells(rows, _final_loss), spare=4),
    ]
    return Table(title(rows), tuple(column for column in columns if _says_something(column)))


def _identity(rows: Sequence[Row]) -> list[Column]:
    """The columns that tell the rows apart; what is the same in all rows is said in the header."""
    workloads = [row.workload for row in rows]
    columns = [
        Column(name, tuple(_scalar(workload[name]) for workload in workloads), right=False, flexible=True)
        for name in ("model", "data set", "profile", "precision", "epochs")
        if len({workload[name] for workload in workloads}) > 1
    ]
    columns += [
        Column("batch", _cells(rows, lambda row: _shown(units.batch, row.batch_size))),
        Column("pipeline", _cells(rows, lambda row: row.pipeline or ""), right=False, flexible=True),
        Column("device", _cells(rows, lambda row: row.label), right=False, flexible=True),
    ]
    timings = _cells(rows, lambda row: row.benchmark.text("timing") or "")
    if len(set(timings)) > 1:
        columns.append(Column("timing", timings, right=False, flexible=True, spare=5))
    alike = list(zip(*(column.cells for column in columns), strict=True))
    if len(set(alike)) < len(alike):
        columns.insert(0, Column("name", _cells(rows, lambda row: row.benchmark.name), right=False, flexible=True))
    return columns


def _resources(rows: Sequence[Row]) -> list[Table]:
    """The slowest first call and the highest memory of each kind on each device: they hardly vary within it."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.label), []).append(row)
    lines = [(title(group), label, _cold_start(group), _peak(group)) for (_, label), group in groups.items()]
    lines = [line for line in lines if line[2] or line[3]]
    if not lines:
        return []
    kinds, labels, starts, peaks = zip(*lines, strict=True)
    columns = (
        Column("benchmark", kinds, right=False, flexible=True),
        Column("device", labels, right=False, flexible=True),
        Column("first call, at most", starts),
        Column("peak memory, at most", peaks),
    )
    return [Table("Start-up and memory", tuple(column for column in columns if _says_something(column)))]


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
        Column("file", _cells(rows, lambda row: row.letter), right=False),
        Column("name", _cells(rows, lambda row: row.benchmark.name), right=False, flexible=True),
        Column("median", _cells(rows, lambda row: units.seconds(row.summary.median))),
        Column("spread", _cells(rows, lambda row: _shown(_spread, row.summary.spread))),
        Column("rounds", _cells(rows, lambda row: units.count(row.summary.rounds))),
    )
    return [Table("Other benchmarks", tuple(column for column in columns if _says_something(column)))]


def _cells(rows: Sequence[Row], cell: Callable[[Row], str]) -> tuple[str, ...]:
    return tuple(cell(row) for row in rows)


def _says_something(column: Column) -> bool:
    return any(cell not in ("", NOTHING, units.ONE) for cell in column.cells)


def _shown(form: Callable[[float], str], value: float | None) -> str:
    return "" if value is None else form(value)


def _scalar(value: Scalar) -> str:
    number = finite(value)
    return units.count(number) if number is not None else str(value or "")


def time(summary: Summary) -> str:
    """A median time and its spread: 812 µs ±3%."""
    text = units.seconds(summary.median)
    return text if summary.spread is None else f"{text} {_spread(summary.spread)}"


def _spread(value: float) -> str:
    return f"±{units.percent(value)}"


def _speedup(row: Row) -> str:
    if row.reference:
        return units.ONE
    return NOTHING if row.speedup is None else units.ratio(row.speedup)


def _over_plain(row: Row, short: bool) -> str:
    if row.pipeline == PLAIN_PIPELINE:
        return units.ONE
    if row.pipeline_speedup is None:
        return NOTHING
    return units.times(row.pipeline_speedup.point) if short else units.ratio(row.pipeline_speedup)


def _bound(row: Row) -> str:
    found = row.bound
    if found is None:
        return ""
    return found.by if found.share is None else f"{found.by} {units.percent(found.share)}"


def _accuracy(value: float) -> str:
    """One more digit than a share of time: accuracies differ in it."""
    return f"{100 * value:.1f}%" if 0 <= value <= 1 else ""


def _final_loss(row: Row) -> str:
    if row.kind != "training_run":
        return ""
    return _shown(units.significant, row.benchmark.number("loss_last"))
