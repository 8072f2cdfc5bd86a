"""In: the checks of a qualification. Out: each training step as a share of what its device can; a table."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.record.check import Check
from perf.harness.record.run import finite
from perf.harness.report import units
from perf.harness.report.layout import Block, Column, Notes, Table

NONE = "–"
NOTE = (
    "FLOP are those of matrix products, convolutions and attention; bytes are what the operations read and write, "
    "as if nothing stayed in a cache."
)
UNKNOWN = "There is nothing to hold it against: neither did this run measure matmul and memory, nor is a limit known."


def roofline(checks: Sequence[Check]) -> list[Block]:
    """The table, and what its limits are; nothing where no step was counted."""
    steps = [check for check in checks if _number(check, "bytes_per_step") is not None]
    if not steps:
        return []
    columns = (
        Column("step", tuple(check.name for check in steps), right=False),
        Column("device", tuple(check.device for check in steps), right=False),
        Column("FLOP/byte", tuple(_cell(check, "flop_per_byte") for check in steps), spare=2),
        Column("achieved", tuple(_cell(check, "achieved_flop_per_s", "FLOP/s") for check in steps), spare=1),
        Column("possible", tuple(_cell(check, "possible_flop_per_s", "FLOP/s") for check in steps), spare=1),
        Column("share", tuple(_share(check) for check in steps)),
        Column("bound by", tuple(_text(check, "bound_by") for check in steps), right=False),
    )
    unheld = any(_number(check, "share_of_possible") is None for check in steps)
    limits = dict.fromkeys(_limits(check) for check in steps)
    said = [NOTE, *filter(None, limits), *([UNKNOWN] if unheld else [])]
    return [Table("Roofline", columns), Notes(tuple(said))]


def _number(check: Check, key: str) -> float | None:
    return finite(check.details.get(key))


def _text(check: Check, key: str) -> str:
    value = check.details.get(key)
    return value if isinstance(value, str) else NONE


def _cell(check: Check, key: str, unit: str = "") -> str:
    value = _number(check, key)
    if value is None:
        return NONE
    return units.large(value, unit) if unit else units.significant(value)


def _share(check: Check) -> str:
    share = _number(check, "share_of_possible")
    return NONE if share is None else units.percent(share)


def _limits(check: Check) -> str:
    """Where the limits of a step are from: `limits of cpu: 119 GFLOP/s (matmul fp32 of this run), …`."""
    known = [
        f"{_cell(check, key, unit)} ({_text(check, source)})"
        for key, unit, source in (
            ("peak_flop_per_s", "FLOP/s", "peak_source"),
            ("memory_bytes_per_s", "B/s", "memory_source"),
        )
        if _number(check, key) is not None
    ]
    return f"limits of {check.device}: {', '.join(known)}." if known else ""
