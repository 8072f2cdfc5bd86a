"""In: the median time of a benchmark in a new run and in stored runs. Out: a verdict.

A stored run is one independent sample. Some effects change a whole run (clocks, other programs, memory layout). They
show only between runs, never within one run. So a run is judged by how much the stored runs differ from each other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.statistics.intervals import exp, geometric_mean, log_deviation, quantile, tail
from perf.harness.verdict.launches import CONFIDENCE, LEAST_SPREAD, Rule
from perf.harness.verdict.tally import ALPHA

# If 17 benchmarks share the error rate, Student's t is 8.3 with 4 degrees of freedom (5 runs), and 29 with 2 (3 runs).
LEAST_RUNS = 5
SMOKE_REASON = "a smoke run is too short for a verdict"


def judge_stored(name: str, head_s: float, stored_s: Sequence[float], rule: Rule, *, smoke: bool = False) -> Judgement:
    """The verdict on a benchmark. Its median is `head_s` [s], and `stored_s` in stored runs; NEW if there are none."""
    if not stored_s:
        return Judgement(name, Verdict.NEW, head_s=head_s)
    runs = len(stored_s)
    if runs < LEAST_RUNS or smoke:
        verdict = Verdict.INCONCLUSIVE if smoke else Verdict.NOT_JUDGED
        reason = SMOKE_REASON if smoke else f"{runs} of {LEAST_RUNS} stored runs"
        base_s = geometric_mean(stored_s)
        return Judgement(name, verdict, reason, head_s / base_s, None, None, base_s, head_s, runs)
    return _Prediction(head_s, stored_s, rule).judgement(name)


def judge_all(
    head_s: Mapping[str, float], stored_s: Mapping[str, Sequence[float]], min_effect: float, *, smoke: bool = False
) -> list[Judgement]:
    """A judgement for each benchmark of `head_s`, and MISSING for each benchmark that only `stored_s` has."""
    rule = Rule(len(head_s.keys() & stored_s.keys()), min_effect)
    found = [judge_stored(name, median, stored_s.get(name, ()), rule, smoke=smoke) for name, median in head_s.items()]
    return [*found, *(missing_judgement(name, stored_s[name]) for name in stored_s if name not in head_s)]


def missing_judgement(name: str, stored_s: Sequence[float], reason: str = "") -> Judgement:
    """The judgement on a benchmark that the stored runs have and the new run does not have."""
    return Judgement(name, Verdict.MISSING, reason, base_s=geometric_mean(stored_s), launches=len(stored_s))


@dataclass(frozen=True)
class _Prediction:
    """The prediction interval of the log median of a new run of the same code (Hahn and Meeker 1991, section 4.3)."""

    head_s: float
    stored_s: Sequence[float]
    rule: Rule

    @cached_property
    def difference(self) -> float:
        return math.log(self.head_s) - statistics.fmean(map(math.log, self.stored_s))

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the logs of the stored medians, at least LEAST_SPREAD; 0.06 is 6%."""
        return max(log_deviation(self.stored_s), LEAST_SPREAD)

    @property
    def error(self) -> float:
        return self.spread * math.sqrt(1 + 1 / len(self.stored_s))

    @property
    def freedom(self) -> int:
        return len(self.stored_s) - 1

    @property
    def level(self) -> float:
        """The chance that one benchmark is called SLOWER although nothing changed."""
        return ALPHA / max(1, self.rule.benchmarks)

    @property
    def detectable(self) -> float:
        """The smallest log ratio that would have been SLOWER."""
        return max(self.rule.effect, self.rule.margin + quantile(1 - self.level, self.freedom) * self.error)

    def verdict(self) -> Verdict:
        if self._beyond(self.difference):
            return Verdict.SLOWER
        if self._beyond(-self.difference):
            return Verdict.FASTER
        return Verdict.SAME if self._high < self.rule.target else Verdict.INCONCLUSIVE

    def _beyond(self, difference: float) -> bool:
        chance = tail((difference - self.rule.margin) / self.error, self.freedom)
        return chance <= self.level and difference >= self.rule.effect

    @property
    def _reach(self) -> float:
        return quantile(CONFIDENCE, self.freedom) * self.error

    @property
    def _high(self) -> float:
        return self.difference + self._reach

    def judgement(self, name: str) -> Judgement:
        verdict, detectable = self.verdict(), exp(self.detectable)
        reason = ""
        if verdict is Verdict.INCONCLUSIVE:
            spread, slowdown = _percent(exp(self.spread) - 1), _percent(detectable - 1)
            reason = (
                f"{len(self.stored_s)} stored runs differ by ±{spread}; only a slowdown above {slowdown} would show"
            )
        return Judgement(
            name,
            verdict,
            reason,
            ratio=exp(self.difference),
            low=exp(self.difference - self._reach),
            high=exp(self._high),
            base_s=geometric_mean(self.stored_s),
            head_s=self.head_s,
            launches=len(self.stored_s),
            smallest_detectable=detectable,
        )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.995 else f"{share:.0%}" if share < 100 else "10000%"
