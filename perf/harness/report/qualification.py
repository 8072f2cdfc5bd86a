"""In: checks and the verdict on the machine. Out: text: a table, the reasons, and the banner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from perf.harness.record.check import Check, CheckVerdict, Qualification, Standing
from perf.harness.report import units
from perf.harness.report.layout import Block, Column, Notes, Paragraph, Table
from perf.harness.report.roofline import roofline

NONE = "–"
# Units that take a prefix.
RATES = ("FLOP/s", "B/s")


def qualification(checks: Sequence[Check], found: Qualification, letter: str = "") -> list[Block]:
    """A table of the checks, worst first, what was measured, where the bars are from, the roofline; last the banner.

    `letter` is the file's, where there are several.
    """
    ordered = sorted(checks, key=lambda check: tuple(CheckVerdict).index(check.verdict))
    columns = (
        Column("verdict", tuple(map(_verdict, ordered)), right=False),
        Column("check", tuple(check.name for check in ordered), right=False),
        Column("device", tuple(check.device for check in ordered), right=False),
        Column("value", tuple(map(value, ordered)), flexible=True),
        Column("bar", tuple(metric(check.bar, check.unit) for check in ordered), spare=1),
    )
    blocks: list[Block] = [Table(f"Checks of {letter}" if letter else "Checks", columns)] if ordered else []
    rest = [check for check in ordered if f"{check.name} on {check.device}: {check.reason}" not in found.reasons]
    for lines in (
        [f"{names}: {reason}." for reason, names in _grouped(rest, lambda check: check.reason)],
        [f"{names}: {note}." for note, names in _grouped(ordered, lambda check: check.note)],
        [f"bar of {names}: {source}." for source, names in _grouped(ordered, lambda check: check.bar_source)],
    ):
        if lines:
            blocks.append(Notes(tuple(lines)))
    blocks += roofline(checks)
    counts = Counter(check.verdict for check in ordered)
    judged_first = sorted(CheckVerdict, key=lambda verdict: verdict is CheckVerdict.UNSUPPORTED)
    counted = " · ".join(f"{counts[verdict]} {verdict}" for verdict in judged_first if counts[verdict])
    partly = found.standing is Standing.QUALIFIED and (counts[CheckVerdict.UNSUPPORTED] or found.reasons)
    standing = f"{found.standing}, as far as it was judged" if partly else str(found.standing)
    blocks.append(Paragraph(f"{letter + ': ' if letter else ''}{standing}: {counted or 'no check ran'}"))
    if found.reasons:
        blocks.append(Notes(found.reasons))
    return [*blocks, Paragraph(f"Next: {found.next_action}")]


def _grouped(checks: Sequence[Check], text: Callable[[Check], str]) -> Iterator[tuple[str, str]]:
    """Each text once, and the checks that it is said of; with their devices, where there are several."""
    several = len({check.device for check in checks}) > 1
    names: dict[str, dict[str, list[str]]] = {}
    for check in checks:
        if said := text(check):
            names.setdefault(said, {}).setdefault(check.name, []).append(check.device)
    for said, places in names.items():
        shown = (f"{name} on {' and '.join(of)}" if several else name for name, of in places.items())
        yield said, ", ".join(shown)


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
    if unit == "s":
        return units.seconds(number)
    shown = units.count(number) if number == int(number) else units.significant(number)
    return f"{shown} {unit}".rstrip()


def _verdict(check: Check) -> str:
    return f"{check.verdict} (INJECTED {check.injected})" if check.injected else str(check.verdict)
