"""In: samples, in any unit above 0. Out: their median and spread; the ratio of two medians and its interval.

Samples of one pass are autocorrelated (clocks, neighbours and caches change slowly) and heavy-tailed (pre-emption), so
an interval that assumes independent samples is far too narrow. `ratio` therefore works on the medians of the passes
or, for a single pass, on the medians of blocks of consecutive samples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from perf.harness.statistics.kinds import two_kinds

CONFIDENCE = 0.95
# Blocks per side. In a simulation with AR(1) noise of 0.9 and 100 samples per side, the intervals cover 77% of the true
# ratios with 10 blocks, and 61% with 20. If the samples are independent, 10 blocks widen the interval by 4%.
BLOCKS = 10
# We estimate the error of the median of all samples from the scatter of the block medians. If blocks are shorter than
# LONG_BLOCK, that estimate is too small: the true variance is up to π/2 times as large (normal samples, blocks of one).
LONG_BLOCK = 5
MEDIAN_VARIANCE = math.pi / 2
# exp() of a larger value overflows, and nobody needs a ratio above 1e304.
MAX_LOG = 700.0
# The standard deviation of a normal distribution, in median distances from its median (Hampel 1974).
MAD_TO_SD = 1.4826


Passes = Sequence[Sequence[float]]
"""Samples by the pass of a run that took them, each pass in a process of its own; one at least, none of them empty."""


@dataclass(frozen=True)
class Summary:
    """The `median` of `passes` passes with `rounds` samples in all.

    `spread` is a share of `median`: half the 95% interval between several passes, or half the interquartile range of
    the samples of a single pass. `spread` is None for fewer than 2 samples.
    """

    median: float
    spread: float | None
    rounds: int
    passes: int = 1


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians and its 95% interval, which is None if a side has fewer than 2 samples."""

    point: float
    low: float | None = None
    high: float | None = None

    @property
    def excludes_one(self) -> bool:
        """Whether the two sides differ significantly: there is an interval, and it does not contain 1."""
        return self.low is not None and self.high is not None and not self.low <= 1.0 <= self.high


def median_and_spread(samples: Sequence[float]) -> Summary:
    """The median, spread and number of `samples`. Raises ValueError unless there are samples, all finite and above 0.

    The quartiles interpolate linearly between order statistics (Hyndman and Fan 1996, type 7; NumPy's default).
    """
    _check(samples)
    median = statistics.median(samples)
    if len(samples) < 2:
        return Summary(median, None, len(samples))
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(median, (third - first) / 2 / median, len(samples))


def summary(passes: Passes) -> Summary:
    """The median of the passes' medians, with its spread. Raises ValueError as `median_and_spread` does."""
    if len(passes) == 1:
        return median_and_spread(passes[0])
    log = _log_of_passes(passes)
    margin = _margin(log)
    return Summary(exp(log.value), (exp(margin) - exp(-margin)) / 2, sum(map(len, passes)), len(passes))


def scatter(passes: Passes) -> float | None:
    """The standard deviation of the logarithms of the passes' medians; for a single pass, the spread of its samples."""
    if len(passes) == 1:
        return median_and_spread(passes[0]).spread
    return log_deviation([statistics.median(samples) for samples in passes])


def ratio(reference: Passes, samples: Passes) -> Ratio:
    """The median of `reference` over the median of `samples`: for times, the speedup over the reference.

    The interval is Welch's (1947), on the logarithms of the medians of the passes. For a single pass, the medians of
    its blocks take their place: nonoverlapping batch means (Schmeiser 1982), with the median as the statistic.
    `ratio(a, b)` is 1 / `ratio(b, a)`. Raises ValueError as `median_and_spread` does.
    """
    top, bottom = _log_of_passes(reference), _log_of_passes(samples)
    difference = top.value - bottom.value
    if top.variance is None or bottom.variance is None:
        return Ratio(exp(difference))
    variance = top.variance + bottom.variance
    if variance == 0.0:
        return Ratio(exp(difference), exp(difference), exp(difference))
    # Welch and Satterthwaite, with shares, because the squares of variances may underflow.
    share = top.variance / variance
    freedom = 1 / (share**2 / (top.blocks - 1) + (1 - share) ** 2 / (bottom.blocks - 1))
    margin = quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(variance)
    return Ratio(exp(difference), exp(difference - margin), exp(difference + margin))


def geometric_mean(samples: Sequence[float]) -> float:
    """The geometric mean: head's mean divided by base's mean is the mean of the ratios, which is what we judge."""
    return math.exp(statistics.fmean(map(math.log, samples)))


def log_deviation(samples: Sequence[float]) -> float:
    """The standard deviation of the logarithms of two or more samples: 0.06 is 6%."""
    return statistics.stdev(map(math.log, samples))


def robust_spread(samples: Sequence[float]) -> float:
    """A standard deviation of the logarithms of the samples that up to half of them, however wrong, do not change much.

    It is the median of their distances from the median, as if they were distributed normally. 0.06 is 6%.
    """
    logs = [math.log(sample) for sample in samples]
    middle = statistics.median(logs)
    return MAD_TO_SD * statistics.median(abs(log - middle) for log in logs)


def median_interval(samples: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The median and the ends of its 95% interval (None for fewer than 2 samples), from blocks as in `ratio`."""
    log = _log_median(samples)
    median = statistics.median(samples)  # exp(log(x)) is not always x
    if log.variance is None:
        return median, None, None
    factor = exp(_margin(log))
    return median, median / factor, median * factor


@dataclass(frozen=True)
class _LogMedian:
    """The logarithm of a median, and the variance of that estimate (None for one block)."""

    value: float
    variance: float | None
    blocks: int


def _log_median(samples: Sequence[float]) -> _LogMedian:
    _check(samples)
    value = math.log(statistics.median(samples))
    blocks = _blocks(samples)
    if len(blocks) < 2:
        return _LogMedian(value, None, len(blocks))
    variance = statistics.variance(math.log(statistics.median(block)) for block in blocks) / len(blocks)
    if len(samples) < len(blocks) * LONG_BLOCK:
        variance *= MEDIAN_VARIANCE
    return _LogMedian(value, variance, len(blocks))


def _margin(log: _LogMedian) -> float:
    """Half the 95% interval of a logarithm that has a variance."""
    return quantile((1 + CONFIDENCE) / 2, log.blocks - 1) * math.sqrt(log.variance or 0.0)


def _log_of_passes(passes: Passes) -> _LogMedian:
    """The median of the passes' medians. Its variance comes from the differences between the passes.

    A few passes may differ by chance by less than the error of one pass's own median. So that error is the least that
    we assume. If there are two kinds of passes, with at least two passes each, the median may belong to either kind.
    Then we assume an error of at least half the gap between the kinds.
    """
    if len(passes) == 1:
        return _log_median(passes[0])
    within = [_log_median(samples) for samples in passes]
    medians, count = [one.value for one in within], len(within)
    variance = max(statistics.variance(medians), statistics.fmean(one.variance or 0.0 for one in within)) / count
    if count > 2:  # the median of two is their mean
        variance *= MEDIAN_VARIANCE
    kinds = two_kinds([exp(median) for median in medians])
    if kinds and 1 < kinds.slow_passes < count - 1:
        variance = max(variance, (math.log(kinds.slow / kinds.fast) / 2) ** 2)
    return _LogMedian(statistics.median(medians), variance, count)


def _blocks(samples: Sequence[float]) -> list[Sequence[float]]:
    """Split `samples` into at most BLOCKS blocks of consecutive samples, whose lengths differ by at most 1."""
    count, total = min(BLOCKS, len(samples)), len(samples)
    return [samples[i * total // count : (i + 1) * total // count] for i in range(count)]


# `scipy.special` has the same t distribution as `scipy.stats`, and imports in a tenth of the time. That is still longer
# than the rest of a report takes, so only the functions that need it import it.
def quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t at `probability`; `freedom` need not be a whole number."""
    from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

    return float(stdtrit(freedom, probability))


def next_one(count: int, probability: float) -> float:
    """How many standard deviations the next value is from the mean of `count` values, at most, with this `probability`.

    One-sided: the prediction interval of Student's t (Hahn and Meeker 1991). Raises ValueError for fewer than 2 values.
    """
    if count < 2:
        raise ValueError("one value has no standard deviation")
    return quantile(probability, count - 1) * math.sqrt(1 + 1 / count)


def tail(value: float, freedom: float) -> float:
    """The probability that Student's t exceeds `value`."""
    from scipy.special import stdtr  # type: ignore[import-untyped, unused-ignore]

    return float(stdtr(freedom, -value))


def at_most(found: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The largest share that may be true if `found` of `of` independent trials showed it (Clopper and Pearson 1934).

    One-sided. Raises ValueError if there are no trials.
    """
    from scipy.special import betaincinv  # type: ignore[import-untyped, unused-ignore]

    if not 0 <= found <= of or of == 0:
        raise ValueError(f"{found} of {of}")
    return 1.0 if found == of else float(betaincinv(found + 1, of - found, confidence))


def exp(value: float) -> float:
    """Like `math.exp`, but limits `value` to ±MAX_LOG, so that no value overflows."""
    return math.exp(max(-MAX_LOG, min(MAX_LOG, value)))


def _check(samples: Sequence[float]) -> None:
    if not samples:
        raise ValueError("no samples")
    if not all(0.0 < sample < math.inf for sample in samples):
        raise ValueError("samples must be finite and above 0")
