"""What training takes and does on both sides: HEAVIER, INVALID where parameters are frozen, or just said."""

import pytest

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.verdict.weights import LEAST_BYTES, Weight, frozen, heavier, other_losses, weighed

MIB = 2**20
ALL = {"backbone.weight": True, "backbone.bias": True, "head.weight": True, "frozen.table": False}
BASE = Weight(100 * MIB, ALL, 2.25)


def judged(verdict, reason=""):
    return Judgement("a", verdict, reason, ratio=1.0)


@pytest.mark.parametrize(
    ("base", "head", "found"),
    [
        (100 * MIB, 105 * MIB, False),
        (100 * MIB, 105 * MIB + 1, True),
        (MIB, 2 * MIB - 1, False),  # twice as much of almost nothing
        (MIB, MIB + LEAST_BYTES, True),
        (100 * MIB, 50 * MIB, False),
        (None, 50 * MIB, False),
        (50 * MIB, None, False),
        (0, 2 * MIB, True),
    ],
)
def test_heavier_is_more_than_the_share_and_than_a_mebibyte(base, head, found):
    assert heavier(Weight(base, {}, None), Weight(head, {}, None), 0.05) is found


@pytest.mark.parametrize(
    ("verdict", "why", "then"),
    [
        (Verdict.SAME, "", ""),
        (Verdict.FASTER, "CPU time -9.0%", "; CPU time -9.0%"),
        (Verdict.INCONCLUSIVE, "16 pairs differ too much", "; INCONCLUSIVE +0%: 16 pairs differ too much"),
    ],
)
def test_what_is_heavier_fails_however_fast_it_is_and_says_that_first(verdict, why, then):
    found = weighed(judged(verdict, why), BASE, Weight(500 * MIB, ALL, 2.25), 0.05)
    assert (found.verdict, found.reason) == (Verdict.HEAVIER, f"training takes 500.0 MiB instead of 100.0 MiB{then}")
    assert (found.base_bytes, found.head_bytes, found.ratio) == (100 * MIB, 500 * MIB, 1.0)


def test_what_is_slower_and_heavier_says_both():
    found = weighed(judged(Verdict.SLOWER, "CPU time +9.0%"), BASE, Weight(500 * MIB, ALL, 2.25), 0.05)
    assert (found.verdict, found.reason) == (
        Verdict.SLOWER,
        "CPU time +9.0%; also HEAVIER: training takes 500.0 MiB instead of 100.0 MiB",
    )


def test_frozen_parameters_are_those_that_base_trains_and_head_has():
    head = Weight(1, {"backbone.weight": False, "backbone.bias": False, "frozen.table": False, "new": False}, None)
    assert frozen(BASE, head) == ["backbone.weight", "backbone.bias"]  # head.weight is gone, which its author intends
    assert frozen(BASE, BASE) == []


@pytest.mark.parametrize("verdict", [Verdict.FASTER, Verdict.SAME, Verdict.SLOWER])
def test_a_frozen_backbone_is_invalid_and_whoever_accepts_that_reads_of_the_rest(verdict):
    trained = dict.fromkeys(map(str, range(5)), True)
    reason = "CPU time +9.0%" if verdict is Verdict.SLOWER else ""
    given = Judgement("a", verdict, reason, ratio=1.23)
    head = Weight(3 * MIB, dict.fromkeys(trained, False), 2.0)
    found = weighed(given, Weight(MIB, trained, 2.0), head, 0.05)
    assert found.verdict is Verdict.INVALID
    slower = "; SLOWER +23%: CPU time +9.0%" if verdict is Verdict.SLOWER else ""
    heavier = "; training takes 3.0 MiB instead of 1.0 MiB"
    assert found.reason == f"head does not train 5 parameters that base trains: 0, 1, 2 and 2 more{heavier}{slower}"


def test_two_frozen_parameters_are_two():
    base, head = ({"a": now, "b": now} for now in (True, False))
    found = weighed(judged(Verdict.SAME), Weight(1, base, None), Weight(1, head, None), 0.05)
    assert found.reason == "head does not train 2 parameters that base trains: a, b"


@pytest.mark.parametrize(("head", "said"), [(2.25, ""), (2.27, ""), (2.28, "2.25 → 2.28"), (None, "")])
def test_another_loss_is_said_because_a_time_says_nothing_of_it(head, said):
    found = weighed(judged(Verdict.SAME), BASE, Weight(MIB, ALL, head), 0.05)
    sentence = f"head comes to another loss: a {said}; its time may be that of another training"
    assert other_losses([found]) == ([sentence] if said else [])


def test_what_is_invalid_keeps_its_reason():
    head = Weight(500 * MIB, dict.fromkeys(ALL, False), 2.0)
    found = weighed(judged(Verdict.INVALID, "head: the loss does not fall"), BASE, head, 0.05)
    assert (found.verdict, found.reason) == (Verdict.INVALID, "head: the loss does not fall")


def test_a_loss_that_is_not_finite_is_unknown():
    found = weighed(judged(Verdict.SAME), Weight(1, {}, float("nan")), Weight(1, {}, float("inf")), 0.05)
    assert (found.base_loss, found.head_loss) == (None, None)
