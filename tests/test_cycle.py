"""A training that does not do the same in each step is timed in whole cycles, so that no kind of step is left out."""

import pytest

from perf.harness.measurement.side_by_side.pair import _per_step
from perf.harness.measurement.side_by_side.replies import Visited
from perf.harness.measurement.side_by_side.slices import sliced
from perf.harness.measurement.side_by_side.visit import host_visit
from perf.harness.options import resolve
from perf.harness.workload.cycle import MOST, cycle, period
from perf.harness.workload.plan import Plan
from tests.conftest import STEP, read
from tests.fake_device import STANDARD, AsyncDevice, measurement

pytest_plugins = "pytester"
TRAINING = """
import torch
from torch import nn

class Made(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 1)
        self.one, self.other = (torch.optim.SGD(self.net.parameters(), 0.01) for _ in range(2))
        self.number = 0
    def batch(self, size): return torch.randn(size, 4)
    def step(self, batch):
        self.number += 1
        loss = self.net(batch).square().mean()
        loss.backward()
        {updates}
        return loss
"""
ACCUMULATES = "if self.number % 4 == 0: self.one.step(), self.one.zero_grad()"


@pytest.fixture
def work(tmp_path):
    """The workload of a training with these updates."""

    def made(updates):
        (tmp_path / "mine.py").write_text(TRAINING.format(updates=updates))
        typed = {"model": f"{tmp_path / 'mine.py'}:Made", "profile": "smoke", "device": "cpu", "batch-size": "4"}
        return Plan.of(resolve(typed, {}, "", tmp_path)).prepared().workload("cpu", 4, "resident")

    return made


@pytest.mark.parametrize(
    ("seen", "length"),
    [
        ([1] * 8, 1),
        ([0, 0, 0, 1] * 8, 4),
        ([1, 1, 1, 1, 2] * 6, 5),
        ([0] * 15 + [1] + [0] * 15 + [1], 16),
        (list(range(32)), None),  # it never does the same again
        ([0] * 16 + [1] + [0] * 15, None),  # longer than is looked for
    ],
)
def test_the_shortest_length_after_which_all_is_the_same(seen, length):
    assert period(seen) == length and (length or 0) <= MOST


@pytest.mark.parametrize(
    ("updates", "length"),
    [
        ("self.one.step()", 1),
        (ACCUMULATES, 4),
        ("self.one.step()\n        if self.number % 5 == 0: self.other.step()", 5),
        ("(self.one if self.number % 2 else self.other).step()", 2),
        ("self.net.weight.data.sub_(1e-3)", 1),  # without an optimizer
        ("if self.number % 16 == 0: self.one.step()", 16),
    ],
)
def test_a_training_says_by_its_updates_after_how_many_steps_it_does_the_same(work, updates, length):
    case = work(updates)
    trainee = case.trainee()
    before = {name: one.clone() for name, one in trainee.model.state_dict().items()}
    assert cycle(trainee, case.batch_of_cycle()) == length
    assert all(bool((one == before[name]).all()) for name, one in trainee.model.state_dict().items())


def test_a_cycle_that_is_too_long_to_be_found_is_said(work):
    case = work("if self.number % 20 == 0: self.one.step()")
    with pytest.warns(
        UserWarning, match=r"mine\.py:Made: its optimizers do not do the same again .* up to 16, so that"
    ):
        assert cycle(case.trainee(), case.batch_of_cycle()) == 1


def test_a_run_times_whole_cycles_and_takes_their_mean():
    """Three steps take a millisecond, and the fourth takes five: a median would be one millisecond."""
    device, calls = AsyncDevice(enqueue_s=0.0), []

    def step():
        calls.append(None)
        device.launch(5e-3 if len(calls) % 4 == 0 else 1e-3)

    made, samples = measurement(device, STANDARD, asynchronous=False)
    made.run(step, cycle=4)
    assert samples == pytest.approx([2e-3] * len(samples))


@pytest.mark.parametrize("kind", ["training_step", "epoch"])
def test_a_gate_takes_whole_cycles_and_says_what_a_step_takes(work, kind):
    """The clock counts the steps: the update is in each time, and the fastest single step would not show it."""
    made = sliced(kind, work(ACCUMULATES))
    try:
        training = made.trainee.fresh.task.made
        visit = host_visit(made.steps, 3, clock=lambda: float(training.number))
        assert (made.cycle, visit.wall_s, visit.total_s) == (4, (4.0, 4.0), 12.0)
    finally:
        made.close()
    per_step = _per_step(Visited((0.02, 0.04), (0.01,), 1.0), 4)
    assert (per_step.wall_s, per_step.cpu_s, per_step.total_s) == ((0.005, 0.01), (0.0025,), 1.0)


def test_a_run_of_it_has_whole_cycles_in_each_round(perf, pytester):
    (pytester.path / "mine.py").write_text(TRAINING.format(updates=ACCUMULATES))
    more = ["--perf-data=auto", "--perf-model=mine.py:Made", "--perf-batch-size=4", "--perf-device=cpu"]
    assert perf(STEP, *more).ret == 0
    (record,) = pytester.path.rglob("*.json")
    (found,) = read(record)["benchmarks"]
    assert (found["extra_info"]["cycle"], found["stats"]["iterations"]) == (4, 4)
    assert found["extra_info"]["samples_per_s"] == pytest.approx(4 / found["stats"]["median"])
