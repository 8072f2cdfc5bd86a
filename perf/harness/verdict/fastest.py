"""In: rows. Out: which device, pipeline and mode is fastest, and by how much, as far as that is certain."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from perf.harness.options import EXECUTIONS, PRECISIONS
from perf.harness.statistics.intervals import Ratio, ratio
from perf.harness.verdict.parity import same_training
from perf.harness.verdict.speedups import PLAIN_PIPELINE, Row, Speedups

# The first of these that was measured on both devices says which device is faster, and from which batch size on.
DECIDING = ("training_step", "epoch", "inference")
STEP = "training_step"
# People say of GPUs that they are tens to hundreds of times faster than a CPU.
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
    """The rows that say which device is faster: a list for each device but the reference and each workload, by batch
    size. They are of the first DECIDING kind and of the training run; in eager fp32, if it was measured."""
    known = [row for row in speedups.rows if row.speedup is not None]
    plain = {(row.kind, row.label, row.model) for row in known if row.plain}
    rows = [row for row in known if row.plain or (row.kind, row.label, row.model) not in plain]
    kinds = next(([kind] for kind in DECIDING if any(row.kind == kind for row in rows)), [])
    deciding = [row for row in rows if row.kind in (*kinds, "training_run")]
    return grouped(deciding, lambda row: (row.kind, row.label, row.pipeline, *row.workload.values()))


@dataclass(frozen=True)
class Training:
    """How one network trains on one device. `step` is its training step, `epoch` the epoch with the plain pipeline.

    `supply` is that pipeline alone, if it is slower than the step. `better` is the epoch with the pipeline that is
    faster by most, if that is certain. Each is None where it was not measured.
    """

    step: Row | None
    epoch: Row | None
    supply: Row | None
    better: Row | None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Training:
        """`rows` are one network's on one device; of several modes, eager fp32 counts."""
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


def _step(steps: Sequence[Row], epoch: Row | None) -> Row | None:
    """The training step at the batch size of `epoch`, to which it belongs; without one, the fastest."""
    same = [row for row in steps if epoch is not None and row.batch_size == epoch.batch_size]
    return same[0] if same else max(steps, key=_speed, default=None)


def _fed(row: Row) -> Hashable:
    return row.pipeline, row.batch_size


def _speed(row: Row) -> float:
    return row.samples_per_s or 0.0


def by_mode(rows: Sequence[Row]) -> list[Row]:
    """The training steps of those networks that were trained in more modes than eager fp32."""
    models = {row.model for row in rows if row.kind == STEP and not row.plain}
    return [row for row in rows if row.kind == STEP and row.model in models]


def agrees(row: Row) -> bool:
    """Whether the losses of its mode are those of eager, so that it is the same training."""
    difference, rounding = row.benchmark.number("parity_difference"), row.benchmark.number("parity_rounding")
    return row.plain or same_training(row.mode[1], difference or 0.0, rounding or 0.0)


def _counts(row: Row) -> bool:
    """Whether its time is steady, options choose it (a file may hold anything), and it is the same training."""
    steady = row.samples_per_s is not None and not row.unsteady and not row.throttled
    known = row.mode[0] in EXECUTIONS and row.mode[1] in PRECISIONS and (row.batch_size or 0) >= 1
    return steady and known and agrees(row)


class Lack(Enum):
    """Why nothing is said to be faster than eager fp32 at a batch size."""

    PLAIN_NOT_MEASURED = auto()
    PLAIN_NOT_STEADY = auto()
    OTHERS_NOT_MEASURED = auto()
    OTHERS_NOT_STEADY = auto()
    OTHERS_NOT_FASTER = auto()


@dataclass(frozen=True)
class Way:
    """The fastest way to train one network on one device: `row`. `gain` is its speedup over eager fp32, or why there is
    none."""

    row: Row
    gain: Ratio | Lack

    @property
    def ended(self) -> bool:
        """Whether the run ended before all training steps were measured."""
        return any(STEP in case.name and case.outcome == "not-run" for case in self.row.run.cases)


def fastest_ways(rows: Sequence[Row]) -> list[Way]:
    """One for each network and device with several modes. `rows` are the training steps."""
    groups = grouped(filter(_counts, rows), _trained)
    return [_way(group, rows) for group in groups if not all_plain(group)]


def _trained(row: Row) -> Hashable:
    """What is trained, and where."""
    return row.label, *row.task.values()


def _way(rows: Sequence[Row], measured: Sequence[Row]) -> Way:
    """`rows` are one network's on one device. Rows of another batch size are another training."""
    best = max(rows, key=_speed)
    alike = [row for row in rows if row.batch_size == best.batch_size]
    tried = [row for row in measured if (_trained(row), row.batch_size) == (_trained(best), best.batch_size)]
    plain = next((row for row in alike if row.plain), None)
    if plain is None:
        unsteady = any(row.plain for row in tried)
        return Way(best, Lack.PLAIN_NOT_STEADY if unsteady else Lack.PLAIN_NOT_MEASURED)
    sure = [row for row in alike if row.mode_speedup and row.mode_speedup.excludes_one]
    fastest = max(sure, key=_speed, default=plain)
    if fastest.mode_speedup is not None and _faster(fastest.mode_speedup):
        return Way(fastest, fastest.mode_speedup)
    if not all_plain(alike):
        return Way(plain, Lack.OTHERS_NOT_FASTER)
    return Way(plain, Lack.OTHERS_NOT_MEASURED if all_plain(tried) else Lack.OTHERS_NOT_STEADY)


@dataclass(frozen=True)
class Lead:
    """An accelerator's lead over the fastest mode of a CPU at the same batch size.

    `sizes` has one row for each batch size. `reached` are the rows that certainly lead by each of FACTORS. `best` leads
    `base` by `most`.
    """

    sizes: tuple[Row, ...]
    reached: dict[int, list[Row]]
    best: Row
    base: Row
    most: Ratio


def leads(speedups: Speedups) -> list[Lead]:
    """One for each network with several modes on each accelerator; the CPU is the reference, or else the first one."""
    rows = list(filter(_counts, by_mode(speedups.rows)))
    cpus = [row for row in rows if row.device == "cpu"]
    label = min(cpus, key=lambda row: not row.reference).label if cpus else None
    found = []
    for group in grouped((row for row in rows if row.device != "cpu"), _trained):
        same = [row for row in cpus if (row.label, row.task) == (label, group[0].task)]
        if lead := _lead(group, {row.batch_size: row for row in sorted(same, key=_speed)}):
            found.append(lead)
    return found


def _lead(rows: Sequence[Row], bases: dict[float | None, Row]) -> Lead | None:
    """`bases` are the CPU's fastest by batch size."""
    found = [(row, base, ratio(base.passes, row.passes)) for row in rows if (base := bases.get(row.batch_size))]
    if not found:
        return None
    best, base, most = max(found, key=lambda one: one[2].point)
    reached = {
        factor: [row for row, _, gain in found if gain.low is not None and gain.low >= factor] for factor in FACTORS
    }
    return Lead(tuple({row.batch_size: row for row, _, _ in found}.values()), reached, best, base, most)
