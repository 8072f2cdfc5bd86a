"""In: what was measured along with a benchmark. Out: what takes most of its time, or None if it was not measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from perf.harness.record.run import Benchmark
from perf.harness.verdict.marks import Mark
from perf.harness.workload.benchmarks import BY_NAME

# If the host needs at least this share of a call to launch the work, the device waits for the host.
LAUNCH_SHARE = 0.9
# A bottleneck takes at least half of the time.
HALF = 0.5


@dataclass(frozen=True)
class Bottleneck:
    """What takes most of the time: `name` is launch, device, overhead, compute, input or step.

    `share` is its part of the time, 0 to 1; None if unknown.
    """

    name: str
    share: float | None = None


def device_bottleneck(enqueue_s: float, median_s: float, done_s: float = math.inf) -> Bottleneck:
    """Whether a call on an asynchronous device waits for the host that launches it, or for the device that runs it.

    `enqueue_s` and `done_s` are from the same calls: until the host launched a call, and until the device finished it.
    `median_s` is from the timed rounds, at another time. If the host was slower in the timed rounds, `median_s` alone
    would make the device look busy.
    """
    return Bottleneck("launch" if enqueue_s >= LAUNCH_SHARE * min(median_s, done_s) else "device")


def host_bottleneck(overhead_s: float, median_s: float) -> Bottleneck:
    """Whether a call on the CPU spends most of its time on its fixed cost, or on the samples."""
    return _larger("overhead", overhead_s / median_s, "compute")


def epoch_bottleneck(waiting_s: float, wall_s: float) -> Bottleneck:
    """Whether an epoch spends most of its time on waiting for input and copying it, or on the training steps."""
    return _larger("input", waiting_s / wall_s, "step")


def _larger(name: str, share: float, other: str) -> Bottleneck:
    share = min(1.0, share)
    return Bottleneck(name, share) if share >= HALF else Bottleneck(other, 1 - share)


def bottleneck(benchmark: Benchmark, median_s: float) -> Bottleneck | None:
    """What takes most of the time of `benchmark`, whose median is `median_s` [s]; None if unknown."""
    kind, device = benchmark.text("benchmark"), benchmark.text("device")
    bound = BY_NAME[kind].bound if kind in BY_NAME else ""
    if bound == "epoch":
        return _of_epoch(benchmark)
    if bound != "call" or device is None:
        return None
    seconds = benchmark.number("overhead_s" if device == "cpu" else "enqueue_s")
    if seconds is None or seconds < 0:
        return None
    if device == "cpu" and Mark.CROWDED in (benchmark.text("marks") or "").split():
        return None  # the fixed cost is a difference of times, and others took a part of each
    if device == "cpu":
        return host_bottleneck(seconds, median_s)
    return device_bottleneck(seconds, median_s, benchmark.number("done_s") or math.inf)


def _of_epoch(benchmark: Benchmark) -> Bottleneck | None:
    phases, wall_s = benchmark.numbers("phases_s"), benchmark.number("phases_wall_s")
    if not wall_s or wall_s < 0 or "data_wait" not in phases or "copy" not in phases:
        return None
    waiting_s = phases["data_wait"] + phases["copy"]
    return epoch_bottleneck(waiting_s, wall_s) if 0 <= waiting_s < math.inf else None
