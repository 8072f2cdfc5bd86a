"""In: runs. Out: one `Row` for each Stepwatch benchmark, compared with the reference device, pipeline and mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from perf.harness.options import EXECUTIONS, PIPELINES, PRECISIONS
from perf.harness.record.run import Run, one_line
from perf.harness.statistics.intervals import Ratio, ratio
from perf.harness.verdict.parity import Differs, differs, differs_at_the_ends
from perf.harness.verdict.rows import PLAIN_MODE, PLAIN_PIPELINE, Key, Row, summary_of
from perf.harness.workload.benchmarks import place, timed


class UnknownReference(ValueError):
    """No file has the reference device. `str()` is one line that names the devices in the files."""


@dataclass(frozen=True)
class Speedups:
    """All rows, sorted for reading; the label of the reference device; `foreign`: the benchmarks that are not ours.

    `untimed` are our benchmarks that measure memory, not time. `unequal` are the trainings (`Row.trained`) whose losses
    are not those of the reference device, with the row that shows it: they have no speedup over it. `equal` are those
    whose first steps came to the same losses.
    """

    rows: tuple[Row, ...]
    reference: str | None
    foreign: tuple[Row, ...]
    untimed: tuple[Row, ...] = ()
    unequal: Mapping[Key, tuple[Row, Differs]] = field(default_factory=dict)
    equal: frozenset[Key] = frozenset()

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
        unequal, equal = _trained_alike(rows, index, chosen)
        return cls(
            rows=tuple(sorted((_compared(row, index, chosen, row.trained not in unequal) for row in rows), key=_order)),
            reference=chosen,
            foreign=tuple(row for row in every if not row.benchmark.ours),
            untimed=tuple(sorted((row for row in ours if not timed(row.kind)), key=_order)),
            unequal=unequal,
            equal=equal,
        )


def letters(count: int) -> list[str]:
    """A name for each of `count` files: A, B, … Z, AA, AB, …; a single file has an empty name."""
    return [""] if count == 1 else [_letter(number) for number in range(count)]


def _letter(number: int) -> str:
    before, place = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + place)


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


def _key(row: Row, label: str | None, **other: str) -> Key:
    """The key of the work of `row` on the device `label`. `other` replaces its pipeline, execution or precision."""
    work = {"kind": row.kind, "batch size": row.batch_size, "pipeline": row.pipeline, **row.workload}
    return (label, *(work | other).values())


def _trained_alike(
    rows: Sequence[Row], index: Mapping[Key, list[Row]], reference: str | None
) -> tuple[dict[Key, tuple[Row, Differs]], frozenset[Key]]:
    """The trainings that are not those of the reference device, each with its first row that shows it; and those whose
    first steps came to the same losses."""
    unequal: dict[Key, tuple[Row, Differs]] = {}
    compared: set[Key] = set()
    for row in rows:
        same, plain = (_only(index.get(_key(row, reference, **mode), []), row) for mode in ({}, PLAIN_MODE))
        other = same or plain
        if other is None or other is row or row.trained in unequal or _seed(row) != _seed(other):
            continue
        roundings = [one.benchmark.numbers("step_losses_rounding") for one in (row, other)]
        numbers = [one.benchmark.number(name) for name in ("loss_first", "accuracy") for one in (row, other)]
        difference = differs(row.step_losses, other.step_losses, roundings) or differs_at_the_ends(*numbers)
        if difference:
            unequal[row.trained] = row, difference
        elif set(row.step_losses) & set(other.step_losses):
            compared.add(row.trained)
    return unequal, frozenset(compared - set(unequal))


def _seed(row: Row) -> object:
    settings = row.run.perf.get("settings")
    return settings.get("seed") if isinstance(settings, Mapping) else None


def _compared(row: Row, index: Mapping[Key, list[Row]], reference: str | None, equal: bool) -> Row:
    """`row` with its speedups; without those over the reference device unless its training is `equal` there."""

    def over(label: str | None, **other: str) -> Ratio | None:
        found = _only(index.get(_key(row, label, **other), []), row)
        return None if found is None else ratio(found.passes, row.passes)

    here = row.label == reference
    return replace(
        row,
        reference=here,
        speedup=None if here or not equal else over(reference),
        pipeline_speedup=None if row.pipeline in (None, PLAIN_PIPELINE) else over(row.label, pipeline=PLAIN_PIPELINE),
        mode_speedup=None if row.plain else over(row.label, **PLAIN_MODE),
        full_speedup=None if (here and row.plain) or not equal else over(reference, **PLAIN_MODE),
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
