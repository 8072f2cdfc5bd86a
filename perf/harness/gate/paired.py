"""In: what launches saw of one benchmark on both sides. Out: a verdict, or that another launch is needed.

A launch is one fresh pair of processes, base and head, and one independent sample: two processes of the same code
differ by half a percent for as long as they live, which no number of steps within them averages out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from perf.harness.gate.verdict import ALPHA, DEFAULT_MIN_EFFECT, MARGIN, TARGET, Judgement, Verdict

# After how many launches a benchmark is looked at, and the share of the error rate spent there (Lan and DeMets 1983;
# the shares add up to 1, so that by Bonferroni the looks together keep the rate).
LOOKS = (4, 6, 8, 12, 16)
SPENDING = (0.1, 0.2, 0.2, 0.25, 0.25)
# A median over fewer rounds moves with the neighbours' load.
LEAST_ROUNDS = 40
# The spread of a few launches may come out smaller than it is; half of what was measured between launches.
LEAST_SPREAD = 0.003
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
    """What one launch says: log(head ÷ base) of wall and CPU time, from the medians over rounds; times [s]."""

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


def launch(rounds: Sequence[tuple[Visit, Visit]]) -> Launch:
    """One launch from its rounds, each a visit of base and one of head. Raises ValueError for none.

    Of the wall times, each visit's minimum counts: pre-emption only ever adds. Of the CPU times, the mean, which
    shows a cost that comes now and then and that a minimum hides.
    """
    if not rounds:
        raise ValueError("no rounds")
    bases, heads = [], []
    cpu: list[float] = []
    for base, head in rounds:
        bases.append(math.log(min(base.wall_s)))
        heads.append(math.log(min(head.wall_s)))
        if base.cpu_s and head.cpu_s and min(sum(base.cpu_s), sum(head.cpu_s)) > 0:
            cpu.append(math.log(statistics.fmean(head.cpu_s) / statistics.fmean(base.cpu_s)))
    return Launch(
        wall=statistics.median(head - base for base, head in zip(bases, heads, strict=True)),
        cpu=statistics.median(cpu) if len(cpu) == len(rounds) else None,
        base_s=math.exp(statistics.median(bases)),
        head_s=math.exp(statistics.median(heads)),
        rounds=len(rounds),
    )


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


def next_look(launches: int) -> int:
    """After how many launches the next look is; the last look where there is none left."""
    return next((look for look in LOOKS if look > launches), LOOKS[-1])


def _metrics(launches: Sequence[Launch]) -> list[tuple[str, list[float]]]:
    metrics = [("wall time", [one.wall for one in launches])]
    cpu = [one.cpu for one in launches if one.cpu is not None]
    return [*metrics, ("CPU time", cpu)] if len(cpu) == len(launches) else metrics


class _Metric:
    """The log ratios of one metric over two launches or more: mean, spread, Student's t (Student 1908)."""

    def __init__(self, title: str, values: Sequence[float]) -> None:
        self.title = title
        self.values = values
        self.mean = statistics.fmean(values)
        self.freedom = len(values) - 1
        self.error = max(statistics.stdev(values), LEAST_SPREAD) / math.sqrt(len(values))
        self.reach = quantile(CONFIDENCE, self.freedom) * self.error
        self.low, self.high = self.mean - self.reach, self.mean + self.reach

    def mirrored(self) -> _Metric:
        return _Metric(self.title, [-value for value in self.values])

    def beyond(self, rule: Rule, count: int) -> bool:
        """SLOWER: above the margin beyond chance, and by the minimum effect in the median launch."""
        chance = tail((self.mean - rule.margin) / self.error, self.freedom)
        return chance <= rule.level(count) and statistics.median(self.values) >= rule.effect

    def detectable(self, rule: Rule) -> float:
        """The smallest mean log ratio that would have been SLOWER with this spread, at the last look so far."""
        count = max((look for look in LOOKS if look <= self.freedom + 1), default=LOOKS[0])
        return max(rule.effect, rule.margin + quantile(1 - rule.level(count), self.freedom) * self.error)


def _judgement(name: str, verdict: Verdict, reason: str, launches: Sequence[Launch], rule: Rule) -> Judgement:
    known = Judgement(name, verdict, reason, launches=len(launches))
    if not launches:
        return known
    base_s, head_s = _middle([one.base_s for one in launches]), _middle([one.head_s for one in launches])
    if len(launches) == 1:
        return Judgement(name, verdict, reason, math.exp(launches[0].wall), None, None, base_s, head_s, 1)
    metrics = [_Metric(*metric) for metric in _metrics(launches)]
    wall = metrics[0]
    return Judgement(
        name,
        verdict,
        reason,
        ratio=_exp(wall.mean),
        low=_exp(wall.low),
        high=_exp(wall.high),
        base_s=base_s,
        head_s=head_s,
        launches=len(launches),
        smallest_detectable=_exp(max(metric.detectable(rule) for metric in metrics)),
    )


def _moved(metric: _Metric, wall: _Metric) -> str:
    """Why, where it is not the wall time that the row shows."""
    return "" if metric is wall else f"{metric.title} {metric.mean:+.1%}"


def _middle(times: Sequence[float]) -> float:
    """The geometric mean, so that head ÷ base is the ratio of the logs' mean."""
    return math.exp(statistics.fmean(map(math.log, times)))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # more overflows, and no one reads a ratio of 1e304


# `scipy.special` has the t distribution of `scipy.stats`, and takes a tenth of the time to import.
def quantile(probability: float, freedom: float) -> float:
    """Student's t at `probability`."""
    from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

    return float(stdtrit(freedom, probability))


def tail(value: float, freedom: float) -> float:
    """The chance that Student's t exceeds `value`."""
    from scipy.special import stdtr  # type: ignore[import-untyped, unused-ignore]

    return float(stdtr(freedom, -value))
