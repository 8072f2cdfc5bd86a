"""The wiring: what a run waits for, pins, makes small, compiles anew and subtracts. Each test walks the real path."""

import contextlib
import gc
import itertools
import os
import resource
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import psutil
import pytest
import pytest_benchmark.stats
import torch
from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import cache_dir

from model import TrainingStep
from perf.harness.machine import load, memory
from perf.harness.machine.devices import Device
from perf.harness.measurement.bench import Bench
from perf.harness.measurement.checks import probes, steps
from perf.harness.measurement.rounds import Measurement
from perf.harness.measurement.side_by_side.worker import CHECKOUT, Worker
from perf.harness.options import resolve
from perf.harness.workload.modes import compiler
from perf.harness.workload.plan import Plan
from perf.harness.workload.workload import FITTED_BATCHES, Trainee
from tests.conftest import PERF, STEP, kept, read

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.usefixtures("preloaded")

compiler.load_compiler()  # pytester forgets what is imported meanwhile, and torch does not bear a second import

WAIT = ("wait",)
KEPT = ("kept",)
TIMED = [PERF / f"test_{name}.py" for name in ("training_step", "inference", "input_pipeline", "epoch")]


@pytest.fixture
def watch(monkeypatch):
    """Notes each call of a function, which still runs: `watch(owner, name, event)`; returns the list of all events."""
    log = []

    def watch(owner, name, event, after=None):
        call = getattr(owner, name)

        def seen(*arguments, **named):
            log.append(event(*arguments))
            result = call(*arguments, **named)
            if after is not None:
                log.append(after)
            return result

        monkeypatch.setattr(owner, name, seen)
        return log

    return watch


@pytest.fixture
def events(gpu, watch):
    """What happens on the pretended GPU, in order: work for it, with its batch size, and waits until it is done."""
    watch(TrainingStep, "__call__", lambda step, images, labels: ("work", len(labels), gc.isenabled()))
    watch(Trainee, "infer", lambda trainee, images, labels: ("work", len(labels), gc.isenabled()))
    return watch(torch.accelerator, "synchronize", lambda device: WAIT)


@pytest.fixture
def cases(perf, events, watch):
    """Runs benchmarks on the pretended GPU; the events of each case: also the samples that are kept of it."""
    watch(Bench, "__init__", lambda bench, definition, *rest: ("case", definition.name))
    watch(pytest_benchmark.stats.Stats, "update", lambda stats, duration: KEPT)
    watch(Measurement, "overhead", lambda *arguments: ("overhead begins",), after=("overhead ends",))

    def run(*arguments):
        assert perf("--perf-device=cuda", *arguments).ret == 0
        starts = [number for number, event in enumerate(events) if event[0] == "case"]
        return {
            events[start][1]: events[start + 1 : end] for start, end in zip(starts, [*starts[1:], None], strict=True)
        }

    return run


def rounds(case):
    """The events of each timed round: from the last wait before its work to the sample that is kept."""
    ends = [number for number, event in enumerate(case) if event == KEPT]
    for begin, end in zip([0, *ends], ends, strict=False):
        waits = [number for number in range(begin, end) if case[number] == WAIT]
        yield case[waits[-2] : end] if len(waits) > 1 else case[begin + 1 : end]


def is_work(event):
    return event[0] == "work"


def test_every_round_begins_and_ends_when_the_device_has_finished_its_work(cases):
    found = cases(*TIMED)
    assert found.keys() == {"training_step", "inference", "input_pipeline", "epoch"}
    for kind, case in found.items():
        timed = list(rounds(case))
        assert len(timed) == 3, kind
        for first, *work, last in timed:
            assert (first, last) == (WAIT, WAIT), kind
            assert all(map(is_work, work)) and bool(work) is (kind != "input_pipeline"), kind


def test_garbage_is_collected_in_the_rounds_of_an_epoch_and_in_no_round_of_a_step(cases):
    collecting = {
        kind: {event[2] for one in rounds(case) for event in one if is_work(event)}
        for kind, case in cases(*TIMED).items()
        if kind != "input_pipeline"
    }
    assert collecting == {"training_step": {False}, "inference": {False}, "epoch": {True}}


def test_what_is_timed_beside_the_rounds_waits_too(cases):
    case = cases(STEP)["training_step"]
    first_step, then = case[:2]  # a wait before it would make the device's context off the clock
    assert is_work(first_step) and then == WAIT
    aside = case[case.index(("overhead begins",)) + 1 : case.index(("overhead ends",))]
    assert [name for name, *_ in aside[-3:]] == ["wait", "work", "wait"]  # the last call, after those to warm up


def test_the_overhead_of_a_call_is_measured_with_small_batches(cases):
    found = cases(*TIMED[:2])
    for kind, case in found.items():
        aside = case[case.index(("overhead begins",)) : case.index(("overhead ends",))]
        assert {event[1] for event in aside if is_work(event)} == set(FITTED_BATCHES), kind


@pytest.fixture
def worker(digits_root, monkeypatch):
    """Starts a worker of the gate in this process; afterwards this process may use all its cores again."""
    threads, before, started = torch.get_num_threads(), os.sched_getaffinity(0), []

    def start(device):
        options = {
            "device": device,
            "data": "digits",
            "profile": "smoke",
            "threads": "1",
            "data-root": str(digits_root),
        }
        started.append(Worker({"root": str(CHECKOUT), "options": options}))
        started[-1].load()
        return started[-1]

    yield start
    for one in started:
        one.finish()
    os.sched_setaffinity(0, before)
    torch.set_num_threads(threads)


STEP_CASE = {"kind": "training_step", "batch_size": 64, "pipeline": None}


def test_a_visit_of_a_device_waits_after_its_first_step_and_after_its_last(worker, events):
    started = worker("cuda")
    started.prepare(device="cuda", **STEP_CASE)
    events.clear()
    started.visit(4)
    assert [name for name, *_ in events] == ["work", "wait", "work", "work", "work", "wait"]


def test_a_worker_runs_each_visit_on_the_core_that_it_is_told(worker, watch):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("this process may use one core only")
    used = watch(TrainingStep, "__call__", lambda *arguments: os.sched_getaffinity(0))
    started = worker("cpu")
    started.prepare(device="cpu", core=cores[0], **STEP_CASE)
    started.visit(2, core=cores[0])
    assert used[-2:] == [{cores[0]}] * 2
    started.visit(2, core=cores[1])
    assert used[-2:] == [{cores[1]}] * 2


@pytest.fixture
def short(monkeypatch):
    """Probes that make a few calls of small work, whatever the clock says."""
    for name in ("SHAPE_S", "RATE_S", "WARM_LEAST_S", "WARM_MOST_S"):
        monkeypatch.setattr(probes, name, 0.0)
    for name in ("STEP_S", "PIPELINE_S", "CHOICE_S", "WARM_LEAST_S", "WARM_MOST_S"):
        monkeypatch.setattr(steps, name, 0.0)
    monkeypatch.setattr(steps, "STALL_BLOCKS", 1)
    monkeypatch.setattr(steps, "loaders", lambda: [steps.Loader("resident")])
    monkeypatch.setattr(probes, "ACCELERATOR_SHAPES", ((8, 8, 8),))
    monkeypatch.setattr(probes, "SUSTAINED", {True: ("fp32", (8, 8, 8))})


def is_waited_for(events):
    """Whether the device has finished each piece of work before the next one is given to it."""
    return all(pair != ("work", "work") for pair in itertools.pairwise(name for name, *_ in events))


def test_a_probe_of_the_machine_waits_for_each_call(events, watch, short, monkeypatch):
    watch(torch, "mm", lambda *arguments: ("work",))
    probes.matmul(Device("cuda"), "fp32")
    assert ("work",) in events and events[-1] == WAIT
    assert is_waited_for(events)
    events.clear()
    ticks = itertools.count()
    probes.sustained(Device("cuda"), 20.0, lambda share: 1, clock=lambda: float(next(ticks)))
    assert WAIT in events and ("work",) in events
    assert is_waited_for(events)


def test_a_look_under_copies_ends_when_the_copies_have_arrived(events, watch, monkeypatch):
    monkeypatch.setattr(probes, "LINK_BYTES", 8)
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **rest: torch.zeros(*size, **rest))
    watch(torch.Tensor, "copy_", lambda *arguments: ("copy",))
    probes.under_copies(Device("cuda"), lambda: events.append(("look",)))
    assert events == ([("copy",)] * probes.LINK_COPIES + [("look",), WAIT]) * probes.LINK_LOOKS


def test_a_check_of_the_step_waits_for_each_step_and_each_batch(events, short, watch, digits_root):
    typed = {"data": "digits", "profile": "smoke", "device": "cuda", "pipeline": "resident"}
    work = Plan.of(resolve(typed, {}, "", digits_root)).prepared().workload("cuda", 64, "resident")
    watch(steps, "epoch_in_phases", lambda *arguments: ("phases",))
    steps.rate(work, sleeps=False)
    timed = events[: events.index(("phases",))]
    assert any(map(is_work, timed)) and timed[-1] == WAIT
    assert is_waited_for(timed)
    events.clear()
    steps._rates(work, steps.loaders()[0], sleeps=False, most_s=0.0)
    assert events == [WAIT] * (1 + 2 * steps.PIPELINE_LEAST + 1)  # at the beginning, around each batch, at the end
    steps.stall(work, sleeps=False)
    assert events[-1] == WAIT


def test_what_was_compiled_before_is_not_used_again():
    hits = []
    for anew in (False, True):
        with compiler.compiling(anew=anew):
            counters.clear()
            torch.compiler.reset()  # of this process; what earlier ones compiled is in files
            torch.compile(torch.mm)(*torch.ones(2, 7, 7))  # it has no kernel for the C++ compiler, which takes long
            hits.append((counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"]))
    assert sum(hits[0]) == 1
    assert hits[1] == (0, 1)


def test_each_case_of_a_run_compiles_into_an_empty_cache_of_its_own(perf, watch, monkeypatch):
    monkeypatch.setattr(
        "torch.compile", lambda call, **options: call
    )  # it takes long; where it would go is the question
    monkeypatch.setattr(compiler, "why_not_compiled", lambda device: None)
    used = watch(Measurement, "run", lambda *arguments: cache_dir())
    assert perf(STEP, "--perf-device=cpu", "--perf-execution=compile", "--perf-batch-size=64,128").ret == 0
    assert len({*used, cache_dir()}) == 3


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_what_is_compiled_goes_to_the_folder_that_is_named_and_nowhere_else_afterwards(tmp_path, monkeypatch, before):
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False) if before is None else monkeypatch.setenv(name, before)
    with compiler.compiling(anew=True, cache=tmp_path / "one"):
        assert Path(cache_dir()) == tmp_path / "one"
        assert Path(os.environ["TRITON_CACHE_DIR"]).is_relative_to(tmp_path / "one")
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == os.environ.get("TRITON_CACHE_DIR") == before


BURN = """
import sys, time
while time.process_time() < 0.4: pass
print(time.process_time(), flush=True)
sys.stdin.read()
"""


def burn(seconds):
    """Keep a core busy until this thread has used so much CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.fixture
def machine(monkeypatch):
    """A machine on which nothing works but this process, its children, and `others` seconds of others."""
    state = types.SimpleNamespace(others=0.0, children=0.0)
    helpers = psutil.Process().children(recursive=True)  # of other tests: they may be starting

    def helping():
        for one in helpers:
            with contextlib.suppress(psutil.Error):
                yield sum(one.cpu_times()[:4])

    def cpu_times():
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        used = sum(one.ru_utime + one.ru_stime for one in ours)
        return types.SimpleNamespace(user=1000.0 + used + sum(helping()) + state.children + state.others)

    monkeypatch.setattr(psutil, "cpu_times", cpu_times)
    return state


# The kernel counts the CPU time of a process in hundredths of a second, and reads its counters one after the other.
NEARLY_S = 0.1


@pytest.mark.parametrize("started_by", [[], ["sh", "-c", '"$@"; true', "sh"]], ids=["child", "grandchild"])
def test_own_work_is_not_the_load_of_others_be_it_of_threads_or_of_children(machine, started_by):
    before = load.foreign_cpu_s()
    threads = [threading.Thread(target=burn, args=(0.3,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load.foreign_cpu_s() == pytest.approx(before, abs=NEARLY_S)
    command = [*started_by, sys.executable, "-S", "-c", BURN]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as child:
        machine.children = float(child.stdout.readline())
        assert load.foreign_cpu_s() == pytest.approx(before, abs=NEARLY_S)  # while it runs
        child.stdin.close()
        child.wait()
        machine.children = 0.0  # now it is counted among the children that have ended
        assert load.foreign_cpu_s() == pytest.approx(before, abs=NEARLY_S)


def test_work_of_others_is_seen(machine):
    before = load.foreign_cpu_s()
    machine.others += 0.7
    assert load.foreign_cpu_s() - before == pytest.approx(0.7, abs=NEARLY_S)


# What surrounds the rounds


def test_a_run_that_measures_here_freezes_what_was_imported_and_one_of_several_passes_leaves_that_to_them(
    perf, monkeypatch
):
    frozen = []
    monkeypatch.setattr("gc.freeze", lambda: frozen.append(1))
    perf(STEP, "--perf-device=cpu").assert_outcomes(passed=1)
    assert frozen == [1]
    perf(STEP, "--perf-device=cpu", "--perf-passes=2").assert_outcomes(passed=1)
    assert frozen == [1]


def test_the_energy_counter_of_the_device_is_read_around_the_rounds(perf, pytester, monkeypatch):
    readings = iter([5.0, 25.0])
    monkeypatch.setattr("perf.harness.measurement.bench.counter", lambda device: lambda: next(readings))
    perf(STEP, "--perf-device=cpu").assert_outcomes(passed=1)
    (info,) = [one["extra_info"] for one in read(kept(pytester)[-1])["benchmarks"]]
    assert (info["energy_j"], info["energy_calls"]) == (20.0, 3)


def test_products_that_do_not_fit_beside_the_training_cost_no_case(perf, pytester, monkeypatch):
    def full(device, precision):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("perf.harness.measurement.bench.product_rate", full)
    perf(STEP, "--perf-device=cpu").assert_outcomes(passed=1)
    assert "matmul_flop_per_s" not in read(kept(pytester)[-1])["benchmarks"][0]["extra_info"]


def test_the_search_for_the_largest_batch_asks_how_much_it_may_take(perf, pytester, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "searchable_bytes", lambda device, most: asked.append(most) or most)
    perf(PERF / "test_largest_batch.py", "--perf-device=cpu", "--perf-memory-limit=20MiB").assert_outcomes(passed=1)
    assert asked == [20 * 2**20]
