"""In: a workload in a mode. Out: how far its losses are from those of the plain way.

A mode that computes something else is no fast way to train."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from perf.harness.axes import EAGER, FP32, ROUNDING
from perf.harness.measure import MeasurementError
from perf.harness.modes.mode import PLAIN
from perf.harness.workload import Trainee, Workload

STEPS = 50
# Of a network whose steps take long, fewer are compared; never fewer than these.
LONGEST_S, LEAST_STEPS = 30.0, 5
# The largest relative difference of the mean of the last losses from those in fp32; on CPUs it was 3% in bf16 at most,
# and 0.2% in fp16.
NEAR = {"fp32": 1e-3, "tf32": 2e-2, "bf16": 5e-2, "fp16": 2e-2}
LAST = 10
# The same of a logit, as a share of the largest.
LOGITS = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2}


@dataclass(frozen=True)
class Parity:
    """Over `steps` steps: the largest relative difference of a loss from eager's in the same precision, and that of the
    mean of the last ones from eager's in fp32."""

    steps: int
    difference: float
    distance: float


def parity(work: Workload, clock: Callable[[], float]) -> Parity:
    """Train the same network from the same seed on the same batches: plainly, and in the mode of `work`.

    Raises MeasurementError where the losses differ by more than the mode's rounding explains. The mode must be active.
    """
    mode = work.mode
    eager = losses(replace(work, mode=replace(mode, execution=EAGER)), STEPS, clock)
    steps = len(eager)
    found = eager if mode.execution == EAGER else losses(work, steps)
    with PLAIN.active():
        plain = eager if mode.precision == FP32 else losses(replace(work, mode=PLAIN), steps)
    difference = max(apart(one, other) for one, other in zip(found, eager, strict=True))
    distance = apart(statistics.fmean(found[-LAST:]), statistics.fmean(plain[-LAST:]))
    for value, limit, what in (
        (difference, ROUNDING[mode.precision], f"eager {mode.precision}: the largest difference of a loss in"),
        (distance, NEAR[mode.precision], "eager fp32: the mean of the last losses of"),
    ):
        if not value <= limit:
            raise MeasurementError(
                f"{mode} does not compute what {what} {steps} steps is {value:.2g}, at most {limit:g} is rounding"
            )
    return Parity(steps, difference, distance)


def losses(work: Workload, most: int, clock: Callable[[], float] | None = None) -> list[float]:
    """The losses of the first steps of a fresh network; with a `clock`, of as many as fit into LONGEST_S."""
    trainee = work.trainee()
    trainee.model.train()
    return _run(trainee, work.batches(), most, clock)


def _run(trainee: Trainee, batches: Sequence[object], most: int, clock: Callable[[], float] | None) -> list[float]:
    begin = 0.0 if clock is None else clock()
    found: list[float] = []
    for batch in itertools.islice(itertools.cycle(batches), most):
        found.append(trainee.step(*batch).item())  # type: ignore[misc]
        if clock is not None and len(found) >= LEAST_STEPS and clock() - begin > LONGEST_S:
            break
    return found


def apart(value: float, other: float) -> float:
    """The difference as a share of `other`; NaN where one is not finite."""
    if not (math.isfinite(value) and math.isfinite(other)):
        return math.nan
    return abs(value - other) / max(abs(other), 1e-6)


def logits_apart(work: Workload) -> float:
    """The largest difference of a logit in inference from that in eager fp32, as a share of the largest logit.

    Raises MeasurementError where it is more than the mode's rounding explains. The mode must be active.
    """
    batch = work.batches(1)[0]

    def logits(of: Workload) -> Tensor:
        trainee = of.trainee()
        trainee.model.eval()
        return trainee.infer(*batch).float()

    found = logits(work)
    with PLAIN.active():
        plain = logits(replace(work, mode=PLAIN))
    difference = float((found - plain).abs().max() / plain.abs().max())
    limit = LOGITS[work.mode.precision]
    if not difference <= limit:
        raise MeasurementError(
            f"{work.mode} does not compute what eager fp32 does: the largest difference of a logit is "
            f"{difference:.2g} of the largest, at most {limit:g} is rounding"
        )
    return difference
