"""In: rows that ask for memory. Out: a table of what a step takes, and sentences on the largest batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perf.harness.report import units
from perf.harness.report.cells import cells, identity, saying, title
from perf.harness.report.layout import Column, Table
from perf.harness.report.rows import Row
from perf.harness.report.words import device, in_mode, network, smoke

# What a search says that the memory has ended, and how it begins that its time has.
MEMORY, LATE = "out of memory", "its search"


def tables(rows: Sequence[Row]) -> list[Table]:
    """What each step of `memory` takes."""
    found = [row for row in rows if row.kind == "memory"]
    if not found:
        return []
    parts = ("weight", "gradient", "optimizer", "activation", "peak")
    names = ("weights", "gradients", "optimizer", "activations", "peak")
    columns = [Column(name, cells(found, _size(f"{part}_bytes"))) for name, part in zip(names, parts, strict=True)]
    return [Table(title(found, " of a training step"), saying([*identity(found), *columns]))]


def _size(key: str) -> Callable[[Row], str]:
    def size(row: Row) -> str:
        value = row.benchmark.number(key)
        return "" if value is None else units.size(max(0.0, value))

    return size


def notes(rows: Sequence[Row]) -> list[str]:
    """What the columns mean, as far as they are there."""
    if not any(row.kind == "memory" for row in rows):
        return []
    return [
        "activations: what a step takes at its peak beyond weights, gradients, the optimizer's state and the batch; "
        "peak: with all of these. On a CPU, both are of torch's allocator alone."
    ]


def sentences(rows: Sequence[Row]) -> list[str]:
    """One for each device, network and mode."""
    found = [row for row in rows if row.kind == "largest_batch"]
    return [text for row in found if (text := _sentence(row))]


def _sentence(row: Row) -> str | None:
    most, enough = row.benchmark.number("largest_batch"), row.benchmark.number("sufficient_batch")
    if most is None or enough is None:
        return None
    limit, why = row.benchmark.number("memory_limit_bytes"), row.benchmark.text("limited_by")
    room = "its memory" if limit is None else units.large(limit, "B")
    mode = "" if row.plain else f" in {in_mode(row)}"
    size = units.batch(most)
    if why == MEMORY:
        fits = f"the largest batch that fits into {room} is {size}"
    elif not why or why.startswith(LATE):
        fits = f"a batch of {size} fits into {room}, and a larger one was not tried{f': {why}' if why else ''}"
    else:
        fits = f"a batch of {size} fits into {room}, and a larger one failed: {why}"
    use = units.batch(enough)
    if 2 * enough > most:  # no doubling was timed beyond it
        gain = f"of the sizes timed, batch {use} has the highest throughput"
    else:
        gain = f"from batch {use} on, throughput no longer grows by 5%"
    return f"{smoke(row)}{network(row)}{mode} on {device(row)}: {fits}; {gain}: use --perf-batch-size={use}."
