"""Which times may not be the machine's, from what disturbed them; what is not known is no mark."""

import pytest

from perf.harness.verdict.marks import CROWDED, UNSTEADY, Mark, marks


@pytest.mark.parametrize(
    ("spread", "crowding", "throttled", "expected"),
    [
        (None, None, None, ()),
        (0.0, 0.0, 0.0, ()),
        (UNSTEADY, CROWDED, 0.0, ()),
        (UNSTEADY + 0.01, None, None, (Mark.UNSTEADY,)),
        (None, CROWDED + 0.01, None, (Mark.CROWDED,)),
        (None, None, 1, (Mark.THROTTLED,)),
        (1.0, 1.0, 1, (Mark.CROWDED, Mark.THROTTLED, Mark.UNSTEADY)),
    ],
)
def test_a_mark_is_set_above_its_limit_alone_and_the_worst_comes_first(spread, crowding, throttled, expected):
    assert marks(spread, crowding, throttled) == expected


def test_passes_of_two_kinds_are_a_mark_of_their_own():
    assert marks(1.0, 1.0, 1, two_kinds=True) == (Mark.CROWDED, Mark.THROTTLED, Mark.BIMODAL, Mark.UNSTEADY)
    assert marks(0.0, 0.0, 0, two_kinds=True) == (Mark.BIMODAL,)
