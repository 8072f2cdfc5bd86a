"""Somebody adds a benchmark: a definition, and a file. The run, the report and the gate then have it."""

import os
import shutil
import subprocess
import sys
from functools import partial

import pytest

from tests.conftest import ROOT

DEFINITION = '    Definition("scoring", "Scoring", ("device", "batch_size"), step=_infer, bound="call"),\n'
FILE = '''"""How long does scoring take?"""

from perf.harness.measurement.bench import Bench


def test_scoring(bench: Bench) -> None:
    work = bench.workload
    trainee = bench.cold_trainee(first=lambda fresh: fresh.infer(*work.batches(1)[0]))
    bench.measurement.run(bench.definition.on(trainee, work.batches()))
    bench.record_rate(work.batch_size)
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, digits_root):
    """A checkout with one more benchmark: nothing but these two places was touched."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("perf", "model", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "MNIST", "digits"))
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / name, folder)
    definitions = folder / "perf/harness/workload/benchmarks.py"
    before, marker, after = definitions.read_text().partition('    Definition("memory"')
    definitions.write_text(before + DEFINITION + marker + after)
    (folder / "perf/test_scoring.py").write_text(FILE)
    return folder


@pytest.fixture
def run(checkout, digits_root, torch_process):
    """Runs pytest there, on the new benchmark alone; gives the exit code and what was printed."""

    def run(*arguments, start=torch_process.run):
        options = ["--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", "--perf-data=digits"]
        command = [sys.executable, "-m", "pytest", "perf/", "-k", "scoring", "-p", "no:xdist", "-p", "no:cacheprovider"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        command += [*options, f"--perf-data-root={digits_root}", *arguments]
        done = start(command, cwd=checkout, env=environment)
        return done.returncode, done.stdout

    return run


def test_the_run_measures_it_and_the_report_has_its_title(run):
    code, said = run("--perf-rounds=3", "--perf-passes=1")
    assert code == 0
    assert "perf/test_scoring.py ." in said
    assert "\nScoring – SMOKE\n" in said
    assert "measured 1 · skipped 0 · failed 0" in said


def test_the_gate_has_it_on_both_sides(run):
    """There is no time to decide: what matters is that neither side lacks it, and that there is something to decide.

    Nothing is preloaded here, neither the gate nor its workers.
    """
    start = partial(subprocess.run, capture_output=True, text=True)
    code, said = run(f"--perf-against-python={sys.executable}", "--perf-time-budget=1s", start=start)
    assert code == 10
    assert "1 INCONCLUSIVE" in said
    assert "scoring[cpu-bs64]" in said
    assert "MISSING" not in said and "NEW" not in said


def test_a_file_without_a_definition_is_refused_with_the_place_to_add_it(checkout, run):
    orphan = checkout / "perf/test_orphan_scoring.py"
    orphan.write_text(FILE.replace("test_scoring", "test_orphan_scoring"))
    try:
        code, said = run()
    finally:
        orphan.unlink()
    assert code != 0
    assert "no benchmark 'orphan_scoring' is defined; add its definition to perf/harness/workload/benchmarks.py" in said
