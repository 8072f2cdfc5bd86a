"""How many rounds a case has, and when they end."""

from dataclasses import replace

import pytest

from perf.harness.measurement.effort import LEAST_ROUNDS, Effort, StoppingRule

EFFORT = Effort(case_s=4.0, min_rounds=5, long_s=30.0)


def test_a_pass_has_its_share_of_the_time_and_of_the_rounds():
    assert EFFORT.share(1) == EFFORT
    assert EFFORT.share(3) == Effort(pytest.approx(4 / 3), 2, 10.0)
    assert replace(EFFORT, rounds=7).share(3).rounds == 3
    assert replace(EFFORT, precision=0.01).share(3).precision == 0.01


def test_a_case_is_over_at_three_times_its_share():
    rule = EFFORT.stopping_rule(1.0)
    assert rule == StoppingRule(12.0)
    assert (rule.is_over(11.9, 1, list), rule.is_over(12.0, 1, list)) == (False, True)
    assert EFFORT.stopping_rule(5.0) == StoppingRule(15.0)


def test_rounds_that_a_user_sets_are_all_made():
    rule = replace(EFFORT, rounds=200, precision=0.5).stopping_rule(1.0)
    assert not rule.is_over(1e9, 128, lambda: [1.0] * 128)


def test_a_case_is_over_when_its_median_is_known_to_the_precision():
    rule = replace(EFFORT, precision=0.01).stopping_rule(1.0)
    assert rule.is_over(0.1, 64, lambda: [1.0, 1.001] * 32)
    assert not rule.is_over(0.1, 64, lambda: [1.0 + 0.1 * (i // 6) for i in range(64)])
    assert not EFFORT.stopping_rule(1.0).is_over(0.1, 64, lambda: [1.0] * 64)


def test_the_precision_is_looked_at_where_the_number_of_rounds_has_doubled_and_is_large_enough():
    asked = []
    rule = replace(EFFORT, precision=1e-9).stopping_rule(1.0)
    for rounds in range(1, 600):
        rule.is_over(0.1, rounds, lambda rounds=rounds: asked.append(rounds) or [1.0, 2.0])
    assert asked == [64, 128, 256, 512]
    assert LEAST_ROUNDS == 50
