"""In: a metric's samples and its bar. Out: what they come to; and over all checks, the verdict on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from perf.harness.record.check import BUSY_CORES, Check, CheckVerdict, Qualification, Standing
from perf.harness.record.spec import Reference
from perf.harness.statistics.intervals import median_interval
from perf.harness.verdict.limits import Limit

# Standard deviations between good machines that another good one may be away.
SPREADS = 3.0


UNBARRED = "nothing to judge it by; give a reference (--perf-spec)"


class Want(StrEnum):
    """Which side of its bar a metric should be on."""

    MORE = "at least"
    LESS = "at most"


@dataclass(frozen=True)
class Bar:
    """What a metric is held against, in the metric's unit; `source` says where it comes from.

    `ceiling` is the physical limit, where one is known for certain: more is an error of the measurement.
    """

    value: float
    source: str
    want: Want = Want.MORE
    ceiling: float | None = None


def limit_bar(limit: Limit, share: float) -> Bar:
    """A share of what is physically possible."""
    return Bar(share * limit.value, f"{share:.0%} of {limit.source}", ceiling=limit.value if limit.certain else None)


def spec_bar(reference: Reference, source: str, want: Want, least_slack: float) -> Bar:
    """What good machines reached, less `least_slack`, or three times what they differed by where that is more."""
    slack = max(least_slack, SPREADS * (reference.spread or 0.0))
    side = 1 - slack if want is Want.MORE else 1 + slack
    return Bar(side * reference.value, f"{side:.0%} of {source}, the median of {_runs(reference.runs)}", want)


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def strictest(bars: Sequence[Bar]) -> Bar | None:
    """The one that is hardest to meet, with the lowest ceiling of all; None of none. All want the same."""
    if not bars:
        return None
    hardest = (max if bars[0].want is Want.MORE else min)(bars, key=lambda bar: bar.value)
    ceilings = [bar.ceiling for bar in bars if bar.ceiling is not None]
    return replace(hardest, ceiling=min(ceilings, default=None))


@dataclass(frozen=True)
class Sample:
    """One measurement: the rates, or times, of its repetitions, and how many cores were missing meanwhile."""

    values: tuple[float, ...]
    crowding: float | None = None

    @property
    def busy(self) -> bool:
        return self.crowding is not None and self.crowding > BUSY_CORES


@dataclass(frozen=True)
class Finding:
    """What one metric comes to; `value` is the median, with its 95% interval."""

    verdict: CheckVerdict
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


def needs_confirmation(sample: Sample, bar: Bar) -> bool:
    """Whether the median is on the wrong side: measured once more, before anything is said."""
    value, _, _ = median_interval(sample.values)
    return _wrong(value, bar)


def judge(sample: Sample, bar: Bar | None, second: Sample | None = None, *, ratio: bool = False) -> Finding:
    """The verdict on a metric. `second` is the confirming measurement of one that was on the wrong side.

    FAIL takes two whole intervals beyond the bar, and a machine on which nothing else ran. So does PASS for a `ratio`
    of two rates: what slows down its lower part makes it look good.
    """
    value, low, high = median_interval(sample.values)
    known = {"value": value, "low": low, "high": high}
    beyond = "" if bar is None else f"{'below' if bar.want is Want.MORE else 'above'} the bar"
    if bar is None:
        reason = f"{UNBARRED}; no reference itself: {_taken(sample)}" if sample.busy else UNBARRED
        return Finding(CheckVerdict.UNSUPPORTED, reason, **known)
    if bar.ceiling is not None and (value if low is None else low) > bar.ceiling:
        share = value / bar.ceiling
        return Finding(CheckVerdict.INCONCLUSIVE, f"error of the measurement: {share:.0%} of what is possible", **known)
    if not _wrong(value, bar):
        if ratio and sample.busy:
            return Finding(CheckVerdict.INCONCLUSIVE, _busy("within the bar", sample), **known)
        return Finding(CheckVerdict.PASS, "", **known)
    if second is None:
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond} once; a second measurement must confirm it", **known)
    again, *ends = median_interval(second.values)
    if not _wrong(again, bar):
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond} once, and within it when measured again", **known)
    if sample.busy or second.busy:
        return Finding(CheckVerdict.INCONCLUSIVE, _busy(beyond, sample, second), **known)
    if all(end is not None and _wrong(end, bar) for end in (low, high, *ends)):
        return Finding(CheckVerdict.FAIL, f"{beyond}, and again when measured a second time", **known)
    return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, but by less than it varies", **known)


def _wrong(value: float, bar: Bar) -> bool:
    return value < bar.value if bar.want is Want.MORE else value > bar.value


def _busy(what: str, *samples: Sample) -> str:
    return f"{what}, but {_taken(*samples)}"


def _taken(*samples: Sample) -> str:
    most = max(sample.crowding or 0.0 for sample in samples)
    return f"other programs took {most:.1f} of the cores that it needs"


def unmet(checks: Sequence[Check], required: Sequence[str]) -> list[str]:
    """What is said of each of `required` that did not run, or of which nothing can be judged on a device."""
    found = []
    for name in required:
        ran = [check for check in checks if check.check == name]
        judged = {check.device for check in ran if check.verdict is not CheckVerdict.UNSUPPORTED}
        if not ran:
            found.append(f"{name} is required, and did not run")
        for device in dict.fromkeys(check.device for check in ran if check.device not in judged):
            found.append(f"{name} is required, and cannot be judged on {device}")
    return found


def qualification(
    checks: Sequence[Check], *, required: Sequence[str] = (), notes: Sequence[str] = (), complete: bool = True
) -> Qualification:
    """The verdict on the machine. A `required` check that came to nothing disqualifies it; `notes` say what was not
    asked for; a run that is not `complete` qualifies nothing."""
    if injected := sorted({check.injected for check in checks if check.injected}):
        standing, reasons, action = _drill(checks, injected)
    else:
        standing, reasons, action = _standing(checks, required, complete)
    return Qualification(standing, (*reasons, *notes), action)


def _drill(checks: Sequence[Check], injected: Sequence[str]) -> tuple[Standing, Sequence[str], str]:
    """Whether each planted fault was found is all that such a run says."""
    said = []
    for planted in injected:
        hit = [check for check in checks if check.injected == planted]
        # The preconditions do not fail: a busy machine is one that nothing can be said of.
        worst = CheckVerdict.INCONCLUSIVE if planted.startswith("preconditions") else CheckVerdict.FAIL
        found = [check for check in hit if check.verdict is worst]
        rest = "" if found else ": " + "; ".join(dict.fromkeys(check.reason or str(check.verdict) for check in hit))
        said.append(f"INJECTED {planted}: {'found' if found else 'not found'}{rest}")
    failed = [check for check in checks if check.verdict is CheckVerdict.FAIL]
    reasons = [f"{_where(check)}: {check.reason}" for check in failed]
    return Standing.NOT_QUALIFIED if failed else Standing.INCONCLUSIVE, [*said, *reasons], DRILL


def _standing(checks: Sequence[Check], required: Sequence[str], complete: bool) -> tuple[Standing, Sequence[str], str]:
    failed = [f"{_where(check)}: {check.reason}" for check in checks if check.verdict is CheckVerdict.FAIL]
    judged = {check.check for check in checks if check.verdict in (CheckVerdict.PASS, CheckVerdict.FAIL)}
    lacking = unmet(checks, required) if complete else []
    unclear = [f"{_where(check)}: {check.reason}" for check in checks if check.verdict is CheckVerdict.INCONCLUSIVE]
    if failed:
        return Standing.NOT_QUALIFIED, [*failed, *lacking], FAILED
    if lacking:
        return Standing.NOT_QUALIFIED, lacking, LACKING
    if not complete:
        return Standing.INCONCLUSIVE, ["the run did not finish", *unclear], AGAIN
    if unclear:
        return Standing.INCONCLUSIVE, unclear, UNCLEAR
    wants = [check for check in checks if check.verdict is CheckVerdict.UNSUPPORTED and _can_be_judged(check)]
    if not judged:
        return Standing.INCONCLUSIVE, ["nothing was judged"], BY_SPEC if wants else NOTHING
    partly = any(check.verdict is CheckVerdict.UNSUPPORTED for check in checks)
    return Standing.QUALIFIED, [], f"{PARTLY} {BY_SPEC}" if wants else PARTLY if partly else DONE


def _can_be_judged(check: Check) -> bool:
    """Whether it was measured, and lacks only what to hold it against."""
    return check.value is not None or "digest" in check.details


# What a training step is made of, by the checks that measure it alone.
COMPONENTS = ("matmul", "memory", "copies", "launch", "sustained")


def explanation(checks: Sequence[Check], device: str) -> str:
    """Which component of `device` explains a slow training step."""
    judged = [
        check
        for check in checks
        if check.device == device
        and check.check in COMPONENTS
        and check.verdict in (CheckVerdict.PASS, CheckVerdict.FAIL)
    ]
    slow = [check.name for check in judged if check.verdict is CheckVerdict.FAIL]
    if slow:
        return f"explained by {', '.join(slow)}"
    if not judged:
        return "unexplained: none of its components could be judged"
    return f"unexplained: {', '.join(check.name for check in judged)} passed"


FAILED = "Attach the file to the ticket. The first of them is the one to look into: the others may follow from it."
DRILL = "This says nothing about the machine: measure again without --perf-inject."
AGAIN = "Measure again, and let it finish."
UNCLEAR = "Stop what else runs on this machine, and measure again."
DONE = "Nothing."
PARTLY = "Nothing, for what was judged. What is UNSUPPORTED was not."
BY_SPEC = "--perf-spec=FILE holds what was measured against a machine that is known to be good (python -m perf spec)."
NOTHING = "Nothing of this can be judged here: the reasons are above."
LACKING = "Make what is required possible here, as its reason says, or leave it out of --perf-require-check."


def _where(check: Check) -> str:
    return f"{check.name} on {check.device}"
