"""What of a call's time does not grow with its batch."""

import pytest

from perf.harness.statistics.fits import fixed_cost


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({2: 5.0, 4: 7.0, 8: 11.0}, 3.0),  # 3 and 1 for each sample
        ({2: 4.0, 4: 4.0, 8: 4.0}, 4.0),  # all of it
        ({2: 2.0, 4: 4.0, 8: 8.0}, 0.0),  # nothing: twice the batch, twice the time
        ({2: 1.9, 4: 4.0, 8: 8.2}, 0.0),  # and never less than nothing
    ],
)
def test_the_fixed_cost_is_the_time_at_size_0(seconds, expected):
    assert fixed_cost(seconds) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "seconds", [{}, {2: 1.0}, {2: 1.0, 4: 1.0}, {2: 1.0, 4: 9.0, 8: 2.0}, {2: 1.0, 4: 1.0, 8: 8.0}]
)
def test_too_few_times_and_times_on_no_line_say_nothing(seconds):
    assert fixed_cost(seconds) is None


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize(("bend", "on_line"), [(1.3, True), (1.35, False)])
def test_a_time_may_be_15_percent_from_the_line(scale, bend, on_line):
    """The first and the last time are equal; the line is then 14.8 or 16.7% from the worst time."""
    found = fixed_cost({2: 1.0 * scale, 4: bend * scale, 8: 1.0 * scale})
    assert (found is not None) is on_line


def test_the_scatter_of_medians_is_borne():
    assert fixed_cost({2: 105e-6, 4: 98e-6, 8: 103e-6}) == pytest.approx(102e-6, rel=0.03)
