"""In: rows. Out: one table for each kind of benchmark, without the columns that say nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from perf.harness.record.run import finite, told_apart
from perf.harness.report import quantities
from perf.harness.report.layout import Column, Table
from perf.harness.report.phrases import network
from perf.harness.statistics.intervals import Ratio, Summary
from perf.harness.verdict.fastest import by_mode, grouped
from perf.harness.verdict.rows import PLAIN_MODE, PLAIN_PIPELINE, Row
from perf.harness.verdict.speedups import Speedups
from perf.harness.workload import benchmarks

MEMORY = {
    "weight_bytes": "weights",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "activation_bytes": "activations",
    "peak_bytes": "peak",
}


def tables(found: Speedups) -> list[Table]:
    """Training steps by mode, one table for each other kind, then start-up and memory, then benchmarks of others."""
    in_modes = by_mode(found.rows)
    shown = set(map(id, in_modes))
    networks = groupby(in_modes, network)
    kinds = groupby((row for row in found.rows if id(row) not in shown), lambda row: row.kind)
    return [
        *(_by_mode(name, list(rows), found.reference) for name, rows in networks),
        *(_of_kind(list(rows), found.reference) for _, rows in kinds),
        *_resources(found.rows),
        *_memory([row for row in found.untimed if row.kind == "memory"]),
        *_foreign(found.foreign),
    ]


def table_title(rows: Sequence[Row], more: str = "") -> str:
    """The title of a table: the kind of `rows` in plain words, `more`, the epochs, and SMOKE."""
    words = benchmarks.title(rows[0].kind) + more
    epochs = {row.benchmark.number("epochs") for row in rows}
    number = epochs.pop() if len(epochs) == 1 else None
    if number is not None:
        words += f" ({quantities.counted(number, 'epoch')})"
    smoke = [row.smoke for row in rows]
    # If only some rows are from a smoke run, a column shows which rows.
    return f"{words} – {'' if all(smoke) else 'partly '}SMOKE" if any(smoke) else words


def _of_kind(rows: Sequence[Row], reference: str | None) -> Table:
    across = any(row.speedup for row in rows)
    piped = across or any(row.pipeline_speedup for row in rows)
    columns = [*_identity(rows), *_times(rows)]
    if across:
        of_device = _cells(rows, lambda row: _over(row.speedup, is_base=row.reference))
        columns.append(Column(f"speedup vs {reference}", of_device))
    # The page has room for the interval of only one speedup, and for no interval if times are of two kinds.
    short = across or any(row.kinds for row in rows)
    of_pipeline = _cells(
        rows, lambda row: _over(row.pipeline_speedup, is_base=row.pipeline == PLAIN_PIPELINE, short=short)
    )
    columns += [
        Column(f"vs {PLAIN_PIPELINE}", of_pipeline, spare=3),
        _over_plain(rows, short=piped),
        Column.words("bound by", _cells(rows, _bound_by), spare=1),
        *_costs(rows),
        Column("accuracy", _cells(rows, lambda row: _number(row, "accuracy", _accuracy))),
        *_metrics(rows),
        Column("final loss", _cells(rows, _final_loss), spare=4),
    ]
    return Table(table_title(rows), _saying(columns))


def _by_mode(name: str, rows: Sequence[Row], reference: str | None) -> Table:
    """The steps of one network by batch size, execution, precision and device. A row has room for one interval."""
    labels = {row.label for row in rows}
    columns = [column for column in _identity(rows) if column.title != "device" or len(labels) > 1]
    columns.sort(key=lambda column: column.title != "batch")
    flop = _cells(rows, lambda row: _shown(lambda value: quantities.large(value, "").rstrip(), row.flop_per_s))
    columns += [*_times(rows), Column("FLOP/s", flop, spare=3), *_costs(rows), _over_plain(rows)]
    if across(rows):
        over = _cells(rows, lambda row: _over(row.full_speedup, is_base=row.reference and row.plain, short=True))
        columns.append(Column(f"vs {reference}", over, spare=1))
    columns += [
        Column.words("bound by", _cells(rows, _bound_by), spare=4),
        Column("peak memory", _cells(rows, lambda row: _above_0(row, "peak_bytes", quantities.size)), spare=5),
        Column("first call", _cells(rows, first_call), spare=6),
    ]
    where = f" on {rows[0].label}" if len(labels) == 1 else ""
    return Table(table_title(rows, f" by mode: {name}{where}"), _saying(columns))


def across(rows: Sequence[Row]) -> bool:
    """Whether a row of another device has a speedup over the reference device."""
    return any(row.full_speedup for row in rows if not row.reference)


def _resources(rows: Sequence[Row]) -> list[Table]:
    """The slowest first call and the highest memory of each kind on each device. They hardly vary within a kind.

    If there are modes other than eager fp32, there is one row for each network and mode.
    """
    names = () if all(row.plain for row in rows) else ("model", *PLAIN_MODE)
    groups = grouped(rows, lambda row: (row.kind, row.label, *(row.workload[name] for name in names)))
    known = [group for group in groups if _cold_start(group) or _peak(group)]
    firsts = [group[0] for group in known]
    columns = (
        Column.names("benchmark", [table_title(group) for group in known]),
        *_differing(firsts, names),
        Column.names("device", _cells(firsts, lambda row: row.label)),
        Column("first call, at most", list(map(_cold_start, known))),
        # With more columns, the table is too wide for 80 characters. The tables by mode also have this column.
        Column("peak memory, at most", list(map(_peak, known)), spare=1 if names else 0),
    )
    return [Table("Start-up and memory", _saying(columns))] if known else []


def _cold_start(rows: Sequence[Row]) -> str:
    found = [start for row in rows if (start := row.benchmark.number("cold_start_s")) and start > 0]
    return quantities.seconds(max(found)) if found else ""


def _peak(rows: Sequence[Row]) -> str:
    found = [(peak, row.batch_size) for row in rows if (peak := row.benchmark.number("peak_bytes")) and peak > 0]
    if not found:
        return ""
    peak, batch = max(found, key=lambda pair: pair[0])
    return quantities.size(peak) + (f" (batch {quantities.batch(batch)})" if batch is not None else "")


def _memory(rows: Sequence[Row]) -> list[Table]:
    """The memory that each training step of the benchmark `memory` takes."""
    columns = [Column(name, [_number(row, key, quantities.size) for row in rows]) for key, name in MEMORY.items()]
    return [Table(table_title(rows, " of a training step"), _saying([*_identity(rows), *columns]))] if rows else []


def _foreign(rows: Sequence[Row]) -> list[Table]:
    columns = (
        Column.words("file", _cells(rows, lambda row: row.letter)),
        Column.names("name", _names(rows)),
        Column("median", _cells(rows, lambda row: quantities.seconds(row.summary.median))),
        Column("spread", _cells(rows, lambda row: _shown(_spread, row.summary.spread))),
        Column("rounds", _cells(rows, lambda row: quantities.count(row.summary.rounds))),
    )
    return [Table("Other benchmarks", _saying(columns))] if rows else []


def _names(rows: Sequence[Row]) -> list[str]:
    """The name of each row; where two of one file are equal, the full names."""
    found: list[str] = []
    for _, of_file in groupby(rows, lambda row: row.letter):
        benchmarks = [row.benchmark for row in of_file]
        found += told_apart([one.name for one in benchmarks], [one.fullname for one in benchmarks])
    return found


def _identity(rows: Sequence[Row]) -> list[Column]:
    """The columns that tell the rows apart; the header says what is the same in all rows."""
    columns = [
        *_differing(rows, ("model", "data set", "profile", *PLAIN_MODE, "epochs")),
        Column("batch", _cells(rows, lambda row: _shown(quantities.batch, row.batch_size))),
        Column.names("pipeline", _cells(rows, lambda row: row.pipeline or "")),
        Column.names("device", _cells(rows, lambda row: row.label)),
    ]
    timings = _cells(rows, lambda row: row.benchmark.text("timing") or "")
    if len(set(timings)) > 1:
        columns.append(Column.names("timing", timings, spare=5))
    alike = list(zip(*(column.cells for column in columns), strict=True))
    if len(set(alike)) < len(alike):
        columns.insert(0, Column.names("name", _cells(rows, lambda row: row.benchmark.name)))
    return columns


def _differing(rows: Sequence[Row], names: Iterable[str]) -> list[Column]:
    """The parts of the workload that differ between the rows, and a mode that all rows share if it is not plain."""
    workloads = [row.workload for row in rows]
    found = []
    for name in names:
        values = [workload[name] for workload in workloads]
        if len({*values, PLAIN_MODE.get(name, values[0] if values else None)}) > 1:
            found.append(Column.names(name, list(map(_scalar, values))))
    return found


def _scalar(value: object) -> str:
    number = finite(value)
    return quantities.count(number) if number is not None else str(value or "")


def _times(rows: Sequence[Row]) -> list[Column]:
    return [
        Column("time", _cells(rows, _time_of)),
        Column.words("mark", _cells(rows, lambda row: " ".join(row.marks))),
        Column(*_rates(rows), spare=2),
    ]


def _rates(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """The title and the cells of the throughput: what all tasks of the table count, or samples."""
    units = {row.benchmark.text("unit") for row in rows}
    unit = units.pop() if len(units) == 1 else None
    if unit is None:
        return "samples/s", _cells(rows, lambda row: _shown(quantities.rate, row.samples_per_s))
    return f"{unit}/s", _cells(rows, lambda row: _shown(quantities.rate, row.units_per_s))


def _costs(rows: Sequence[Row]) -> list[Column]:
    """What a step reaches of the device's matrix products, and the energy that a sample takes."""
    return [
        Column("of matmul", _cells(rows, lambda row: _shown(quantities.percent, row.share_of_matmul)), spare=7),
        Column("J/sample", _cells(rows, lambda row: _shown(quantities.joules, row.j_per_sample)), spare=8),
    ]


def _metrics(rows: Sequence[Row]) -> list[Column]:
    """One column for each number that a task's `metrics(batches)` gave."""
    found = [row.benchmark.numbers("metrics") for row in rows]
    names = dict.fromkeys(name for one in found for name in one)
    return [Column(name, [_shown(quantities.significant, one.get(name)) for one in found], spare=2) for name in names]


def _over_plain(rows: Sequence[Row], *, short: bool = False) -> Column:
    """The speedup of the mode of each row over eager fp32; with `short`, without the interval."""
    over = _cells(rows, lambda row: _over(row.mode_speedup, is_base=row.plain, short=short))
    return Column("vs eager fp32", over, spare=2 * short)


def _cells(rows: Sequence[Row], cell: Callable[[Row], str]) -> list[str]:
    return list(map(cell, rows))


def _saying(columns: Sequence[Column]) -> list[Column]:
    """The columns that have a cell that says something."""
    silent = ("", quantities.NONE, quantities.ONE)
    return [column for column in columns if any(cell not in silent for cell in column.cells)]


def _shown(form: Callable[[float], str], value: float | None) -> str:
    return "" if value is None else form(value)


def _number(row: Row, key: str, form: Callable[[float], str]) -> str:
    return _shown(form, row.benchmark.number(key))


def _above_0(row: Row, key: str, form: Callable[[float], str]) -> str:
    return _number(row, key, lambda value: form(value) if value > 0 else "")


def _time_of(row: Row) -> str:
    """The time of a row: `812 µs ±3.0%`; if some of its passes were slow, `552 ms or 950 ms (2 of 5)`."""
    if (kinds := row.kinds) is None:
        passes = f" ({quantities.counted(row.few_passes, 'pass', 'passes')})" if row.few_passes else ""
        return _time(row.summary) + passes
    fast, slow = map(quantities.seconds, (kinds.fast, kinds.slow))
    return f"{fast} or {slow} ({kinds.slow_passes} of {kinds.passes})"


def _time(summary: Summary) -> str:
    """A median time and its spread: 812 µs ±3.0%."""
    return f"{quantities.seconds(summary.median)} {_shown(_spread, summary.spread)}".rstrip()


def _spread(value: float) -> str:
    """The spread of a time: `±3.0%`. If two passes differ, their interval may be too wide to be of use."""
    return f"±{quantities.percent(value)}" if value < 10 else "±>999%"


def _over(found: Ratio | None, *, is_base: bool, short: bool = False) -> str:
    """A speedup; with `short`, without its interval."""
    if is_base:
        return quantities.ONE
    if found is None:
        return quantities.NONE
    return quantities.times(found.point) if short else quantities.ratio(found)


def _bound_by(row: Row) -> str:
    found = row.bottleneck
    return quantities.NONE if found is None else f"{found.name} {_shown(quantities.percent, found.share)}".rstrip()


def first_call(row: Row) -> str:
    return _above_0(row, "cold_start_s", quantities.seconds)


def _accuracy(value: float) -> str:
    """An accuracy, always with one digit after the point, because accuracies often differ only in that digit."""
    return f"{100 * value:.1f}%" if 0 <= value <= 1 else ""


def _final_loss(row: Row) -> str:
    return _number(row, "loss_last", quantities.significant) if row.kind == "training_run" else ""
