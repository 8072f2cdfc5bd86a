"""The timer, the warm-up and single calls, on a fake device and its clock."""

import itertools
from dataclasses import replace

import pytest

from perf.harness.measurement.calls import WarmUp, device_timer, laps, warm_up
from tests.fake_device import STANDARD, AsyncDevice, measurement


def test_the_timer_waits_for_the_work_and_not_for_the_set_up():
    device = AsyncDevice()
    made, samples = measurement(device, replace(STANDARD, rounds=3))
    made.from_start(lambda: device.launch(0.010), lambda: device.launch(0.030), lambda: device.launch(0.020))
    assert samples == pytest.approx([0.010] * 3, rel=1e-3)


def test_a_timer_that_does_not_wait_would_read_the_launch_alone():
    """The fault that the timer is there against, planted."""
    device = AsyncDevice()
    timer = device_timer(lambda: None, device.clock)
    start = timer()
    device.launch(0.010)
    assert timer() - start == pytest.approx(1e-6)


def test_warm_up_goes_on_while_calls_get_faster():
    device = AsyncDevice(enqueue_s=0.0)
    costs = itertools.chain((0.1 * 0.99**n + 0.001 for n in range(600)), itertools.repeat(0.001))
    warm = warm_up(
        lambda: device.launch(next(costs)), device_timer(device.synchronize, device.clock), least_s=0, most_s=99
    )
    assert warm.stable
    assert warm.calls > 100
    assert warm.call_s < 0.05


def test_warm_up_that_never_settles_ends_in_time_and_says_so():
    device = AsyncDevice(enqueue_s=0.0)
    costs = (0.05 * 0.9**n for n in itertools.count())
    warm = warm_up(
        lambda: device.launch(next(costs)), device_timer(device.synchronize, device.clock), least_s=0, most_s=0.3
    )
    assert not warm.stable
    assert device.now <= 0.35


def test_warm_up_of_a_long_call_makes_one():
    device = AsyncDevice()
    warm = warm_up(lambda: device.launch(60.0), device_timer(device.synchronize, device.clock), least_s=1, most_s=4)
    assert (warm.calls, warm.stable) == (1, False)


def test_warm_up_lasts_at_least_as_long_as_asked_for():
    device = AsyncDevice()
    warm = warm_up(lambda: device.launch(1e-3), device_timer(device.synchronize, device.clock), least_s=1.0, most_s=4.0)
    assert warm.stable
    assert 1.0 <= device.now < 1.1


def warmed(*costs, least_s, most_s):
    """The warm-up of calls that cost so much each, and the last one for ever, on a clock that does not begin at 0."""
    device = AsyncDevice(enqueue_s=0.0, now=100.0)
    each = itertools.chain(costs, itertools.repeat(costs[-1]))
    timer = device_timer(device.synchronize, device.clock)
    return warm_up(lambda: device.launch(next(each)), timer, least_s=least_s, most_s=most_s)


def test_warm_up_is_stable_when_four_blocks_of_eight_calls_in_a_row_are_no_faster():
    assert warmed(1.0, least_s=0.0, most_s=99.0) == WarmUp(1 + 4 * 8, 1.0, stable=True)
    assert warmed(20.0, 19.0, least_s=0.0, most_s=999.0).calls == 1 + 4 * 8  # 5% less is no gain
    assert warmed(20.0, 18.5, least_s=0.0, most_s=999.0).calls == 1 + 5 * 8  # more is one


def test_warm_up_ends_when_its_least_time_is_over():
    assert warmed(1.0, least_s=33.0, most_s=99.0).calls == 33
    assert warmed(1.0, least_s=33.5, most_s=99.0).calls == 41


def test_warm_up_makes_no_call_that_would_not_fit():
    assert warmed(1.0, least_s=50.0, most_s=18.0) == WarmUp(18, 1.0, stable=False)
    assert warmed(1.0, least_s=50.0, most_s=17.5) == WarmUp(17, 1.0, stable=False)


@pytest.mark.parametrize(("most_s", "least", "expected"), [(3.0, 2, 3), (3.5, 2, 4), (3.0, 5, 5), (0.0, 0, 0)])
def test_laps_fill_the_time_and_are_as_many_as_asked_for_at_least(most_s, least, expected):
    device = AsyncDevice(enqueue_s=0.0, now=100.0)
    timer = device_timer(device.synchronize, device.clock)
    assert laps(lambda: device.launch(1.0), timer, most_s=most_s, least=least) == [1.0] * expected
