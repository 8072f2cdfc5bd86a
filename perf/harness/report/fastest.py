"""In: rows of training steps. Out: sentences: the fastest way to train each network on each device, and how many times
a CPU's fastest an accelerator's is.

Only of networks with modes; only from steady times of a training whose losses are eager's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from perf.harness.options import EAGER, EXECUTIONS, FP32, PRECISIONS
from perf.harness.report import units
from perf.harness.report.modes import split
from perf.harness.report.rows import MODE, PLAIN_MODE, Comparison, Row, samples_of
from perf.harness.report.words import at_batch, device, in_mode, network, rate, smoke, where
from perf.harness.statistics.intervals import Ratio, ratio
from perf.harness.verdict.parity import CARRIED, ROUNDING

# What is said of GPUs: tens to hundreds of times faster than a CPU.
FACTORS = (10, 100)


def fastest(comparison: Comparison) -> list[str]:
    """What was left out or is in pieces, the fastest way on each device, and each accelerator against the CPU."""
    rows, _ = split(comparison.rows)
    good = [row for row in rows if _steady(row) and _typable(row) and _agrees(row)]
    ways = [_way(group, rows) for group in _grouped(good, _trained) if not _all_plain(group)]
    cpus = [row for row in good if row.benchmark.text("device") == "cpu"]
    # The reference where it is a CPU, else the first.
    base = min(cpus, key=lambda row: not row.reference, default=None)
    duels = [
        _duel(group, [row for row in cpus if (row.label, row.task) == (base.label, group[0].task)])
        for group in _grouped([row for row in good if row.benchmark.text("device") != "cpu"], _trained)
        if base is not None
    ]
    return [*_left_out(rows), *_apart(comparison.rows), *ways, *filter(None, duels)]


def _steady(row: Row) -> bool:
    return row.samples_per_s is not None and not row.unsteady and not row.throttled


def _typable(row: Row) -> bool:
    """Whether there are options for it: a file may hold anything."""
    return row.mode[0] in EXECUTIONS and row.mode[1] in PRECISIONS and (row.batch_size or 0) >= 1


def _agrees(row: Row) -> bool:
    limit = max(ROUNDING.get(row.mode[1], max(ROUNDING.values())), CARRIED * (_rounding(row) or 0.0))
    return row.plain or abs(row.benchmark.number("parity_difference") or 0.0) <= limit


def _rounding(row: Row) -> float | None:
    """The largest difference that rounding alone makes in eager, of a training that multiplies it."""
    return row.benchmark.number("parity_rounding")


def _trained(row: Row) -> Hashable:
    """What, and where."""
    return row.label, row.task


def _all_plain(rows: Sequence[Row]) -> bool:
    return all(row.plain for row in rows)


def _grouped(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> list[list[Row]]:
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def _left_out(rows: Sequence[Row]) -> list[str]:
    """Which times are of another training, by device."""
    wrong = _grouped([row for row in rows if not _agrees(row)], lambda row: row.label)
    return [
        f"LEFT OUT on {group[0].label}: {'; '.join(f'{_named(row)}: {_losses(row)}' for row in group)}. Rounding "
        "explains less: it is not the same training, however fast."
        for group in wrong
    ]


def _apart(rows: Sequence[Row]) -> list[str]:
    """Which networks torch.compile could not make one graph of, and why."""
    broken = [row for row in rows if row.benchmark.text("graph_break")]
    groups = _grouped(broken, lambda row: (row.label, network(row), row.benchmark.text("graph_break")))
    return [
        f"GRAPH BREAK on {group[0].label}: torch.compile cannot take {network(group[0])} as one graph: "
        f"{group[0].benchmark.text('graph_break')}. What is between the pieces is eager: "
        "compiling gains less than it could."
        for group in groups
    ]


def _named(row: Row) -> str:
    return f"{network(row)} in {in_mode(row)}{at_batch(row)}"


def _losses(row: Row) -> str:
    """How far its losses are from eager's, and where they end from those in fp32, as far as that is known."""
    difference, steps = row.benchmark.number("parity_difference"), row.benchmark.number("parity_steps")
    if difference is None:
        return "its losses were not compared with eager's"
    over = f" over {units.count(steps)} step{'s' * (steps != 1)}" if steps is not None else ""
    distance = row.benchmark.number("precision_difference") if row.mode[1] != FP32 else None
    found = []
    if row.mode[0] != EAGER or distance is None:
        share = _share(abs(difference))
        most = share if share.startswith("less") else f"{share} at most"
        alone = "" if (made := _rounding(row)) is None else f", where rounding alone makes {units.percent(made)}"
        found.append(f"differ from eager's by {most}{alone}")
    if distance is not None:
        found.append(f"end {_share(distance)} from those in fp32")
    return f"its losses{over} {' and '.join(found)}"


def _share(value: float) -> str:
    return units.percent(value).replace("<", "less than ")


def _way(rows: Sequence[Row], measured: Sequence[Row]) -> str:
    """`rows` are one network's on one device; those of another batch size are another training. `measured` are all that
    there are, of which some say nothing."""
    best = max(rows, key=_rate)
    alike = [row for row in rows if row.batch_size == best.batch_size]
    plain = next((row for row in alike if row.plain), None)
    tried = [row for row in measured if (_trained(row), row.batch_size) == (_trained(best), best.batch_size)]
    ended = any("training_step" in case.name and case.outcome == "not-run" for case in best.run.cases)
    start = (
        f"{smoke(best)}Fastest way {'of those measured ' if ended else ''}to train {network(best)} on {device(best)}: "
    )
    if plain is None:
        lacks = "has no steady time" if any(row.plain for row in tried) else "was not measured"
        return f"{start}{_typed(best)}; eager fp32 {lacks} at that batch size; {_losses(best)}."
    sure = [(row, row.mode_speedup) for row in alike if row.mode_speedup and row.mode_speedup.excludes_one]
    found, gain = max(sure, key=lambda pair: _rate(pair[0]), default=(plain, None))
    if gain is None or gain.point < 1:
        other = "nothing is certainly faster"
        if _all_plain(alike):
            other = "no other mode was measured" if _all_plain(tried) else "there is no steady time of another mode"
        return f"{start}{_typed(plain)}, in eager fp32; {other} at that batch size."
    return f"{start}{_typed(found)}, {_gain(gain)}; {_losses(found)}."


def _rate(row: Row) -> float:
    return row.samples_per_s or 0.0


def _typed(row: Row) -> str:
    """The options that choose it, and what it reaches; what is the default anyway needs no option."""
    options = [
        f"--perf-{name}={value}"
        for name, value, plain in zip(MODE, row.mode, PLAIN_MODE, strict=True)
        if value != plain
    ]
    return f"{' '.join([*options, f'--perf-batch-size={units.batch(row.batch_size or 0)}'])}: {rate(row)}"


def _gain(found: Ratio) -> str:
    """`2.10 times eager fp32 at that batch size [1.90, 2.30]`."""
    return units.ratio(found).replace("×", " times eager fp32 at that batch size", 1)


def _duel(rows: Sequence[Row], cpu: Sequence[Row]) -> str | None:
    """`rows` are one network's on one accelerator, against the fastest mode of the CPU at each batch size."""
    bases = {row.batch_size: row for row in sorted(cpu, key=_rate)}
    found = [
        (row, base, ratio(samples_of(base), samples_of(row))) for row in rows if (base := bases.get(row.batch_size))
    ]
    if not found:
        return None
    every = list({row.batch_size: row for row, _, _ in found}.values())
    best, base, most = max(found, key=lambda one: one[2].point)
    parts, missed = [], ""
    for factor in FACTORS:
        reached = [row for row, _, gain in found if gain.low is not None and gain.low >= factor]
        if reached:
            sizes = {row.batch_size for row in reached}
            batches = where([row for row in every if row.batch_size in sizes], every)
            parts.append(f"{factor} times {batches} (first in {in_mode(reached[0])})")
        elif not missed:
            missed = f"nowhere {factor} times{' for certain' if most.point >= factor else ''}"
    start = f"{smoke(best)}Training {network(best)}, {best.label} against the fastest mode of {base.label} at the same "
    top = f"the most is {units.ratio(most)}{at_batch(best)}, {in_mode(best)} against {in_mode(base)}"
    return f"{start}batch size: {'; '.join([*parts, *filter(None, [missed]), top])}."
