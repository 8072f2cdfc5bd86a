"""Other plugins: those that would change what is measured are refused by name, before anything is measured."""

import pytest

from perf.harness.plugin import preflight

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
pytest_plugins = ["perf.harness.plugin.hooks"]
"""
OPTION = """
def pytest_addoption(parser):
    parser.addoption("{0}", {1})
"""
INI = """
def pytest_addoption(parser):
    parser.addini("reruns", "", default=None)
"""
FIXTURE = """
@pytest.fixture
def benchmark():
    return lambda function: function()
"""
CASE = """
def test_training_step(benchmark, device, batch_size, pipeline, execution, precision, model):
    benchmark(int)
"""


@pytest.fixture
def perf(pytester, digits_root, monkeypatch):
    folder = pytester.mkdir("toy")
    (folder / "test_training_step.py").write_text(CASE)
    monkeypatch.setattr(preflight, "PERF", folder)
    common = (f"--perf-data-root={digits_root}", "--perf-data=digits", "--perf-passes=1", "--perf-device=cpu")

    def run(conftest, *arguments):
        pytester.makeconftest(CONFTEST + conftest)
        return pytester.runpytest_inprocess("toy", "--collect-only", "-p", "no:xdist", *common, *arguments)

    return run


KINDS = {
    "--forked": ("action='store_true'", (), "runs each test in a process of its own"),
    "--reruns": ("type=int", ("2",), "runs a test again until it passes"),
    "--count": ("type=int, default=1", ("3",), "runs each test several times"),
}


@pytest.mark.parametrize("flag", KINDS)
def test_a_plugin_that_runs_tests_elsewhere_or_again_is_refused_by_its_option(perf, flag):
    how, value, why = KINDS[flag]
    result = perf(OPTION.format(flag, how), flag, *value)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [f"ERROR: {flag} {why}, so that Stepwatch would not measure what it says: leave it out"]
    )


@pytest.mark.parametrize("flag", KINDS)
def test_a_plugin_whose_option_is_not_given_does_no_harm(perf, flag):
    assert perf(OPTION.format(flag, KINDS[flag][0])).ret == 0


@pytest.mark.parametrize(("lines", "code"), [("reruns = 3", 4), ("", 0)])
def test_an_ini_file_that_asks_to_run_tests_again_is_refused_too(perf, pytester, lines, code):
    pytester.makeini(f"[pytest]\n{lines}\n")
    assert perf(INI).ret == code


def test_a_test_of_the_users_own_may_have_any_fixture(perf, pytester):
    own = pytester.makepyfile(test_own=f"import pytest\n{FIXTURE}\ndef test_own(benchmark): pass\n")
    assert perf("", str(own)).ret == 0


def test_a_fixture_that_is_not_pytest_benchmarks_is_refused_with_its_module(perf):
    result = perf(FIXTURE)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: the fixture `benchmark` is that of conftest, and Stepwatch measures with *"])
