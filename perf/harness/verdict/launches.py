"""In: what launches saw of one benchmark on both sides. Out: a verdict, or that another launch is needed.

A launch is one fresh pair of processes, base and head, and one independent sample: two processes of the same code
differ by half a percent for as long as they live, which no number of steps within them averages out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.statistics.intervals import exp, quantile, tail
from perf.harness.verdict.tally import ALPHA, DEFAULT_MIN_EFFECT, MARGIN, TARGET

# After how many launches a benchmark is looked at, and the share of the error rate spent there (Lan and DeMets 1983;
# the shares add up to 1, so that by Bonferroni the looks together keep the rate).
LOOKS = (4, 6, 8, 12, 16)
SPENDING = (0.1, 0.2, 0.2, 0.25, 0.25)
# A median over fewer rounds moves with the neighbours' load.
LEAST_ROUNDS = 40
# The spread of a few launches may come out smaller than it is; half of what was measured between launches.
LEAST_SPREAD = 0.003
# How many of the lowest and of the highest launches are left out: a single crazy one would otherwise leave the gate
# INCONCLUSIVE for good (simulated: always, where it is among the first 4; so: never).
TRIMMED = {4: 0, 6: 0, 8: 0, 12: 1, 16: 2}
# Of the CPU times' ratios in one launch, the share that is left out at each end. Measured between launches of the same
# code, the rest spreads by 0.7 to 1.1%, as a median does, and a mean without its top tenth by 1.0 to 1.6%; and a cost
# that comes with every 20th step still shows, which a median hides (simulated: +0.1% of 10%).
QUIET = 0.25
# Wall time and CPU time, each tested on its own.
METRICS = 2
# One-sided, for SAME, and so the shown interval covers 98%.
CONFIDENCE = 0.99


@dataclass(frozen=True)
class Visit:
    """Consecutive steps of one side, the cold first one dropped [s per step]: wall times, and CPU times if known."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Launch:
    """What one launch says: log(head ÷ base) of wall and of CPU time, and the times of a step [s]."""

    wall: float
    cpu: float | None
    base_s: float
    head_s: float
    rounds: int


@dataclass(frozen=True)
class Rule:
    """The decision rule of a gate over `benchmarks` benchmarks. `min_effect` is 0.025 for 2.5%."""

    benchmarks: int
    min_effect: float = DEFAULT_MIN_EFFECT

    @property
    def margin(self) -> float:
        """The log ratio that SLOWER has to be above beyond chance."""
        return math.log1p(MARGIN * self.min_effect)

    @property
    def effect(self) -> float:
        """The log ratio that the median launch has to show for SLOWER."""
        return math.log1p(self.min_effect)

    @property
    def target(self) -> float:
        """The log ratio that SAME rules out."""
        return math.log1p(TARGET * self.min_effect)

    def level(self, launches: int) -> float:
        """The error rate to be spent on one metric of one benchmark at the look after `launches`."""
        spent = dict(zip(LOOKS, SPENDING, strict=True))
        return ALPHA / (METRICS * max(1, self.benchmarks)) * spent[launches]


def launch_of(rounds: Sequence[tuple[Visit, Visit]]) -> Launch:
    """One launch from its rounds, each a visit of base and one of head. Raises ValueError for none.

    Of the wall times, each visit's minimum counts, and of those the median: pre-emption only ever adds. Of the CPU
    times, each visit's mean, which shows a cost that comes now and then and that a minimum hides.
    """
    if not rounds:
        raise ValueError("no rounds")
    bases, heads = ([math.log(min(pair[side].wall_s)) for pair in rounds] for side in (0, 1))
    return Launch(
        wall=statistics.median(head - base for base, head in zip(bases, heads, strict=True)),
        cpu=_cpu(rounds),
        base_s=math.exp(statistics.median(bases)),
        head_s=math.exp(statistics.median(heads)),
        rounds=len(rounds),
    )


def _cpu(rounds: Sequence[tuple[Visit, Visit]]) -> float | None:
    """The trimmed mean over rounds of log(head ÷ base) in CPU time; None where it is not known of all, or is 0."""
    if not all(base.cpu_s and head.cpu_s for base, head in rounds):
        return None
    means = [(statistics.fmean(base.cpu_s), statistics.fmean(head.cpu_s)) for base, head in rounds]
    ratios = sorted(math.log(head / base) for base, head in means if base > 0 and head > 0)
    trimmed = int(QUIET * len(ratios))
    return statistics.fmean(ratios[trimmed : len(ratios) - trimmed]) if ratios else None


def decide(name: str, launches: Sequence[Launch], rule: Rule) -> Judgement | None:
    """The verdict on a benchmark after `launches`, or None where it takes more of them, or it is not time to look."""
    count = len(launches)
    if count not in LOOKS or min(one.rounds for one in launches) < LEAST_ROUNDS:
        return None
    found = [_Metric(title, values) for title, values in _metrics(launches)]
    slower = [metric for metric in found if metric.beyond(rule, count)]
    faster = [metric for metric in found if metric.mirrored().beyond(rule, count)]
    if slower and faster:
        return None
    if slower:
        return _judgement(name, Verdict.SLOWER, _moved(slower[0], found[0]), launches, rule)
    if faster:
        return _judgement(name, Verdict.FASTER, _moved(faster[0], found[0]), launches, rule)
    if all(metric.high < rule.target for metric in found):
        return _judgement(name, Verdict.SAME, "", launches, rule)
    return None


def give_up(name: str, launches: Sequence[Launch], rule: Rule, why: str) -> Judgement:
    """INCONCLUSIVE, with what is known all the same; `why` says what ended the search."""
    return _judgement(name, Verdict.INCONCLUSIVE, why, launches, rule)


def spent(launches: Sequence[Launch]) -> bool:
    """Whether there is no look left."""
    return len(launches) >= LOOKS[-1]


def _metrics(launches: Sequence[Launch]) -> list[tuple[str, list[float]]]:
    metrics = [("wall time", [one.wall for one in launches])]
    cpu = [one.cpu for one in launches if one.cpu is not None]
    return [*metrics, ("CPU time", cpu)] if len(cpu) == len(launches) else metrics


class _Metric:
    """The log ratios of one metric over two launches or more: their trimmed mean, and its error (Yuen 1974).

    With nothing trimmed, the mean and its standard error (Student 1908).
    """

    def __init__(self, title: str, values: Sequence[float]) -> None:
        self.title = title
        self.values = values
        count, trimmed = len(values), trim(len(values))
        kept = sorted(values)[trimmed : count - trimmed]
        winsorized = [kept[0]] * trimmed + kept + [kept[-1]] * trimmed
        self.mean = statistics.fmean(kept)
        self.freedom = len(kept) - 1
        self._spread = statistics.stdev(winsorized)
        self.error = _error(self._spread, count)
        self.reach = quantile(CONFIDENCE, self.freedom) * self.error
        self.low, self.high = self.mean - self.reach, self.mean + self.reach

    def mirrored(self) -> _Metric:
        return _Metric(self.title, [-value for value in self.values])

    def beyond(self, rule: Rule, count: int) -> bool:
        """SLOWER: above the margin beyond chance, and by the minimum effect in the median launch."""
        chance = tail((self.mean - rule.margin) / self.error, self.freedom)
        return chance <= rule.level(count) and statistics.median(self.values) >= rule.effect

    def detectable(self, rule: Rule) -> float:
        """The smallest mean log ratio that would be SLOWER at the last look, with this spread between launches."""
        count = LOOKS[-1]
        freedom = count - 2 * trim(count) - 1
        return max(rule.effect, rule.margin + quantile(1 - rule.level(count), freedom) * _error(self._spread, count))


def _judgement(name: str, verdict: Verdict, reason: str, launches: Sequence[Launch], rule: Rule) -> Judgement:
    if not launches:
        return Judgement(name, verdict, reason)
    metrics = [_Metric(*metric) for metric in _metrics(launches)] if len(launches) > 1 else []
    change = metrics[0].mean if metrics else launches[0].wall
    # The middle between the sides, and from there half the change either way, so that the times agree with the ratio.
    middle = statistics.median((math.log(one.base_s) + math.log(one.head_s)) / 2 for one in launches)
    return Judgement(
        name,
        verdict,
        reason,
        ratio=exp(change),
        low=exp(metrics[0].low) if metrics else None,
        high=exp(metrics[0].high) if metrics else None,
        base_s=exp(middle - change / 2),
        head_s=exp(middle + change / 2),
        launches=len(launches),
        smallest_detectable=exp(max(metric.detectable(rule) for metric in metrics)) if metrics else None,
    )


def _error(spread: float, count: int) -> float:
    """The standard error of the trimmed mean of `count` launches, from their Winsorized standard deviation."""
    kept = count - 2 * trim(count)
    return max(spread * math.sqrt((count - 1) / (kept * (kept - 1))), LEAST_SPREAD / math.sqrt(count))


def _moved(metric: _Metric, wall: _Metric) -> str:
    """Why, where it is not the wall time that the row shows."""
    return "" if metric is wall else f"{metric.title} {math.expm1(metric.mean):+.1%}"


def trim(launches: int) -> int:
    """How many of so many launches are left out at each end."""
    return max((number for look, number in TRIMMED.items() if look <= launches), default=0)
