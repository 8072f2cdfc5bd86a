"""Fast passes and slow ones: where there are two kinds, and where there is only scatter."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.statistics.kinds import TwoKinds, two_kinds


def test_the_epochs_of_eight_processes_are_of_two_kinds():
    """Times of eight identical runs on two cores [ms]."""
    found = two_kinds([533, 878, 543, 563, 567, 1009, 582, 890])
    assert (found.slow_passes, found.passes) == (3, 8)
    assert found.fast == pytest.approx(563)
    assert found.slow == pytest.approx(890)


@pytest.mark.parametrize(
    "medians",
    [
        [1.0],
        [1.0, 2.0, 2.0],  # three are too few
        [1.0, 1.0, 1.0, 1.09],  # less than a tenth apart
        [1.0, 1.1, 1.2, 1.3, 1.4],  # as far apart as they scatter
        [1.0, 1.0, 1.0, 1.0],
    ],
)
def test_scatter_is_one_kind(medians):
    assert two_kinds(medians) is None


def test_a_gap_counts_from_a_tenth_and_from_twice_the_rest_on():
    assert two_kinds([1.0, 1.0, 1.0, 1.11]) == TwoKinds(1.0, pytest.approx(1.11), 1, 4)
    wide = math.exp(2.01 * math.log(1.2))
    assert two_kinds([1.0, 1.2, 1.2 * wide, 1.2 * wide]) is not None
    assert two_kinds([1.0, 1.2, 1.2 * wide / 1.02, 1.2 * wide]) is None


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12))
def test_the_order_of_the_passes_changes_nothing(medians):
    assert two_kinds(medians) == two_kinds(sorted(medians))
