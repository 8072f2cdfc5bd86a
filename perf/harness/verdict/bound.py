"""In: what was measured beside a benchmark. Out: what its time is bound by, or None where that was not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from perf.harness.record.run import Benchmark

# The host needs this share of a call to enqueue it: the device waits for the host, whatever it could do itself.
LAUNCH_SHARE = 0.9
# The larger half of the time names the bound.
HALF = 0.5


@dataclass(frozen=True)
class Bound:
    """`by` is launch, device, overhead, compute, input or step; `share` is its part of the time, 0 to 1."""

    by: str
    share: float | None = None


def device_bound(enqueue_s: float, median_s: float) -> Bound:
    """A call on an asynchronous device: bound by the host that launches it, or by the device that runs it."""
    return Bound("launch" if enqueue_s >= LAUNCH_SHARE * median_s else "device")


def host_bound(overhead_s: float, median_s: float) -> Bound:
    """A call on the CPU: bound by its fixed cost (the time on a minimal batch), or by the work on the samples."""
    share = min(1.0, overhead_s / median_s)
    return Bound("overhead", share) if share >= HALF else Bound("compute", 1 - share)


def epoch_bound(waiting_s: float, wall_s: float) -> Bound:
    """An epoch: bound by waiting for and copying input, or by the training steps."""
    share = min(1.0, waiting_s / wall_s)
    return Bound("input", share) if share >= HALF else Bound("step", 1 - share)


def bound(benchmark: Benchmark, median_s: float) -> Bound | None:
    """What bounds `benchmark`, whose median is `median_s` [s]."""
    kind, device = benchmark.text("benchmark"), benchmark.text("device")
    if kind == "epoch":
        return _epoch(benchmark)
    if kind not in ("training_step", "inference") or device is None:
        return None
    if device == "cpu":
        overhead_s = _positive(benchmark.number("overhead_s"))
        return None if overhead_s is None else host_bound(overhead_s, median_s)
    enqueue_s = _positive(benchmark.number("enqueue_s"))
    return None if enqueue_s is None else device_bound(enqueue_s, median_s)


def _epoch(benchmark: Benchmark) -> Bound | None:
    phases: Mapping[str, float] = benchmark.numbers("phases_s")
    wall_s = _positive(benchmark.number("phases_wall_s"))
    if wall_s is None or "data_wait" not in phases or "copy" not in phases:
        return None
    waiting_s = phases["data_wait"] + phases["copy"]
    return epoch_bound(waiting_s, wall_s) if 0 <= waiting_s < math.inf else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None
