"""In: checks and the verdict on the machine. Out: text: a table, the reasons, and the banner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from perf.harness.record.check import Check, CheckVerdict, Qualification
from perf.harness.report import units
from perf.harness.report.layout import Block, Column, Heading, Notes, Paragraph, Table, page
from perf.harness.report.roofline import roofline

NONE = "–"
# Units that take a prefix.
RATES = ("FLOP/s", "B/s")


def render_qualification(checks: Sequence[Check], found: Qualification, *, width: int) -> str:
    return page([Heading("Stepwatch"), *qualification(checks, found)], max(1, width))


def qualification(checks: Sequence[Check], found: Qualification) -> list[Block]:
    """A table of the checks, worst first, what was measured, where the bars are from, the roofline; last the banner."""
    ordered = sorted(checks, key=lambda check: tuple(CheckVerdict).index(check.verdict))
    columns = (
        Column("verdict", tuple(map(_verdict, ordered)), right=False),
        Column("check", tuple(check.name for check in ordered), right=False),
        Column("device", tuple(check.device for check in ordered), right=False),
        Column("value", tuple(map(value, ordered)), flexible=True),
        Column("bar", tuple(metric(check.bar, check.unit) for check in ordered), spare=1),
    )
    blocks: list[Block] = [Table("Checks", columns)] if ordered else []
    said = [f"{check.name} on {check.device}: {check.reason}" for check in ordered if check.reason]
    sources: dict[str, list[str]] = {}
    for check in ordered:
        if check.bar_source:
            sources.setdefault(check.bar_source, []).append(check.name)
    for lines in (
        [line for line in said if line not in found.reasons],
        [f"bar of {', '.join(dict.fromkeys(names))}: {source}." for source, names in sources.items()],
    ):
        if lines:
            blocks.append(Notes(tuple(lines)))
    blocks += roofline(checks)
    counts = Counter(check.verdict for check in ordered)
    counted = " · ".join(f"{counts[verdict]} {verdict}" for verdict in CheckVerdict if counts[verdict])
    blocks.append(Paragraph(f"{found.standing}: {counted or 'no check ran'}"))
    if found.reasons:
        blocks.append(Notes(found.reasons))
    return [*blocks, Paragraph(f"Next: {found.next_action}")]


def one_line(check: Check) -> str:
    """A check as the reason of a failed or skipped test."""
    known = []
    if check.value is not None:
        known.append(value(check))
        if check.bar is not None:
            known.append(f"bar {metric(check.bar, check.unit)}")
    said = ": ".join([str(check.verdict), *filter(None, [", ".join(known), check.reason])])
    return f"INJECTED {check.injected}: {said}" if check.injected else said


def value(check: Check) -> str:
    """The value and its interval, as half its width."""
    if check.value is None:
        return NONE
    shown = metric(check.value, check.unit)
    if check.low is None or check.high is None or not check.value:
        return shown
    return f"{shown} ±{units.percent((check.high - check.low) / 2 / abs(check.value))}"


def metric(number: float | None, unit: str) -> str:
    """A number in its unit: 12.3 TFLOP/s, 812 µs, 3 of 8 replays differ."""
    if number is None:
        return NONE
    if unit in RATES:
        return units.large(number, unit)
    return units.seconds(number) if unit == "s" else f"{units.significant(number)} {unit}".rstrip()


def _verdict(check: Check) -> str:
    return f"{check.verdict} (INJECTED {check.injected})" if check.injected else str(check.verdict)
