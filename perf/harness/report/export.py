"""In: rows, and the runs that they are from. Out: CSV and JSON for other programs: one row per benchmark of a run.

The numbers are raw SI numbers, with units in the names. A benchmark that was judged has its verdict in its row. Each
check of a qualification has a row, too, with its unit in a column.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perf.harness.record.check import Check
from perf.harness.record.judgement import Judgement
from perf.harness.record.run import Run, finite, short_name
from perf.harness.record.values import Scalar
from perf.harness.report.layout import clean
from perf.harness.report.qualification import by_today
from perf.harness.verdict.rejudged import today
from perf.harness.verdict.rows import Row
from perf.harness.verdict.speedups import Speedups
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import BY_NAME

# If a text begins with one of these, a spreadsheet runs the text as a formula (OWASP, CSV Injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r")


Cell = Callable[[Row, Speedups], Scalar]


def as_csv(found: Speedups, runs: Sequence[tuple[str, Run]]) -> str:
    """A header line and one line per benchmark; empty cells for what was not measured. `runs` have their letters."""
    records = _records(found, runs)
    return csv_table(records, list(records[0]) if records else [*COLUMNS, *VERDICT])


def csv_table(records: Sequence[Mapping[str, Scalar]], titles: Sequence[str]) -> str:
    """CSV: a line of `titles`, and a line for each of `records`, which have these keys in this order."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="")
    writer.writerow(map(_cell, titles))
    writer.writerows([_cell(value) for value in record.values()] for record in records)
    return "\n".join(lines)


class _Lines(list[str]):
    """A list of lines that `csv.writer` can write to as if it were a file."""

    write = list.append


def speedups_json(found: Speedups, runs: Sequence[tuple[str, Run]]) -> str:
    """A list of objects with the same keys as the CSV; null for what was not measured."""
    # With ASCII only, a control sequence in a name stays escaped.
    return json.dumps(_records(found, runs), indent=1, allow_nan=False, ensure_ascii=True)


def _records(found: Speedups, runs: Sequence[tuple[str, Run]]) -> list[dict[str, Scalar]]:
    """The measured benchmarks, each with its verdict, if any, then those that were only judged, as in a gate."""
    verdicts = {(letter, one.name): (run, one) for letter, run in runs for one in run.judgements}
    made = []
    for row in (*found.rows, *found.untimed, *found.foreign):
        values = {name: _finite(read(row, found)) for name, read in COLUMNS.items()}
        values |= {f"metrics.{name}": _finite(value) for name, value in row.benchmark.numbers("metrics").items()}
        made.append(values | _verdict(*verdicts.pop((row.letter, row.benchmark.fullname), (row.run, None))))
    for (letter, name), (run, judged) in verdicts.items():
        known: dict[str, Scalar] = {
            "file": run.source,
            "run": letter or None,
            "complete": run.complete,
            "name": name.split("::")[-1],
            "fullname": name,
            **{key: run.fingerprint.get(key) for key in ("profile", "model")},
            **_case(short_name(name)),
        }
        made.append(dict.fromkeys(COLUMNS) | known | _verdict(run, judged))
    checks = [_check(letter, run, check) for letter, run in runs for check in run.checks]
    if not made:
        return checks
    every = dict.fromkeys(key for record in (*made, *checks) for key in record)
    return [every | record for record in (*made, *checks)]


def _case(name: str) -> dict[str, Scalar]:
    """What the name of a benchmark says of its case, if it is ours: `epoch[cpu-bs64-resident]`."""
    benchmark, _, rest = name.removesuffix("]").partition("[")
    axes = Axes.of(rest)._asdict() if benchmark in BY_NAME and rest else {}
    return {"benchmark": benchmark} | {key: value for key, value in axes.items() if value is not None}


def _check(letter: str, run: Run, check: Check) -> dict[str, Scalar]:
    """The row of one check of a qualification, and the verdict on its machine."""
    found = today(run)
    entry = {
        "file": run.source,
        "run": letter or None,
        "complete": run.complete,
        "host": run.host,
        "qualification": None if found is None else found.said(run.checks),
        "qualification_reasons": None if found is None else "; ".join([*found.reasons, *by_today(run)]),
        **{key: getattr(check, key) for key in ("name", "check", "variant", "device")},
        "verdict": str(check.verdict),
        "verdict_reason": check.reason,
        **{key: getattr(check, key) for key in ("value", "low", "high", "unit", "bar", "want", "bar_source")},
        **{f"{key}{end}": getattr(check, key + end) for key in ("again", "third") for end in ("", "_low", "_high")},
        "injected": check.injected,
    }
    return {key: _finite(value) for key, value in entry.items()}


def _verdict(run: Run, judged: Judgement | None) -> dict[str, Scalar]:
    """The part of a row that says how the benchmark was judged, and which two sides a gate compared."""
    entry: dict[str, Any] = {} if judged is None else judged.as_record()
    sides = {} if judged is None or run.gate is None else {"base": run.gate.base, "head": run.gate.head}
    return {name: _finite((sides | entry).get(key)) for name, key in VERDICT.items()}


def _text(key: str) -> Cell:
    return lambda row, _: row.benchmark.text(key)


def _number(key: str) -> Cell:
    return lambda row, _: row.benchmark.number(key)


def _ratio(name: str, end: str) -> Cell:
    return lambda row, _: getattr(getattr(row, name), end, None)


def _texts(*keys: str) -> dict[str, Cell]:
    return {key: _text(key) for key in keys}


def _numbers(*keys: str) -> dict[str, Cell]:
    return {key: _number(key) for key in keys}


def _ratios(*names: str) -> dict[str, Cell]:
    """A speedup and the ends of its interval: `speedup`, `speedup_low`, `speedup_high`."""
    ends = {"point": "", "low": "_low", "high": "_high"}
    return {name + suffix: _ratio(name, end) for name in names for end, suffix in ends.items()}


COLUMNS: dict[str, Cell] = {
    "file": lambda row, _: row.run.source,
    "run": lambda row, _: row.letter or None,
    "complete": lambda row, _: row.run.complete,
    "name": lambda row, _: row.benchmark.name,
    "fullname": lambda row, _: row.benchmark.fullname,
    **_texts("benchmark", "model", "data"),
    "profile": lambda row, _: row.profile,
    # A benchmark of ours without a mode ran in eager fp32. The mode of other benchmarks is unknown.
    "execution": lambda row, _: row.mode[0] if row.benchmark.ours else None,
    "precision": lambda row, _: row.mode[1] if row.benchmark.ours else None,
    **_numbers("batch_size"),
    **_texts("pipeline", "device", "device_name", "timing"),
    "rounds": lambda row, _: row.summary.rounds,
    "iterations": lambda row, _: row.benchmark.iterations,
    "median_s": lambda row, _: row.summary.median,
    "spread": lambda row, _: row.summary.spread,
    "marks": lambda row, _: " ".join(row.marks),
    "samples_per_s": lambda row, _: row.samples_per_s,
    **_texts("unit"),
    **_numbers("units_per_sample"),
    "units_per_s": lambda row, _: row.units_per_s,
    "speedup_over": lambda row, found: found.reference if row.speedup else None,
    **_ratios("speedup", "pipeline_speedup", "mode_speedup", "full_speedup"),
    "bound_by": lambda row, _: row.bottleneck.name if row.bottleneck else None,
    "bound_share": lambda row, _: row.bottleneck.share if row.bottleneck else None,
    **_numbers("enqueue_s", "done_s", "overhead_s", "cold_start_s", "peak_bytes", "parameters", "flop_per_sample"),
    "flop_per_s": lambda row, _: row.flop_per_s,
    "share_of_matmul": lambda row, _: row.share_of_matmul,
    "j_per_sample": lambda row, _: row.j_per_sample,
    **_numbers("bytes_per_sample"),
    **_texts("graph_break"),
    **_numbers("parity_steps", "parity_difference", "parity_rounding", "epoch_difference", "precision_difference"),
    **_numbers("epochs", "accuracy", "loss_first", "loss_last"),
    **_numbers("weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes", "memory_limit_bytes"),
    **_numbers("largest_batch", "sufficient_batch"),
    **_texts("limited_by"),
}

# The columns of a verdict, each with the key in the record.
VERDICT = {
    **{side: side for side in ("base", "head")},
    "verdict": "verdict",
    "verdict_reason": "reason",
    "ratio": "ratio",
    "ratio_low": "low",
    "ratio_high": "high",
    "pairs": "launches",
    **{key: key for key in ("smallest_detectable", "base_s", "head_s", "base_bytes", "head_bytes")},
    **{key: key for key in ("base_loss", "head_loss")},
}


def _finite(value: Scalar) -> Scalar:
    """`value` in a form that JSON can hold: None if it is not finite; whole numbers have no decimal point."""
    if isinstance(value, float):
        number = finite(value)
        return int(number) if number is not None and number.is_integer() and abs(number) < 2**53 else number
    return value


def _cell(value: Scalar) -> Scalar:
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if value.startswith(FORMULA) or text.startswith(FORMULA) else text
