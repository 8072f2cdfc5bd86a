"""What the gate times under a name is what the run times under that name, in every execution mode.

Both are walked: the run through its file in `perf/`, the gate through `sliced`. What they call on the clock is noted:
steps, forward passes, compiled functions, replayed graphs, loaded batches, each with the shapes of its inputs.
"""

import importlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from data import ResidentPipeline, random_images
from data.pipelines import Pipeline
from model import TrainingStep, load_recipe
from perf.harness.machine.devices import Device
from perf.harness.measurement.bench import Bench
from perf.harness.measurement.side_by_side import visit
from perf.harness.measurement.side_by_side.slices import sliced
from perf.harness.options import EXECUTIONS, resolve
from perf.harness.workload.benchmarks import DEFINITIONS
from perf.harness.workload.modes import execution
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.workload import Trainee, Workload

BATCH = 16
BATCHES = 16  # two units of eight steps each
CASES = [
    pytest.param(definition.name, pipeline, mode, id="-".join(filter(None, (definition.name, pipeline, mode))))
    for definition in DEFINITIONS
    if not definition.not_gated
    for pipeline in (("resident", "dataloader") if "pipeline" in definition.axes else (None,))
    for mode in (EXECUTIONS if "execution" in definition.axes else EXECUTIONS[:1])
]


class Log(list):
    """What is called while it is `on`."""

    on = False

    def note(self, what, *inputs):
        if self.on:
            self.append((what, *(tuple(tensor.shape) for tensor in inputs)))


@pytest.fixture
def log(monkeypatch):
    found = Log()

    def noted(owner, name, what):
        original = getattr(owner, name)

        def both(self, *inputs):
            found.note(what, *inputs)
            return original(self, *inputs)

        monkeypatch.setattr(owner, name, both)

    def compiled(function, dynamic):
        name = getattr(function, "__qualname__", type(function).__name__)

        def both(*inputs):
            found.note(f"compiled {name}", *inputs)
            return function(*inputs)

        return both

    def captured(call, undo):
        result = call()
        undo()

        def replay():
            found.note("replayed")
            result.copy_(call())

        return replay, result

    loaded = Pipeline.epoch

    def epoch(self, number):
        for batch in loaded(self, number):
            found.note(f"loaded by {type(self).__name__}", *batch)
            yield batch

    noted(TrainingStep, "__call__", "step")
    noted(Trainee, "infer", "forward pass")
    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(execution, "capture_cuda", captured)
    monkeypatch.setattr(Pipeline, "epoch", epoch)
    return found


class Benchmark:
    """pytest-benchmark's fixture, which makes one call and notes what that is made of."""

    enabled = True
    stats = SimpleNamespace(stats=SimpleNamespace(median=1.0, data=[1.0]))

    def __init__(self, log):
        self.extra_info = {}
        self.log = log

    def pedantic(self, target, *, setup, teardown, rounds, warmup_rounds, iterations):
        if setup:
            setup()
        self.log.on = True
        for _ in range(iterations):
            target()
        self.log.on = False
        teardown()
        teardown()


@pytest.fixture
def work(tmp_path):
    """Makes the workload of a case: random images that the reference network takes, in full batches."""
    data = random_images((1, 28, 28), 10, BATCH * BATCHES, BATCH, seed=0)

    def make(pipeline, mode):
        return Workload(load_recipe("simple_nn"), data, Device("cpu"), BATCH, pipeline, 0, Mode(mode))

    return make


@pytest.fixture
def settings(tmp_path):
    quick = resolve({"profile": "smoke", "rounds": "1"}, {}, "", tmp_path)
    return replace(quick, profile=replace(quick.profile, case_s=0.0))  # nothing is warmed up for long


def calls_of_the_run(name, work, settings, log, monkeypatch):
    """What one timed call of the run is made of. Its checks and side measurements are another test's business."""
    monkeypatch.setattr("perf.test_input_pipeline.ROUND_SAMPLES", 4 * BATCH)
    bench = Bench(next(one for one in DEFINITIONS if one.name == name), work, settings, Benchmark(log), "CPU", None)
    for check in ("check_parity", "check_epoch", "check_logits", "record_losses"):
        monkeypatch.setattr(bench, check, lambda *arguments: None)
    getattr(importlib.import_module(f"perf.test_{name}"), f"test_{name}")(bench)
    return list(log)


def calls_of_the_gate(name, work, log, units):
    """What `units` steps of a visit are made of, without the marks between them."""
    made = sliced(name, work)
    made.steps(units, lambda: None)  # compiled and captured, as the run's is by then
    log.clear()
    log.on = True
    made.steps(units, lambda: None)
    log.on = False
    made.close()
    return list(log)


@pytest.mark.parametrize(("name", "pipeline", "mode"), CASES)
def test_the_gate_runs_the_program_of_the_run(name, pipeline, mode, work, settings, log, monkeypatch):
    case = work(pipeline, mode)
    run = calls_of_the_run(name, case, settings, log, monkeypatch)
    units = {"epoch": 2 if mode != "eager" and pipeline == "resident" else BATCHES, "input_pipeline": len(run)}
    gate = calls_of_the_gate(name, case, log, units.get(name, 1))
    assert run, "nothing was seen"
    assert gate == run


def test_another_program_is_seen(work, settings, log, monkeypatch):
    """The fault, planted: the gate takes single steps where the run has one graph of several."""
    case = work("resident", "compile")
    run = calls_of_the_run("epoch", case, settings, log, monkeypatch)
    monkeypatch.setattr(execution, "units", lambda step, pipeline, number: pipeline.epoch(number))
    monkeypatch.setattr("perf.harness.measurement.side_by_side.slices.units", execution.units)
    monkeypatch.setattr(
        "perf.harness.measurement.side_by_side.slices.train",
        lambda step, pipeline, units: execution.train_epoch(step, units),
    )
    assert calls_of_the_gate("epoch", case, log, BATCHES) != run


def test_a_unit_of_the_gate_is_marked_where_it_begins_and_ends(work, log):
    """A mark inside a unit would cut it; a unit without a mark would be timed with the next one."""
    made = sliced("epoch", work("resident", "compile"))
    log.on = True
    found = visit.host_visit(made.steps, 3, clock=lambda: float(len(log)), cpu=lambda: 0.0)
    made.close()
    compiled = [what for what, *_ in log if what.startswith("compiled")]
    assert len(compiled) == 3
    assert found.wall_s == (1.0, 1.0)


def test_the_units_of_a_gate_have_one_size(digits_root, work):
    """A last unit that is shorter would be timed as a quick one."""
    data = random_images((1, 28, 28), 10, BATCH * 19 + 3, BATCH, seed=0)
    case = Workload(load_recipe("simple_nn"), data, Device("cpu"), BATCH, "resident", 0)
    with case.full_batches(8) as pipeline:
        assert isinstance(pipeline, ResidentPipeline)
        assert pipeline.samples == BATCH * 16
    with case.full_batches() as pipeline:
        assert pipeline.samples == BATCH * 19
    with case.full_batches(20) as pipeline:
        assert pipeline.samples == BATCH * 19
