"""In: samples of one source. Out: a flat summary for the record, and in how many rounds a GPU was slowed down."""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Callable, Sequence

from perf.harness.machine.telemetry.reasons import SLOWING, Reason, names
from perf.harness.machine.telemetry.source import Sample
from perf.harness.record import Scalar

# A round between two samples is judged by the nearest sample, which may be this far away [s].
NEAR_S = 1.0

# How each value is summarized. A sample is "busy" unless the GPU was idle and no reason slowed it.
SPREAD = ("sm_clock_hz", "memory_clock_hz", "power_w", "temperature_c", "clock_hz")
RISING = ("energy_j", "steal_s", "withheld_s", "memory_stalled_s")
NEW = ("ecc_uncorrected", "remap_corrected", "remap_uncorrected", "pcie_replays")
HIGHEST = ("remap_pending", "remap_failed", "other_processes", "load_average")
LOWEST = ("memory_available_bytes", "power_limit_w")
LAST = (
    "power_limit_default_w", "sm_clock_limit_hz", "ecc", "mig", "pcie_generation_limit", "pcie_width_limit",
    "quota_cores",
)  # fmt: skip


def condense(samples: Sequence[Sample]) -> dict[str, Scalar]:
    """Median, minimum and maximum of values that vary, the rise of counters, and the shares of the throttle reasons.

    The names of the keys contain the units. A value that no sample has is left out. Clocks, power, temperature and
    throttling are from the busy samples only; `busy_samples` is the number of those with known reasons.
    """
    if not samples:
        return {}
    busy = [sample for sample in samples if not _idle(sample)]
    found: dict[str, Scalar] = {
        "samples": len(samples),
        "seconds": samples[-1].at - samples[0].at,
    }
    for key in SPREAD:
        if values := _values(busy, key):
            found[f"{key}_median"] = statistics.median(values)
            found[f"{key}_min"], found[f"{key}_max"] = min(values), max(values)
    for key in RISING:
        found |= _risen(samples, key, key)
    for key in NEW:
        found |= _risen(samples, key, f"new_{key}")
    choices: tuple[tuple[tuple[str, ...], str, Callable[[list[float]], float]], ...] = (
        (HIGHEST, "_max", max),
        (LOWEST, "_min", min),
        (LAST, "", lambda values: values[-1]),
    )
    for keys, ending, choose in choices:
        found |= {f"{key}{ending}": choose(values) for key in keys if (values := _values(samples, key))}
    return found | _throttling(busy) | _link(samples) | _others(samples)


def _idle(sample: Sample) -> bool:
    bits = int(sample.values.get("reasons", 0))
    return bool(bits & Reason.GPU_IDLE) and not bits & SLOWING


def _values(samples: Sequence[Sample], key: str) -> list[float]:
    """The known finite values of `key`, which JSON can hold."""
    found = [sample.values[key] for sample in samples if key in sample.values]
    return [value for value in found if math.isfinite(value)]


def _risen(samples: Sequence[Sample], key: str, name: str) -> dict[str, Scalar]:
    """The sum of a counter's increases from sample to sample. A reset of the counter does not count as a decrease."""
    values = _values(samples, key)
    if not values:
        return {}
    return {name: sum(max(0, later - earlier) for earlier, later in itertools.pairwise(values))}


def _throttling(busy: Sequence[Sample]) -> dict[str, Scalar]:
    """The share of busy samples with a reason that slows the GPU, and the share of each single reason."""
    masks = [int(sample.values["reasons"]) for sample in busy if "reasons" in sample.values]
    if not masks:
        return {}
    every = 0
    for mask in masks:
        every |= mask
    found: dict[str, Scalar] = {
        "busy_samples": len(masks),
        "throttled_share": _share(masks, SLOWING),
    }
    bits = [1 << place for place in range(every.bit_length()) if every >> place & 1]
    return found | {f"throttled_{names(bit)[0]}_share": _share(masks, bit) for bit in bits}


def share_with(bits: int, samples: Sequence[Sample]) -> float | None:
    """The share of samples with one of the throttle reasons `bits`; None if no sample has known reasons."""
    masks = [int(sample.values["reasons"]) for sample in samples if "reasons" in sample.values]
    return _share(masks, bits) if masks else None


def _share(masks: Sequence[int], bits: int) -> float:
    return sum(bool(mask & bits) for mask in masks) / len(masks)


def _link(samples: Sequence[Sample]) -> dict[str, Scalar]:
    """The fastest PCIe link seen, because an idle GPU slows the link. Each generation doubles the speed."""
    links = [
        (sample.values["pcie_generation"], sample.values["pcie_width"])
        for sample in samples
        if {"pcie_generation", "pcie_width"} <= sample.values.keys()
    ]
    if not links:
        return {}
    generation, width = max(links, key=lambda link: link[1] * 2.0 ** link[0])
    return {"pcie_generation": generation, "pcie_width": width}


def _others(samples: Sequence[Sample]) -> dict[str, Scalar]:
    """How many cores others (programs, the hypervisor) kept busy, on average from the first sample to the last."""
    known = [sample for sample in samples if "others_s" in sample.values]
    if len(known) < 2 or known[-1].at <= known[0].at:
        return {}
    used = known[-1].values["others_s"] - known[0].values["others_s"]
    return {"others_cores": max(0.0, used / (known[-1].at - known[0].at))}


def rounds_with(bits: int, rounds: Sequence[tuple[float, float]], samples: Sequence[Sample]) -> int | None:
    """The number of `rounds`, (start, end) [s], in which a sample had one of the throttle reasons `bits`.

    A round without a sample is judged by the nearest sample within NEAR_S. None if no sample has known reasons.
    """
    known = [(sample.at, int(sample.values["reasons"])) for sample in samples if "reasons" in sample.values]
    if not known:
        return None
    times = [at for at, _ in known]
    return sum(any(mask & bits for mask in _masks(start, end, times, known)) for start, end in rounds)


def _masks(start: float, end: float, times: Sequence[float], known: Sequence[tuple[float, int]]) -> list[int]:
    first, last = bisect.bisect_left(times, start), bisect.bisect_right(times, end)
    if first < last:
        return [mask for _, mask in known[first:last]]
    beside = [(max(start - at, at - end), mask) for at, mask in known[max(0, first - 1) : first + 1]]
    distance, mask = min(beside, key=lambda pair: pair[0])
    return [mask] if distance <= NEAR_S else []
