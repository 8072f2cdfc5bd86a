"""The scripts that count what is caught: what counts as caught, and what as seen."""

import math

import pytest

from perf.harness.record.check import CheckVerdict
from perf.proof.bitflips import Trained, caught, row
from perf.proof.injectors import seen, worst

CLEAN = Trained(7, 0.5, 90.0)


@pytest.mark.parametrize(
    ("digest", "loss", "accuracy", "expected"),
    [
        (7, 0.5, 90.0, (False, False, False)), (8, 0.5, 90.0, (True, False, False)),
        (7, 0.5004, 90.0, (False, False, False)), (7, 0.5006, 90.0, (False, True, False)),
        (7, 0.4994, 90.0, (False, True, False)), (7, math.nan, 90.0, (False, True, False)),
        (7, math.inf, 90.0, (False, True, False)),
        (7, 0.5, 90.5, (False, False, False)), (7, 0.5, 90.6, (False, False, True)),
        (7, 0.5, 89.4, (False, False, True)),
    ],
)  # fmt: skip
def test_a_flip_is_caught_by_what_it_moves(digest, loss, accuracy, expected):
    assert caught(CLEAN, Trained(digest, loss, accuracy)) == expected


def test_flips_are_counted_by_what_caught_them():
    found = [(True, True, False), (True, False, False), (False, False, False)]
    assert row("weights", found) == ["weights", 3, 2, 1, 0, 1]


def test_a_fault_is_seen_where_its_check_fails_and_a_busy_machine_where_nothing_is_said():
    assert seen("matmul", CheckVerdict.FAIL) and not seen("matmul", CheckVerdict.INCONCLUSIVE)
    assert seen("preconditions", CheckVerdict.INCONCLUSIVE) and not seen("preconditions", CheckVerdict.PASS)


def test_the_worst_of_several_metrics_counts():
    assert worst([CheckVerdict.PASS, CheckVerdict.FAIL, CheckVerdict.UNSUPPORTED]) is CheckVerdict.FAIL
    assert worst([CheckVerdict.UNSUPPORTED, CheckVerdict.PASS]) is CheckVerdict.PASS
    assert worst([CheckVerdict.UNSUPPORTED]) is CheckVerdict.UNSUPPORTED
