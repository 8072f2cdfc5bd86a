"""In: a trained network, or the losses of a training. Out: how good the network is, and whether it learned at all."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Sequence
from typing import Any

from data import Batch
from model import RecipeError, TaskStep, UsersStep, evaluate
from model.task_step import METRIC_BATCHES, metrics, whole
from perf.harness.machine.load import Clock
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.workload.workload import Trainee, Workload

# After fewer steps than this, the loss need not have fallen.
FALLING_STEPS = 8
# A loss that falls by less than this share of it has only been rounded (float32).
ROUNDING = 1e-7
# Over few steps, a loss may rise by chance. Before we believe it, we train further: to so many steps, or so long [s].
FURTHER_STEPS, FURTHER_S = 256, 10.0


def quality(work: Workload, trainee: Trainee) -> dict[str, Any]:
    """How good the trained network is: its accuracy on the test images, or the metrics of a task on its data.

    Raises MeasurementError if the task's `metrics(batches)` fail.
    """
    step = trainee.fresh
    if isinstance(step, TaskStep) and step.task.member("metrics") is not None:
        try:
            found = metrics(step, map(whole, work.batches(METRIC_BATCHES)))
        except RecipeError as error:
            raise MeasurementError(str(error)) from error
        known = {name: value for name, value in found.items() if math.isfinite(value)}
        for name in found.keys() - known.keys():
            said = f"{step.task.name}: `metrics(batches)` gives {found[name]} for {name!r}, which no record can keep"
            warnings.warn(said, stacklevel=1)
        return {"metrics": known}
    network = step.task.network if isinstance(step, TaskStep) else trainee.model
    if network is None or work.recipe.brings_data:
        return {}
    with work.open(work.data.test) as test:
        return {"accuracy": evaluate(network, test.epoch())}


def loss_and_problem(
    trainee: Trainee, batches: Sequence[Batch], first: float, last: float, steps: int, clock: Clock = time.monotonic
) -> tuple[float, str]:
    """The loss at last, and why it shows that the training is wrong; empty if it does not.

    `first` and `last` are the losses before and after `steps` steps. Where the loss has not fallen, the training first
    goes on with `batches`, until their loss is below `first`; without `batches`, it need not have fallen.

    The losses of a step that the user has written as a whole need not fall, as two networks may work against each
    other, and it may have no loss at all. The contract check has seen that such a step changes the weights.
    """
    if not trainee.fresh.has_loss and not math.isfinite(first):
        return last, ""
    must_fall, lower = bool(batches) and not isinstance(trainee.fresh, UsersStep), first - ROUNDING * abs(first)
    if must_fall:
        last, steps = _further(trainee, batches, lower, last, steps, clock)
    if not (math.isfinite(first) and math.isfinite(last)):
        return last, f"the loss is not finite: {first:.4g} at first, {last:.4g} at last"
    if not must_fall or last < lower or steps < FALLING_STEPS:
        return last, ""
    return last, (
        f"the loss does not fall: {first:.6g} at first, {last:.6g} after {steps} steps; the step does not train "
        "the network, its learning rate is too high or too low, or its data has nothing to learn"
    )


def _further(
    trainee: Trainee, batches: Sequence[Batch], lower: float, last: float, steps: int, clock: Clock
) -> tuple[float, int]:
    """Train until the loss of `batches` is below `lower`, but not for ever. Returns the loss and the steps in all."""
    turn, begin = itertools.cycle(batches), clock()
    while not last < lower and math.isfinite(lower + last) and steps < FURTHER_STEPS and clock() - begin < FURTHER_S:
        for batch in itertools.islice(turn, FALLING_STEPS):
            trainee.step(*batch)
            steps += 1
            if clock() - begin >= FURTHER_S:
                break
        last = trainee.mean_loss(batches)
    return last, steps
