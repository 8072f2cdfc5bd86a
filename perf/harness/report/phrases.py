"""In: rows. Out: phrases that several sentences use."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.report import quantities
from perf.harness.verdict.rows import Row
from perf.harness.workload.benchmarks import title


def kind_in_words(row: Row) -> str:
    """The kind of benchmark in words: `training step`."""
    return title(row.kind).lower()


def network(row: Row) -> str:
    return row.model or "unknown network"


def several_networks(rows: Sequence[Row]) -> bool:
    """Whether sentences about `rows` must name the network."""
    return len({row.model for row in rows}) > 1


def this_device(row: Row) -> str:
    return "this CPU" if row.label == "cpu" else row.label


def in_mode(row: Row) -> str:
    """The mode in words: `compile bf16`."""
    return " ".join(row.mode)


def at_batch(row: Row) -> str:
    return f" at batch {quantities.batch(row.batch_size)}" if row.batch_size is not None else ""


def samples_rate(row: Row) -> str:
    return f"{quantities.rate(row.samples_per_s or 0.0)} samples/s"


def smoke(row: Row) -> str:
    return "SMOKE: " if row.smoke else ""


def called(row: Row, several: bool) -> str:
    """The name of a row in a sentence: `epoch with resident at batch 64`.

    The name has the mode if the mode is not plain, and the network if there are `several` networks.
    """
    mode = "" if row.plain else f" in {in_mode(row)}"
    pipeline = f" with {row.pipeline}" if row.pipeline else ""
    of = f" of {network(row)}" if several else ""
    return f"{kind_in_words(row)}{of}{mode}{pipeline}{at_batch(row)}"


def where(some: Sequence[Row], every: Sequence[Row]) -> str:
    """The batch sizes of the rows `some`, which are a part of the rows `every`, in words: `from batch 512 on`."""
    sizes = list(dict.fromkeys(quantities.batch(row.batch_size) for row in some if row.batch_size is not None))
    if len(sizes) < 2:
        return f"at batch {sizes[0]}" if sizes else "here"
    if len(some) == len(every):
        return "at every batch size measured"
    if list(some) == list(every)[-len(some) :]:
        return f"from batch {sizes[0]} on"
    if list(some) == list(every)[: len(some)]:
        return f"up to batch {sizes[-1]}"
    return f"at batch {', '.join(sizes[:-1])} and {sizes[-1]}"
