"""In: rows. Out: advice on training: the fastest mode, the accelerator's lead, the largest batch, the options."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.options import EAGER, FP32
from perf.harness.report import quantities
from perf.harness.report.phrases import at_batch, in_mode, network, samples_rate, smoke, this_device, where
from perf.harness.verdict.fastest import FACTORS, FastestWay, Lack, Lead, agrees, by_mode, fastest_ways, grouped, leads
from perf.harness.verdict.rows import PLAIN_MODE, Row
from perf.harness.verdict.speedups import Speedups

LACKS = {
    Lack.PLAIN_NOT_MEASURED: "eager fp32 was not measured at this batch size",
    Lack.PLAIN_NOT_STEADY: "eager fp32 has no steady time at this batch size",
    Lack.OTHERS_NOT_MEASURED: "no other mode was measured at this batch size",
    Lack.OTHERS_NOT_STEADY: "no other mode has a steady time at this batch size",
    Lack.OTHERS_NOT_FASTER: "no other mode is certainly faster at this batch size",
}
# Why a search for the largest batch ended: the text if memory ran out, and how the text begins if it ended earlier.
MEMORY, EARLY = "out of memory", ("the search", "its search")


def advice(found: Speedups) -> list[str]:
    """Modes that do not count, graph breaks, the fastest way on each device, and an accelerator's lead over the CPU."""
    steps = by_mode(found.rows)
    return [*_left_out(steps), *_broken(found.rows), *map(_way, fastest_ways(steps)), *map(_lead, leads(found))]


def _left_out(rows: Sequence[Row]) -> list[str]:
    """One text for each device: the modes that compute another training."""
    wrong = grouped((row for row in rows if not agrees(row)), lambda row: row.label)
    return [
        f"LEFT OUT on {group[0].label}: {'; '.join(f'{_named(row)}: {_losses(row)}' for row in group)}. "
        "Rounding does not explain this: the mode computes another training, so its speed does not count."
        for group in wrong
    ]


def _broken(rows: Sequence[Row]) -> list[str]:
    """The networks that torch.compile could not compile as one graph, and why."""
    broken = [row for row in rows if row.benchmark.text("graph_break")]
    groups = grouped(broken, lambda row: (row.label, network(row), row.benchmark.text("graph_break")))
    return [
        f"GRAPH BREAK on {group[0].label}: torch.compile cannot take {network(group[0])} as one graph: "
        f"{group[0].benchmark.text('graph_break')}. The code between the graphs stays eager, so compiling gains less "
        "than it could."
        for group in groups
    ]


def _named(row: Row) -> str:
    return f"{network(row)} in {in_mode(row)}{at_batch(row)}"


def _losses(row: Row) -> str:
    """How far the losses of `row` are from eager's, and how far the last ones are from fp32, as far as known."""
    difference, steps = row.benchmark.number("parity_difference"), row.benchmark.number("parity_steps")
    if difference is None:
        return "its losses were not compared with eager's"
    over = f" over {quantities.counted(steps, 'step')}" if steps is not None else ""
    distance = row.benchmark.number("precision_difference") if row.mode[1] != FP32 else None
    found = []
    if row.mode[0] != EAGER or distance is None:
        share = _share(abs(difference))
        most = share if share.startswith("less") else f"at most {share}"
        made = row.benchmark.number("parity_rounding")
        alone = "" if made is None else f" (rounding alone makes {quantities.percent(made)})"
        found.append(f"differ from eager's by {most}{alone}")
    if distance is not None:
        found.append(f"end {_share(distance)} from those in fp32")
    return f"its losses{over} {' and '.join(found)}"


def _share(value: float) -> str:
    return quantities.percent(value).replace("<", "less than ")


def _way(way: FastestWay) -> str:
    row, ended = way.row, ", of those measured before the run ended" if way.ended else ""
    gain = way.gain
    ratio = (
        LACKS[gain]
        if isinstance(gain, Lack)
        else f"{quantities.ratio(gain)} the speed of eager fp32 at this batch size"
    )
    plain = ", in eager fp32" if row.plain else ""
    parts = [f"{_typed(row)}{plain}", ratio, *([] if row.plain else [_losses(row)])]
    return f"{smoke(row)}Fastest way to train {network(row)} on {this_device(row)}{ended}: {'; '.join(parts)}."


def _typed(row: Row) -> str:
    """The options that choose `row`, without options that have their default value, and the rate of `row`."""
    modes = zip(PLAIN_MODE.items(), row.mode, strict=True)
    options = [f"--perf-{name}={value}" for (name, plain), value in modes if value != plain]
    batch = f"--perf-batch-size={quantities.batch(row.batch_size or 0)}"
    return f"{' '.join([*options, batch])}: {samples_rate(row)}"


def _lead(lead: Lead) -> str:
    best, base = lead.best, lead.base
    parts, missed = [], ""
    for factor in FACTORS:
        if reached := lead.reached[factor]:
            sizes = {row.batch_size for row in reached}
            batches = where([row for row in lead.sizes if row.batch_size in sizes], lead.sizes)
            parts.append(f"at least {factor}× {batches} (first in {in_mode(reached[0])})")
        elif not missed:
            missed = f"{'never certainly' if lead.most.point >= factor else 'never'} {factor}×"
    top = f"the highest is {quantities.ratio(lead.most)}{at_batch(best)}, {in_mode(best)} against {in_mode(base)}"
    return (
        f"{smoke(best)}Speed of training {network(best)} on {best.label}, against the fastest mode of {base.label} at "
        f"the same batch size: {'; '.join([*parts, *filter(None, [missed]), top])}."
    )


def largest_batches(rows: Sequence[Row]) -> list[str]:
    """A sentence for each device, network and mode for which the largest batch was measured."""
    return [text for row in rows if row.kind == "largest_batch" and (text := _largest_batch(row))]


def _largest_batch(row: Row) -> str | None:
    most, enough = row.benchmark.number("largest_batch"), row.benchmark.number("sufficient_batch")
    if most is None or enough is None:
        return None
    limit, why = row.benchmark.number("memory_limit_bytes"), row.benchmark.text("limited_by")
    room = "its memory" if limit is None else quantities.large(limit, "B")
    size, use = quantities.batch(most), quantities.batch(enough)
    if why == MEMORY:
        fits = f"the largest batch that fits into {room} is {size}"
    elif not why or why.startswith(EARLY):
        fits = f"a batch of {size} fits into {room}, and a larger one was not tried{f': {why}' if why else ''}"
    else:
        fits = f"a batch of {size} fits into {room}, and a larger one failed: {why}"
    if 2 * enough > most:  # a batch of double the size was not timed
        gain = f"batch {use} has the highest throughput of the sizes timed"
    else:
        gain = f"from batch {use} on, doubling the batch no longer raises throughput by 5%"
    mode = "" if row.plain else f" in {in_mode(row)}"
    return f"{smoke(row)}{network(row)}{mode} on {this_device(row)}: {fits}; {gain}: use --perf-batch-size={use}."
