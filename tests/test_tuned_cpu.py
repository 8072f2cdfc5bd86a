"""A CPU that is run as PyTorch's tuning guide says: what is chosen, for whom, and that all of it is undone."""

import os
import subprocess
import sys

import pytest
import torch

from perf.harness.machine import affinity, cpu, tuning
from perf.harness.machine.tuning import Tuning
from perf.harness.plugin import tuned_cpu
from perf.harness.plugin.tuned_cpu import StepTimes
from perf.harness.report import render
from tests import report_runs
from tests.conftest import STEP, kept, read, validator

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.usefixtures("preloaded")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Two nodes: cores 0 and 4, 1 and 5 are two physical cores of node 0; 2 and 6, 3 and 7 of node 1."""
    installed, quota = {}, [None]
    for name in ("CPUS", "NODES", "MAPS"):
        monkeypatch.setattr(cpu, name, tmp_path / name.lower())
    for core in range(8):
        (tmp_path / f"cpus/cpu{core}/topology").mkdir(parents=True)
        (tmp_path / f"cpus/cpu{core}/topology/core_cpus_list").write_text(f"{core % 4},{core % 4 + 4}")
    for node, cores in enumerate(("0-1,4-5", "2-3,6-7")):
        (tmp_path / f"nodes/node{node}").mkdir(parents=True)
        (tmp_path / f"nodes/node{node}/cpulist").write_text(cores)
    monkeypatch.setattr("ctypes.util.find_library", installed.get)
    monkeypatch.setattr(tuning, "quota_cores", lambda: quota[0])
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    return tmp_path, installed, quota


def test_one_thread_for_each_physical_core_of_one_node(machine):
    found = tuning.tuning(range(8))
    assert (found.threads, found.cores, found.node) == (2, (0, 1), "node0")
    assert found.variables == {}
    assert str(found) == (
        "2 threads on cores 0,1 of node0, "
        "the C library's allocator, as neither tcmalloc nor tcmalloc_minimal nor jemalloc is installed"
    )


def test_the_node_with_the_most_physical_cores_is_chosen(machine):
    found = tuning.tuning([0, 4, 2, 3, 6])
    assert (found.threads, found.cores, found.node) == (2, (2, 3), "node1")


def test_an_allocator_that_is_installed_is_loaded_before_what_the_user_loads(machine, monkeypatch):
    machine[1]["jemalloc"] = "libjemalloc.so.2"
    assert tuning.tuning(range(8)).variables == {"LD_PRELOAD": "libjemalloc.so.2"}
    monkeypatch.setenv("LD_PRELOAD", "mine.so")
    machine[1]["tcmalloc"] = "libtcmalloc.so.4"
    assert tuning.tuning(range(8)).variables == {"LD_PRELOAD": "libtcmalloc.so.4 mine.so"}
    monkeypatch.setenv("LD_PRELOAD", "/opt/libmimalloc.so")
    found = tuning.tuning(range(8))
    assert (found.variables, found.before) == ({}, "mimalloc")
    assert str(found).endswith("allocator mimalloc")


def test_where_a_quota_shares_the_cores_waiting_threads_sleep(machine):
    machine[2][0] = 1.5
    found = tuning.tuning(range(8))
    assert (found.threads, found.variables) == (1, {"OMP_WAIT_POLICY": "PASSIVE"})
    assert str(found).endswith("waiting threads sleep, as a quota shares the cores")
    machine[2][0] = 2.0
    assert (tuning.tuning(range(8)).threads, tuning.tuning(range(8)).variables) == (2, {})


def test_a_system_that_says_nothing_gives_all_its_cores(monkeypatch, tmp_path):
    for name in ("CPUS", "NODES", "MAPS"):
        monkeypatch.setattr(cpu, name, tmp_path / name.lower())
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 6)
    monkeypatch.setattr(tuning, "quota_cores", lambda: None)
    assert tuning.tuning([]).threads == 6
    assert (tuning.tuning([3, 5]).cores, tuning.tuning([3, 5]).node) == ((3, 5), "")


TUNING = Tuning(2, (min(os.sched_getaffinity(0)),), "", "libtuned.so", None, True)
TWO = ("--perf-device=cpu", "--perf-passes=2", "--perf-tuned-cpu")


@pytest.fixture
def tried(monkeypatch):
    """The states in which the training steps are timed: threads, cores, and variables. A tuned step takes half."""
    states = []

    def times(settings, option, threads):
        variables = [os.environ.get(name) for name in ("LD_PRELOAD", "OMP_WAIT_POLICY")]
        states.append((threads, tuple(affinity.cores()), *variables))
        tuned = variables[0] is not None
        return StepTimes(["simple_nn at batch 64"], {threads: [1.0 if tuned else 2.0]}, "tcmalloc" if tuned else None)

    monkeypatch.setattr(tuned_cpu, "tuning", lambda cores: TUNING)
    monkeypatch.setattr(tuned_cpu, "step_times", times)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    return states


def test_the_run_is_tuned_and_says_what_that_is_worth_and_afterwards_nothing_is_left_of_it(perf, pytester, tried):
    cores = affinity.cores()
    result = perf(STEP, *TWO)  # the library does not exist: the loader says so, and goes on
    result.assert_outcomes(passed=1)
    plain, better = (1, tuple(cores), None, None), (2, TUNING.cores, TUNING.preload, "PASSIVE")
    assert tried == [plain, better] * tuned_cpu.PAIRS
    assert (affinity.cores(), os.environ.get("LD_PRELOAD"), os.environ.get("OMP_WAIT_POLICY")) == (cores, None, None)
    assert torch.get_num_threads() == 1
    document = read(kept(pytester)[-1])
    assert not list(validator().iter_errors(document))
    record = document["perf"]
    assert record["tuned_cpu"]["gains"] == {"simple_nn at batch 64": [2.0] * tuned_cpu.PAIRS}
    assert (record["fingerprint"]["threads"], record["fingerprint"]["cpu_cores"]) == (2, 1)
    assert record["fingerprint"]["openmp_settings"] == "OMP_WAIT_POLICY=PASSIVE"
    result.stdout.fnmatch_lines(["tuned     2 threads on cores *"])


def test_a_library_that_does_not_load_is_refused(perf, tried, monkeypatch):
    monkeypatch.setattr(
        tuned_cpu, "step_times", lambda settings, option, threads: StepTimes(["a"], {threads: [1.0]}, None)
    )
    result = perf(STEP, *TWO)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --perf-tuned-cpu: libtuned.so is installed, but it does not load*"])
    assert os.environ.get("LD_PRELOAD") is None


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--perf-threads=2", "--perf-threads"),
        ("--perf-against=HEAD", "--perf-against"),
        ("--perf-profile=qualify", "--perf-profile=qualify"),
        ("--perf-passes=1", "--perf-passes=1"),
    ],
)
def test_what_excludes_it_is_refused_before_anything_is_tried(perf, tried, option, named):
    result = perf(STEP, "--perf-device=cpu", "--perf-tuned-cpu", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --perf-tuned-cpu and {named} exclude each other*"])
    assert tried == []


def test_a_process_says_which_allocator_it_has_loaded(monkeypatch):
    script = "from perf.harness.machine import cpu; print(cpu.loaded_allocator(), cpu.replaced_allocator())"
    environment = os.environ | {"LD_PRELOAD": "/nowhere/libjemalloc.so.2"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["None", "jemalloc"]


# The report


def test_the_report_says_how_the_cpu_ran_beside_each_factor():
    facts = report_runs.MACHINE["environment"] | {"physical_cores": 2, "allocator": "glibc 2.36"}
    parts = [
        report_runs.benchmark("training_step", device, batch, seconds=seconds)
        for device, batch, seconds in (("cpu", 64, 1e-3), ("cpu", 512, 2e-3), ("cuda", 64, 1e-4), ("cuda", 512, 4e-4))
    ]

    def shown(benchmarks, **perf):
        made = {**report_runs.MACHINE, "environment": facts, "telemetry": {"cpu": {"clock_hz_median": 2.6e9}}, **perf}
        return " ".join(render([report_runs.run(*benchmarks, **made)]).split())

    how = "cpu ran with 1 thread on 2 physical cores, allocator glibc 2.36, clock 2,600 MHz;"
    assert f"{how} not tuned: --perf-tuned-cpu tries what that is worth." in shown(parts)
    tuned = {"how": "1 thread on cores 0", "usual_threads": 2, "gains": {"simple_nn at batch 64": [0.9, 1.1]}}
    said = shown(parts, tuned_cpu=tuned)
    assert f"{how} tuned." in said
    assert (
        "tuned 1 thread on cores 0 tuned 0.900× to 1.10× as fast as not tuned, with 2 threads: simple_nn at batch 64 "
    ) in said
    assert "cpu ran" not in shown(parts[:2])
    graph = report_runs.benchmark("training_step", "cuda", 64, seconds=1e-4, execution="cudagraph", precision="bf16")
    assert how in shown([parts[0], graph])  # a factor over eager fp32 is one, too
    # 640,000 on the GPU at batch 64 is 1,280,000 at 512; the CPU's best is 256,000.
    assert (
        "Best against best, training simple_nn: cuda reaches 1,280,000 samples/s at batch 512, cpu reaches "
        "256,000 samples/s at batch 512: 5.00× [4.94, 5.06]. cpu ran"
    ) in said
    assert "Best against best" not in shown([parts[0], parts[2]])  # the speedup says the same
