"""What a commit may accept: which verdicts, which benchmarks, and how it is written."""

import pytest

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.verdict.accepted import Acceptance, with_acceptance

NAME = "../stepwatch/perf/test_training_step.py::test_training_step[cpu-bs64]"


def judged(verdict, reason=""):
    return Judgement(NAME, verdict, reason, ratio=1.3)


@pytest.mark.parametrize(
    "cases", ["*", "training_step*", "training_step[cpu-bs64]", "epoch*, training_step[*-bs64]", NAME]
)
def test_names_are_short_or_long_and_a_star_stands_for_anything(cases):
    assert Acceptance("abc", cases, "why").covers(NAME)


@pytest.mark.parametrize("cases", ["training", "training_step[cpu-bs6?]", "training_step[cpu-bs6]", "epoch*", "."])
def test_other_names_are_not_covered(cases):
    assert not Acceptance("abc", cases, "why").covers(NAME)


@pytest.mark.parametrize("verdict", Verdict)
def test_only_what_may_be_intended_is_accepted(verdict):
    found = with_acceptance(judged(verdict, "as it is"), Acceptance("abc1234", "*", "twice the layers"), frozen=False)
    acceptable = verdict in ("SLOWER", "HEAVIER", "MISSING")
    assert (found.verdict is Verdict.ACCEPTED) == (acceptable or verdict is Verdict.ACCEPTED)
    if acceptable:
        assert found.reason == f"{verdict} +30%: as it is; accepted in abc1234: twice the layers"
        assert found.ratio == 1.3


def test_frozen_parameters_may_be_intended_and_a_crash_may_not():
    invalid, given = judged(Verdict.INVALID, "why"), Acceptance("abc", "*", "frozen on purpose")
    assert with_acceptance(invalid, given, frozen=True).verdict is Verdict.ACCEPTED
    assert with_acceptance(invalid, given, frozen=False) == invalid


def test_another_benchmark_is_not_accepted():
    slower = judged(Verdict.SLOWER)
    assert with_acceptance(slower, Acceptance("abc", "epoch*", "why"), frozen=False) == slower


@pytest.mark.parametrize("text", ["", "training_step", "training_step:", "training_step: ", ": why", "no colon here"])
def test_an_acceptance_without_cases_or_reason_is_none(text):
    with pytest.raises(ValueError, match=r"in commit abc is not of the form <cases>: <reason>$"):
        Acceptance.of("abc", text)


def test_an_acceptance_is_parsed():
    assert Acceptance.of("abc", "training_step[*], epoch*: twice: the layers ") == Acceptance(
        "abc", "training_step[*], epoch*", "twice: the layers"
    )
