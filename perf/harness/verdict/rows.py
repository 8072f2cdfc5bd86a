"""In: a benchmark of a run. Out: a `Row`: what it measured, and what follows from that."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from perf.harness.options import EAGER, FP32
from perf.harness.record.run import Benchmark, Run, finite
from perf.harness.record.values import Scalar
from perf.harness.statistics.intervals import Passes, Ratio, Summary, scatter, summary
from perf.harness.statistics.kinds import TwoKinds, two_kinds
from perf.harness.verdict.bottleneck import Bottleneck, bottleneck
from perf.harness.verdict.marks import Mark, marks
from perf.harness.workload.benchmarks import MODES

# Every training loop starts with this pipeline. The other pipelines are compared with it.
PLAIN_PIPELINE = "dataloader"
# How PyTorch trains by default.
PLAIN_MODE = dict(zip(MODES, (EAGER, FP32), strict=True))

# A GPU counts its energy anew about ten times a second, so that less time than this [s] says too little.
ENERGY_S = 2.0

MOST_OF_MATMUL = 1.1  # both are measured, so a little above 1 is possible

Key = tuple[Hashable, ...]


@dataclass(frozen=True)
class Row:
    """One benchmark of a run. `letter` names the file of the run; it is "" if there is only one file.

    `speedup` is over the reference device in the same mode. `pipeline_speedup` is over the plain pipeline, and
    `mode_speedup` over eager fp32, both on the same device. `full_speedup` is over eager fp32 on the reference device.
    The rest of the workload and the batch size are equal. Each is None if that was not measured.
    """

    benchmark: Benchmark
    run: Run
    letter: str
    summary: Summary
    reference: bool = False
    speedup: Ratio | None = None
    pipeline_speedup: Ratio | None = None
    mode_speedup: Ratio | None = None
    full_speedup: Ratio | None = None

    @property
    def kind(self) -> str:
        return self.benchmark.text("benchmark") or ""

    @property
    def model(self) -> str | None:
        return self.benchmark.text("model")

    @property
    def device(self) -> str | None:
        return self.benchmark.text("device")

    @property
    def label(self) -> str:
        """The device, with the letter of its file if there are several files: `cuda`, `B:cuda`."""
        return f"{self.letter}:{self.device or 'unknown'}".removeprefix(":")

    @property
    def batch_size(self) -> float | None:
        return self.benchmark.number("batch_size")

    @property
    def pipeline(self) -> str | None:
        return self.benchmark.text("pipeline")

    @property
    def mode(self) -> tuple[str, str]:
        """Execution and precision; a record without them is eager fp32."""
        execution, precision = (self.benchmark.text(name) or plain for name, plain in PLAIN_MODE.items())
        return execution, precision

    @property
    def plain(self) -> bool:
        """Whether the mode is eager fp32."""
        return self.mode == tuple(PLAIN_MODE.values())

    @property
    def passes(self) -> Passes:
        """The times from which a ratio is computed [s]: the raw samples, or the median, which gives no interval."""
        return self.benchmark.passes or ((self.summary.median,),)

    @property
    def few_passes(self) -> int | None:
        """One or two, if so many passes measured this benchmark, and more were planned."""
        planned = finite(self.run.perf.get("passes"))
        return self.summary.passes if planned is not None and self.summary.passes < min(planned, 3) else None

    @property
    def kinds(self) -> TwoKinds | None:
        """The fast and the slow kind of passes; None if the passes are not of two kinds."""
        return two_kinds([statistics.median(samples) for samples in self.passes])

    @property
    def samples_per_s(self) -> float | None:
        """The samples of one call divided by the median time. If their number is unknown, the rate in the record."""
        samples = self.benchmark.number("samples_per_iteration")
        return _rate(samples / self.summary.median if samples else self.benchmark.number("samples_per_s"))

    @property
    def units_per_s(self) -> float | None:
        """What the training counts in its own unit, such as tokens; None if it has none, or if a rate is unknown."""
        per_sample, samples_per_s = self.benchmark.number("units_per_sample"), self.samples_per_s
        return None if per_sample is None or samples_per_s is None else _rate(per_sample * samples_per_s)

    @property
    def flop_per_s(self) -> float | None:
        """The FLOP of the network in eager fp32, divided by the time of this row; None if unknown."""
        flop, samples_per_s = self.benchmark.number("flop_per_sample"), self.samples_per_s
        return None if flop is None or samples_per_s is None else _rate(flop * samples_per_s)

    @property
    def share_of_matmul(self) -> float | None:
        """The FLOP/s of this row as a share of those of the device's own matrix products; None if unknown.

        No step is faster than its products. Where it seems so, something has disturbed the measurement of the products.
        Other programs disturb the products more than most steps, so the share of a CROWDED row is unknown, too.
        """
        flop_per_s, most = self.flop_per_s, self.benchmark.number("matmul_flop_per_s")
        share = flop_per_s / most if flop_per_s is not None and most else None
        return None if share is None or share > MOST_OF_MATMUL or Mark.CROWDED in self.marks else share

    @property
    def j_per_sample(self) -> float | None:
        """The energy for each sample [J]; None if the counter is unknown, or was watched for less than ENERGY_S."""
        joules, calls, watched_s, samples = map(
            self.benchmark.number, ("energy_j", "energy_calls", "energy_s", "samples_per_iteration")
        )
        if not joules or not calls or not samples or (watched_s or 0.0) < ENERGY_S:
            return None
        return joules / (calls * samples)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Why the time of this row may not be the time of an undisturbed machine, worst first."""
        disturbed = map(self.benchmark.number, ("crowding", "throttled_rounds"))
        spread = scatter(self.benchmark.passes) if self.benchmark.passes else self.summary.spread
        return marks(spread, *disturbed, two_kinds=self.kinds is not None)

    @property
    def unsteady(self) -> bool:
        """Whether the samples scatter too much for a conclusion, or other programs used some of the cores."""
        return Mark.UNSTEADY in self.marks or Mark.CROWDED in self.marks

    @property
    def throttled(self) -> float | None:
        """The share of the rounds in which the device slowed itself down; None if the device does not say."""
        rounds = self.benchmark.number("throttled_rounds")
        return None if rounds is None else min(1.0, rounds / max(1, self.summary.rounds))

    @property
    def bottleneck(self) -> Bottleneck | None:
        return bottleneck(self.benchmark, self.summary.median)

    @property
    def profile(self) -> str | None:
        recorded = self.benchmark.text("profile") or self.run.perf.get("profile")
        return recorded if isinstance(recorded, str) else None

    @property
    def smoke(self) -> bool:
        return self.profile == "smoke"

    @property
    def task(self) -> dict[str, Scalar]:
        """What must be equal in two rows that are compared, apart from mode, batch size and pipeline."""
        data = self.run.perf.get("data")
        digest = self.benchmark.text("data_digest") or (data.get("digest") if isinstance(data, Mapping) else None)
        return {
            "model": self.model,
            "data set": self.benchmark.text("data"),
            "data": digest if isinstance(digest, str) else None,
            "profile": self.profile,
            "epochs": self.benchmark.number("epochs"),
        }

    @property
    def workload(self) -> dict[str, Scalar]:
        """The task and the mode."""
        return self.task | dict(zip(PLAIN_MODE, self.mode, strict=True))

    @property
    def trained(self) -> Key:
        """What is trained, and on which device."""
        return (self.label, *(value for name, value in self.task.items() if name != "epochs"))

    @property
    def step_losses(self) -> dict[str, float]:
        """The first losses of the training in eager fp32, by the number of the step; {} if unknown."""
        return {step: loss for step, loss in self.benchmark.numbers("step_losses").items() if step.isdecimal()}


def _rate(value: float | None) -> float | None:
    return value if value is not None and 0 < value < math.inf else None


def summary_of(benchmark: Benchmark) -> Summary:
    """The summary of the raw samples; if there are none, the same quantities from pytest-benchmark's own statistics."""
    if benchmark.passes:
        return summary(benchmark.passes)
    median, rounds = benchmark.stats["median"], benchmark.stats.get("rounds", 1.0)
    first, third = benchmark.stats.get("q1"), benchmark.stats.get("q3")
    if first is None or third is None or third < first or rounds < 2:
        return Summary(median, None, int(rounds))
    return Summary(median, (third - first) / 2 / median, int(rounds))
