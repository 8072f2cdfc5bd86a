"""In: the measurements and the bar of a metric. Out: its verdict; from all the checks, the verdict on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from perf.harness.record.check import JUDGED, Check, CheckVerdict, Qualification, Standing
from perf.harness.statistics.intervals import median_interval
from perf.harness.verdict.limits import NEIGHBOURS, Limit

# A good machine may be this many standard deviations away from the median of other good machines. It may be further
# away where they are so few that their standard deviation is hardly known: then one good machine in a hundred is beyond
# the bar.
SPREADS, SURE = 3.0, 0.99
# A bar at less than half the rate of good machines, or above twice their time, would find nothing. No more does a value
# within its bar say much, if its interval reaches that far beyond the bar.
WIDEST = 2.0
# A good machine may be slower than the reference by this share: healthy GPUs of one model differ by 5 to 8%.
RATE_SLACK = 0.08
# The host starts each operation, and a host's times vary more than a GPU's.
TIME_SLACK = 0.25
# If other programs use more than this share of the cores, a slow result says nothing; or less, where threads wait for
# each other, so that one busy core slows all of them.
BUSY_SHARE = 0.05
BUSY_CORES = 0.1  # of two cores, and in records that do not say it
# Others that take so many times the cores they may (a quarter of all) do not halve a rate: beside a program that kept
# half of one of two cores busy, a training step kept 0.57 to 0.81 of its rate (eight pairs).
SLIGHTLY = 5

NO_BAR = "no bar is known; give a reference with --perf-spec=FILE"
# Parts of reasons, by which we say what to do.
OTHERS = ("other program", "others take", "other process")
ONCE, BEYOND, UNLIKE = "not measured a second time", "of the physical limit", "not comparable with"


@dataclass(frozen=True)
class Allowed:
    """How many `cores` others may take before a slow result says nothing, and the `source` of that number."""

    cores: float
    source: str


def allowed_load(cores: int, slower: float | None) -> Allowed:
    """What others may take of `cores` cores, if one busy core makes matrix products `slower` by that share.

    That is BUSY_SHARE of the cores, or what makes products slower by RATE_SLACK, if that is less.
    """
    share = Allowed(BUSY_SHARE * cores, f"{BUSY_SHARE:.0%} of {cores} cores")
    if slower is None or slower * share.cores <= RATE_SLACK:
        return share
    said = f"one busy core slows matrix products by {slower:.0%} here; good machines differ by {RATE_SLACK:.0%}"
    return Allowed(RATE_SLACK / slower, said)


class Want(StrEnum):
    """Which side of its bar a metric should be on."""

    MORE = "at least"
    LESS = "at most"


@dataclass(frozen=True)
class Bar:
    """The value that a metric must reach, or must not exceed, in the metric's unit. `source` says where it comes from.

    `ceiling` is the physical limit if it is certain, else None. A value above the ceiling is a measurement error.
    `left` is the share of a rate that other virtual machines on the same cores may leave; 1 if there are none. A rate
    below the bar, but within that share of it, says nothing.
    """

    value: float
    source: str
    want: Want = Want.MORE
    ceiling: float | None = None
    left: float = 1.0


def limit_bar(limit: Limit, share: float, left: float = 1.0) -> Bar:
    """A bar at `share` of a physical limit."""
    ceiling = limit.value if limit.certain else limit.ceiling
    return Bar(share * limit.value, f"{share:.0%} of {limit.source}", ceiling=ceiling, left=left)


def strictest(bars: Sequence[Bar]) -> Bar | None:
    """The hardest bar, with the lowest ceiling of all bars; None without bars. All bars must have the same `want`."""
    if not bars:
        return None
    hardest = (max if bars[0].want is Want.MORE else min)(bars, key=lambda bar: bar.value)
    ceilings = [bar.ceiling for bar in bars if bar.ceiling is not None]
    return replace(hardest, ceiling=min(ceilings, default=None))


@dataclass(frozen=True)
class Measurement:
    """One measurement: the median rate, or time, the ends of its 95% interval (None if unknown), and what else ran.

    `crowding` is how many of the cores that the measurement needs were missing; None if unknown. `sharers` is how many
    other processes computed on the device. More than `allowed` cores missing make the device busy.
    """

    value: float
    low: float | None
    high: float | None
    crowding: float | None = None
    sharers: int = 0
    allowed: float = BUSY_CORES

    @classmethod
    def of(
        cls, values: Sequence[float], crowding: float | None = None, sharers: int = 0, allowed: float = BUSY_CORES
    ) -> Measurement:
        """The measurement from the rate, or the time, of each repetition."""
        return cls(*median_interval(values), crowding, sharers, allowed)

    @property
    def busy(self) -> bool:
        return self.sharers > 0 or (self.crowding is not None and self.crowding > self.allowed)

    @property
    def slightly_busy(self) -> bool:
        return not self.sharers and self.crowding is not None and self.crowding <= SLIGHTLY * self.allowed

    @property
    def disturbance(self) -> str:
        """Why a slow result says nothing about the machine; empty if the machine is known to have been free."""
        if self.sharers:
            several = "es" * (self.sharers > 1)
            return f"{self.sharers} other process{several} computed on the device"
        if self.crowding is None:
            return "this system does not say whether other programs ran"
        return f"other programs or a quota took {self.crowding:.1f} of the cores that it needs" if self.busy else ""


@dataclass(frozen=True)
class Finding:
    """The verdict on one metric. `value` is the median, `low` to `high` its 95% interval; None if unknown."""

    verdict: CheckVerdict
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


def needs_confirmation(first: Measurement, bar: Bar) -> bool:
    """Whether the median is on the wrong side of the bar, or varies so much that it may be.

    If so, the metric is measured again before it is judged.
    """
    return _wrong(first.value, bar) or _vague(first, bar)


def judge(first: Measurement, bar: Bar | None, second: Measurement | None = None, *, ratio: bool = False) -> Finding:
    """The verdict on a metric. `second` confirms a first measurement that was on the wrong side of the bar.

    A FAIL needs two measurements whose whole intervals are on the wrong side, a machine that is known to have been free
    in both, and a rate that no other virtual machine explains. A PASS needs one whose interval does not reach to half
    of the bar, or to twice of it for a time. A PASS of a `ratio` of two rates also needs a free machine, because a busy
    machine may slow only the denominator; on a
    slightly busy one, a ratio of WIDEST times the bar is enough.
    """
    value, low, high = first.value, first.low, first.high
    known = {"value": value, "low": low, "high": high}
    if bar is None:
        reason = f"{NO_BAR}; do not make one of this value: {first.disturbance}" if first.busy else NO_BAR
        return Finding(CheckVerdict.UNJUDGED, reason, **known)
    beyond = f"{'below' if bar.want is Want.MORE else 'above'} the bar"
    if bar.ceiling is not None and (value if low is None else low) > bar.ceiling:
        reason = f"{value / bar.ceiling:.0%} {BEYOND}: the measurement, the limit or the clock is wrong"
        return Finding(CheckVerdict.INCONCLUSIVE, reason, **known)
    if not _wrong(value, bar):
        if ratio and first.disturbance and not (first.slightly_busy and value >= WIDEST * bar.value):
            return Finding(CheckVerdict.INCONCLUSIVE, f"within the bar, but {first.disturbance}", **known)
        if _vague(first, bar) and (second is None or _wrong(second.value, bar) or _vague(second, bar)):
            reason = "within the bar, but it varies so much that it may be far beyond"
            return Finding(CheckVerdict.INCONCLUSIVE, reason, **known)
        return Finding(CheckVerdict.PASS, "", **known)
    if second is None:
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, and {ONCE}", **known)
    if not _wrong(second.value, bar):
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond} at first, but within it when measured again", **known)
    if disturbance := first.disturbance or second.disturbance:
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, but {disturbance}", **known)
    if bar.left < 1 and max(value, second.value) >= bar.left * bar.value:
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, but {NEIGHBOURS}", **known)
    if all(end is not None and _wrong(end, bar) for end in (low, high, second.low, second.high)):
        return Finding(CheckVerdict.FAIL, f"{beyond}, and again when measured a second time", **known)
    return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, but by less than the measurement varies", **known)


def _wrong(value: float, bar: Bar) -> bool:
    return value < bar.value if bar.want is Want.MORE else value > bar.value


def _vague(measured: Measurement, bar: Bar) -> bool:
    """Whether the interval reaches so far beyond the bar that a median on its right side says little."""
    end = measured.low if bar.want is Want.MORE else measured.high
    return end is not None and (end * WIDEST < bar.value if bar.want is Want.MORE else end > WIDEST * bar.value)


def unmet(checks: Sequence[Check], required: Sequence[str]) -> list[str]:
    """One sentence for each `required` check that did not run, and for each device on which it cannot be judged."""
    found = []
    for name in required:
        ran = [check for check in checks if check.check == name]
        judged = {check.device for check in ran if check.verdict in JUDGED}
        if not ran:
            found.append(f"{name} is required, but did not run")
        for device in dict.fromkeys(check.device for check in ran if check.device not in judged):
            found.append(f"{name} is required, but cannot be judged on {device}")
    return found


def qualification(
    checks: Sequence[Check],
    *,
    required: Sequence[str] = (),
    lacking: Sequence[str] = (),
    unjudged: Sequence[str] = (),
    selection: Sequence[str] = (),
    notes: Sequence[str] = (),
    complete: bool = True,
) -> Qualification:
    """The verdict on the machine.

    A check that the user has `required` and that did not run or could not be judged disqualifies the machine, and so
    does all that it is `lacking`. What devices of its kind need and is `unjudged`, and a `selection` of checks, make it
    PARTLY QUALIFIED. `notes` say what else was not checked. A run that is not `complete` cannot qualify a machine.
    """
    lacking = [*lacking, *(unmet(checks, required) if complete else [])]
    if injected := sorted({check.injected for check in checks if check.injected}):
        standing, reasons, action = _drill(checks, injected)
    else:
        standing, reasons, action = _standing(checks, lacking, unjudged, selection, complete)
    said = tuple(dict.fromkeys((*reasons, *selection, *notes)))
    return Qualification(standing, said, action, tuple(lacking), tuple(selection), tuple(notes))


def _drill(checks: Sequence[Check], injected: Sequence[str]) -> tuple[Standing, Sequence[str], str]:
    """The verdict of a run with planted faults, which says only whether each fault was found."""
    said = []
    for planted in injected:
        hit = [check for check in checks if check.injected == planted]
        # A planted load makes the preconditions INCONCLUSIVE, not FAIL: nothing can be said about a busy machine.
        worst = CheckVerdict.INCONCLUSIVE if planted.startswith("preconditions") else CheckVerdict.FAIL
        found = [check for check in hit if check.verdict is worst]
        rest = "" if found else ": " + "; ".join(dict.fromkeys(check.reason or str(check.verdict) for check in hit))
        said.append(f"INJECTED {planted}: {'found' if found else 'not found'}{rest}")
    failed = _reasons(checks, CheckVerdict.FAIL)
    return Standing.NOT_QUALIFIED if failed else Standing.INCONCLUSIVE, [*said, *failed], DRILL


def _standing(
    checks: Sequence[Check],
    lacking: Sequence[str],
    unjudged: Sequence[str],
    selection: Sequence[str],
    complete: bool,
) -> tuple[Standing, Sequence[str], str]:
    failed, unclear = _reasons(checks, CheckVerdict.FAIL), _reasons(checks, CheckVerdict.INCONCLUSIVE)
    if failed:
        return Standing.NOT_QUALIFIED, [*failed, *lacking], FAILED
    if lacking:
        return Standing.NOT_QUALIFIED, lacking, LACKING
    if not complete:
        return Standing.INCONCLUSIVE, ["the run did not finish", *unclear], AGAIN
    if unclear:
        return Standing.INCONCLUSIVE, unclear, _clearing(unclear)
    left = [check for check in checks if check.verdict not in JUDGED]
    if len(left) == len(checks):
        return Standing.INCONCLUSIVE, ["nothing was judged"], _judging(left, NOTHING)
    if selection:
        return Standing.PARTLY, [*unjudged, *selection], SELECTED
    if unjudged:
        return Standing.PARTLY, unjudged, _judging(left, PARTLY)
    return Standing.QUALIFIED, [], DONE


def _clearing(reasons: Sequence[str]) -> str:
    """What to do where a check is INCONCLUSIVE for these `reasons`."""
    if any(part in reason for reason in reasons for part in OTHERS):
        return UNCLEAR
    if any(BEYOND in reason for reason in reasons):
        return WRONG_LIMIT
    return MEASURED_ONCE if all(ONCE in reason for reason in reasons) else VARIES


def _judging(left: Sequence[Check], otherwise: str) -> str:
    """How what is `left` can be judged, if a spec can do that."""
    unjudged = [check.reason for check in left if check.verdict is CheckVerdict.UNJUDGED]
    if any(UNLIKE in reason for reason in unjudged):
        return ANOTHER_SPEC
    return BY_SPEC if unjudged else otherwise


def _reasons(checks: Sequence[Check], verdict: CheckVerdict) -> list[str]:
    return [f"{check.name} on {check.device}: {_why(check)}" for check in checks if check.verdict is verdict]


def _why(check: Check) -> str:
    """The reason of a verdict; where a value is on the wrong side of its bar, and that is all, the two numbers."""
    if check.reason or check.value is None or check.bar is None:
        return check.reason
    return f"{check.value:.4g} {check.unit}, and it must be {check.want} {check.bar:.4g}"


# Each of these checks measures one component of a training step alone.
COMPONENTS = ("matmul", "memory", "copies", "launch", "sustained")


def explanation(checks: Sequence[Check], device: str) -> str:
    """Which components of `device` explain a slow training step, or that none does."""
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


FAILED = "Attach the file to the ticket. Start with the first reason. It may have caused the others."
DRILL = "This run says nothing about the machine. Run it again without --perf-inject."
AGAIN = "Run it again, and let it finish."
UNCLEAR = "Stop the other programs on this machine, and run it again."
MEASURED_ONCE = (
    "Measure this machine again, with --perf-spec=FILE. A FAIL needs two measurements, and the record has one."
)
WRONG_LIMIT = "Run it again. If a value stays above its limit, report that with the file."
VARIES = "Run it again. If it stays INCONCLUSIVE, these checks cannot judge this machine: say so in the ticket."
DONE = "Nothing to do."
SELECTED = "Run the other checks, too: leave out what selects some of them (--perf-check, -k)."
PARTLY = "Do what the reasons above say is missing, and run it again."
ANOTHER_SPEC = (
    "Use a spec of machines like this one. The lines above say how this machine differs from those of the spec."
)
BY_SPEC = (
    "To judge what was measured and has no bar, give a reference from machines that you know are good: "
    "--perf-spec=FILE (python -m perf spec makes it)."
)
NOTHING = "No check can be judged here. The reasons are above."
LACKING = (
    "Solve what the reasons above say. If you asked for too much, change --perf-require-check or --perf-expect-devices."
)
