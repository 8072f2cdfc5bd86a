"""In: the measurements of a metric, and its bar. Out: the verdict on the metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perf.harness.record.check import CheckVerdict, Want
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
TOO_GOOD = "better than good machines by more than a factor of"


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


@dataclass(frozen=True)
class Bar:
    """The value that a metric must reach, or must not exceed, in the metric's unit. `source` says where it comes from.

    `ceiling` is the physical limit if it is certain, else None. A value above the ceiling is a measurement error.
    `typical` is what good machines reach, if that was measured. A value that is better by WIDEST is no such machine's.
    `left` is the share of a rate that other virtual machines on the same cores may leave; 1 if there are none. A rate
    below the bar, but within that share of it, says nothing.
    """

    value: float
    source: str
    want: Want = Want.MORE
    ceiling: float | None = None
    left: float = 1.0
    typical: float | None = None

    def missed(self, value: float) -> bool:
        """Whether `value` is on the wrong side."""
        return self.want.missed(value, self.value)


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
    typical = next((bar.typical for bar in bars if bar.typical is not None), None)
    return replace(hardest, ceiling=min(ceilings, default=None), typical=typical)


@dataclass(frozen=True)
class MetricValue:
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
    ) -> MetricValue:
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
        taken = f"other programs or a quota took {self.crowding:.2g} cores"
        return f"{taken} (allowed: {self.allowed:.2g})" if self.busy else ""


@dataclass(frozen=True)
class Finding:
    """The verdict on one metric. `value` is the median, `low` to `high` its 95% interval; None if unknown."""

    verdict: CheckVerdict
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


def measure_again(done: Sequence[MetricValue], bar: Bar) -> bool:
    """Whether the metric is measured once more before it is judged; `done` are its measurements so far.

    A second measurement confirms a median on the wrong side of the bar, or one that varies so much that it may be. If
    the second contradicts a first on the wrong side, a third decides.
    """
    if len(done) == 1:
        return not _clear(done[0], bar)
    return len(done) == 2 and bar.missed(done[0].value) and _clear(done[1], bar)


def middle(done: Sequence[MetricValue]) -> int:
    """The number of the measurement that counts, from 0: of three, the one between the others; else the first."""
    return sorted(range(3), key=lambda number: done[number].value)[1] if len(done) == 3 else 0


def judge_check(first: MetricValue, bar: Bar | None, *again: MetricValue, ratio: bool = False) -> Finding:
    """The verdict on a metric that was measured once, or `again`, as `measure_again` says. Of three, the middle counts.

    A FAIL needs two measurements whose whole intervals are on the wrong side, none within the bar, a machine that is
    known to have been free in all, and a rate that no other virtual machine explains. A PASS needs one whose interval
    does not reach to half of the bar, or to twice of it for a time. A PASS of a `ratio` of two rates also needs a free
    machine, because a busy machine may slow only the denominator; on a slightly busy one, a ratio of WIDEST times the
    bar is enough.
    """
    done = (first, *again)
    first = done[middle(done)]
    value, low, high = first.value, first.low, first.high
    known = {"value": value, "low": low, "high": high}
    if bar is None:
        reason = f"{NO_BAR}; do not make one of this value: {first.disturbance}" if first.busy else NO_BAR
        return Finding(CheckVerdict.UNJUDGED, reason, **known)
    beyond = f"{'below' if bar.want is Want.MORE else 'above'} the bar"
    if bar.ceiling is not None and value > bar.ceiling:
        reason = f"{value / bar.ceiling:.0%} {BEYOND}: the measurement, the limit or the clock is wrong"
        return Finding(CheckVerdict.INCONCLUSIVE, reason, **known)
    if _too_good(first, bar):
        reason = f"{TOO_GOOD} {WIDEST:.2g}: the measurement or the clock is wrong, or the reference is of others"
        return Finding(CheckVerdict.INCONCLUSIVE, reason, **known)
    if not bar.missed(value):
        if ratio and first.disturbance and not (first.slightly_busy and value >= WIDEST * bar.value):
            return Finding(CheckVerdict.INCONCLUSIVE, f"within the bar, but {first.disturbance}", **known)
        if not any(_clear(one, bar) for one in done):
            reason = "within the bar, but it varies so much that it may be far beyond"
            return Finding(CheckVerdict.INCONCLUSIVE, reason, **known)
        return Finding(CheckVerdict.PASS, "", **known)
    if not again:
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, and {ONCE}", **known)
    if not all(bar.missed(one.value) for one in done):
        when = "at first, but within it when measured again" if len(again) == 1 else "in two of three measurements"
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond} {when}", **known)
    if disturbance := next(filter(None, (one.disturbance for one in done)), ""):
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, but {disturbance}", **known)
    if bar.left < 1 and max(one.value for one in done) >= bar.left * bar.value:
        return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, but {NEIGHBOURS}", **known)
    beside = [any(end is None or not bar.missed(end) for end in (one.low, one.high)) for one in done]
    if not any(beside):
        return Finding(CheckVerdict.FAIL, f"{beyond}, and again when measured a second time", **known)
    number = ("first", "second", "third")[beside.index(True)]
    which = "" if all(beside) else f", in the {number} measurement,"
    return Finding(CheckVerdict.INCONCLUSIVE, f"{beyond}, but{which} by less than it varies", **known)


def _clear(one: MetricValue, bar: Bar) -> bool:
    """Whether one measurement is enough for a PASS."""
    return not bar.missed(one.value) and not _vague(one, bar)


def _too_good(measured: MetricValue, bar: Bar) -> bool:
    """Whether the whole interval is better than what good machines reach, by more than WIDEST."""
    end = measured.low if bar.want is Want.MORE else measured.high
    if bar.typical is None or end is None:
        return False
    return end > WIDEST * bar.typical if bar.want is Want.MORE else end * WIDEST < bar.typical


def _vague(measured: MetricValue, bar: Bar) -> bool:
    """Whether the interval reaches so far beyond the bar that a median on its right side says little."""
    end = measured.low if bar.want is Want.MORE else measured.high
    return end is not None and (end * WIDEST < bar.value if bar.want is Want.MORE else end > WIDEST * bar.value)
