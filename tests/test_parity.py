"""A mode, or a device, that trains otherwise is caught; rounding is not."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from model import Recipe, TrainingStep
from perf.harness.machine.devices import Device
from perf.harness.measurement import parity
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.verdict.parity import CARRIED, LOGITS, ROUNDING
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.modes.precision import AutocastStep
from perf.harness.workload.workload import Workload
from tests.small_training import DATA, adam, lasting, network, ticks, workload


class Skipping(TrainingStep):
    """Forgets to update."""

    def update(self):
        pass


class TwiceTheGradient(TrainingStep):
    """Scales the loss and does not scale it back."""

    def backward(self, loss):
        super().backward(2 * loss)


class ForgetsToZero(TrainingStep):
    """Adds up gradients."""

    def __call__(self, images, labels):
        loss = self.forward(images, labels)
        self.backward(loss)
        self.update()
        return loss.detach()


@pytest.mark.parametrize("wrong", [Skipping, TwiceTheGradient, ForgetsToZero])
def test_a_wrong_step_is_caught(monkeypatch, wrong):
    def executed(step, kind):
        return step if kind == "eager" else wrong(step.model, step.optimizer, step.loss)

    monkeypatch.setattr("perf.harness.workload.workload.executed", executed)
    with pytest.raises(
        MeasurementError, match=r"^compile fp32 does not compute what eager fp32 does: the loss of step [23] "
    ):
        parity.parity(workload(Mode("compile")), ticks)


class OtherOrder(TrainingStep):
    """The same step, its samples added up in another order: nothing but rounding differs."""

    def __call__(self, images, labels):
        return super().__call__(images.flip(0), labels.flip(0))


def sensitive():
    """A network whose training multiplies rounding: pixels that are alike in a whole batch, as most are here, have no
    gradient before a batch normalization but rounding, which Adam makes as large as any other."""
    few = nn.Threshold(0.8, -1.0)
    return nn.Sequential(nn.Flatten(), few, nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))


def multiplying(monkeypatch, step):
    """The parity of `step` in such a training."""
    monkeypatch.setattr(
        "perf.harness.workload.workload.executed",
        lambda plain, kind: plain if kind == "eager" else step(plain.model, plain.optimizer, plain.loss),
    )
    recipe = Recipe("sensitive", sensitive, optimizer=adam)
    return parity.parity(Workload(recipe, DATA, Device("cpu"), 32, None, 0, Mode("compile")), ticks)


def test_a_training_that_multiplies_rounding_is_held_against_what_it_makes_of_it(monkeypatch):
    found = multiplying(monkeypatch, OtherOrder)
    assert found.rounding is not None
    assert ROUNDING["fp32"] < found.difference <= CARRIED * found.rounding


class InLowerPrecision(TrainingStep):
    """Computes in bfloat16 what it says to compute in float32."""

    def forward(self, images, labels):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(images, labels)


def test_a_step_in_a_lower_precision_than_it_says_is_caught(monkeypatch):
    monkeypatch.setattr(
        "perf.harness.workload.workload.executed",
        lambda step, kind: step if kind == "eager" else InLowerPrecision(step.model, step.optimizer, step.loss),
    )
    with pytest.raises(
        MeasurementError, match=r"^compile fp32 does not compute what eager fp32 does: the loss of step"
    ):
        parity.parity(workload(Mode("compile")), ticks)


@pytest.mark.parametrize("wrong", [Skipping, ForgetsToZero])
def test_a_wrong_step_is_caught_in_a_training_that_multiplies_rounding(monkeypatch, wrong):
    with pytest.raises(
        MeasurementError, match=r"the loss of step [2-9] is [\d.]+, not [\d.]+: .* of it apart, at most"
    ):
        multiplying(monkeypatch, wrong)


def test_rounding_is_looked_at_only_where_somebody_has_to_know():
    assert parity.parity(workload(Mode("eager", "bf16")), ticks).rounding is None


def test_a_precision_that_learns_otherwise_is_caught(monkeypatch):
    class Unscaled(AutocastStep):
        def backward(self, loss):
            super().backward(100 * loss)

    monkeypatch.setattr("perf.harness.workload.modes.precision.AutocastStep", Unscaled)
    with pytest.raises(
        MeasurementError, match="eager bf16 does not compute what eager fp32 does: the mean of the last"
    ):
        parity.parity(workload(Mode("eager", "bf16")), ticks)


def test_a_loss_that_is_not_finite_is_no_parity(monkeypatch):
    class Broken(TrainingStep):
        def __call__(self, images, labels):
            return super().__call__(images, labels) * float("nan")

    monkeypatch.setattr(
        "perf.harness.workload.workload.executed",
        lambda step, kind: step if kind == "eager" else Broken(step.model, step.optimizer, step.loss),
    )
    with pytest.raises(MeasurementError, match=r"the loss of step 1 is not finite, but 2\.\d+$"):
        parity.parity(workload(Mode("compile")), ticks)


def test_a_training_that_diverges_by_itself_is_not_the_modes_fault():
    def far_too_fast(parameters):
        return torch.optim.SGD(parameters, lr=1e30)

    with pytest.raises(
        MeasurementError, match=r"^the loss of step \d+ in eager fp32 is not finite: no mode can be compared with it$"
    ):
        parity.parity(workload(Mode("compile"), optimizer=far_too_fast), ticks)


def test_of_long_steps_fewer_are_compared():
    assert parity.parity(workload(Mode("eager", "bf16")), lasting()).steps == parity.LEAST_STEPS


def test_the_distance_of_the_last_losses_near_zero_is_a_share_of_the_first(monkeypatch):
    def losses(work, *_, **__):
        return [200.0, *[0.505 if work.mode.precision == "bf16" else 0.5] * 10]

    monkeypatch.setattr(parity, "losses", losses)
    found = parity.parity(workload(Mode("eager", "bf16")), ticks)
    assert (found.difference, found.distance) == (0, pytest.approx(0.005 / 2))


# The first losses, which another device must have, too


def first_losses(work, clock=ticks, longest_s=1.0):
    trainee = work.trainee()
    before = {name: value.clone() for name, value in trainee.model.state_dict().items()}
    found = parity.first_losses(trainee, work.batches(), clock, longest_s)
    assert all(value.equal(before[name]) for name, value in trainee.model.state_dict().items())
    return found


def test_the_first_losses_are_those_of_a_fresh_network():
    found = first_losses(workload())
    expected = parity.losses(workload(), parity.STEPS)
    assert found.losses == {str(step): expected[step - 1] for step in parity.COMPARED}
    assert found.rounding.keys() == found.losses.keys()
    assert 0 < found.rounding["50"] < 1e-5
    assert list(found.rounding.values()) == sorted(found.rounding.values())


def test_a_training_that_multiplies_rounding_says_how_much():
    work = Workload(Recipe("sensitive", sensitive, optimizer=adam), DATA, Device("cpu"), 32, None, 0)
    assert first_losses(work).rounding["50"] > ROUNDING["fp32"]


def test_of_long_steps_the_first_loss_is_enough():
    found = first_losses(workload(), lasting())
    assert (list(found.losses), found.rounding) == (["1"], {"1": 0.0})


def test_losses_that_the_random_numbers_of_a_device_decide_are_not_kept():
    def dropping():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(784, 10))

    assert first_losses(Workload(Recipe("dropping", dropping), DATA, Device("cpu"), 32, None, 0)) is None
    assert first_losses(workload(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e30))) is None


def zero_at_first():
    """As torchvision's vision transformers: all logits of a fresh network are 0."""
    last = nn.Linear(784, 10)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Flatten(), last)


@pytest.mark.parametrize("build", [network, zero_at_first])
def test_wrong_logits_are_caught(monkeypatch, build):
    work = replace(workload(Mode("eager", "bf16")), recipe=Recipe("tiny", build))
    assert 0 < parity.logits_apart(work) < LOGITS["bf16"]

    def larger(call, kind):
        return call if kind == "eager" else lambda images: 1.5 * call(images)

    monkeypatch.setattr("perf.harness.workload.workload.function_executed", larger)
    with pytest.raises(MeasurementError, match=r"the largest difference of a logit is 0\.5 of the largest"):
        parity.logits_apart(replace(work, mode=Mode("compile")))


def test_one_output_that_is_no_number_is_caught_among_others(monkeypatch):
    class Twice(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.flatten(1))
            return logits, logits

    def broken(call, kind):
        return call if kind == "eager" else lambda images: (1.01 * call(images)[0], math.nan * call(images)[1])

    monkeypatch.setattr("perf.harness.workload.workload.function_executed", broken)
    work = replace(workload(Mode("compile", "bf16")), recipe=Recipe("tiny", lambda: Twice(784, 10)))
    with pytest.raises(MeasurementError, match="the largest difference of a logit is nan of the largest"):
        parity.logits_apart(work)
