"""In: rows of the benchmark of all devices at once. Out: a table for each, and what the devices reach together."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.report import quantities
from perf.harness.report.layout import Block, Column, Notes, Table
from perf.harness.report.phrases import network
from perf.harness.verdict.rows import Row
from perf.harness.workload import benchmarks

KIND = "together"


def together_blocks(rows: Sequence[Row]) -> list[Block]:
    """The table and the sentence of each row of this kind; of no other row."""
    return [block for row in rows if row.kind == KIND for block in _blocks(row)]


def _blocks(row: Row) -> list[Block]:
    alone, at_once = row.benchmark.numbers("alone_rates"), row.benchmark.numbers("together_rates")
    names = [name for name in at_once if at_once[name] > 0 and alone.get(name, 0) > 0]
    if not names:
        return []
    per_sample = row.benchmark.number("units_per_sample")
    unit = row.benchmark.text("unit") if per_sample else None
    factor = (per_sample or 1.0) if unit else 1.0

    def rate(samples_per_s: float) -> str:
        return quantities.rate(samples_per_s * factor)

    shares = {name: at_once[name] / alone[name] for name in names}
    power, clock = row.benchmark.numbers("together_power_w"), row.benchmark.numbers("together_clock_hz")
    columns = (
        Column.names("device", names),
        Column(f"{unit or 'samples'}/s alone", [rate(alone[name]) for name in names]),
        Column("at once", [rate(at_once[name]) for name in names]),
        Column("share", [quantities.percent(shares[name]) for name in names]),
        Column("power", [f"{power[name]:,.0f} W" if name in power else "" for name in names]),
        Column("clock", [f"{clock[name] / 1e6:,.0f} MHz" if name in clock else "" for name in names]),
    )
    said = [column for column in columns if any(column.cells)]
    worst = min(names, key=shares.__getitem__)
    total = sum(at_once[name] for name in names)
    reached = quantities.percent(total / sum(alone[name] for name in names))
    sentence = (
        f"The {len(names)} at once train {rate(total)} {unit or 'samples'}/s: {reached} of the sum of what each trains "
        f"alone. {worst} loses most: it reaches {quantities.percent(shares[worst])} of its own rate."
    )
    title = f"{benchmarks.title(KIND)}: {network(row)} at batch {quantities.batch(row.batch_size or 0)}"
    return [Table(title, said), Notes([sentence])]
