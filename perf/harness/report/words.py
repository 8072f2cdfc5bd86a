"""In: rows. Out: the words that sentences share."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.report import units
from perf.harness.report.rows import SMOKE, Row


def network(row: Row) -> str:
    return row.benchmark.text("model") or "unknown network"


def several_networks(rows: Sequence[Row]) -> bool:
    """Whether sentences on `rows` have to say of which network."""
    return len({row.benchmark.text("model") for row in rows}) > 1


def device(row: Row) -> str:
    return "this CPU" if row.label == "cpu" else row.label


def in_mode(row: Row) -> str:
    """`compile bf16`."""
    return " ".join(row.mode)


def at_batch(row: Row) -> str:
    return f" at batch {units.batch(row.batch_size)}" if row.batch_size is not None else ""


def rate(row: Row) -> str:
    return f"{units.rate(row.samples_per_s or 0.0)} samples/s"


def smoke(row: Row) -> str:
    return "SMOKE: " if row.profile == SMOKE else ""


def called(row: Row, several: bool) -> str:
    """`epoch with resident at batch 64`; with its mode if it is not plain, with its network if there are `several`."""
    mode = "" if row.plain else f" in {in_mode(row)}"
    pipeline = f" with {row.pipeline}" if row.pipeline else ""
    of = f" of {network(row)}" if several else ""
    return f"{row.kind.replace('_', ' ')}{of}{mode}{pipeline}{at_batch(row)}"


def where(some: Sequence[Row], every: Sequence[Row]) -> str:
    """Which batch sizes `some` are, of those of `every`: `from batch 512 on`."""
    sizes = list(dict.fromkeys(units.batch(row.batch_size) for row in some if row.batch_size is not None))
    if not sizes:
        return "here"
    if len(some) == len(every) and len(sizes) > 1:
        return "at every batch size measured"
    if len(sizes) > 1 and list(some) == list(every)[-len(some) :]:
        return f"from batch {sizes[0]} on"
    if len(sizes) > 1 and list(some) == list(every)[: len(some)]:
        return f"up to batch {sizes[-1]}"
    return f"at batch {' and '.join([', '.join(sizes[:-1]), sizes[-1]]) if len(sizes) > 1 else sizes[0]}"
