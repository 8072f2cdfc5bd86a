"""The page of `pytest tests -m gpu`."""

import pytest

from tests.conftest import PERF

pytest_plugins = ["pytester"]

QUESTIONS = """
import pytest

pytestmark = pytest.mark.gpu

@pytest.mark.parametrize("net", ["plain", "dropout"])
def test_it_trains(net, record_property):
    record_property("found", f"{net} differs by 1e-07")

def test_the_clock_is_right(record_property):
    record_property("found", "2.5 s and 1 s")
    assert 2.5 == 1

@pytest.mark.skip(reason="needs two GPUs")
def test_two_are_faster():
    pass

@pytest.fixture
def broken():
    raise RuntimeError("no such symbol")

def test_it_starts(broken):
    pass
"""


@pytest.fixture
def asked(pytester):
    """Runs these tests with the page; returns the lines of the page, or none."""

    def run(tests, *arguments):
        pytester.makeini("[pytest]\nmarkers = gpu: asks a GPU")
        pytester.makeconftest("from tests.gpu_page import pytest_terminal_summary")
        pytester.makepyfile(test_questions=tests)
        lines = pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments).outlines
        found = [place for place, line in enumerate(lines) if "for the ticket" in line]
        return lines[found[0] + 1 :] if found else []

    return run


def test_each_question_has_its_answer_and_what_was_found(asked, pytester):
    pytester.syspathinsert(PERF.parent)
    lines = asked(QUESTIONS, "-m", "gpu")
    assert lines[0].startswith("cpu ")
    assert any(line.startswith("software  torch ") for line in lines)
    table = [" ".join(line.split()) for line in lines[lines.index("Questions") + 1 :]]
    assert [line for line in table if " yes " in line or " NO " in line] == [
        "the clock is right NO assert 2.5 == 1; 2.5 s and 1 s",
        "it starts NO RuntimeError: no such symbol",
        "it trains [plain] yes plain differs by 1e-07",
        "it trains [dropout] yes dropout differs by 1e-07",
    ]
    assert "not asked: needs two GPUs" in table
    assert "2 yes, 2 NO, 1 not asked" in table
    assert max(map(len, lines[: lines.index("Questions") + 12])) <= 100


def test_without_a_gpu_the_page_is_the_reason(asked, pytester):
    pytester.syspathinsert(PERF.parent)
    why = "pytestmark = [pytest.mark.gpu, pytest.mark.skip(reason='cuda: no driver')]"
    lines = asked(QUESTIONS.replace("pytestmark = pytest.mark.gpu", why), "-m", "gpu")
    assert "not asked: cuda: no driver" in lines
    assert "5 not asked" in lines
    assert "Questions" not in lines


def test_who_does_not_ask_for_gpus_has_no_page(asked, pytester):
    pytester.syspathinsert(PERF.parent)
    assert asked(QUESTIONS) == []
    assert asked("def test_plain():\n    pass\n", "-m", "not gpu") == []
