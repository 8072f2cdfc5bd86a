"""In: rows. Out: the fastest device, pipeline and mode, and how much faster they are, as far as that is certain."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from perf.harness.options import EXECUTIONS, PRECISIONS
from perf.harness.statistics.intervals import Passes, Ratio, ratio
from perf.harness.verdict.marks import Mark
from perf.harness.verdict.parity import same_training
from perf.harness.verdict.rows import PLAIN_PIPELINE, Row
from perf.harness.verdict.speedups import Speedups

# The first of these that was measured on both devices decides which device is faster, and from which batch size on.
DECIDING = ("training_step", "epoch", "inference")
STEP = "training_step"
# People say that GPUs are tens to hundreds of times faster than a CPU.
FACTORS = (10, 100)


class Relation(Enum):
    """How a row compares with its reference. ALIKE: the interval contains 1. UNKNOWN: there is no interval."""

    FASTER = auto()
    SLOWER = auto()
    ALIKE = auto()
    UNKNOWN = auto()


def relation(speedup: Ratio | None) -> Relation:
    if speedup is None or speedup.low is None:
        return Relation.UNKNOWN
    if not speedup.excludes_one:
        return Relation.ALIKE
    return Relation.FASTER if speedup.point > 1 else Relation.SLOWER


def _faster(speedup: Ratio | None) -> bool:
    return relation(speedup) is Relation.FASTER


def grouped(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> list[list[Row]]:
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def all_plain(rows: Sequence[Row]) -> bool:
    return all(row.plain for row in rows)


def duels(speedups: Speedups) -> list[list[Row]]:
    """The rows that decide which device is faster than the reference: one list for each other device and workload.

    A list is ordered by batch size. The rows are those of the first DECIDING kind that has speedups, and those of
    training runs. They are in eager fp32, if that was measured.
    """
    known = [row for row in speedups.rows if row.speedup is not None]
    plain = {(row.kind, row.label, row.model) for row in known if row.plain}
    rows = [row for row in known if row.plain or (row.kind, row.label, row.model) not in plain]
    kinds = next(([kind] for kind in DECIDING if any(row.kind == kind for row in rows)), [])
    deciding = [row for row in rows if row.kind in (*kinds, "training_run")]
    return grouped(deciding, lambda row: (row.kind, row.label, row.pipeline, *row.workload.values()))


# What a training step consists of, in the phases of an epoch.
STEP_PHASES = ("forward", "backward", "optimizer")
SLOW_INSIDE = 3.0


@dataclass(frozen=True)
class Training:
    """How one network trains on one device. `step` is its training step, `epoch` the epoch with the plain pipeline.

    `supply` is the plain pipeline alone, if it is slower than the step. `better` is the epoch with the fastest of the
    pipelines that are certainly faster than the plain one. Each is None if it was not measured. If the bottleneck of
    the epoch is unknown, only `step` is set.
    """

    step: Row | None
    epoch: Row | None
    supply: Row | None
    better: Row | None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Training:
        """Choose from the `rows` of one network on one device. If there are several modes, eager fp32 counts."""
        first = next((row for row in rows if row.plain), rows[0])
        mine = [row for row in rows if row.workload == first.workload | {"epochs": row.workload["epochs"]}]
        epochs = [row for row in mine if row.kind == "epoch"]
        epoch = next((row for row in epochs if row.pipeline == PLAIN_PIPELINE), None)
        steady = [row for row in mine if row.samples_per_s is not None and not row.unsteady]
        step = _step([row for row in steady if row.kind == STEP], epoch)
        if epoch is None or epoch.bottleneck is None or epoch.bottleneck.share is None:
            return cls(step, None, None, None)
        pipelines = [row for row in steady if row.kind == "input_pipeline"]
        alone = next((row for row in pipelines if _fed(row) == _fed(epoch)), None)
        slow = alone is not None and step is not None and _speed(alone) < _speed(step)
        same = [row for row in epochs if row.batch_size == epoch.batch_size and _faster(row.pipeline_speedup)]
        better = max(same, key=lambda row: row.pipeline_speedup.point if row.pipeline_speedup else 0.0, default=None)
        return cls(step, epoch, alone if slow else None, better)


def slow_inside(rows: Sequence[Row]) -> list[tuple[Row, float]]:
    """The epochs on a CPU with `workers` in which a step takes SLOW_INSIDE times as long as alone, or longer.

    Each comes with how many times as long. The processes use the cores for which torch's threads wait.
    """
    found = []
    steps = {_stepped(row): row.summary.median for row in rows if row.kind == STEP and not row.unsteady}
    for row in rows:
        phases, samples = row.benchmark.numbers("phases_s"), row.benchmark.number("samples_per_iteration")
        alone_s = steps.get(_stepped(row))
        here = (row.kind, row.device, row.pipeline) == ("epoch", "cpu", "workers")
        if not here or not samples or not row.batch_size or alone_s is None:
            continue
        batches = row.benchmark.number("phases_batches") or math.ceil(samples / row.batch_size)
        inside_s = sum(phases.get(name, 0.0) for name in STEP_PHASES) / batches
        if Mark.CROWDED not in row.marks and inside_s >= SLOW_INSIDE * alone_s:
            found.append((row, inside_s / alone_s))
    return found


def _stepped(row: Row) -> Hashable:
    return row.letter, row.label, row.model, row.batch_size, row.mode


def _step(steps: Sequence[Row], epoch: Row | None) -> Row | None:
    """The training step at the batch size of `epoch`; if there is none, the fastest training step."""
    same = [row for row in steps if epoch is not None and row.batch_size == epoch.batch_size]
    return same[0] if same else max(steps, key=_speed, default=None)


def _fed(row: Row) -> Hashable:
    return row.pipeline, row.batch_size


def _speed(row: Row) -> float:
    return row.samples_per_s or 0.0


def by_mode(rows: Sequence[Row]) -> list[Row]:
    """The training steps of the networks that were trained in any other mode than eager fp32."""
    models = {row.model for row in rows if row.kind == STEP and not row.plain}
    return [row for row in rows if row.kind == STEP and row.model in models]


def agrees(row: Row) -> bool:
    """Whether the losses in the mode of `row` agree with those of eager, so that both are the same training."""
    difference, rounding = row.benchmark.number("parity_difference"), row.benchmark.number("parity_rounding")
    return row.plain or same_training(row.mode[1], difference or 0.0, rounding or 0.0)


def _counts(row: Row) -> bool:
    """Whether the time is steady, options can choose `row` (a file may hold anything), and the training is the same."""
    steady = row.samples_per_s is not None and not row.unsteady and not row.throttled
    known = row.mode[0] in EXECUTIONS and row.mode[1] in PRECISIONS and (row.batch_size or 0) >= 1
    return steady and known and agrees(row)


class Lack(Enum):
    """Why no mode is reported as faster than eager fp32 at a batch size."""

    PLAIN_NOT_MEASURED = auto()
    PLAIN_NOT_STEADY = auto()
    OTHERS_NOT_MEASURED = auto()
    OTHERS_NOT_STEADY = auto()
    OTHERS_NOT_FASTER = auto()


@dataclass(frozen=True)
class FastestWay:
    """`row` is the fastest way to train one network on one device.

    `gain` is the speedup of `row` over eager fp32, or the reason why there is none.
    """

    row: Row
    gain: Ratio | Lack

    @property
    def ended(self) -> bool:
        """Whether the run ended before all training steps were measured."""
        return any(STEP in case.name and case.outcome == "not-run" for case in self.row.run.cases)


def fastest_ways(rows: Sequence[Row]) -> list[FastestWay]:
    """One way for each network and device with other modes than eager fp32. `rows` are the training steps."""
    groups = grouped(filter(_counts, rows), _trained)
    return [_way(group, rows) for group in groups if not all_plain(group)]


def _trained(row: Row) -> Hashable:
    """What is trained, and on which device."""
    return row.label, *row.task.values()


def _way(rows: Sequence[Row], measured: Sequence[Row]) -> FastestWay:
    """The fastest way among the `rows` of one network on one device. `measured` are all training steps.

    Only rows of the same batch size are compared, because another batch size is another training.
    """
    best = max(rows, key=_speed)
    alike = [row for row in rows if row.batch_size == best.batch_size]
    tried = [row for row in measured if (_trained(row), row.batch_size) == (_trained(best), best.batch_size)]
    plain = next((row for row in alike if row.plain), None)
    if plain is None:
        unsteady = any(row.plain for row in tried)
        return FastestWay(best, Lack.PLAIN_NOT_STEADY if unsteady else Lack.PLAIN_NOT_MEASURED)
    sure = [row for row in alike if row.mode_speedup and row.mode_speedup.excludes_one]
    fastest = max(sure, key=_speed, default=plain)
    if fastest.mode_speedup is not None and _faster(fastest.mode_speedup):
        return FastestWay(fastest, fastest.mode_speedup)
    if not all_plain(alike):
        return FastestWay(plain, Lack.OTHERS_NOT_FASTER)
    return FastestWay(plain, Lack.OTHERS_NOT_MEASURED if all_plain(tried) else Lack.OTHERS_NOT_STEADY)


@dataclass(frozen=True)
class Best:
    """The fastest training step of a network on an accelerator, `row`, against the CPU's, `base`: any batch and mode.

    `gain` is the ratio of their samples per second.
    """

    row: Row
    base: Row
    gain: Ratio


def best_against_best(speedups: Speedups) -> list[Best]:
    """One for each network and accelerator that have at least two training steps there, or on the CPU.

    With one on each, the speedup says the same.
    """
    rows = [row for row in speedups.rows if row.kind == STEP and _counts(row) and row.trained not in speedups.unequal]
    found = []
    for group in grouped((row for row in rows if row.device != "cpu"), _trained):
        cpus = [row for row in rows if row.device == "cpu" and row.task == group[0].task]
        base = next(iter(grouped(cpus, lambda row: row.label)), [])
        if base and len(group) + len(base) > 2:
            best, other = max(group, key=_speed), max(base, key=_speed)
            found.append(Best(best, other, ratio(_per_sample(other), _per_sample(best))))
    return found


def _per_sample(row: Row) -> Passes:
    """The times of `row` for one sample [s]."""
    samples = row.benchmark.number("samples_per_iteration") or row.batch_size or 1.0
    return tuple(tuple(seconds / samples for seconds in one) for one in row.passes)


@dataclass(frozen=True)
class Lead:
    """An accelerator's lead over the fastest mode of a CPU at the same batch size.

    `sizes` has one row for each batch size. `reached` has, for each of FACTORS, the rows that certainly lead by at
    least that factor. The largest lead is `most`: that of `best` over the CPU's row `base`.
    """

    sizes: tuple[Row, ...]
    reached: dict[int, list[Row]]
    best: Row
    base: Row
    most: Ratio


def leads(speedups: Speedups) -> list[Lead]:
    """One lead for each network with several modes on each accelerator.

    The CPU is the reference device if that is a CPU, else the first CPU.
    """
    rows = list(filter(_counts, by_mode(speedups.rows)))
    cpus = [row for row in rows if row.device == "cpu"]
    label = min(cpus, key=lambda row: not row.reference).label if cpus else None
    found = []
    for group in grouped((row for row in rows if row.device != "cpu"), _trained):
        same = [row for row in cpus if (row.label, row.task) == (label, group[0].task)]
        if any(row.trained in speedups.unequal for row in (group[0], *same)):
            continue
        if lead := _lead(group, {row.batch_size: row for row in sorted(same, key=_speed)}):
            found.append(lead)
    return found


def _lead(rows: Sequence[Row], bases: dict[float | None, Row]) -> Lead | None:
    """The lead of `rows`. `bases` has the CPU's fastest row for each batch size. None if no batch size is in both."""
    found = [(row, base, ratio(base.passes, row.passes)) for row in rows if (base := bases.get(row.batch_size))]
    if not found:
        return None
    best, base, most = max(found, key=lambda one: one[2].point)
    reached = {
        factor: [row for row, _, gain in found if gain.low is not None and gain.low >= factor] for factor in FACTORS
    }
    return Lead(tuple({row.batch_size: row for row, _, _ in found}.values()), reached, best, base, most)
