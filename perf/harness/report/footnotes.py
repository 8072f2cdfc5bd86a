"""In: rows. Out: notes on the columns of their tables: what each means, only for columns that are in a table."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.report.benchmark_tables import across, first_call
from perf.harness.report.layout import Notes
from perf.harness.statistics.intervals import Ratio
from perf.harness.verdict.fastest import by_mode
from perf.harness.verdict.rows import Row
from perf.harness.verdict.speedups import Speedups

BOTTLENECKS = {
    ("overhead", "compute"): "bound by overhead: the fixed cost of each call takes most of the time; compute: the work "
    "on the samples does.",
    ("launch", "device"): "bound by launch: the device waits for the host to launch its work; device: the device is "
    "busy.",
    ("input", "step"): "bound by input: the share of an epoch that goes to waiting for batches and copying them; step: "
    "the share that goes to training steps.",
}
INTERVAL = "[…]: 95% interval of the ratio of medians within this run. Two runs of the same code differ by more."
BETWEEN_PASSES = "[…]: 95% interval of the ratio, from how much the passes differ."
PEAK_MEMORY = "peak memory: on an accelerator, what torch's allocator takes; on a CPU, what the whole process takes."
OF_MATMUL = (
    "of matmul: FLOP/s as a share of this device's own matrix products in that precision, measured in the same run."
)
ENERGY = "J/sample: the energy that the device's own counter shows, for the whole GPU or all packages of the CPU."
ACTIVATIONS = (
    "activations: what a step takes at its peak besides weights, gradients, the optimizer's state and the batch. "
    "peak: all of these together. On a CPU, both count only what torch's allocator takes."
)


def footnotes(found: Speedups) -> list[Notes]:
    """What the columns mean. There is a note only for columns that are in a table."""
    notes = [*_on_times(found), *_on_modes(found.rows, found.reference)]
    if any(row.kind == "memory" for row in found.untimed):
        notes.append(ACTIVATIONS)
    return [Notes(notes)] if notes else []


def _on_times(found: Speedups) -> list[str]:
    rows = [*found.rows, *found.foreign]
    notes = []
    few = "no time for more passes" if all(row.run.complete for row in rows) else "the run ended before more passes"
    single = [row for row in rows if row.summary.spread is not None and row.summary.passes == 1]
    if any(row.few_passes is None for row in single):
        notes.append("time: the median, ± half the interquartile range.")
    if any(row.summary.passes > 1 for row in rows):
        notes.append("time: the median of the passes through all cases, ± half its 95% interval between them.")
    if once := [row for row in rows if row.few_passes == 1]:
        none = "" if all(row.summary.spread is not None for row in once) else "; one round has none"
        notes.append(f"time (1 pass): {few}; ± half the interquartile range of its rounds{none}.")
    if any(row.few_passes == 2 for row in rows):
        notes.append(f"time (2 passes): {few}; the interval between two is wide.")
    if any(row.few_passes is None and row.summary.passes == 2 for row in rows):
        notes.append("time: with two passes, the interval is wide; --perf-passes=3 makes it less than a third as wide.")
    if kinds := next(filter(None, (row.kinds for row in rows)), None):
        slow = "one was" if kinds.slow_passes == 1 else f"{kinds.slow_passes} were"
        notes.append(
            f"time: A or B ({kinds.slow_passes} of {kinds.passes}): of {kinds.passes} passes, {slow} slow and took B."
        )
    # The letters of the files that have an interval: another file does not say where it comes from.
    if known := {row.letter for row in rows if any(one is not None and one.low is not None for one in _ratios(row))}:
        between = all(row.summary.passes > 1 for row in found.rows if row.letter in known)
        notes.append(BETWEEN_PASSES if between else INTERVAL)
    bottlenecks = {row.bottleneck.name for row in rows if row.bottleneck}
    notes += [text for names, text in BOTTLENECKS.items() if bottlenecks.intersection(names)]
    if any(row.share_of_matmul for row in found.rows):
        notes.append(OF_MATMUL)
    if any(row.j_per_sample for row in found.rows):
        notes.append(ENERGY)
    costs = [row for row in found.rows if row.share_of_matmul]
    if unknown := dict.fromkeys(row.label for row in costs if row.benchmark.number("energy_j") is None):
        notes.append(f"J/sample: unknown on {', '.join(unknown)}, whose energy no counter showed.")
    if any(row.benchmark.number("peak_bytes") for row in found.rows):
        notes.append(PEAK_MEMORY)
    return notes


def _on_modes(rows: Sequence[Row], reference: str | None) -> list[str]:
    steps = by_mode(rows)
    notes = []
    if any(row.mode_speedup for row in rows):
        notes.append("vs eager fp32: speedup over eager fp32 on the same device.")
    if across(steps):
        notes.append(f"vs {reference}: speedup over eager fp32 on {reference}.")
    with_factor = [row for row in rows if row.plain and (row.speedup is not None or row in steps)]
    if any((row.device or "").startswith("cuda") for row in with_factor):
        notes.append("fp32: without TF32, also in convolutions, where PyTorch uses it by default.")
    unknown = [row for row in rows if steps and row.bottleneck is None]
    if any(row.mode[0] == "compile" and row.mode[1] != "fp16" for row in unknown):
        notes.append("bound by: unknown for compiled steps, because their parts cannot be measured one by one.")
    if any(row.mode[1] == "fp16" and row.device != "cpu" for row in unknown):
        notes.append("bound by: unknown in fp16, whose scaler makes the host wait for the device in each step.")
    if any(row.flop_per_s for row in steps):
        notes.append("FLOP/s: counts the matrix products, convolutions and attention of eager fp32.")
    if uncounted := ", ".join(dict.fromkeys(filter(None, (row.benchmark.text("flop_uncounted") for row in steps)))):
        notes.append(f"FLOP/s: not counted, because torch's counter does not see: {uncounted}.")
    if any(map(first_call, steps)):
        notes.append("first call: the time to build the network, compile it and make one step.")
    if len({row.batch_size for row in steps}) > 1:
        notes.append("batch: another batch size is a different training. Compare only rows of the same batch size.")
    return notes


def _ratios(row: Row) -> tuple[Ratio | None, ...]:
    return row.speedup, row.pipeline_speedup, row.mode_speedup
