"""In: rows of training steps. Out: one table per network that was trained in more modes than eager fp32."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

from perf.harness.report import units
from perf.harness.report.cells import bound_by, cells, identity, over, saying, shown, time, title
from perf.harness.report.layout import Column, Table
from perf.harness.report.rows import Comparison, Row
from perf.harness.report.words import network

STEP, COMPILE = "training_step", "compile"


def split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The training steps of those networks that have a mode, and all other rows."""
    networks = {network(row) for row in rows if row.kind == STEP and not row.plain}
    by_mode = [row.kind == STEP and network(row) in networks for row in rows]
    found = list(zip(rows, by_mode, strict=True))
    return [row for row, mine in found if mine], [row for row, mine in found if not mine]


def tables(rows: Sequence[Row], reference: str | None) -> list[Table]:
    """One per network."""
    return [_table(name, list(group), reference) for name, group in groupby(rows, network)]


def over_plain(rows: Sequence[Row], *, short: bool = False) -> Column:
    """What the mode of each row is worth; `short`: without the interval."""
    return Column(
        "vs eager fp32",
        cells(rows, lambda row: over(row.mode_speedup, is_base=row.plain, short=short)),
        spare=2 * short,
    )


def flop_per_s(row: Row) -> float | None:
    """What the step achieves, in FLOP of the network: a mode that does more, or less, is not counted so."""
    flop, rate = row.benchmark.number("flop_per_sample"), row.samples_per_s
    achieved = flop * rate if flop is not None and rate is not None else 0.0
    return achieved if 0 < achieved < math.inf else None


def notes(comparison: Comparison) -> list[str]:
    """What the columns mean, as far as they are there."""
    found = []
    if any(row.mode_speedup for row in comparison.rows):
        found.append("vs eager fp32: on the same device.")
    by_mode, _ = split(comparison.rows)
    if not by_mode:
        return found
    if _across(by_mode):
        found.append(f"vs {comparison.reference}: over its eager fp32.")
    if any(row.mode[0] == COMPILE and row.bound is None for row in comparison.rows):
        found.append("bound by: not known of what is compiled, as its parts cannot be measured one by one.")
    if any(flop_per_s(row) for row in by_mode):
        found.append("FLOP/s: of matrix products, convolutions and attention, as eager fp32 has them.")
    if any(_first_call(row) for row in by_mode):
        found.append("first call: building the network, compiling it, and one step.")
    if len({row.batch_size for row in by_mode}) > 1:
        found.append("batch: another batch size is another training; only the rows of one are alternatives.")
    return found


def _across(rows: Sequence[Row]) -> bool:
    """Whether a row has a speedup over another device."""
    return any(row.full_speedup for row in rows if not row.reference)


def _table(name: str, rows: Sequence[Row], reference: str | None) -> Table:
    """By batch size, execution, precision and device; the page has room for one interval in a row."""
    labels = {row.label for row in rows}
    columns = [column for column in identity(rows) if column.title != "device" or len(labels) > 1]
    columns.sort(key=lambda column: column.title != "batch")
    columns += [
        Column("time", cells(rows, lambda row: time(row.summary))),
        Column("samples/s", cells(rows, lambda row: shown(units.rate, row.samples_per_s)), spare=2),
        Column("FLOP/s", cells(rows, _flop_per_s), spare=3),
        over_plain(rows),
    ]
    if _across(rows):
        columns.append(Column(f"vs {reference}", cells(rows, _over_reference), spare=1))
    columns += [
        Column("bound by", cells(rows, bound_by), right=False, spare=4),
        Column("peak memory", cells(rows, lambda row: _above_0(units.size, row, "peak_bytes")), spare=5),
        Column("first call", cells(rows, _first_call), spare=6),
    ]
    where = f" on {rows[0].label}" if len(labels) == 1 else ""
    return Table(title(rows, f" by mode: {name}{where}"), saying(columns))


def _flop_per_s(row: Row) -> str:
    return shown(lambda value: units.large(value, "").rstrip(), flop_per_s(row))


def _over_reference(row: Row) -> str:
    return over(row.full_speedup, is_base=row.reference and row.plain, short=True)


def _first_call(row: Row) -> str:
    return _above_0(units.seconds, row, "cold_start_s")


def _above_0(form: Callable[[float], str], row: Row, key: str) -> str:
    value = row.benchmark.number(key)
    return form(value) if value is not None and value > 0 else ""
