"""In: the work and time of a training step, and the limits of its device. Out: its share of them, and what limits it.

Williams, Waterman and Patterson, Roofline, Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from perf.harness.record.check import Check, CheckVerdict
from perf.harness.record.values import Scalar
from perf.harness.verdict.limits import Limit

# A step that takes more than three times as long as its limits require spends most of its time on something else.
FAR = 3.0


class BoundBy(StrEnum):
    """What limits a step.

    LAUNCHES: starting the operations takes more than half of the time. CACHES: the step is faster than the memory
    allows, so some of its bytes stay in a cache. OVERHEAD: none of the other limits explains the time.
    """

    COMPUTE = "compute"
    MEMORY = "memory"
    CACHES = "caches"
    LAUNCHES = "launches"
    OVERHEAD = "overhead"


@dataclass(frozen=True)
class Work:
    """The work of one call: `ops` operations that read and write `bytes` bytes, and `flop` floating-point operations.

    `flop` is the count of `torch.utils.flop_counter`: matrix products, convolutions and attention, without elementwise
    operations and the optimizer. A multiply-add counts as two. `convolution_flop` is its part for convolutions.
    `uncounted` names parts of the call that the counter does not see (`LSTM`); `flop` and `bytes` are then too small.
    """

    flop: int
    convolution_flop: int
    bytes: int
    ops: int
    uncounted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Roofline:
    """How near a step comes to its limits. `share` is the shortest time that the limits allow ÷ the time taken.

    If the step has FLOP, `share` is also the achieved FLOP/s ÷ the possible FLOP/s.
    """

    flop_per_byte: float
    achieved_flop_per_s: float
    possible_flop_per_s: float
    share: float
    bound: BoundBy


def roofline(
    work: Work, seconds: float, peak_flop_per_s: float, bytes_per_s: float, launch_s: float | None = None
) -> Roofline:
    """Compare a step of `seconds` with a peak and a bandwidth; `launch_s` is the time to start one operation [s].

    Raises ValueError unless time, limits and bytes are above 0.
    """
    if min(seconds, peak_flop_per_s, bytes_per_s, work.bytes) <= 0:
        raise ValueError("a roofline needs a time, limits and bytes above 0")
    compute_s, memory_s = work.flop / peak_flop_per_s, work.bytes / bytes_per_s
    least_s, launches_s = max(compute_s, memory_s), work.ops * (launch_s or 0.0)
    intensity = work.flop / work.bytes
    return Roofline(
        intensity,
        work.flop / seconds,
        min(peak_flop_per_s, intensity * bytes_per_s),
        least_s / seconds,
        _bound(seconds, compute_s, memory_s, launches_s),
    )


def _bound(seconds: float, compute_s: float, memory_s: float, launches_s: float) -> BoundBy:
    least_s = max(compute_s, memory_s)
    if launches_s > max(seconds / 2, least_s):
        return BoundBy.LAUNCHES
    if seconds > FAR * least_s:
        return BoundBy.OVERHEAD
    if compute_s >= memory_s:
        return BoundBy.COMPUTE
    return BoundBy.CACHES if memory_s > seconds else BoundBy.MEMORY


def measured_limit(checks: Sequence[Check], device: str, name: str, physical: Limit | None) -> Limit | None:
    """The value that `checks` measured on `device` under `name` (`matmul fp32`); without it, the `physical` limit.

    A measurement without a bar counts. An INCONCLUSIVE measurement does not count, because the machine was busy or the
    measurement is wrong.
    """
    for check in checks:
        clear = check.verdict is not CheckVerdict.INCONCLUSIVE
        if (check.name, check.device) == (name, device) and check.value and clear:
            return Limit(check.value, f"{name} of this run", certain=False)
    return physical


# The details of a step that begin with this are the shares of its phases in its time.
PHASE = "phase_"


def step_details(
    work: Work, seconds: float, peak: Limit | None, memory: Limit | None, launch: Limit | None
) -> dict[str, Scalar]:
    """What the record keeps about a step, as a flat dictionary.

    A value is None if it needs a limit that is unknown, or if it needs the whole work and some work is uncounted.
    """
    whole = not work.uncounted
    known: dict[str, Scalar] = {
        "flop_per_step": work.flop if whole else None,
        "bytes_per_step": work.bytes if whole else None,
        "ops_per_step": work.ops,
        "uncounted": ", ".join(work.uncounted),
        "flop_per_byte": work.flop / work.bytes if work.bytes and whole else None,
        "achieved_flop_per_s": work.flop / seconds if whole else None,
        "peak_flop_per_s": peak.value if peak else None,
        "peak_source": peak.source if peak else None,
        "memory_bytes_per_s": memory.value if memory else None,
        "memory_source": memory.source if memory else None,
        "launch_s": launch.value if launch else None,
        "possible_flop_per_s": None,
        "share_of_possible": None,
        "bound_by": None,
    }
    if peak is None or memory is None or not work.bytes or not whole:
        return known
    found = roofline(work, seconds, peak.value, memory.value, launch.value if launch else None)
    return known | {
        "possible_flop_per_s": found.possible_flop_per_s,
        "share_of_possible": found.share,
        "bound_by": str(found.bound),
    }
