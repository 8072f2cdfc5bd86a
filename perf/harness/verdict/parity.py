"""In: the losses of a mode and of eager. Out: what the mode computes wrongly, or an empty text.

The speed of a mode that computes another training does not count.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from perf.harness.options import PRECISIONS

ROUNDING: Final = dict(zip(PRECISIONS, (5e-5, 1e-3, 1e-3, 1e-3), strict=True))
"""The largest relative difference between a step's loss in a mode and in eager, in the same precision, that rounding
explains: the order of additions differs, a fused operation rounds less often, and in a CUDA graph Adam corrects its
averages in float32, by 1.1e-5 on an H100. A training in bf16 differs from one in fp32 by 1e-4 and more, which larger
limits would not see."""
CARRIED: Final = 3.0
"""Some trainings multiply rounding: Adam, for one, divides a gradient that is nothing but rounding by its own size. We
change the weights by one rounding unit and allow this many times the deviation that causes."""
NEAR: Final = {"fp32": 5e-5, "tf32": 2e-2, "bf16": 5e-2, "fp16": 2e-2}
"""The largest relative difference between the mean of the last losses and that in eager fp32. Seen on CPUs: at most 3%
in bf16, and 0.2% in fp16."""
FALLEN: Final = 0.01
"""A loss is often a small difference of large numbers, and has their rounding: a cross-entropy of 0.0003 from logits of
8 is off by 0.02% after one rounding. So differences are shares of the loss, or of this much of the first loss if that
is more. A wrong step exceeds the limits before a loss has fallen that far."""
LAST = 10
DEVICES: Final = 1e-4
"""The same limit for a step's loss in eager fp32 on two devices, which add in different orders. Seen between a CPU and
an H100: 3e-8 before the first step, 1e-6 after an epoch."""
FIRST: Final = 0.1
"""The same limit for the first loss, which dropout moves: each device draws other numbers. Of 64 samples, by a few
percent."""
ACCURACY: Final = 0.05
"""How far apart the accuracies of one training on two devices may be: rounding grows over the epochs, and of 1,000 test
images, one in a hundred more or less is chance."""
EPOCH = 2e-2
"""The same limit for the mean loss of an epoch, over which rounding grows."""
LOGITS: Final = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2}
"""The largest difference of a logit from eager fp32, as a share of the largest logit."""


@dataclass(frozen=True)
class Limits:
    """The largest differences that rounding explains: in the loss of each step, and in the mean of the last losses."""

    steps: Sequence[float]
    end: float

    @classmethod
    def of(cls, precision: str, steps: int) -> Limits:
        return cls([ROUNDING[precision]] * steps, NEAR[precision])

    def carried(self, eager: Sequence[float], nudged: Sequence[float]) -> Limits:
        """The limits for a training that multiplies rounding: CARRIED times the deviation of `nudged`, if that is more.

        `nudged` are the losses of `eager` after a change of the weights by one rounding unit. At each step, the largest
        deviation so far counts. A wrong step still exceeds the limits, because it differs from its first update on,
        before rounding has grown.
        """
        so_far = itertools.accumulate(relative_differences(nudged, eager), max)
        steps = [max(least, CARRIED * made) for least, made in zip(self.steps, so_far, strict=True)]
        return Limits(steps, max(self.end, CARRIED * relative_difference(end(nudged), end(eager), eager[0])))


def problem(
    precision: str, found: Sequence[float], eager: Sequence[float], plain: Sequence[float], limits: Limits
) -> str:
    """What the losses `found` of a mode differ from by too much, and how much; empty if nothing.

    `eager` are the losses of eager in the same precision, `plain` those of eager in fp32.
    """
    for step, (loss, other, limit) in enumerate(zip(found, eager, limits.steps, strict=True), 1):
        if not relative_difference(loss, other, eager[0]) <= limit:
            return f"eager {precision} does: the loss of step {step} is {much(loss, other, limit, eager[0])}"
    if not relative_difference(end(found), end(plain), plain[0]) <= limits.end:
        what = f"the mean of the last losses of {len(found)} steps"
        return f"eager fp32 does: {what} is {much(end(found), end(plain), limits.end, plain[0])}"
    return ""


@dataclass(frozen=True)
class Differs:
    """`what` differs between two devices by more than rounding explains, and by how `much`, in words."""

    what: str
    much: str


def differs(
    losses: Mapping[str, float], others: Mapping[str, float], roundings: Sequence[Mapping[str, float]]
) -> Differs | None:
    """Where the losses of two devices, by the number of the step, differ by more than rounding explains.

    `roundings` are how far rounding alone moves the losses, on each device. None if no common step differs.
    """
    common = sorted(set(losses) & set(others), key=int)
    for step in common:
        limit, first = max(DEVICES, *(CARRIED * moved.get(step, 0.0) for moved in roundings)), others[common[0]]
        if not relative_difference(losses[step], others[step], first) <= limit:
            return Differs(f"the loss of step {step}", much(losses[step], others[step], limit, first))
    return None


def differs_at_the_ends(
    first: float | None, other_first: float | None, accuracy: float | None, other_accuracy: float | None
) -> Differs | None:
    """Whether the first losses of a training on two devices, or their accuracies in the end, are far apart.

    Unknown values are None, and differ from nothing.
    """
    if first is not None and other_first is not None and not relative_difference(first, other_first) <= FIRST:
        return Differs("the first loss", much(first, other_first, FIRST))
    if accuracy is not None and other_accuracy is not None and not abs(accuracy - other_accuracy) <= ACCURACY:
        return Differs("the accuracy", f"{accuracy:.1%}, not {other_accuracy:.1%}")
    return None


def same_training(precision: str, difference: float, rounding: float) -> bool:
    """Whether rounding explains the largest `difference` between the losses of a mode and of eager.

    `rounding` is the largest difference that a change of the weights by one rounding unit made; 0 if it was not tried.
    """
    limit = ROUNDING.get(precision, max(ROUNDING.values()))
    return abs(difference) <= max(limit, CARRIED * rounding)


def much(loss: float, other: float, limit: float, first: float = 0.0) -> str:
    """How far `loss` is from `other`, in words; `first` is the first loss of the other training."""
    if not math.isfinite(loss):
        return f"not finite, but {other:.6g}"
    of = "it" if abs(other) >= FALLEN * abs(first) else f"{FALLEN:.0%} of the first loss"
    apart = f"{relative_difference(loss, other, first):.3g} of {of} apart"
    return f"{loss:.6g}, not {other:.6g}: {apart}, at most {limit:.3g} is rounding"


def end(found: Sequence[float]) -> float:
    """The mean of the last LAST losses."""
    return statistics.fmean(found[-LAST:])


def relative_differences(found: Sequence[float], other: Sequence[float]) -> list[float]:
    """The relative difference (`apart`) of each pair of losses of two trainings."""
    return [relative_difference(one, two, other[0]) for one, two in zip(found, other, strict=True)]


def relative_difference(value: float, other: float, first: float = 0.0) -> float:
    """The difference as a share of `other`, or of FALLEN of the `first` loss; NaN if one of the two is not finite."""
    if not (math.isfinite(value) and math.isfinite(other)):
        return math.nan
    return abs(value - other) / max(abs(other), FALLEN * abs(first), 1e-6)
