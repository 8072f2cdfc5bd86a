"""A `Trial` is one gate of the self-test, in which the truth is known. An `Outcome` sums up several trials."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.verdict.tally import tally

# The limit of pytest-benchmark's --benchmark-compare-fail=median:5%, to show the difference.
STOCK_RATIO = 1.05
# A gate must find this share of the planted slowdowns before it may block a change.
ENOUGH = 0.95
# compute: Python arithmetic; sleep: the process sleeps and gives up its core; allocation: memory is allocated and
# written; input: Python arithmetic when a batch is loaded.
SLOWDOWNS = ("compute", "sleep", "allocation", "input")


@dataclass(frozen=True)
class Trial:
    """A gate with a slowdown of `share` (0.05 for 5%; 0: none) of `kind` planted in head.

    `injected` are the sizes that the slowdown really had, measured in the worker itself. `unplanted` are the benchmarks
    in which the slowdown could not be planted, because even its smallest piece takes longer: 10% of a step of 0.3 ms is
    less than the shortest sleep. These benchmarks are not judged. `stock` are the ratios that a comparison with a
    stored run would have found in the same launches.
    """

    kind: str
    share: float
    judgements: tuple[Judgement, ...]
    seconds: float
    others_cores: float | None
    injected: tuple[float, ...] = ()
    unplanted: tuple[str, ...] = ()
    stock: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The summary of the trials of one kind and size.

    `reached` is the median size planted, and `detectable` the median of the smallest slowdowns that would have been
    found [shares]. Each is None if unknown.
    """

    kind: str
    share: float
    gates: int
    benchmarks: int
    slower: int
    same: int
    inconclusive: int
    other: int
    gates_with_slower: int
    launches: float
    seconds: float
    detectable: float | None
    reached: float | None
    unplanted: int
    others_cores: float | None
    stock_flagged: int
    stock_pairs: int

    @property
    def false_alarm(self) -> bool:
        """Whether unchanged code was called SLOWER."""
        return not self.share and self.slower > 0

    @property
    def missed(self) -> bool:
        """Whether too few of the planted slowdowns were found."""
        return self.share > 0 and self.slower < ENOUGH * self.benchmarks


def outcome_of(trials: Sequence[Trial]) -> Outcome:
    """Sum up trials of one kind and size. Raises ValueError if there are none."""
    if not trials:
        raise ValueError("no trials")
    judged = [judgement for trial in trials for judgement in trial.judgements]
    found = tally(judged)
    known = (found[Verdict.SLOWER], found[Verdict.SAME], found[Verdict.INCONCLUSIVE])
    stock = [ratio for trial in trials for ratio in trial.stock]
    return Outcome(
        kind=trials[0].kind,
        share=trials[0].share,
        gates=len(trials),
        benchmarks=len(judged),
        slower=known[0],
        same=known[1],
        inconclusive=known[2],
        other=len(judged) - sum(known),
        gates_with_slower=sum(tally(trial.judgements)[Verdict.SLOWER] > 0 for trial in trials),
        launches=statistics.fmean(judgement.launches for judgement in judged) if judged else 0.0,
        seconds=statistics.fmean(trial.seconds for trial in trials),
        detectable=_median([one.smallest_detectable - 1 for one in judged if one.smallest_detectable is not None]),
        reached=_median([size for trial in trials for size in trial.injected]),
        unplanted=sum(len(trial.unplanted) for trial in trials),
        others_cores=_median([trial.others_cores for trial in trials if trial.others_cores is not None]),
        stock_flagged=sum(ratio > STOCK_RATIO for ratio in stock),
        stock_pairs=len(stock),
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
