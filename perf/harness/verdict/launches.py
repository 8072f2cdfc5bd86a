"""In: what the launches of one benchmark measured on both sides. Out: a verdict, or None if more launches are needed.

A launch is one fresh pair of processes, base and head. Each launch is one independent sample, because two processes
of the same code differ by half a percent as long as they run. More steps in the same processes do not average this out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.statistics.intervals import exp, quantile, tail
from perf.harness.verdict.tally import ALPHA, DEFAULT_MIN_EFFECT, MARGIN, TARGET

# A look is an attempt at a verdict after this many launches. Each look spends a share of the error rate (Lan and DeMets
# 1983). The shares add up to 1, so all looks together keep the error rate (Bonferroni).
LOOKS = (4, 6, 8, 12, 16)
SPENDING = (0.1, 0.2, 0.2, 0.25, 0.25)
# A median over fewer rounds changes with the load of other programs. Long rounds are all disturbed alike, and then more
# launches say more than more rounds: with rounds of 1.7 s that differ by 8%, 12 rounds for each launch find 5% nearly
# always within 10 minutes, and 40 rounds in 86% of the gates (simulated in tests/test_gate_paired.py).
LEAST_ROUNDS, FEWEST_ROUNDS = 40, 12
# A few launches may show less spread than there really is. This is half of the spread measured between launches.
LEAST_SPREAD = 0.003
# From so many launches on, how many are left out at each end, lowest and highest. Without this, a single extreme launch
# leaves the gate INCONCLUSIVE to the end (simulated: always if it is among the first 4 launches; with this, never).
TRIMMED = {12: 1, 16: 2}
# The share of the CPU time ratios of one launch that is left out at each end. Between launches of the same code, this
# trimmed mean spreads by 0.7 to 1.1%, as much as a median; a mean without its top tenth spreads by 1.0 to 1.6%
# (measured). The trimmed mean still shows a cost that comes with every 20th step. A median hides it (simulated: +0.1%
# of 10%).
QUIET = 0.25
# The metrics, each tested separately, and its share of the error rate. The wall time is that of the fastest step of
# each visit, so it hides what only some steps wait for. The mean time of the steps shows that. But pre-emption moves
# it, too: launches of the same code spread by 1.0% idle, and by 2.5% beside two busy loops on 2 cores. So it only
# accuses, and has little of the error rate, as it is asked for what the others cannot see.
WALL, CPU, MEAN = "wall time", "CPU time", "mean time"
SHARES = {WALL: 0.49, CPU: 0.49, MEAN: 0.02}
# The one-sided confidence for SAME. The interval that is shown has two sides, so it covers 98%.
CONFIDENCE = 0.99
# Undecided launches that come so seldom without a change are said to lean to one side.
LEANING = 0.05


@dataclass(frozen=True)
class Visit:
    """Consecutive steps of one side, without the cold first step: wall times, and CPU times if known [s per step].

    `total_s` is the time of all steps together, with the first one [s]; 0 if unknown.
    """

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...] = ()
    total_s: float = 0.0


@dataclass(frozen=True)
class Launch:
    """The result of one launch: log(head ÷ base) of wall time and of CPU time (None if unknown), and step times [s].

    `mean` is log(head ÷ base) of the mean wall time of the steps; None if a visit has only one time.
    """

    wall: float
    cpu: float | None
    base_s: float
    head_s: float
    rounds: int
    mean: float | None = None


@dataclass(frozen=True)
class Rule:
    """The decision rule of a gate over `benchmarks` benchmarks. `min_effect` is 0.025 for 2.5%.

    `max_memory` is the share of memory that training may take more.
    """

    benchmarks: int
    min_effect: float = DEFAULT_MIN_EFFECT
    max_memory: float = 0.05

    @property
    def margin(self) -> float:
        """SLOWER needs a mean log ratio above this margin, by more than chance explains."""
        return math.log1p(MARGIN * self.min_effect)

    @property
    def effect(self) -> float:
        """SLOWER needs at least this log ratio in the median launch."""
        return math.log1p(self.min_effect)

    @property
    def target(self) -> float:
        """SAME needs an interval that ends below this log ratio."""
        return math.log1p(TARGET * self.min_effect)

    def level(self, launches: int, metric: str = WALL) -> float:
        """The error rate for one metric of one benchmark at the look after `launches` launches."""
        spent = dict(zip(LOOKS, SPENDING, strict=True))
        return ALPHA * SHARES[metric] / max(1, self.benchmarks) * spent[launches]


def launch_of(rounds: Sequence[tuple[Visit, Visit]]) -> Launch:
    """Make a launch from its rounds, each a visit of base and a visit of head. Raises ValueError if there are none.

    Wall time: the median over the rounds of each visit's minimum, because pre-emption only adds time. CPU time and mean
    time: the trimmed mean over the rounds of each visit's mean, because a minimum hides what only some steps cost.
    """
    if not rounds:
        raise ValueError("no rounds")
    bases, heads = ([math.log(min(pair[side].wall_s)) for pair in rounds] for side in (0, 1))
    return Launch(
        wall=statistics.median(head - base for base, head in zip(bases, heads, strict=True)),
        cpu=_of_means([(base.cpu_s, head.cpu_s) for base, head in rounds]),
        base_s=math.exp(statistics.median(bases)),
        head_s=math.exp(statistics.median(heads)),
        rounds=len(rounds),
        mean=_of_means([(base.wall_s, head.wall_s) for base, head in rounds], least=2),
    )


def _of_means(rounds: Sequence[tuple[Sequence[float], Sequence[float]]], least: int = 1) -> float | None:
    """The trimmed mean over the rounds of log(head ÷ base) of each visit's mean time. A mean of 0 does not count.

    None if a visit has fewer than `least` times, or if no round counts.
    """
    if any(len(times) < least for pair in rounds for times in pair):
        return None
    means = [(statistics.fmean(base), statistics.fmean(head)) for base, head in rounds]
    ratios = sorted(math.log(head / base) for base, head in means if base > 0 and head > 0)
    trimmed = int(QUIET * len(ratios))
    return statistics.fmean(ratios[trimmed : len(ratios) - trimmed]) if ratios else None


def decide(name: str, launches: Sequence[Launch], rule: Rule) -> Judgement | None:
    """The verdict on a benchmark after `launches`; None if more launches are needed, or if no look is due."""
    count = len(launches)
    if count not in LOOKS or min(one.rounds for one in launches) < FEWEST_ROUNDS:
        return None
    found = _metrics(launches)
    slower = [metric for metric in found if metric.beyond(rule, count)]
    faster = [metric for metric in found if metric.title != MEAN and metric.mirrored().beyond(rule, count)]
    if slower and faster:
        return None
    if slower:
        return _judgement(name, Verdict.SLOWER, _moved(slower[0], found[0]), launches, rule)
    if faster:
        return _judgement(name, Verdict.FASTER, _moved(faster[0], found[0]), launches, rule)
    if all((metric.mean if metric.title == MEAN else metric.high) < rule.target for metric in found):
        return _judgement(name, Verdict.SAME, "", launches, rule)
    return None


def give_up(name: str, launches: Sequence[Launch], rule: Rule, why: str) -> Judgement:
    """An INCONCLUSIVE judgement with the numbers known so far. `why` says why the gate stopped."""
    return _judgement(name, Verdict.INCONCLUSIVE, why, launches, rule)


def leaning(launches: Sequence[Launch], rule: Rule) -> str:
    """The side to which undecided launches lean, and how far they are from a verdict; "" if they do not lean."""
    count = len(launches)
    for metric in _metrics(launches) if count in LOOKS else []:
        for verdict, one in ((Verdict.SLOWER, metric), (Verdict.FASTER, metric.mirrored())):
            level = rule.level(count, metric.title)
            if level < (chance := one.chance(rule)) < LEANING and (verdict is Verdict.SLOWER or metric.title != MEAN):
                change = f"{metric.title} {math.expm1(metric.mean):+.1%}"
                so_much = f"with unchanged code, that happens in 1 of {1 / chance:,.0f} gates"
                return f"probably {verdict.lower()} ({change}): {so_much}, and {verdict} needs 1 of {1 / level:,.0f}"
    return ""


def until_look(launches: int) -> int:
    """How many more launches there are until the next look; 0 after the last."""
    return next((look - launches for look in LOOKS if look > launches), 0)


def typical_s(visits: Sequence[Visit]) -> float:
    """The time of a step [s]: the median of the visits' minima."""
    return statistics.median(min(visit.wall_s) for visit in visits)


def spent(launches: Sequence[Launch]) -> bool:
    """Whether no look is left after these launches."""
    return len(launches) >= LOOKS[-1]


def _metrics(launches: Sequence[Launch]) -> list[_Metric]:
    """The metrics that all `launches` have: first the wall time."""
    values: dict[str, list[float | None]] = {
        WALL: [one.wall for one in launches],
        CPU: [one.cpu for one in launches],
        MEAN: [one.mean for one in launches],
    }
    known = {title: [one for one in of if one is not None] for title, of in values.items()}
    return [_Metric(title, of) for title, of in known.items() if len(of) == len(launches)]


class _Metric:
    """The log ratios of one metric in two or more launches: their trimmed mean and its standard error (Yuen 1974).

    If nothing is trimmed, these are the mean and its standard error (Student 1908).
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
        """Whether the metric is SLOWER: mean significantly above the margin, median at least the minimum effect."""
        return self.chance(rule) <= rule.level(count, self.title) and statistics.median(self.values) >= rule.effect

    def chance(self, rule: Rule) -> float:
        """The chance of such a mean, or a larger one, in launches of code that is no slower than the margin."""
        return tail((self.mean - rule.margin) / self.error, self.freedom)

    def detectable(self, rule: Rule) -> float:
        """The smallest mean log ratio that would be SLOWER at the last look, if the spread stays the same."""
        count = LOOKS[-1]
        freedom = count - 2 * trim(count) - 1
        level = rule.level(count, self.title)
        return max(rule.effect, rule.margin + quantile(1 - level, freedom) * _error(self._spread, count))


def _judgement(name: str, verdict: Verdict, reason: str, launches: Sequence[Launch], rule: Rule) -> Judgement:
    if not launches:
        return Judgement(name, verdict, reason)
    metrics = _metrics(launches) if len(launches) > 1 else []
    change = metrics[0].mean if metrics else launches[0].wall
    known = len(launches) >= LOOKS[0]  # of fewer, the interval says nothing
    # Start from the middle between both sides and go half the change in each direction, so that the times agree with
    # the ratio.
    middle = statistics.median((math.log(one.base_s) + math.log(one.head_s)) / 2 for one in launches)
    return Judgement(
        name,
        verdict,
        reason,
        ratio=exp(change),
        low=exp(metrics[0].low) if known else None,
        high=exp(metrics[0].high) if known else None,
        base_s=exp(middle - change / 2),
        head_s=exp(middle + change / 2),
        launches=len(launches),
        smallest_detectable=exp(max(one.detectable(rule) for one in metrics if one.title != MEAN)) if known else None,
    )


def _error(spread: float, count: int) -> float:
    """The standard error of the trimmed mean of `count` launches, from their Winsorized standard deviation."""
    kept = count - 2 * trim(count)
    return max(spread * math.sqrt((count - 1) / (kept * (kept - 1))), LEAST_SPREAD / math.sqrt(count))


def _moved(metric: _Metric, wall: _Metric) -> str:
    """The metric that decided and its change; empty if that is the wall time, because the row shows the wall time."""
    return "" if metric is wall else f"{metric.title} {math.expm1(metric.mean):+.1%}"


def trim(launches: int) -> int:
    """How many of `launches` launches are left out at each end."""
    return max((number for look, number in TRIMMED.items() if look <= launches), default=0)
