"""In: checks and the verdict on the machine, or a spec. Out: text: tables, the sources of the bars, the verdict."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perf.harness.record.check import JUDGED, Check, CheckVerdict, Qualification, Standing, Want
from perf.harness.record.checksum import CHECKSUM, UNKNOWN
from perf.harness.record.run import Run, finite, some_of
from perf.harness.record.spec import Reference, Spec
from perf.harness.report import quantities
from perf.harness.report.commands import USUAL
from perf.harness.report.layout import Block, Column, Heading, Notes, Table, command, page
from perf.harness.verdict.checks import Bar
from perf.harness.verdict.keys import keys_apart
from perf.harness.verdict.marks import CROWDED
from perf.harness.verdict.rejudged import lacking_today, today
from perf.harness.verdict.roofline import PHASE

SPREAD = "±: half the 95% interval of the median of the repetitions, as a share of it."
DEVIATION = "spread: the standard deviation between machines, or between runs if there are fewer than three machines."
# Units that get a decimal prefix.
RATES = ("FLOP/s", "B/s")
# How a bar says on which side of it a value must be.
SIGNS: Mapping[str, str] = {Want.MORE: "≥", Want.LESS: "≤"}
COUNTED = (
    "FLOP: those of matrix products, convolutions and attention. Bytes: what the operations read and write, as if "
    "caches kept nothing."
)
WAITS = "data wait, copy: the input pipeline. The samples/s of the steps do not include them."
NO_LIMIT = "A step without a share has no limit: this run did not measure matmul and memory, and no datasheet is known."

# What a reader of a ticket looks for first; the record has the rest.
IDENTITY = (
    "virtual machine", "vendor", "product", "serial", "board", "board serial", "BIOS", "microcode", "sockets",
    "memory modules", "name", "UUID", "PCI address", "VBIOS",
)  # fmt: skip


def hardware_blocks(perf: Mapping[str, Any], letter: str = "") -> list[Block]:
    """Which machine it was: a line for the host, and for each accelerator. A record need not have it."""
    found = perf.get("hardware")
    said = []
    for name, facts in found.items() if isinstance(found, Mapping) else ():
        known = facts.get("known") if isinstance(facts, Mapping) else None
        parts = [f"{key} {known[key]}" for key in IDENTITY if isinstance(known, Mapping) and key in known]
        if parts:
            said.append(f"{letter + ': ' if letter else ''}{name}: {', '.join(parts)}")
    return [Notes(said)] if said else []


def qualification_blocks(checks: Sequence[Check], found: Qualification, letter: str = "") -> list[Block]:
    """A table of the checks, worst first; what was measured, the sources of the bars, the roofline, and the verdict.

    `letter` names the file if there are several files.
    """
    ordered = sorted(checks, key=lambda check: tuple(CheckVerdict).index(check.verdict))
    one_device = len({check.device for check in ordered}) == 1
    columns = (
        Column.words("verdict", [check.said for check in ordered]),
        Column.names("check", [check.name for check in ordered]),
        Column.words("device", [check.device for check in ordered], spare=2 if one_device else 0),
        Column("value", list(map(value, ordered))),
        Column("bar", list(map(_bar, ordered))),
    )
    blocks: list[Block] = [Table(f"Checks of {letter}" if letter else "Checks", columns)] if ordered else []
    if any("±" in value(check) for check in ordered):
        blocks.append(Notes([SPREAD]))
    rest = [check for check in ordered if _reason(check) not in found.reasons]
    for lines in (
        [f"{names}: {reason}." for reason, names in _grouped(rest, lambda check: check.reason)],
        [f"{names}: {note}." for note, names in _grouped(ordered, lambda check: check.note)],
        [f"{names}, {said}." for said, names in _grouped(ordered, _again)],
        [f"bar of {names}: {source}." for source, names in _grouped(ordered, lambda check: check.bar_source)],
    ):
        if lines:
            blocks.append(Notes(lines))
    blocks += [
        *_phases(checks),
        *_roofline(checks),
        Notes([f"{letter + ': ' if letter else ''}{_standing(ordered, found)}"]),
    ]
    if found.reasons:
        blocks.append(Notes(found.reasons))
    return [*blocks, Notes([f"Next: {found.next_action}"])]


def machines(found: Sequence[tuple[str, str, Run]], records: bool = False) -> list[Block]:
    """The verdicts on several machines, worst first, each with its first reason and the number of the others.

    `found` has the letter, the host and the run of each machine. An anonymous record has no host: its file is named.
    With `records`, the file of each is named.
    """
    judged = [(letter, host, verdict, run.checks) for letter, host, run in found if (verdict := today(run))]
    runs = {letter: run for letter, _, run in found}
    if len(judged) < 2:
        return []
    ordered = sorted(judged, key=lambda one: tuple(Standing).index(one[2].standing))
    columns = (
        Column.words("file", [letter for letter, *_ in ordered]),
        Column.names("machine", [host or runs[letter].file_name for letter, host, *_ in ordered]),
        Column.words("verdict", [standing.said(checks) for *_, standing, checks in ordered]),
        Column.words("checks", [_counts(checks) for *_, checks in ordered]),
        *([Column.names("record", [runs[letter].file_name for letter, *_ in ordered])] if records else []),
    )
    reasons: dict[str, list[str]] = {}
    for letter, _, standing, checks in ordered:
        for said in by_today(runs[letter]):
            reasons.setdefault(said, []).append(letter)
        if standing != runs[letter].qualification or standing.standing is Standing.QUALIFIED:
            continue
        # What a verdict notes, such as a device that is absent, is no reason for it.
        because = [reason for reason in standing.reasons if reason not in standing.notes]
        for reason in because[:1]:
            more = [f"and {quantities.counted(len(because) - 1, 'more reason')}"] if len(because) > 1 else []
            also = ", ".join([*_of_its_bar(checks, reason), *more])
            reasons.setdefault(f"{reason} ({also})" if also else reason, []).append(letter)
    notes = [Notes([f"{some_of(of)}: {reason}" for reason, of in reasons.items()])] if reasons else []
    return [Table("Machines", columns), *notes]


def by_today(run: Run) -> list[str]:
    """Why to think less of a stored QUALIFIED: an older version gave it, or nobody knows if it was changed later."""
    lacking, said = "; ".join(lacking_today(run)), []
    if lacking:
        said.append(f"stored as QUALIFIED, and PARTLY QUALIFIED by the rules of this version: {lacking}")
    good = run.qualification is not None and run.qualification.standing in (Standing.QUALIFIED, Standing.PARTLY)
    return [*said, UNKNOWN] if good and CHECKSUM not in run.perf else said


def _of_its_bar(checks: Sequence[Check], reason: str) -> list[str]:
    """How near to its bar is the value of the check whose reason this is: `92% of its bar`."""
    return [
        f"{quantities.percent(check.value / check.bar)} of its bar"
        for check in checks
        if check.value is not None and check.bar and reason == _reason(check)
    ]


def _reason(check: Check) -> str:
    """The reason of a check as it stands among those of the verdict on the machine."""
    return f"{check.name} on {check.device}: {check.reason}"


def _standing(checks: Sequence[Check], found: Qualification) -> str:
    """The verdict and the counts: `QUALIFIED: 3 PASS`."""
    return f"{found.said(checks)}: {_counts(checks)}"


def _counts(checks: Sequence[Check]) -> str:
    """How many checks have each verdict: `3 PASS · 1 UNJUDGED`. Those that were not judged come last."""
    counts = Counter(check.verdict for check in checks)
    judged_first = sorted(CheckVerdict, key=lambda verdict: verdict not in JUDGED)
    counted = " · ".join(f"{counts[verdict]} {verdict}" for verdict in judged_first if counts[verdict])
    return counted or "no check ran"


def _grouped(checks: Sequence[Check], text: Callable[[Check], str]) -> Iterator[tuple[str, str]]:
    """Each text once, and the names of its checks. The names have their devices if there are several devices."""
    several = len({check.device for check in checks}) > 1
    names: dict[str, dict[str, list[str]]] = {}
    for check in checks:
        if said := text(check):
            names.setdefault(said, {}).setdefault(check.name, []).append(check.device)
    for said, places in names.items():
        shown = (f"{name} on {' and '.join(of)}" if several else name for name, of in places.items())
        yield said, ", ".join(shown)


def check_line(check: Check) -> str:
    """A check in one line, as the reason of a failed or skipped test."""
    known = [value(check)] if check.value is not None else []
    if known and check.bar is not None:
        known.append(f"bar {_bar(check)}")
    said = ": ".join([str(check.verdict), *filter(None, [", ".join(known), check.reason])])
    return f"INJECTED {check.injected}: {said}" if check.injected else said


def value(check: Check) -> str:
    """The value, and half the width of its interval as a percentage: `12.3 TFLOP/s ±2.0%`."""
    shown = metric(check.value, check.unit)
    if check.low is None or check.high is None or not check.value:
        return shown
    return f"{shown} ±{quantities.percent((check.high - check.low) / 2 / abs(check.value))}"


def _again(check: Check) -> str:
    """What the other measurements of a metric found, as the value is shown; "" if there was only one."""
    found = [value(replace(check, value=one, low=low, high=high)) for one, low, high in check.others]
    begin = "the middle of three measurements, the others" if len(found) > 1 else "measured again"
    return f"{begin}: {' and '.join(found)}" if found else ""


def _bar(check: Check) -> str:
    """The bar, and the side of it on which a value must be: `≥ 78.3 GFLOP/s`, `≤ 50 eps`."""
    sign = "" if check.bar is None else SIGNS.get(check.want, "")
    return f"{sign} {metric(check.bar, check.unit)}".lstrip()


def metric(number: float | None, unit: str) -> str:
    """A number in its unit: 12.3 TFLOP/s, 812 µs, 3 words, 1 word."""
    if number is None:
        return quantities.NONE
    if unit in RATES:
        return quantities.large(number, unit)
    if unit == "s":
        return quantities.seconds(number)
    shown = quantities.count(number) if number == int(number) else quantities.significant(number)
    if number == 1:
        unit = {"mismatches": "mismatch"}.get(unit, unit.removesuffix("s"))
    return f"{shown} {unit}".rstrip()


def _phases(checks: Sequence[Check]) -> list[Block]:
    """Where the time of an epoch goes, at the batch size of each training step."""
    steps = [check for check in checks if any(key.startswith(PHASE) for key in check.details)]
    names = dict.fromkeys(key for check in steps for key in check.details if key.startswith(PHASE))
    columns = (
        Column.words("step", [check.name for check in steps]),
        Column.words("device", [check.device for check in steps]),
        *(
            Column(name.removeprefix(PHASE).replace("_", " "), [_share(_number(check, name)) for check in steps])
            for name in names
        ),
    )
    return [Table("Where the time of an epoch of these steps goes", columns), Notes([WAITS])] if steps else []


def _roofline(checks: Sequence[Check]) -> list[Block]:
    """Each training step compared with the limits of its device, and the sources of the limits."""
    steps = [check for check in checks if check.details.get("bytes_per_step") or check.details.get("uncounted")]
    if not steps:
        return []
    columns = (
        Column.words("step", [check.name for check in steps]),
        Column.words("device", [check.device for check in steps]),
        Column("FLOP/byte", [_detail(check, "flop_per_byte") for check in steps], spare=2),
        Column("achieved", [_detail(check, "achieved_flop_per_s", "FLOP/s") for check in steps], spare=1),
        Column("possible", [_detail(check, "possible_flop_per_s", "FLOP/s") for check in steps], spare=1),
        Column("share", [_share(_number(check, "share_of_possible")) for check in steps]),
        Column.words("bound by", list(map(_bound_by, steps))),
    )
    counted = [check for check in steps if not check.details.get("uncounted")]
    unlimited = any(_number(check, "share_of_possible") is None for check in counted)
    limits = dict.fromkeys(filter(None, map(_limits, steps)))
    uncounted = dict.fromkeys(_text(check, "uncounted") for check in steps if check not in counted)
    notes = [f"not counted, because torch's counter does not see: {name}" for name in uncounted]
    return [Table("Roofline", columns), Notes([COUNTED, *limits, *notes, *([NO_LIMIT] if unlimited else [])])]


def _bound_by(check: Check) -> str:
    """What bounds a step. Beside other programs, that is not known, because most of its time may be theirs."""
    return quantities.NONE if (check.crowding or 0.0) > CROWDED else _text(check, "bound_by")


def _number(check: Check, key: str) -> float | None:
    return finite(check.details.get(key))


def _text(check: Check, key: str) -> str:
    found = check.details.get(key)
    return found if isinstance(found, str) else quantities.NONE


def _detail(check: Check, key: str, unit: str = "") -> str:
    number = _number(check, key)
    return metric(number, unit) if unit or number is None else quantities.significant(number)


def _share(share: float | None) -> str:
    return quantities.NONE if share is None else quantities.percent(share)


def _limits(check: Check) -> str:
    """The limits of a step and their sources: `limits of cpu: 119 GFLOP/s (matmul fp32 of this run), …`."""
    known = [
        f"{_detail(check, key, unit)} ({_text(check, source)})"
        for key, unit, source in (
            ("peak_flop_per_s", "FLOP/s", "peak_source"),
            ("memory_bytes_per_s", "B/s", "memory_source"),
        )
        if _number(check, key) is not None
    ]
    return f"limits of {check.device}: {', '.join(known)}." if known else ""


def references(
    spec: Spec,
    bars: Sequence[Bar],
    path: str,
    width: int,
    skipped: Sequence[str] = (),
    left_out: Sequence[str] = (),
    judged: Sequence[Run] = (),
    suite: str = USUAL,
) -> str:
    """The references of `spec`, the bar of each, the files that were `skipped` and the metrics that were `left_out`.

    `judged` are the runs that the spec was made from, judged by it: it may have no bar for what is required of them.
    `suite` is the command that measures, as it is typed here.
    """
    found = spec.references
    differs = [_differs(one, found) for one in found]
    columns = (
        Column.words("check", [f"{one.check} {one.variant}".rstrip() for one in found]),
        Column.names("device", [one.device_name for one in found]),
        *([Column.names("only for", [one or quantities.NONE for one in differs])] if any(differs) else []),
        Column("median", [metric(one.value, one.unit) for one in found]),
        Column("spread", [quantities.percent(one.spread) for one in found]),
        Column("rests on", [one.rests_on for one in found]),
        Column(
            "bar", [f"{SIGNS[bar.want]} {metric(bar.value, one.unit)}" for bar, one in zip(bars, found, strict=True)]
        ),
    )
    blocks: list[Block] = [Heading("Stepwatch")]
    if found:
        blocks.append(Table("References", columns))
        blocks.append(Notes([DEVIATION]))
    if spec.digests:
        blocks.append(Notes([f"digest {digest}: {key}" for key, digest in spec.digests.items()]))
    if skipped:
        blocks.append(Notes([f"skipped: {one}" for one in skipped]))
    if left_out:
        blocks.append(Notes([f"left out: {one}" for one in left_out]))
    if judged:
        blocks.append(Notes(_by_outcome(judged)))
    how = f"{suite} --perf-profile=qualify --perf-spec={shlex.quote(path)}"
    none = "" if found else "It has no bar, and would judge no rate and no time. "
    return page([*blocks, Notes([f"Wrote {path}. {none}To judge a machine by it:"]), command(how)], width)


def _differs(reference: Reference, others: Sequence[Reference]) -> str:
    """What a reference depends on that those of the same metric and device have otherwise."""
    of = (reference.check, reference.variant, reference.device_name)
    alike = [one.key for one in others if (one.check, one.variant, one.device_name) == of]
    return keys_apart(alike)[alike.index(reference.key)]


def _by_outcome(runs: Sequence[Run]) -> list[str]:
    """Each verdict by a spec, with its reasons, and the runs that have it, which are named if others have another."""
    outcomes: dict[str, list[str]] = {}
    for run in runs:
        if (found := run.qualification) is not None:
            reasons = [] if found.standing is Standing.QUALIFIED else found.reasons
            said = ": ".join([str(found.standing), *filter(None, ["; ".join(reasons)])])
            outcomes.setdefault(said, []).append(run.source)
    every = "all runs that it was made from are" if len(outcomes) == 1 else ""
    return [f"judged by this spec, {every or ', '.join(of) + ':'} {said}" for said, of in outcomes.items()]
