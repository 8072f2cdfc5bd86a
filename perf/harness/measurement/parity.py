"""In: a workload in a mode. Out: how far its losses are from those of the plain way.

A mode that computes something else is not a faster way to train."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from data import Batch, Pipeline
from model import train_epoch
from model.nesting import tensors
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.options import EAGER, FP32
from perf.harness.verdict.parity import (
    EPOCH,
    LOGITS,
    Limits,
    end,
    much,
    problem,
    relative_difference,
    relative_differences,
)
from perf.harness.workload.modes.mode import PLAIN
from perf.harness.workload.streams import seed_all
from perf.harness.workload.workload import Trainee, Workload

STEPS = 50
# If the steps take long, only as many are compared as fit into LONGEST_S [s], but at least LEAST_STEPS.
LONGEST_S, LEAST_STEPS = 30.0, 5
# The rounding unit of each precision; and how many trainings with weights changed by this unit are tried at most.
EPSILON = {"fp32": 2.0**-23, "tf32": 2.0**-11, "bf16": 2.0**-8, "fp16": 2.0**-11}
NUDGES, FEW_NUDGES = 8, 2
# The steps whose losses are compared between devices.
COMPARED = (1, 2, 5, 10, 20, STEPS)


@dataclass(frozen=True)
class Parity:
    """How far the losses of a mode are from eager's, over `steps` steps.

    `difference` is the largest relative difference of a loss from eager's in the same precision. `distance` is the
    relative difference between the mean of the last losses and that of eager in fp32. `rounding` is the largest
    relative difference that rounding alone makes in eager; None if the comparison did not need it.
    """

    steps: int
    difference: float
    distance: float
    rounding: float | None = None


def parity(work: Workload, clock: Callable[[], float]) -> Parity:
    """Train the same network from the same seed on the same mini-batches: in eager, and in the mode of `work`.

    Raises MeasurementError if the losses differ by more than the mode's rounding explains. The mode must be active.
    """
    mode = work.mode
    eagerly = replace(work, mode=replace(mode, execution=EAGER))
    eager = losses(eagerly, STEPS, clock)
    steps = len(eager)
    if broken := [step for step, loss in enumerate(eager, 1) if not math.isfinite(loss)]:
        raise MeasurementError(
            f"the loss of step {broken[0]} in {eagerly.mode} is not finite: no mode can be compared with it"
        )
    found = eager if mode.execution == EAGER else losses(work, steps)
    with PLAIN.active():
        plain = eager if mode.precision == FP32 else losses(replace(work, mode=PLAIN), steps)
    limits = Limits.of(mode.precision, steps)
    rounding = None
    wrong = problem(mode.precision, found, eager, plain, limits)
    for seed in range(NUDGES if all(map(math.isfinite, found)) else 0):
        if not wrong:
            break
        nudged = losses(eagerly, steps, nudge=seed)
        if all(map(math.isfinite, nudged)):
            limits = limits.carried(eager, nudged)
            rounding = max(rounding or 0.0, *relative_differences(nudged, eager))
            wrong = problem(mode.precision, found, eager, plain, limits)
    if wrong:
        raise MeasurementError(f"{mode} does not compute what {wrong}")
    return Parity(
        steps, max(relative_differences(found, eager)), relative_difference(end(found), end(plain), plain[0]), rounding
    )


def losses(
    work: Workload, most: int, clock: Callable[[], float] | None = None, nudge: int | None = None
) -> list[float]:
    """The losses of the first `most` steps of a fresh network; with a `clock`, of as many steps as fit into LONGEST_S.

    `nudge` is a seed. If given, each weight first changes at random: by one rounding unit up or down, or not at all.
    """
    trainee = work.trainee()
    if nudge is not None:
        _nudge(trainee.model, EPSILON[work.mode.precision], nudge)
    return _losses(trainee, work.batches(), most, clock)


def _losses(
    trainee: Trainee,
    batches: Sequence[Batch],
    most: int,
    clock: Callable[[], float] | None = None,
    longest_s: float = LONGEST_S,
    least: int = LEAST_STEPS,
) -> list[float]:
    trainee.model.train()
    begin = 0.0 if clock is None else clock()
    found: list[float] = []
    for batch in itertools.islice(itertools.cycle(batches), most):
        found.append(trainee.step(*batch).item())
        if clock is not None and len(found) >= least and clock() - begin > longest_s:
            break
    return found


@dataclass(frozen=True)
class FirstLosses:
    """The losses of a fresh network by the number of the step, and how far rounding alone moves them, as a share."""

    losses: Mapping[str, float]
    rounding: Mapping[str, float]


def first_losses(
    trainee: Trainee, batches: Sequence[Batch], clock: Callable[[], float], longest_s: float
) -> FirstLosses | None:
    """The losses of the first steps, with which those on another device are compared; `trainee` is restored.

    There are as many steps as fit into `longest_s` [s], up to STEPS. None if a loss is not finite, or if the training
    draws random numbers on its device: another device draws others.
    """
    trainee.restore()
    before = _random_state(trainee.device)
    found = _losses(trainee, batches, STEPS, clock, longest_s, least=1)
    draws = not torch.equal(before, _random_state(trainee.device))
    trainee.restore()
    if draws or not all(map(math.isfinite, found)):
        return None
    so_far = [0.0] * len(found)
    for seed in range(FEW_NUDGES if len(found) > 1 else 0):
        _nudge(trainee.model, EPSILON[FP32], seed)
        moved = relative_differences(_losses(trainee, batches, len(found)), found)
        so_far = list(map(max, so_far, itertools.accumulate(moved, max)))
        trainee.restore()
    steps = [step for step in COMPARED if step <= len(found)]
    return FirstLosses({str(step): found[step - 1] for step in steps}, {str(step): so_far[step - 1] for step in steps})


def _random_state(device: torch.device) -> Tensor:
    """The state of the generator from which an operation on `device` draws."""
    state: Tensor = torch.get_rng_state() if device.type == "cpu" else torch.get_device_module(device).get_rng_state()
    return state


@torch.no_grad()
def _fill(model: nn.Module) -> None:
    """Make parameters that are all zero small and random. Many networks have such a layer, which hides those before."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def _nudge(model: nn.Module, epsilon: float, seed: int) -> None:
    """Multiply each weight by 1, 1 + `epsilon` or 1 - `epsilon`, at random. Uses none of dropout's random numbers."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        signs = torch.randint(-1, 2, weight.shape, generator=generator)
        weight.mul_(1 + epsilon * signs.to(weight.device))


def epoch_apart(work: Workload, loss: Tensor, pipeline: Pipeline) -> float:
    """The relative difference of the mean `loss` of epoch 0 from that of the same epoch in eager execution.

    Raises MeasurementError if the difference is so large that the mini-batches or the steps must have been different.
    """
    plain = replace(work, mode=replace(work.mode, execution=EAGER)).trainee()
    plain.restore()  # both epochs begin with the same seed for dropout
    expected, found = train_epoch(plain.step, pipeline.epoch(0)).item(), loss.item()
    difference = relative_difference(found, expected)
    if not difference <= EPOCH:
        raise MeasurementError(
            f"{work.mode} does not train the epoch that eager does: its mean loss is {much(found, expected, EPOCH)}"
        )
    return difference


def logits_apart(work: Workload) -> float:
    """The largest difference of a logit in inference from that in eager fp32, as a share of the largest logit.

    Raises MeasurementError if it is more than the mode's rounding explains. The mode must be active.
    """
    batch = work.batches(1)[0]

    def logits(of: Workload) -> list[Tensor]:
        trainee = of.trainee()
        _fill(trainee.model)
        trainee.model.eval()
        seed_all(of.seed)
        return [tensor.float() for tensor in tensors(trainee.infer(*batch)) if tensor.is_floating_point()]

    found = logits(work)
    with PLAIN.active():
        plain = logits(replace(work, mode=PLAIN))
    if [one.shape for one in found] != [other.shape for other in plain]:
        raise MeasurementError(f"{work.mode} returns tensors of other shapes than eager fp32 does")
    pairs = [(one, other) for one, other in zip(found, plain, strict=True) if not one.equal(other)]
    shares = [float((one - other).abs().max() / other.abs().max()) for one, other in pairs]
    difference = math.nan if any(map(math.isnan, shares)) else max(shares, default=0.0)
    limit = LOGITS[work.mode.precision]
    if not difference <= limit:
        raise MeasurementError(
            f"{work.mode} does not compute what eager fp32 does: the largest difference of a logit is "
            f"{difference:.2g} of the largest, at most {limit:g} is rounding"
        )
    return difference
