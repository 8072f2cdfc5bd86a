"""In: a workload in a mode. Out: how far its losses are from those of the plain way.

A mode that computes something else is no fast way to train."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from data import Pipeline
from model import train_epoch
from perf.harness.axes import CARRIED, EAGER, FP32, ROUNDING
from perf.harness.measure import MeasurementError
from perf.harness.modes.mode import PLAIN, Mode
from perf.harness.workload import Workload

STEPS = 50
# Of a network whose steps take long, fewer are compared; never fewer than these.
LONGEST_S, LEAST_STEPS = 30.0, 5
# The largest relative difference of the mean of the last losses from those in fp32; on CPUs it was 3% in bf16 at most,
# and 0.2% in fp16.
NEAR = {"fp32": 1e-5, "tf32": 2e-2, "bf16": 5e-2, "fp16": 2e-2}
LAST = 10
# What a precision rounds to; and how often it is tried what becomes of that.
EPSILON = {"fp32": 2.0**-23, "tf32": 2.0**-11, "bf16": 2.0**-8, "fp16": 2.0**-11}
NUDGES = 8
# The same of the mean loss of an epoch, over which rounding grows.
EPOCH = 2e-2
# The same of a logit, as a share of the largest.
LOGITS = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2}


@dataclass(frozen=True)
class Parity:
    """Over `steps` steps: the largest relative difference of a loss from eager's in the same precision, and that of the
    mean of the last ones from eager's in fp32. `rounding` is the largest difference that rounding alone makes in eager,
    None where nobody had to know."""

    steps: int
    difference: float
    distance: float
    rounding: float | None = None


def parity(work: Workload, clock: Callable[[], float]) -> Parity:
    """Train the same network from the same seed on the same batches: plainly, and in the mode of `work`.

    Raises MeasurementError where the losses differ by more than the mode's rounding explains. The mode must be active.
    """
    mode = work.mode
    eagerly = replace(work, mode=replace(mode, execution=EAGER))
    eager = losses(eagerly, STEPS, clock)
    steps = len(eager)
    if broken := [step for step, loss in enumerate(eager, 1) if not math.isfinite(loss)]:
        raise MeasurementError(f"the loss of step {broken[0]} in {eagerly.mode} is not finite: nothing equals it")
    found = eager if mode.execution == EAGER else losses(work, steps)
    with PLAIN.active():
        plain = eager if mode.precision == FP32 else losses(replace(work, mode=PLAIN), steps)
    limits = Limits([ROUNDING[mode.precision]] * steps, NEAR[mode.precision])
    rounding = None
    problem = _problem(mode, found, eager, plain, limits)
    for seed in range(NUDGES if all(map(math.isfinite, found)) else 0):
        if not problem:
            break
        nudged = losses(eagerly, steps, nudge=seed)
        if all(map(math.isfinite, nudged)):
            limits = limits.carried(eager, nudged)
            rounding = max(rounding or 0.0, *_differences(nudged, eager))
            problem = _problem(mode, found, eager, plain, limits)
    if problem:
        raise MeasurementError(f"{mode} does not compute what {problem}")
    return Parity(steps, max(_differences(found, eager)), apart(_end(found), _end(plain)), rounding)


@dataclass(frozen=True)
class Limits:
    """The most that rounding explains: of the loss of each step, and of the mean of the last losses."""

    steps: Sequence[float]
    end: float

    def carried(self, eager: Sequence[float], nudged: Sequence[float]) -> Limits:
        """Those of a training that multiplies rounding: what it has made of a nudge by then, and of that CARRIED
        times. What a wrong step does is there from its first update on, before rounding has grown."""
        so_far = itertools.accumulate(_differences(nudged, eager), max)
        steps = [max(least, CARRIED * made) for least, made in zip(self.steps, so_far, strict=True)]
        return Limits(steps, max(self.end, CARRIED * apart(_end(nudged), _end(eager))))


def _problem(mode: Mode, found: Sequence[float], eager: Sequence[float], plain: Sequence[float], limits: Limits) -> str:
    """What the losses `found` are too far from, or nothing."""
    for step, (loss, other, limit) in enumerate(zip(found, eager, limits.steps, strict=True), 1):
        if not apart(loss, other) <= limit:
            return f"eager {mode.precision} does: the loss of step {step} is {_much(loss, other, limit)}"
    if not apart(_end(found), _end(plain)) <= limits.end:
        what = f"the mean of the last losses of {len(found)} steps"
        return f"eager fp32 does: {what} is {_much(_end(found), _end(plain), limits.end)}"
    return ""


def _much(loss: float, other: float, limit: float) -> str:
    if not math.isfinite(loss):
        return f"not finite, but {other:.6g}"
    return f"{loss:.6g}, not {other:.6g}: {apart(loss, other):.3g} of it apart, at most {limit:.3g} is rounding"


def _end(found: Sequence[float]) -> float:
    return statistics.fmean(found[-LAST:])


def _differences(found: Sequence[float], other: Sequence[float]) -> list[float]:
    return [apart(one, two) for one, two in zip(found, other, strict=True)]


def losses(
    work: Workload, most: int, clock: Callable[[], float] | None = None, nudge: int | None = None
) -> list[float]:
    """The losses of the first steps of a fresh network; with a `clock`, of as many as fit into LONGEST_S.

    With `nudge`, a seed, its weights begin as far away as the precision rounds.
    """
    trainee = work.trainee()
    trainee.model.train()
    if nudge is not None:
        _nudge(trainee.model, EPSILON[work.mode.precision], nudge)
    begin = 0.0 if clock is None else clock()
    found: list[float] = []
    for batch in itertools.islice(itertools.cycle(work.batches()), most):
        found.append(trainee.step(*batch).item())
        if clock is not None and len(found) >= LEAST_STEPS and clock() - begin > LONGEST_S:
            break
    return found


@torch.no_grad()
def _nudge(model: nn.Module, epsilon: float, seed: int) -> None:
    """Multiply each weight by 1, or by 1 plus or minus `epsilon`; dropout's random numbers are left as they are."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        signs = torch.randint(-1, 2, weight.shape, generator=generator)
        weight.mul_(1 + epsilon * signs.to(weight.device))


def apart(value: float, other: float) -> float:
    """The difference as a share of `other`; NaN where one is not finite."""
    if not (math.isfinite(value) and math.isfinite(other)):
        return math.nan
    return abs(value - other) / max(abs(other), 1e-6)


def epoch_apart(work: Workload, loss: Tensor, pipeline: Pipeline) -> float:
    """The relative difference of the mean `loss` of epoch 0 from that of the same epoch in eager execution.

    Raises MeasurementError where it is another epoch: other batches, or other steps.
    """
    plain = replace(work, mode=replace(work.mode, execution=EAGER)).trainee()
    plain.restore()  # dropout begins with the seed on both sides
    expected, found = train_epoch(plain.step, pipeline.epoch(0)).item(), loss.item()
    difference = apart(found, expected)
    if not difference <= EPOCH:
        raise MeasurementError(
            f"{work.mode} does not train the epoch that eager does: its mean loss is {_much(found, expected, EPOCH)}"
        )
    return difference


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
