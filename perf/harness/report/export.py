"""In: rows. Out: CSV and JSON for other programs: raw SI numbers, units in the names, one row per benchmark."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

from perf.harness.record.run import Scalar, finite
from perf.harness.report.layout import clean
from perf.harness.report.modes import flop_per_s
from perf.harness.report.rows import Comparison, Row
from perf.harness.statistics.intervals import Ratio

# A spreadsheet takes a text that begins so for a formula and runs it (OWASP, CSV Injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(comparison: Comparison) -> str:
    """A header line and one line per benchmark; empty cells for what was not measured."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in record.values()] for record in _records(comparison))
    return "\n".join(lines)


class _Lines(list[str]):
    """What `csv.writer` takes for a file."""

    write = list.append


def as_json(comparison: Comparison) -> str:
    """A list of objects with the same keys as the CSV; null for what was not measured."""
    # ASCII: a control sequence in a name stays an escape.
    return json.dumps(_records(comparison), indent=1, allow_nan=False, ensure_ascii=True)


def _records(comparison: Comparison) -> list[dict[str, Scalar]]:
    rows = (*comparison.rows, *comparison.untimed, *comparison.foreign)
    return [{name: _finite(read(row, comparison)) for name, read in COLUMNS.items()} for row in rows]


def _text(key: str) -> Callable[[Row, Comparison], Scalar]:
    return lambda row, _: row.benchmark.text(key)


def _number(key: str) -> Callable[[Row, Comparison], Scalar]:
    return lambda row, _: row.benchmark.number(key)


def _mode(part: int) -> Callable[[Row, Comparison], Scalar]:
    """Said of any benchmark of ours: a record that has none ran in the plain one."""
    return lambda row, _: row.mode[part] if row.benchmark.ours else None


def _ratio(ratio: Ratio | None, part: str) -> Scalar:
    return None if ratio is None else {"point": ratio.point, "low": ratio.low, "high": ratio.high}[part]


COLUMNS: dict[str, Callable[[Row, Comparison], Scalar]] = {
    "file": lambda row, _: row.run.source,
    "run": lambda row, _: row.letter or None,
    "complete": lambda row, _: row.run.complete,
    "name": lambda row, _: row.benchmark.name,
    "benchmark": _text("benchmark"),
    "model": _text("model"),
    "data": _text("data"),
    "profile": lambda row, _: row.profile,
    "execution": _mode(0),
    "precision": _mode(1),
    "batch_size": _number("batch_size"),
    "pipeline": _text("pipeline"),
    "device": _text("device"),
    "device_name": _text("device_name"),
    "timing": _text("timing"),
    "rounds": lambda row, _: row.summary.rounds,
    "iterations": lambda row, _: row.benchmark.iterations,
    "median_s": lambda row, _: row.summary.median,
    "spread": lambda row, _: row.summary.spread,
    "samples_per_s": lambda row, _: row.samples_per_s,
    "speedup_over": lambda row, comparison: comparison.reference if row.speedup else None,
    "speedup": lambda row, _: _ratio(row.speedup, "point"),
    "speedup_low": lambda row, _: _ratio(row.speedup, "low"),
    "speedup_high": lambda row, _: _ratio(row.speedup, "high"),
    "pipeline_speedup": lambda row, _: _ratio(row.pipeline_speedup, "point"),
    "pipeline_speedup_low": lambda row, _: _ratio(row.pipeline_speedup, "low"),
    "pipeline_speedup_high": lambda row, _: _ratio(row.pipeline_speedup, "high"),
    "mode_speedup": lambda row, _: _ratio(row.mode_speedup, "point"),
    "mode_speedup_low": lambda row, _: _ratio(row.mode_speedup, "low"),
    "mode_speedup_high": lambda row, _: _ratio(row.mode_speedup, "high"),
    "full_speedup": lambda row, _: _ratio(row.full_speedup, "point"),
    "full_speedup_low": lambda row, _: _ratio(row.full_speedup, "low"),
    "full_speedup_high": lambda row, _: _ratio(row.full_speedup, "high"),
    "bound_by": lambda row, _: row.bound.by if row.bound else None,
    "bound_share": lambda row, _: row.bound.share if row.bound else None,
    "enqueue_s": _number("enqueue_s"),
    "overhead_s": _number("overhead_s"),
    "cold_start_s": _number("cold_start_s"),
    "peak_bytes": _number("peak_bytes"),
    "parameters": _number("parameters"),
    "flop_per_sample": _number("flop_per_sample"),
    "flop_per_s": lambda row, _: flop_per_s(row),
    "bytes_per_sample": _number("bytes_per_sample"),
    "graph_break": _text("graph_break"),
    "parity_steps": _number("parity_steps"),
    "parity_difference": _number("parity_difference"),
    "parity_rounding": _number("parity_rounding"),
    "epoch_difference": _number("epoch_difference"),
    "precision_difference": _number("precision_difference"),
    "epochs": _number("epochs"),
    "accuracy": _number("accuracy"),
    "loss_first": _number("loss_first"),
    "loss_last": _number("loss_last"),
    "weight_bytes": _number("weight_bytes"),
    "gradient_bytes": _number("gradient_bytes"),
    "optimizer_bytes": _number("optimizer_bytes"),
    "activation_bytes": _number("activation_bytes"),
    "memory_limit_bytes": _number("memory_limit_bytes"),
    "largest_batch": _number("largest_batch"),
    "sufficient_batch": _number("sufficient_batch"),
    "limited_by": _text("limited_by"),
}


def _finite(value: Scalar) -> Scalar:
    """`value` as JSON can hold it; whole numbers without a point."""
    if isinstance(value, float):
        number = finite(value)
        return int(number) if number is not None and number.is_integer() and abs(number) < 2**53 else number
    return value


def _cell(value: Scalar) -> Scalar:
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if value.startswith(FORMULA) or text.startswith(FORMULA) else text
