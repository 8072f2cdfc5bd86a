"""In: rows. Out: sentences that say what the rows show.

Every number in a sentence is from the record. If a number is missing, the sentence says less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from perf.harness.record.run import Run, finite, some_of
from perf.harness.report import commands, quantities
from perf.harness.report.advice import advice, largest_batches
from perf.harness.report.benchmark_tables import table_title
from perf.harness.report.distrust import distrusted
from perf.harness.report.facts import cpu_state
from perf.harness.report.layout import INDENT, PAGE, Block, Fixed, Notes, command
from perf.harness.report.phrases import (
    at_batch,
    called,
    in_mode,
    kind_in_words,
    network,
    samples_rate,
    several_networks,
    smoke,
    this_device,
    where,
)
from perf.harness.verdict.fastest import (
    STEP,
    Best,
    Relation,
    Training,
    all_plain,
    best_against_best,
    duels,
    grouped,
    relation,
    slow_inside,
)
from perf.harness.verdict.marks import Mark
from perf.harness.verdict.rows import PLAIN_PIPELINE, Row
from perf.harness.verdict.speedups import Speedups
from perf.harness.verdict.thread_gain import gain, worth
from perf.harness.workload.benchmarks import BY_NAME

# A file name that is one word in a shell and fits into one line of the page.
FILE_NAME = re.compile(r"[\w./+-]{1,65}\.json")
# One thread is much faster where several threads reach less than this share of its rate.
MUCH = 0.67
TRAINING = [one.name for one in BY_NAME.values() if one.trains]


def conclusion(found: Speedups) -> list[Block]:
    """Which times not to trust, which device is faster, what an epoch waits for, and how to train fastest.

    At the end: what could not be compared, and, if there is only a CPU, how to compare it with a GPU.
    """
    rows = found.rows
    sentences = [
        *distrusted(rows),
        *_devices(found),
        *_input_bound(found),
        *_bests(found),
        *_cpus(found),
        *(text for group in grouped(rows, lambda row: row.label) for text in _trainings(group)),
        *_inside(rows),
        *_threads(rows),
        *advice(found),
        *largest_batches(found.untimed),
        *_incomparable(found),
        *_unchecked(found),
    ]
    blocks: list[Block] = [Notes([text]) for text in sentences]
    if rows and all(row.device == "cpu" for row in rows) and not any(row.letter for row in rows):
        blocks += _invitation(rows[0].run)
    return blocks


def _inside(rows: Sequence[Row]) -> list[str]:
    """The epochs in which a training step takes far longer than alone, and what to try."""
    several = several_networks(rows)
    return [
        f"Inside the {called(row, several)} on {row.label}, a training step takes {quantities.times(factor)} as long "
        "as alone: the processes of the pipeline use the cores for which torch's threads wait. Try fewer "
        "--perf-threads."
        for row, factor in slow_inside(rows)
    ]


def _threads(rows: Sequence[Row]) -> list[str]:
    """For each network on a CPU: from which batch size on more threads than one are worth it."""
    steps = [row for row in rows if row.kind == STEP and row.plain and gain(row) is not None]
    several = several_networks(steps)
    found = []
    for group in grouped(steps, lambda row: (row.label, row.model)):
        letter = f"{group[0].letter}: " if group[0].letter else ""
        found.append(letter + _thread_sentence(group, several))
    return found


def _thread_sentence(rows: Sequence[Row], several: bool) -> str:
    faster, alike = worth(rows)
    threads = quantities.counted(finite(rows[0].run.perf.get("environment", {}).get("threads")) or 0, "thread")
    of = f" of {rows[0].model}" if several and rows[0].model else ""
    if not faster:
        place = where(alike, rows)
        if max(gain(row) or 0.0 for row in alike) < MUCH:
            beside = ", beside other programs," if any(Mark.CROWDED in row.marks for row in alike) else ""
            longer = quantities.spanned([1 / slower for row in alike if (slower := gain(row))])
            return (
                f"With {threads}, the training step{of} takes{beside} {longer} as long as with one {place}: "
                "--perf-threads=1 is much faster."
            )
        return (
            f"With {threads}, the training step{of} is no faster than with one {place} ({_gains(alike)}): "
            "--perf-threads=1 is as fast, and steadier."
        )
    some = f"With {threads}, the training step{of} is faster than with one {where(faster, rows)} ({_gains(faster)})"
    if not alike:
        return f"{some}."
    return f"{some}, and not {where(alike, rows)} ({_gains(alike)}): --perf-threads=auto chooses for all of them."


def _gains(rows: Sequence[Row]) -> str:
    return quantities.spanned([gain(row) or 0.0 for row in rows])


def _invitation(run: Run) -> list[Block]:
    """How to compare with a GPU: the commands to type."""
    source = run.source
    here = not source.endswith("gpu.json") and FILE_NAME.fullmatch(source)
    typed = [
        *([] if here else [(commands.measure(run, "--benchmark-json=cpu.json"), "# here")]),
        (commands.measure(run, "--benchmark-json=gpu.json", elsewhere=True), "# on the machine with the GPU"),
        (commands.tool(run, "report", source if here else "cpu.json", "gpu.json"), ""),
    ]
    lines: list[str] = []
    for text, where_to in typed:
        *first, last = command(text).lines
        behind = f"{last}   {where_to}"
        if not where_to:
            lines += [*first, last]
        else:
            lines += [*first, behind] if len(behind) <= PAGE else [f"{INDENT}{where_to}", *first, last]
    return [
        Notes(["To compare with a GPU, copy its file here:"]),
        Fixed(lines, hang=None),
    ]


def _devices(found: Speedups) -> list[str]:
    """For each device except the reference: at which batch sizes it is faster or slower, and by how much."""
    groups = duels(found)
    several = several_networks([row for group in groups for row in group])
    modes = not all_plain(found.rows)
    return [_duel(group, found.reference or "", several, modes) for group in groups]


def _duel(rows: Sequence[Row], reference: str, several: bool, modes: bool) -> str:
    """A sentence on the `rows` of one device and one workload, ordered by batch size.

    The sentence names the network if there are `several`, and the mode if there are `modes` other than eager fp32.
    """
    wins, losses, ties, unsure = (
        [row for row in rows if relation(row.speedup) is one]
        for one in (Relation.FASTER, Relation.SLOWER, Relation.ALIKE, Relation.UNKNOWN)
    )
    first, parts = rows[0], []
    if wins:
        parts.append(f"{first.label} is faster than {reference} {where(wins, rows)}, by {_factors(wins)}")
    if losses:
        slower = "slower" if wins else f"{first.label} is slower than {reference}"
        parts.append(f"{slower} {where(losses, rows)}, by {_factors(losses)}")
    if ties:
        names = "the two" if wins or losses else f"{first.label} and {reference}"
        parts.append(f"{where(ties, rows)}, {names} show no certain difference")
    if unsure:
        parts.append(f"{where(unsure, rows)}, there are too few rounds to compare {first.label} with {reference}")
    named = [(True, first.pipeline), (several, first.model), (modes, in_mode(first))]
    subject = ", ".join([table_title([first]), *(text for needed, text in named if needed and text)])
    return f"{subject}: {'; '.join(parts)}."


def _input_bound(found: Speedups) -> list[str]:
    """For each network whose plain epoch waits for input on the reference and on another device: both wait."""
    waiting: dict[str, list[str]] = {}
    for group in grouped(found.rows, lambda row: (network(row), row.label)):
        epoch = Training.of(group).epoch
        if epoch is not None and epoch.bottleneck is not None and epoch.bottleneck.name == "input":
            waiting.setdefault(network(epoch), []).append(epoch.label)
    return [
        f"In an epoch of {name} with {PLAIN_PIPELINE}, {' and '.join(labels)} wait for input most of the time: there, "
        "a faster device gains little until the pipeline is faster."
        for name, labels in waiting.items()
        if len(labels) > 1 and found.reference in labels
    ]


def _bests(found: Speedups) -> list[str]:
    """For each network: the fastest training step of each device against the CPU's, each at its best batch size."""
    return [_best(one) for one in best_against_best(found)]


def _best(one: Best) -> str:
    def named(row: Row) -> str:
        return f"{row.label} reaches {samples_rate(row)}{at_batch(row)}{'' if row.plain else f' in {in_mode(row)}'}"

    other = "" if one.row.batch_size == one.base.batch_size else " Another batch size is another training."
    return (
        f"{smoke(one.row)}Best against best, training {network(one.row)}: {named(one.row)}, {named(one.base)}: "
        f"{quantities.ratio(one.gain)}.{other}"
    )


def _cpus(found: Speedups) -> list[str]:
    """How each CPU that another device is compared with was run: a factor over a badly run CPU is no factor."""
    with_factors = [row for row in found.rows if row.speedup is not None or row.full_speedup is not None]
    best = [row for one in best_against_best(found) for row in (one.row, one.base)]
    compared = {row.label for row in (*with_factors, *best)} | {found.reference}
    cpus = [row for row in found.rows if row.device == "cpu" and row.label in compared]
    if not any(row.label in compared and row.device != "cpu" for row in found.rows):
        return []
    states = {row.label: cpu_state(row.run) for row in cpus}
    return [f"{label} ran {state}." for label, state in states.items() if state]


def _factors(rows: Sequence[Row]) -> str:
    """How many times faster or slower the `rows` are, from the smallest factor to the largest: `2.15× to 4.32×`."""
    return quantities.spanned([max(one.point, 1 / one.point) for row in rows if (one := row.speedup) is not None])


def _trainings(rows: Sequence[Row]) -> list[str]:
    """One sentence for each network. `rows` are the rows of one device."""
    several = several_networks(rows)
    return [text for group in grouped(rows, network) if (text := _training(group, several))]


def _training(rows: Sequence[Row], several: bool) -> str:
    """The rate of the training step, the rate of the plain pipeline, and how long the epoch waits for input."""
    found = Training.of(rows)
    of = f" of {network(rows[0])}" if several else ""
    known = found.step or found.epoch
    if known is None:
        return ""
    mode = "" if all_plain(rows) else f" in {in_mode(known)}"
    step = (
        [f"the training step{of}{mode} reaches {samples_rate(found.step)}{at_batch(found.step)}"] if found.step else []
    )
    epoch = [_epoch(found, found.epoch)] if found.epoch else []
    return f"{smoke(known)}On {this_device(known)} {'; '.join([*step, *epoch])}."


def _epoch(found: Training, epoch: Row) -> str:
    bottleneck = epoch.bottleneck
    share = quantities.percent((bottleneck.share if bottleneck else None) or 0.0)
    if bottleneck is not None and bottleneck.name != "input":
        text = f"an epoch with {PLAIN_PIPELINE} spends {share} of its time in training steps"
    elif found.supply is None:
        text = f"an epoch with {PLAIN_PIPELINE} waits for input {share} of its time"
    else:
        text = f"the {PLAIN_PIPELINE} pipeline delivers {quantities.rate(found.supply.samples_per_s or 0.0)}/s, so an "
        text += f"epoch waits for input {share} of its time"
    better = found.better
    if better is None or better.pipeline_speedup is None:
        return text
    doubt = [mark for mark in (Mark.CROWDED, Mark.UNSTEADY) if mark in (*epoch.marks, *better.marks)]
    by = f", by times that are {' and '.join(doubt)}" if doubt else ""
    return f"{text}: {better.pipeline} makes it {quantities.times(better.pipeline_speedup.point)} faster{by}"


def _incomparable(found: Speedups) -> list[str]:
    """Why rows have no speedup: one sentence for each device and reason."""
    there = [row for row in found.rows if row.reference]
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in found.rows:
        if not row.reference and row.speedup is None and not _has_plain(row, found.rows):
            others = [other for other in there if other.kind == row.kind]
            reason = _other_training(found, row) or _why_not(row, others, found.reference or "")
            kinds = reasons.setdefault((row.label, reason), [])
            if (kind := kind_in_words(row)) not in kinds:
                kinds.append(kind)
    return [
        f"No speedup of {label} over {found.reference} for {', '.join(kinds)}: {reason}."
        for (label, reason), kinds in reasons.items()
    ]


def _other_training(found: Speedups, row: Row) -> str:
    """Why the training of `row` is not that of the reference device; empty if it is."""
    if row.trained not in found.unequal:
        return ""
    shown, differs = found.unequal[row.trained]
    what = f"{differs.what}{at_batch(shown)}"
    return f"{row.label} does not train as {found.reference} does: {what} is {differs.much}"


def _unchecked(found: Speedups) -> list[str]:
    """Which trainings with a speedup over the reference device are not known to train as they do there."""
    why: dict[tuple[str, str], list[str]] = {}
    measured = {row.trained for row in found.rows if row.kind == STEP and row.plain}
    for row in found.rows:
        if row.reference or row.kind not in TRAINING or (row.speedup is None and row.full_speedup is None):
            continue
        if row.trained in found.equal:
            continue
        drawn = "it draws random numbers on the device, such as dropout, or its step has no loss"
        reason = drawn if row.trained in measured else "the training step in eager fp32 shows it, and is not here"
        models = why.setdefault((row.label, reason), [])
        if (model := row.model or "the training") not in models:
            models.append(model)
    return [
        f"Whether {some_of(models)} trains on {label} as on {found.reference} was not compared: {reason}."
        for (label, reason), models in why.items()
    ]


def _has_plain(row: Row, rows: Sequence[Row]) -> bool:
    """Whether the report still compares the work of `row` with eager fp32 on the reference device.

    It does so in the table of modes, or in the eager fp32 row of the same work on the same device.
    """
    if row.full_speedup is None:
        return False
    return row.kind == STEP or any(other.plain and other.speedup and _work(other) == _work(row) for other in rows)


def _work(row: Row) -> tuple[object, ...]:
    return row.label, row.kind, row.batch_size, row.pipeline, row.task


def _why_not(row: Row, others: Sequence[Row], reference: str) -> str:
    """How `row` differs from the most similar of `others`, the rows of the reference device."""
    if not others:
        return f"{reference} did not measure it"
    if different := min((_differences(row, other) for other in others), key=len):
        return "; ".join(different)
    if any((row.batch_size, row.pipeline) == (other.batch_size, other.pipeline) for other in others):
        return f"several benchmarks of {reference} fit"
    return f"{reference} did not measure it with the same batch size and pipeline"


def _differences(row: Row, other: Row) -> list[str]:
    """One text for each part of the workload that differs: `different data set (digits, mnist)`."""
    mine, theirs = row.workload, other.workload
    different = [name for name in mine if mine[name] != theirs[name]]
    if "data" in different and ("data set" in different or "profile" in different):
        different.remove("data")  # another data set always has another digest, and a profile may take a part of it
    return [
        "different data of the same name"
        if name == "data"
        else f"different {name} ({mine[name] or 'unknown'}, {theirs[name] or 'unknown'})"
        for name in different
    ]
