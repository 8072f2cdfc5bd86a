"""In: rows. Out: what they say, in sentences.

Every number in a sentence is from the record; where one is missing, the sentence says less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from perf.harness.report import capacity, units
from perf.harness.report.cells import title
from perf.harness.report.fastest import fastest
from perf.harness.report.layout import INDENT, Block, Fixed, Paragraph
from perf.harness.report.modes import STEP
from perf.harness.report.rows import PLAIN_PIPELINE, UNSTEADY, Comparison, Key, Row
from perf.harness.report.words import at_batch, called, device, in_mode, network, rate, several_networks, smoke, where
from perf.harness.verdict.bound import Bound

# The first of these that was measured on both devices answers which one wins, from which batch size on.
DECIDING = ("training_step", "epoch", "inference")
# What a shell takes as one word, and the page in one line.
FILE_NAME = re.compile(r"[\w./+-]{1,65}\.json")


def conclusion(comparison: Comparison) -> list[Block]:
    """Which device wins, what an epoch waits for, the fastest way to train, what could not be compared."""
    rows = comparison.rows
    labels = list(dict.fromkeys(row.label for row in rows))
    largest = capacity.sentences(comparison.untimed)
    if not rows:
        return [Paragraph(text) for text in largest]
    sentences = [
        *_unsteady(rows),
        *_throttled(rows),
        *_devices(comparison),
        *(text for label in labels for text in _on_device([row for row in rows if row.label == label])),
        *fastest(comparison),
        *largest,
    ]
    sentences += _incomparable(comparison)
    blocks: list[Block] = [Paragraph(text) for text in sentences]
    if all(row.benchmark.text("device") == "cpu" for row in rows) and not any(row.letter for row in rows):
        blocks += _invitation(rows[0].run.source)
    return blocks


def _unsteady(rows: Sequence[Row]) -> list[str]:
    """Which times are no property of the machine."""
    several = several_networks(rows)
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.unsteady:
            found.setdefault(row.label, []).append(called(row, several))
    return [
        f"UNSTEADY on {label}: {', '.join(names)}. Spreads above ±{units.percent(UNSTEADY)}, or another program on "
        "the same cores meanwhile: these times are not the machine's. Measure again while nothing else runs."
        for label, names in found.items()
    ]


def _throttled(rows: Sequence[Row]) -> list[str]:
    """Which times are those of a device that had slowed itself."""
    several = several_networks(rows)
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.throttled:
            part = f" ({units.percent(row.throttled)} of the rounds)" if row.throttled < 1 else ""
            found.setdefault(row.label, []).append(called(row, several) + part)
    return [
        f"THROTTLED on {label}: {', '.join(names)}. It had slowed itself meanwhile, because of heat or of its power "
        "supply: these times are not those of a device that is cooled and fed as it should be."
        for label, names in found.items()
    ]


def _invitation(source: str) -> list[Block]:
    """How to add a GPU's numbers."""
    here = not source.endswith("gpu.json") and FILE_NAME.fullmatch(source)
    again = [] if here else ["pytest perf/ --benchmark-json=cpu.json   # here"]
    lines = (
        *again,
        "pytest perf/ --benchmark-json=gpu.json   # on the machine with the GPU",
        f"python -m perf report {source if here else 'cpu.json'} gpu.json",
    )
    return [
        Paragraph("To compare with a GPU, bring its file here:"),
        Fixed(tuple(INDENT + line for line in lines), hang=2 * len(INDENT)),
    ]


def _devices(comparison: Comparison) -> list[str]:
    """For each device that is not the reference, where it wins and by how much: a step, and the whole run.

    Of several modes, the plain one.
    """
    known = [row for row in comparison.rows if row.speedup is not None]
    plain = {(row.kind, row.label, network(row)) for row in known if row.plain}
    rows = [row for row in known if row.plain or (row.kind, row.label, network(row)) not in plain]
    kinds = [kind for kind in DECIDING if any(row.kind == kind for row in rows)][:1]
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.kind in (*kinds, "training_run"):
            groups.setdefault((row.kind, row.label, row.pipeline, *row.workload.values()), []).append(row)
    several = several_networks(rows)
    modes = not all(row.plain for row in comparison.rows)
    return [_duel(group, comparison.reference or "", several, modes) for group in groups.values()]


def _duel(rows: Sequence[Row], reference: str, several: bool, modes: bool) -> str:
    """`rows` are one device's, of one workload, by batch size; `several` networks need naming, and so do `modes`."""
    wins = [row for row in rows if _verdict(row) == 1]
    losses = [row for row in rows if _verdict(row) == -1]
    ties = [row for row in rows if _verdict(row) == 0]
    unsure = [row for row in rows if _verdict(row) is None]
    first = rows[0]
    parts = []
    if wins:
        parts.append(f"{first.label} is faster than {reference} {where(wins, rows)}, by {_factors(wins)}")
    if losses:
        slower = "slower" if wins else f"{first.label} is slower than {reference}"
        parts.append(f"{slower} {where(losses, rows)}, by {_factors(losses)}")
    if ties:
        names = "the two" if wins or losses else f"{first.label} and {reference}"
        parts.append(f"{where(ties, rows)} {names} cannot be told apart")
    if unsure:
        parts.append(f"{where(unsure, rows)} there are too few rounds to tell {first.label} from {reference}")
    named = [(True, first.pipeline), (several, first.benchmark.text("model")), (modes, in_mode(first))]
    extra = [text for needed, text in named if needed and text]
    subject = ", ".join([title([first]), *extra])
    return f"{subject}: {'; '.join(parts)}."


def _verdict(row: Row) -> int | None:
    """1 where `row` is faster than the reference, -1 where slower, 0 where both may be; None without an interval."""
    if row.speedup is None or row.speedup.low is None:
        return None
    if not row.speedup.excludes_one:
        return 0
    return 1 if row.speedup.point > 1 else -1


def _factors(rows: Sequence[Row]) -> str:
    """How many times faster, or slower, from the least to the most."""
    points = sorted(max(r.speedup.point, 1 / r.speedup.point) for r in rows if r.speedup is not None)
    least, most = units.times(points[0]), units.times(points[-1])
    return least if least == most else f"{least} to {most}"


def _on_device(rows: Sequence[Row]) -> list[str]:
    """One sentence for each network."""
    several = several_networks(rows)
    networks = list(dict.fromkeys(map(network, rows)))
    found = (_pipelines([row for row in rows if network(row) == name], several) for name in networks)
    return list(filter(None, found))


def _pipelines(rows: Sequence[Row], several: bool) -> str | None:
    """What the training step could do, what the plain pipeline delivers, and what that costs; one network's rows on
    one device. Of several modes, of the plain one."""
    first = next((row for row in rows if row.plain), rows[0])
    mine = [row for row in rows if row.workload == first.workload | {"epochs": row.workload["epochs"]}]
    epochs = [row for row in mine if row.kind == "epoch"]
    plain = next((row for row in epochs if row.pipeline == PLAIN_PIPELINE), None)
    step = _step(mine, plain)
    of = f" of {network(first)}" if several else ""
    mode = "" if all(row.plain for row in rows) else f" in {in_mode(first)}"
    clauses = [f"the training step{of}{mode} reaches {rate(step)}{at_batch(step)}"] if step is not None else []
    if plain is not None and plain.bound is not None and plain.bound.share is not None:
        clauses.append(_epoch(plain.bound, _delivery(mine, plain), step) + _best(epochs, plain))
    return f"{smoke(first)}On {device(first)} {'; '.join(clauses)}." if clauses else None


def _known(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.samples_per_s is not None and not row.unsteady]


def _step(rows: Sequence[Row], epoch: Row | None) -> Row | None:
    """The training step at the batch size of `epoch`, which it is to be compared with, else the fastest."""
    steps = [row for row in _known(rows) if row.kind == "training_step"]
    if epoch is not None and (same := [row for row in steps if row.batch_size == epoch.batch_size]):
        return same[0]
    return max(steps, key=lambda row: row.samples_per_s or 0.0, default=None)


def _delivery(rows: Sequence[Row], epoch: Row) -> Row | None:
    """The input pipeline of `epoch`, measured alone."""
    alone = [row for row in _known(rows) if row.kind == "input_pipeline"]
    fits = (row for row in alone if (row.pipeline, row.batch_size) == (epoch.pipeline, epoch.batch_size))
    return next(fits, None)


def _epoch(found: Bound, delivery: Row | None, step: Row | None) -> str:
    share = units.percent(found.share or 0.0)
    if found.by != "input":
        return f"an epoch with {PLAIN_PIPELINE} spends {share} in training steps"
    if delivery is None or step is None or (delivery.samples_per_s or 0) >= (step.samples_per_s or 0):
        return f"an epoch with {PLAIN_PIPELINE} is {share} waiting for input"
    rate = units.rate(delivery.samples_per_s or 0.0)
    return f"the {PLAIN_PIPELINE} pipeline delivers {rate}/s, so an epoch is {share} waiting for input"


def _best(epochs: Sequence[Row], plain: Row) -> str:
    """The pipeline that makes the epoch of `plain` faster by most, where that is certain."""
    faster = [
        (row.pipeline_speedup.point, row.pipeline)
        for row in epochs
        if row.batch_size == plain.batch_size
        and row.pipeline_speedup is not None
        and row.pipeline_speedup.excludes_one
        and row.pipeline_speedup.point > 1
    ]
    if not faster:
        return ""
    point, pipeline = max(faster, key=lambda pair: pair[0])
    return f": {pipeline} makes it {units.times(point)} faster"


def _incomparable(comparison: Comparison) -> list[str]:
    """Why rows have no speedup: one sentence per device and reason."""
    reference = comparison.reference
    there = [row for row in comparison.rows if row.reference]
    found: dict[tuple[str, str], list[str]] = {}
    for row in comparison.rows:
        if not row.reference and row.speedup is None and not _has_plain(row, comparison.rows):
            reason = _why_not(row, [other for other in there if other.kind == row.kind])
            kinds = found.setdefault((row.label, reason), [])
            if (kind := row.kind.replace("_", " ")) not in kinds:
                kinds.append(kind)
    return [
        f"No speedup of {label} over {reference} for {', '.join(kinds)}: {reason}."
        for (label, reason), kinds in found.items()
    ]


def _has_plain(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a mode that only this device has is compared all the same: in the table of modes, or by its plain one."""
    if row.full_speedup is None:
        return False
    return row.kind == STEP or any(other.plain and other.speedup and _work(other) == _work(row) for other in rows)


def _work(row: Row) -> Key:
    return (row.label, row.kind, row.batch_size, row.pipeline, row.task)


def _why_not(row: Row, others: Sequence[Row]) -> str:
    """How `row` differs from the most similar of `others`, the rows of the reference device."""
    if not others:
        return "not measured there"
    pairs = min((_differences(row, other) for other in others), key=len)
    if pairs:
        return "; ".join(pairs)
    if any((row.batch_size, row.pipeline) == (other.batch_size, other.pipeline) for other in others):
        return "more than one benchmark there fits"
    return "not measured there with the same batch size and pipeline"


def _differences(row: Row, other: Row) -> list[str]:
    """`different data set (digits, mnist)`, for each part of the workload."""
    mine, theirs = row.workload, other.workload
    different = [name for name in mine if mine[name] != theirs[name]]
    if "data set" in different and "data" in different:
        different.remove("data")  # another set has another digest, of course
    return [
        "different data of the same name"
        if name == "data"
        else f"different {name} ({mine[name] or 'unknown'}, {theirs[name] or 'unknown'})"
        for name in different
    ]
