"""The cores of this process: what OpenMP and a tuning do to them, and what processes that it starts may use."""

import json
import os
import subprocess
import sys

import pytest

from perf.harness.machine import affinity
from perf.harness.measurement.checks import faults
from perf.harness.measurement.side_by_side.link import Link
from perf.harness.options import SettingsError, resolve
from perf.harness.plugin.step_times import step_times
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(len(affinity.cores()) < 2, reason="needs two cores to which a process can be bound")
TELLS = "import json, os, sys; print(json.dumps({'number': 1, 'cores': sorted(os.sched_getaffinity(0))}), flush=True)"
BOUND = f"""
import json, os, subprocess, sys
import perf, torch
from perf.harness.machine import affinity, identity
bound = sorted(os.sched_getaffinity(0))
with affinity.inherited():
    started = subprocess.run([sys.executable, "-c", {TELLS!r}], capture_output=True, text=True).stdout
print(json.dumps([bound, identity.environment()["cpu_cores"], json.loads(started)["cores"],
                  sorted(os.sched_getaffinity(0)), "libgomp" in open("/proc/self/maps").read()]))
"""


@pytest.fixture
def bound():
    """Binds this thread to its first core, as OpenMP does it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield {min(before)}
    os.sched_setaffinity(0, before)


def test_openmp_binds_the_first_thread_but_not_the_processes_that_it_starts():
    done = subprocess.run(
        [sys.executable, "-c", BOUND], cwd=ROOT, env=os.environ | {"OMP_PROC_BIND": "true"}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    first, counted, started, afterwards, gomp = json.loads(done.stdout.splitlines()[-1])
    assert (counted, started) == (len(affinity.cores()), affinity.cores())
    assert afterwards == first
    assert len(first) == 1 or not gomp


def test_a_worker_has_all_cores(bound):
    link = Link([sys.executable, "-c", TELLS], {})
    link.request("tell")
    assert link.reply(60.0)["cores"] == affinity.cores()
    link.close()
    assert os.sched_getaffinity(0) == bound


def test_the_process_that_tries_the_numbers_of_threads_has_all_cores(bound, monkeypatch, tmp_path):
    seen = tmp_path / "seen.json"
    (tmp_path / "sees.py").write_text(
        "import json, os\n"
        f"json.dump(sorted(os.sched_getaffinity(0)), open({str(seen)!r}, 'w'))\n"
        "raise SystemExit('enough')\n"
    )
    monkeypatch.setattr("perf.harness.measurement.thread_count.__file__", str(tmp_path / "sees.py"))
    with pytest.raises(SettingsError, match="--perf-threads=auto: enough"):
        step_times(resolve({}, {}, "", ROOT), "--perf-threads=auto")
    assert json.loads(seen.read_text()) == affinity.cores()


def test_planted_programs_have_all_cores(bound, monkeypatch):
    seen = []
    monkeypatch.setattr(faults.subprocess, "run", lambda *_, **__: seen.append(os.sched_getaffinity(0)) or Pid)
    monkeypatch.setattr(faults, "kill", lambda *_: None)
    with faults.foreign_load(1):
        pass
    assert seen == [set(affinity.cores())]


class Pid:
    stdout = "1"
