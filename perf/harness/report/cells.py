"""In: rows. Out: the cells and columns that the tables share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perf.harness.record.run import Scalar, finite
from perf.harness.report import units
from perf.harness.report.layout import Column
from perf.harness.report.rows import MODE, PLAIN_MODE, SMOKE, Row
from perf.harness.statistics.intervals import Ratio, Summary

NOTHING = "–"
PLAIN = {name: {plain} for name, plain in zip(MODE, PLAIN_MODE, strict=True)}


def title(rows: Sequence[Row], more: str = "") -> str:
    """The kind of `rows` in plain words, and `more`."""
    words = rows[0].kind.replace("_", " ").capitalize() + more
    epochs = {row.benchmark.number("epochs") for row in rows}
    number = epochs.pop() if len(epochs) == 1 else None
    if number is not None:
        words += f" ({units.count(number)} epoch{'s' * (number != 1)})"
    smoke = [row.profile == SMOKE for row in rows]
    # Of mixed rows, each says its profile in a column.
    return f"{words} – {'' if all(smoke) else 'partly '}SMOKE" if any(smoke) else words


def identity(rows: Sequence[Row]) -> list[Column]:
    """The columns that tell the rows apart; what is the same in all rows is said in the header."""
    columns = [
        *differing(rows, ("model", "data set", "profile", *MODE, "epochs")),
        Column("batch", cells(rows, lambda row: shown(units.batch, row.batch_size))),
        Column("pipeline", cells(rows, lambda row: row.pipeline or ""), right=False, flexible=True),
        Column("device", cells(rows, lambda row: row.label), right=False, flexible=True),
    ]
    timings = cells(rows, lambda row: row.benchmark.text("timing") or "")
    if len(set(timings)) > 1:
        columns.append(Column("timing", timings, right=False, flexible=True, spare=5))
    alike = list(zip(*(column.cells for column in columns), strict=True))
    if len(set(alike)) < len(alike):
        columns.insert(0, Column("name", cells(rows, lambda row: row.benchmark.name), right=False, flexible=True))
    return columns


def differing(rows: Sequence[Row], names: Sequence[str]) -> list[Column]:
    """Those parts of the workload that differ between the rows; a mode that all share, too, if it is not plain."""
    workloads = [row.workload for row in rows]
    return [
        Column(name, tuple(_scalar(workload[name]) for workload in workloads), right=False, flexible=True)
        for name in names
        if len({workload[name] for workload in workloads} | PLAIN.get(name, set())) > 1
    ]


def cells(rows: Sequence[Row], cell: Callable[[Row], str]) -> tuple[str, ...]:
    return tuple(cell(row) for row in rows)


def saying(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that say something."""
    return tuple(column for column in columns if any(cell not in ("", NOTHING, units.ONE) for cell in column.cells))


def shown(form: Callable[[float], str], value: float | None) -> str:
    return "" if value is None else form(value)


def _scalar(value: Scalar) -> str:
    number = finite(value)
    return units.count(number) if number is not None else str(value or "")


def time(summary: Summary) -> str:
    """A median time and its spread: 812 µs ±3%."""
    text = units.seconds(summary.median)
    return text if summary.spread is None else f"{text} {spread(summary.spread)}"


def spread(value: float) -> str:
    return f"±{units.percent(value)}"


def over(found: Ratio | None, *, is_base: bool, short: bool = False) -> str:
    """A speedup; `short`: without its interval."""
    if is_base:
        return units.ONE
    if found is None:
        return NOTHING
    return units.times(found.point) if short else units.ratio(found)


def bound_by(row: Row) -> str:
    found = row.bound
    if found is None:
        return ""
    return found.by if found.share is None else f"{found.by} {units.percent(found.share)}"
