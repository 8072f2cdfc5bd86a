"""The command that repeats a run: what of it is kept, and what a reader types elsewhere."""

from types import SimpleNamespace

import pytest

from perf.harness.plugin.command import repeated
from perf.here import ROOT, local
from tests.conftest import PERF


def command(*arguments, **rest):
    return repeated(SimpleNamespace(invocation_params=SimpleNamespace(args=arguments)), **rest)


@pytest.fixture(autouse=True)
def no_search_path(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)


def test_a_path_to_stepwatch_that_is_of_this_machine_is_kept_as_the_docs_write_it():
    kept = command(str(PERF), f"{PERF}/test_epoch.py", "--perf-model=a b.py:Net", without=("--perf-x",))
    assert kept == """pytest "$STEPWATCH/perf" "$STEPWATCH/perf"/test_epoch.py '--perf-model=a b.py:Net'"""
    assert local(kept).split()[1] == f"{ROOT}/perf"  # on the terminal, it can be typed
    assert (
        command("../clone/perf", "-k", "x") == local(command("../clone/perf", "-k", "x")) == "pytest ../clone/perf -k x"
    )


@pytest.mark.parametrize(
    ("search_path", "kept"),
    [("src", "PYTHONPATH=src "), ("src:lib/x", "PYTHONPATH=src:lib/x "), ("/home/me/src", ""), ("src:/opt/x", ""),
     ("", ""), (":", ""), ("my src", "")],
)  # fmt: skip
def test_folders_below_the_current_one_that_python_searches_are_part_of_it(monkeypatch, search_path, kept):
    monkeypatch.setenv("PYTHONPATH", search_path)
    assert command("perf/") == f"{kept}pytest perf/"
