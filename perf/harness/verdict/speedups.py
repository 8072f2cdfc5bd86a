"""In: runs. Out: one `Row` for each Stepwatch benchmark, compared with the reference device, pipeline and mode."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perf.harness.options import EAGER, EXECUTIONS, FP32, PIPELINES, PRECISIONS
from perf.harness.record.run import Benchmark, Run, one_line
from perf.harness.record.values import Scalar
from perf.harness.statistics.intervals import Passes, Ratio, Summary, ratio, scatter, summary
from perf.harness.statistics.kinds import TwoKinds, two_kinds
from perf.harness.verdict.bottleneck import Bottleneck, bottleneck
from perf.harness.verdict.marks import Mark, marks
from perf.harness.verdict.parity import Differs, differs
from perf.harness.workload.benchmarks import MODES, place, timed

# Every training loop starts with this pipeline. The other pipelines are compared with it.
PLAIN_PIPELINE = "dataloader"
# How PyTorch trains by default.
PLAIN_MODE = dict(zip(MODES, (EAGER, FP32), strict=True))

# A GPU counts its energy anew about ten times a second, so that less time than this [s] says too little.
ENERGY_S = 2.0

MOST_OF_MATMUL = 1.1  # both are measured, so a little above 1 is possible

Key = tuple[Hashable, ...]


class UnknownReference(ValueError):
    """No file has the reference device. `str()` is one line that names the devices in the files."""


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
    def kinds(self) -> TwoKinds | None:
        """The fast and the slow kind of passes; None if the passes are not of two kinds."""
        return two_kinds([statistics.median(samples) for samples in self.passes])

    @property
    def samples_per_s(self) -> float | None:
        """The samples of one call divided by the median time. If their number is unknown, the rate in the record."""
        samples = self.benchmark.number("samples_per_iteration")
        return _rate(samples / self.summary.median if samples else self.benchmark.number("samples_per_s"))

    @property
    def flop_per_s(self) -> float | None:
        """The FLOP of the network in eager fp32, divided by the time of this row; None if unknown."""
        flop, samples_per_s = self.benchmark.number("flop_per_sample"), self.samples_per_s
        return None if flop is None or samples_per_s is None else _rate(flop * samples_per_s)

    @property
    def share_of_matmul(self) -> float | None:
        """The FLOP/s of this row as a share of those of the device's own matrix products; None if unknown.

        No step is faster than its products. Where it seems so, something has disturbed the measurement of the products.
        """
        flop_per_s, most = self.flop_per_s, self.benchmark.number("matmul_flop_per_s")
        share = flop_per_s / most if flop_per_s is not None and most else None
        return None if share is None or share > MOST_OF_MATMUL else share

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


@dataclass(frozen=True)
class Speedups:
    """All rows, sorted for reading; the label of the reference device; `foreign`: the benchmarks that are not ours.

    `untimed` are our benchmarks that measure memory, not time. `unequal` are the trainings (`Row.trained`) whose losses
    are not those of the reference device, with the training step that shows it: they have no speedup over it.
    """

    rows: tuple[Row, ...]
    reference: str | None
    foreign: tuple[Row, ...]
    untimed: tuple[Row, ...] = ()
    unequal: Mapping[Key, tuple[Row, Differs]] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Run], reference: str | None = None) -> Speedups:
        """Compare the rows of `runs` with the device `reference` (`cuda`, `A:cpu`; None: the first CPU or device).

        Raises UnknownReference if no file has that device.
        """
        every = [
            Row(benchmark, run, letter, summary_of(benchmark))
            for run, letter in zip(runs, letters(len(runs)), strict=True)
            for benchmark in run.benchmarks
        ]
        ours = [row for row in every if row.benchmark.ours]
        rows = [row for row in ours if timed(row.kind)]
        chosen = _choose(rows, reference)
        index = _index(rows)
        unequal = _unequal(rows, index, chosen)
        return cls(
            rows=tuple(sorted((_compared(row, index, chosen, row.trained not in unequal) for row in rows), key=_order)),
            reference=chosen,
            foreign=tuple(row for row in every if not row.benchmark.ours),
            untimed=tuple(sorted((row for row in ours if not timed(row.kind)), key=_order)),
            unequal=unequal,
        )


def letters(count: int) -> list[str]:
    """A name for each of `count` files: A, B, … Z, AA, AB, …; a single file has an empty name."""
    return [""] if count == 1 else [_letter(number) for number in range(count)]


def _letter(number: int) -> str:
    before, place = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + place)


def summary_of(benchmark: Benchmark) -> Summary:
    """The summary of the raw samples; if there are none, the same quantities from pytest-benchmark's own statistics."""
    if benchmark.passes:
        return summary(benchmark.passes)
    median, rounds = benchmark.stats["median"], benchmark.stats.get("rounds", 1.0)
    first, third = benchmark.stats.get("q1"), benchmark.stats.get("q3")
    if first is None or third is None or third < first or rounds < 2:
        return Summary(median, None, int(rounds))
    return Summary(median, (third - first) / 2 / median, int(rounds))


def _choose(rows: Sequence[Row], reference: str | None) -> str | None:
    labels = list(dict.fromkeys(row.label for row in rows))
    if reference is None:
        return next((row.label for row in rows if row.device == "cpu"), next(iter(labels), None))
    if reference in labels:
        return reference
    for row in rows:
        if reference == row.device:
            return row.label
    there = f"they have: {', '.join(labels)}" if labels else "they have no benchmark of Stepwatch"
    raise UnknownReference(one_line(f"--reference={reference}: no such device in these files; {there}"))


def _index(rows: Sequence[Row]) -> dict[Key, list[Row]]:
    index: dict[Key, list[Row]] = {}
    for row in rows:
        index.setdefault(_key(row, row.label), []).append(row)
    return index


def _key(row: Row, label: str, **other: str) -> Key:
    """The key of the work of `row` on the device `label`. `other` replaces its pipeline, execution or precision."""
    work = {"kind": row.kind, "batch size": row.batch_size, "pipeline": row.pipeline, **row.workload}
    return (label, *(work | other).values())


def _unequal(
    rows: Sequence[Row], index: Mapping[Key, list[Row]], reference: str | None
) -> dict[Key, tuple[Row, Differs]]:
    """The trainings whose losses are not those of the reference device, each with its first row that shows it."""
    found: dict[Key, tuple[Row, Differs]] = {}
    for row in rows:
        if reference is None:
            break
        other = _only(index.get(_key(row, reference), []), row)
        if other is None or other is row or row.trained in found or _seed(row) != _seed(other):
            continue
        roundings = [one.benchmark.numbers("step_losses_rounding") for one in (row, other)]
        if difference := differs(row.step_losses, other.step_losses, roundings):
            found[row.trained] = row, difference
    return found


def _seed(row: Row) -> object:
    settings = row.run.perf.get("settings")
    return settings.get("seed") if isinstance(settings, Mapping) else None


def _compared(row: Row, index: Mapping[Key, list[Row]], reference: str | None, equal: bool) -> Row:
    """`row` with its speedups; without those over the reference device unless its training is `equal` there."""

    def over(label: str, **other: str) -> Ratio | None:
        found = _only(index.get(_key(row, label, **other), []), row)
        return None if found is None else ratio(found.passes, row.passes)

    here = row.label == reference
    return replace(
        row,
        reference=here,
        speedup=None if reference is None or here or not equal else over(reference),
        pipeline_speedup=None if row.pipeline in (None, PLAIN_PIPELINE) else over(row.label, pipeline=PLAIN_PIPELINE),
        mode_speedup=None if row.plain else over(row.label, **PLAIN_MODE),
        full_speedup=None if reference is None or (here and row.plain) or not equal else over(reference, **PLAIN_MODE),
    )


def _only(candidates: Sequence[Row], row: Row) -> Row | None:
    """The only candidate, or the only candidate with the timing of `row`; None if the choice would be a guess."""
    if len(candidates) > 1:
        timing = row.benchmark.text("timing")
        candidates = [other for other in candidates if other.benchmark.text("timing") == timing]
    return candidates[0] if len(candidates) == 1 else None


def _order(row: Row) -> tuple[object, ...]:
    return (
        (place(row.kind), row.kind),
        row.model or "",
        -1.0 if row.batch_size is None else row.batch_size,
        _place(PIPELINES, row.pipeline or ""),
        _place(EXECUTIONS, row.mode[0]),
        _place(PRECISIONS, row.mode[1]),
        not row.reference,
    )


def _place(known: Sequence[str], name: str) -> tuple[int, str]:
    """A sort key: the known names in their order, then all other names."""
    return (known.index(name) if name in known else len(known)), name
