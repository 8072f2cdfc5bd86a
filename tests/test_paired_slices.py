"""What a step of each benchmark is when it is measured in visits, and the slowdowns that a self-test plants in it."""

import contextlib
import math
import time

import pytest
import torch

from data import ResidentPipeline
from model import TrainingStep
from perf.harness.measurement import learned
from perf.harness.measurement.side_by_side import inject
from perf.harness.measurement.side_by_side.inject import Extra, places
from perf.harness.measurement.side_by_side.slices import sliced
from perf.harness.options import resolve
from perf.harness.verdict.trials import SLOWDOWNS
from perf.harness.workload.benchmarks import DEFINITIONS
from perf.harness.workload.modes import execution
from perf.harness.workload.plan import Plan
from perf.harness.workload.workload import Trainee

KINDS = [definition.name for definition in DEFINITIONS if not definition.not_gated]


@pytest.fixture(scope="module")
def work(digits_root):
    """A workload of two full batches in an epoch."""
    typed = {"data": "digits", "profile": "smoke", "device": "cpu", "batch-size": "3200"}
    plan = Plan.of(resolve(typed, {}, "", digits_root)).prepared()
    return plan.workload("cpu", 3200, "resident")


@pytest.fixture
def built():
    """Builds sliced benchmarks that are closed in the end."""
    made = []

    def build_one(*arguments):
        made.append(sliced(*arguments))
        return made[-1]

    yield build_one
    for one in made:
        one.close()


class Count:
    def __init__(self):
        self.calls = 0

    def __call__(self, *arguments):
        self.calls += 1


@pytest.fixture
def calls(monkeypatch):
    """How often the network was trained by a step, and asked."""
    found = {"step": 0, "infer": 0}
    step, infer = TrainingStep.__call__, Trainee.infer

    def counted_step(self, *batch):
        found["step"] += 1
        return step(self, *batch)

    def counted_infer(self, *batch):
        found["infer"] += 1
        return infer(self, *batch)

    monkeypatch.setattr(TrainingStep, "__call__", counted_step)
    monkeypatch.setattr(Trainee, "infer", counted_infer)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_visit_runs_that_many_steps_and_marks_before_the_first_and_after_each(kind, work, built, calls):
    one = built(kind, work)
    marks = Count()
    one.steps(3, marks)
    one.steps(2, marks)
    assert marks.calls == (3 + 1) + (2 + 1)
    expected = {"training_step": (5, 0), "epoch": (5, 0), "inference": (0, 5), "input_pipeline": (0, 0)}[kind]
    assert (calls["step"], calls["infer"]) == expected


@pytest.mark.parametrize("kind", ["training_step", "epoch"])
def test_the_marks_lie_between_the_steps(kind, work, built, monkeypatch):
    events = []
    step = TrainingStep.__call__
    monkeypatch.setattr(TrainingStep, "__call__", lambda self, *batch: (events.append("step"), step(self, *batch))[1])
    built(kind, work).steps(3, lambda: events.append("mark"))
    assert events == ["mark"] + ["step", "mark"] * 3


def test_an_input_pipeline_loads_a_batch_in_each_step(work, built, monkeypatch):
    loaded = []
    epoch = ResidentPipeline.epoch

    def seen(self, number):
        for batch in epoch(self, number):
            loaded.append((number, len(batch[1])))
            yield batch

    monkeypatch.setattr(ResidentPipeline, "epoch", seen)
    built("input_pipeline", work).steps(5, lambda: None)
    assert loaded == [(0, 3200), (0, 3200), (1, 3200), (1, 3200), (2, 3200)]  # two batches are an epoch: it goes on


def test_an_epoch_is_the_projects_own_and_goes_on_over_epochs(work, built, monkeypatch):
    pieces = []
    train_epoch = execution.train_epoch

    def seen(step, batches):
        batches = list(batches)
        pieces.append([images.sum().item() for images, _ in batches])
        return train_epoch(step, batches)

    monkeypatch.setattr(execution, "train_epoch", seen)
    one = built("epoch", work)
    for count in (2, 3):
        one.steps(count, lambda: None)
    assert [len(piece) for piece in pieces] == [2, 3]
    assert len({value for piece in pieces for value in piece}) == 5  # shuffled anew in each epoch of two batches


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_planted_is_called_once_in_a_step(kind, work, built):
    in_step, in_input = Count(), Count()
    one = built(kind, work, in_step, in_input)
    before = (in_step.calls, in_input.calls)
    one.steps(4, lambda: None)
    expected = {"training_step": (4, 0), "inference": (4, 0), "epoch": (4, 4), "input_pipeline": (0, 4)}[kind]
    assert (in_step.calls - before[0], in_input.calls - before[1]) == expected


@pytest.mark.parametrize("kind", ["training_step", "epoch"])
def test_training_that_works_has_no_problem(kind, work, built):
    one = built(kind, work)
    one.steps(10, lambda: None)
    assert one.problem(10) == ""


@pytest.mark.parametrize("kind", ["training_step", "epoch"])
def test_a_loss_that_does_not_fall_is_a_problem(kind, work, built, monkeypatch):
    one = built(kind, work)
    monkeypatch.setattr(TrainingStep, "update", lambda self: None)
    monkeypatch.setattr(learned, "FURTHER_STEPS", 16)
    one.steps(10, lambda: None)
    assert one.problem(10).startswith("the loss does not fall: 2.")
    assert one.problem(2).startswith("the loss does not fall: 2.")  # so few do not tell: it makes more


@pytest.mark.parametrize("kind", ["training_step", "epoch"])
def test_a_loss_that_is_not_finite_is_a_problem(kind, work, built):
    one = built(kind, work)
    with torch.no_grad():
        next(one.trainee.model.parameters()).fill_(math.nan)
    assert one.problem(1).startswith("the loss is not finite: 2.")


def test_an_output_that_is_not_finite_is_a_problem(work, built):
    one = built("inference", work)
    assert one.problem(1) == ""
    with torch.no_grad():
        next(one.trainee.model.parameters()).fill_(math.nan)
    assert one.problem(1) == "the network's output is not finite"


def test_each_benchmark_has_the_mode_of_its_network(work, built):
    assert built("training_step", work).trainee.model.training
    assert not built("inference", work).trainee.model.training


def test_a_closed_subject_gives_back_its_pipeline(work, monkeypatch):
    events = []
    original = type(work).full_batches

    @contextlib.contextmanager
    def full_batches(self, at_once=1):
        with original(self, at_once) as pipeline:
            events.append("open")
            yield pipeline
        events.append("closed")

    monkeypatch.setattr(type(work), "full_batches", full_batches)
    for kind in ("epoch", "input_pipeline"):
        one = sliced(kind, work)
        one.steps(1, lambda: None)
        assert events == ["open"]
        one.close()
        assert events == ["open", "closed"]
        events.clear()


class Lab:
    """A clock that an extra's work moves: a fixed cost of a call, and a cost for each unit."""

    def __init__(self, kind, share, fixed_s, per_unit_s):
        self.now = 0.0
        self.fixed_s, self.per_unit_s = fixed_s, per_unit_s
        self.extra = Extra(kind, share, clock=lambda: self.now)
        self.extra._do = self.work
        self.visits = 0

    def work(self, amount):
        self.now += self.fixed_s + self.per_unit_s * amount

    def times(self, count):
        """Steps of 1 ms, longer by what the extra does; every third visit is disturbed."""
        self.visits += 1
        noise = 1.5 if self.visits % 3 == 0 else 1.0
        walls = []
        for _ in range(count):
            start = self.now
            self.extra()
            self.now += noise * 1e-3
            walls.append(self.now - start)
        return tuple(walls[1:])


@pytest.mark.parametrize("fixed_s", [0.0, 5e-6])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.5])
@pytest.mark.parametrize(("kind", "per_unit_s"), [("compute", 3e-8), ("sleep", 1.0), ("allocation", 2e-7)])
def test_calibration_finds_the_amount_that_takes_the_share(kind, per_unit_s, share, fixed_s):
    lab = Lab(kind, share, fixed_s, per_unit_s)
    lab.extra.calibrate(lab.times, 1e-3)
    assert fixed_s + per_unit_s * lab.extra.amount == pytest.approx(share * 1e-3)


def test_less_than_a_call_costs_cannot_be_planted():
    lab = Lab("sleep", 0.01, 50e-6, 1.0)
    lab.extra.calibrate(lab.times, 1e-3)
    assert lab.extra.amount == 0.0


def test_the_typical_time_of_a_call_is_of_those_that_are_not_forgotten():
    lab = Lab("compute", 0.05, 0.0, 3e-8)
    assert lab.extra.typical_s is None
    lab.extra.calibrate(lab.times, 1e-3)
    lab.extra.forget()
    assert lab.extra.typical_s is None
    lab.per_unit_s *= 2
    lab.times(4)
    assert lab.extra.typical_s == pytest.approx(0.1 * 1e-3)


def test_nothing_is_planted_before_calibration(monkeypatch):
    extra = Extra("sleep", 0.05)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("slept"))
    extra()


@pytest.mark.parametrize("kind", SLOWDOWNS)
def test_each_kind_of_slowdown_does_something(kind, monkeypatch):
    extra = Extra(kind, 0.05)
    extra.amount = 0.001 if kind == "sleep" else 50.0
    done = []
    if kind == "sleep":
        monkeypatch.setattr(time, "sleep", done.append)
    elif kind == "allocation":
        monkeypatch.setattr(inject, "bytearray", done.append, raising=False)
    else:
        monkeypatch.setattr(inject, "range", lambda count: (done.append(count), range(count))[1], raising=False)
    extra()
    assert done == {"sleep": [0.001], "allocation": [50 * inject.BLOCK_BYTES]}.get(kind, [50])


def test_an_unknown_slowdown_is_refused():
    with pytest.raises(ValueError, match="'heat' is none of compute, sleep, allocation, input"):
        Extra("heat", 0.05)


def test_a_slowdown_is_planted_in_the_step_or_in_the_input():
    compute, slow_input = Extra("compute", 0.05), Extra("input", 0.05)
    assert places(None) == (None, None)
    assert places(compute) == (compute, None)
    assert places(slow_input) == (None, slow_input)
