"""Whether a mode computes the same training as eager: numbers in, one line or nothing out."""

import math

import pytest

from perf.harness.options import PRECISIONS
from perf.harness.verdict.parity import (
    CARRIED,
    DEVICES,
    EPOCH,
    FALLEN,
    LAST,
    LOGITS,
    NEAR,
    ROUNDING,
    Differs,
    Limits,
    differs,
    differs_at_the_ends,
    end,
    much,
    problem,
    relative_difference,
    relative_differences,
)

EAGER = [2.0, 1.0, 0.5, 0.25]


def moved(losses, step, share):
    """`losses` with the one of `step`, counted from 1, moved by `share` of it."""
    return [loss * (1 + share) if number == step else loss for number, loss in enumerate(losses, 1)]


def test_a_difference_is_a_share_of_the_other_and_of_no_less_than_a_millionth():
    assert relative_difference(3.0, 2.0) == 0.5
    assert relative_difference(-3.0, -2.0) == 0.5
    assert relative_difference(1e-6, 0.0) == 1.0
    assert relative_difference(2e-6, 1e-6) == 1.0
    assert relative_difference(4e-6, 2e-6) == 1.0
    assert relative_differences([3.0, 2.0], [2.0, 2.0]) == [0.5, 0.0]


def test_a_loss_near_zero_has_the_rounding_of_what_it_is_a_difference_of():
    """The two losses of step 38 are one rounding of their logits apart, and were 0.02% apart."""
    assert FALLEN == 0.01
    eager, compiled = [2.3, 0.000271758], [2.3, 0.000271818]
    assert problem("fp32", compiled, eager, eager, Limits.of("fp32", 2)) == ""
    assert relative_difference(-0.5, 0.5, first=200.0) == relative_difference(-0.5, 0.5, first=-200.0) == 0.5
    assert relative_difference(3.0, 2.0, first=200.0) == 0.5
    assert relative_differences([2.0, 0.03], [2.0, 0.01]) == [0.0, pytest.approx(1.0)]
    share = "of 1% of the first loss apart, at most 0.1 is rounding"
    said = problem("fp32", [2.0, 0.011], [2.0, 0.008], [2.0, 0.008], Limits([0.1, 0.1], 0.1))
    assert said == f"eager fp32 does: the loss of step 2 is 0.011, not 0.008: 0.15 {share}"
    ended = {loss: [200.0, *[loss] * LAST] for loss in (0.5, 0.8)}
    said = problem("fp32", ended[0.8], ended[0.8], ended[0.5], Limits([0.0] * 11, 0.1))
    assert said == f"eager fp32 does: the mean of the last losses of 11 steps is 0.8, not 0.5: 0.15 {share}"
    assert problem("fp32", ended[0.8], ended[0.8], ended[0.5], Limits([0.0] * 11, 0.2)) == ""
    assert Limits.of("fp32", 11).carried(ended[0.5], ended[0.8]).end == pytest.approx(CARRIED * 0.15)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_apart_from_everything(value):
    assert math.isnan(relative_difference(value, 1.0))
    assert math.isnan(relative_difference(1.0, value))


def test_the_end_is_the_mean_of_the_last_ten_losses():
    assert LAST == 10
    assert end([100.0] + [1.0] * 9 + [2.0]) == 1.1
    assert end([4.0, 2.0]) == 3.0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_just_beyond_rounding_is_named_with_its_step_and_one_just_within_is_not(precision, step):
    limits = Limits.of(precision, len(EAGER))
    assert limits.steps == [ROUNDING[precision]] * 4 and limits.end == NEAR[precision]
    within = moved(EAGER, step, 0.99 * ROUNDING[precision])
    beyond = moved(EAGER, step, 1.01 * ROUNDING[precision])
    assert problem(precision, within, EAGER, within, limits) == ""
    said = problem(precision, beyond, EAGER, beyond, limits)
    assert said.startswith(f"eager {precision} does: the loss of step {step} is ")


def test_the_limits_are_those_that_were_measured():
    assert ROUNDING == {"fp32": 5e-5, "tf32": 1e-3, "bf16": 1e-3, "fp16": 1e-3}
    assert NEAR == {"fp32": 5e-5, "tf32": 2e-2, "bf16": 5e-2, "fp16": 2e-2}
    assert (CARRIED, DEVICES) == (3.0, 1e-4)
    assert EPOCH == 2e-2
    assert LOGITS == {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2}


def test_a_loss_at_its_limit_is_rounding():
    limits = Limits([0.5], 0.5)
    assert problem("bf16", [1.5], [1.0], [1.0], limits) == ""
    assert problem("bf16", [1.5000001], [1.0], [1.0], limits) != ""
    assert problem("bf16", [1.0], [1.0], [2.0], limits) == ""
    assert problem("bf16", [1.0], [1.0], [2.0000001], limits) != ""


def test_last_losses_too_far_from_fp32_are_named_with_both_means_and_the_limit():
    limits = Limits.of("bf16", 4)
    said = problem("bf16", EAGER, EAGER, [loss * 2 for loss in EAGER], limits)
    assert said == (
        "eager fp32 does: the mean of the last losses of 4 steps is 0.9375, not 1.875: 0.5 of it apart, at most "
        "0.05 is rounding"
    )


def test_a_loss_that_is_not_finite_says_so_instead_of_a_difference():
    assert much(math.nan, 0.5, 1e-3) == "not finite, but 0.5"
    assert much(0.6, 0.5, 1e-3) == "0.6, not 0.5: 0.2 of it apart, at most 0.001 is rounding"
    assert "step 2 is not finite" in problem("fp32", [2.0, math.inf], EAGER[:2], EAGER[:2], Limits.of("fp32", 2))


def test_the_words_say_what_a_difference_is_a_share_of():
    assert " of it apart" in much(2 * FALLEN, FALLEN, 0.1, first=1.0)
    assert " of 1% of the first loss apart" in much(2 * FALLEN, 0.99 * FALLEN, 0.1, first=1.0)
    assert much(2e-3, 1e-3, 0.1).startswith("0.002, not 0.001: 1 of it apart")  # without a first loss


def test_two_devices_differ_at_the_first_step_that_no_rounding_explains():
    losses = {"2": 2.0, "10": 1.0, "50": 1.0}
    nothing = ({}, {})
    assert differs(losses, losses, nothing) is None
    assert differs(losses | {"10": 1 + 0.99 * DEVICES}, losses, nothing) is None
    wrong = losses | {"10": 1 + 1.01 * DEVICES, "50": 3.0}
    assert differs(wrong, losses, nothing) == Differs("the loss of step 10", much(wrong["10"], 1.0, DEVICES, 2.0))
    assert differs(losses | {"50": math.nan}, losses, nothing).what == "the loss of step 50"
    for moved_on in (({"10": 0.25}, {}), ({}, {"10": 0.25}), ({"10": 0.25}, {"10": 0.1})):
        assert differs(losses | {"10": 1.75}, losses, moved_on) is None  # three times what a nudge made of it
        assert differs(losses | {"10": 1.7500001}, losses, moved_on).much.endswith("apart, at most 0.75 is rounding")
    assert differs({"2": 9.0}, {"10": 1.0}, nothing) is None  # no common step


@pytest.mark.parametrize(
    ("ends", "found"),
    [
        ((2.3, 2.31, 0.94, 0.90), None),
        ((2.3, 2.3 / 1.09, 0.94, 0.895), None),
        ((None, 2.3, None, 0.9), None),
        ((2.3, None, 0.9, None), None),
        ((9.9, 2.3, 0.94, 0.1), Differs("the first loss", "9.9, not 2.3: 3.3 of it apart, at most 0.1 is rounding")),
        ((math.nan, 2.3, None, None), Differs("the first loss", "not finite, but 2.3")),
        ((2.3, 2.3, 0.1, 0.94), Differs("the accuracy", "10.0%, not 94.0%")),
    ],
)
def test_two_devices_differ_where_their_first_losses_or_accuracies_are_far_apart(ends, found):
    assert differs_at_the_ends(*ends) == found


def test_a_training_that_multiplies_rounding_is_allowed_three_times_what_a_nudge_made_of_it_by_then():
    limits = Limits.of("fp32", 3).carried([1.0, 1.0, 1.0], [1.0, 1.5, 1.25])
    assert limits.steps == [5e-5, 1.5, 1.5]  # it does not shrink again
    assert limits.end == CARRIED * 0.25


def test_a_nudge_that_did_nothing_leaves_the_limits_as_they_were():
    limits = Limits.of("bf16", 2)
    assert limits.carried([1.0, 1.0], [1.0, 1.0]) == limits
