"""A visit's clock, with fake clocks: what is dropped, how often the device is waited for, and when it is warm."""

import itertools

import pytest

from perf.harness.measurement.side_by_side.visit import (
    WARM_S,
    WARM_STEPS,
    WARM_VISIT,
    device_visit,
    host_visit,
    warm_step_s,
)


class Machine:
    """Steps that take the times given, on the host or on a device that works while the host goes on."""

    def __init__(self, *times):
        self.now = 0.0
        self.cpu = 0.0
        self.queued_until = 0.0
        self.waits = 0
        self.times = itertools.cycle(times)

    def run(self, count, mark):
        mark()
        for _ in range(count):
            took = next(self.times)
            self.now += took
            self.cpu += took / 2
            mark()

    def queue(self, count, mark):
        mark()
        for _ in range(count):
            self.queued_until = max(self.now, self.queued_until) + next(self.times)
            self.now += 1e-6
            mark()

    def synchronize(self):
        self.waits += 1
        self.now = max(self.now, self.queued_until)


def test_the_first_step_of_a_visit_is_dropped():
    machine = Machine(50.0, 1.0, 2.0, 4.0)
    visit = host_visit(machine.run, 4, lambda: machine.now, lambda: machine.cpu)
    assert visit.wall_s == (1.0, 2.0, 4.0)
    assert visit.cpu_s == (0.5, 1.0, 2.0)


def test_the_shortest_visit_has_one_time():
    machine = Machine(50.0, 1.0)
    assert host_visit(machine.run, 2, lambda: machine.now, lambda: machine.cpu).wall_s == (1.0,)


@pytest.mark.parametrize("steps", [2, 3, 64])
def test_a_device_is_waited_for_after_the_first_step_and_after_the_last(steps):
    machine = Machine(50.0, *[1.0] * (steps - 1))
    visit = device_visit(machine.queue, steps, machine.synchronize, lambda: machine.now)
    assert machine.waits == 2
    assert visit.wall_s == pytest.approx((1.0,), abs=1e-4)  # the mean of all but the cold first one
    assert visit.cpu_s == ()  # the host's says nothing about the device


def test_a_visit_that_does_not_wait_would_read_the_launches_alone():
    """The fault that the waiting is there against, planted."""
    machine = Machine(1.0)
    assert device_visit(machine.queue, 4, lambda: None, lambda: machine.now).wall_s == pytest.approx((1e-6,))


class Steps:
    """`times` of a worker: `warm(n)` is the time of step n; counts the visits."""

    def __init__(self, warm):
        self.warm = warm
        self.now = 0.0
        self.visits = []
        self.done = 0

    def __call__(self, count):
        self.visits.append(count)
        times = []
        for number in range(count):
            took = self.warm(self.done)
            self.done += 1
            self.now += took
            if number:
                times.append(took)
        return tuple(times)


def test_quick_steps_are_warmed_up_by_number():
    steps = Steps(lambda number: 1e-3)
    assert warm_step_s(steps, lambda: steps.now) == 1e-3
    seen = sum(count - 1 for count in steps.visits)
    assert WARM_STEPS <= seen < WARM_STEPS + WARM_VISIT


def test_slow_steps_are_warmed_up_for_about_a_second():
    steps = Steps(lambda number: 0.3)
    assert warm_step_s(steps, lambda: steps.now) == 0.3
    assert steps.visits == [2, 2]
    assert WARM_S <= steps.now < WARM_S + 0.6


def test_a_step_of_minutes_is_run_twice():
    steps = Steps(lambda number: 100.0)
    assert warm_step_s(steps, lambda: steps.now) == 100.0
    assert steps.visits == [2]


def test_the_steps_before_it_was_warm_do_not_count():
    steps = Steps(lambda number: 9e-3 if number < 20 else 1e-3)
    assert warm_step_s(steps, lambda: steps.now) == 1e-3


def test_a_step_is_as_long_as_the_quiet_ones():
    """Every third step is pre-empted: the first quartile is none of them."""
    steps = Steps(lambda number: 5e-3 if number % 3 == 0 else 1e-3)
    assert warm_step_s(steps, lambda: steps.now) == 1e-3
