"""Which input pipelines the loader is tried with; the rest of it is in the tests of a qualification."""

import contextlib
import types

import pytest

from data import load
from model import load_recipe
from perf.harness.machine import affinity
from perf.harness.machine.devices import Device
from perf.harness.measurement.checks import steps
from perf.harness.record.check import Check, CheckVerdict
from perf.harness.workload.workload import Workload
from perf.qualification import test_loader


@pytest.mark.parametrize(
    ("cores", "workers"), [(1, ["1 worker"]), (3, ["1 worker", "2 workers", "3 workers"]), (16, None), (256, None)]
)
def test_a_loader_has_no_worker_or_up_to_one_for_each_core(monkeypatch, cores, workers):
    monkeypatch.setattr(affinity, "usable_cores", lambda: cores)
    first, *between = map(str, steps.loaders())
    assert first == "dataloader"
    assert between == (workers or ["1 worker", "2 workers", "4 workers", "8 workers", "16 workers"])


class Loading(types.SimpleNamespace):
    """An attempt at the variant `stall` of the check, after the checks in `done`."""

    variant, fault, device = "stall", "", Device("cpu")
    plan = types.SimpleNamespace(workload=lambda *_: "work")

    def time(self, measure):
        measure()


@pytest.mark.parametrize(
    ("done", "workers"),
    [
        ([("supply", "cpu", {"workers": 4})], 4), ([("supply", "cpu", {"workers": 0})], 0),
        ([("supply", "cuda", {"workers": 4})], None), ([("resident", "cpu", {})], None),
        ([("supply", "cpu", {})], None),  # it crashed
    ],
)  # fmt: skip
def test_the_fastest_loader_is_chosen_once_for_each_device(monkeypatch, done, workers):
    seen = []
    monkeypatch.setattr(steps, "stall", lambda *arguments: seen.append(arguments))
    checks = [Check("loader", device, CheckVerdict.PASS, variant, details=details) for variant, device, details in done]
    test_loader.test_loader(Loading(done=checks))
    assert seen == [("work", False, workers)]


@pytest.mark.parametrize(("workers", "opened"), [(0, steps.Loader("dataloader")), (2, steps.Loader("workers", 2))])
def test_a_known_loader_is_not_sought_again(monkeypatch, digits_root, workers, opened):
    seen = []

    def batches(work, loader, sleeps):
        seen.append(loader)
        return contextlib.nullcontext(lambda: work.batches(1)[0])

    monkeypatch.setattr(steps, "_batches", batches)
    monkeypatch.setattr(steps, "loaders", None)
    monkeypatch.setattr(steps, "STALL_BLOCK", 10)
    work = Workload(load_recipe("simple_nn"), load("digits", digits_root).subset(64, 64), Device("cpu"), 64, None, 0)
    assert steps.stall(work, False, workers).note == str(opened)
    assert seen == [opened]


def test_resident_data_is_held_against_a_step_in_which_nothing_is_planted(monkeypatch, digits_root):
    times, slept = iter([0.004, 0.001]), []

    def laps(call, timer, **limits):
        call()
        return [next(times)] * 3

    monkeypatch.setattr(steps, "laps", laps)
    monkeypatch.setattr(steps, "time", types.SimpleNamespace(sleep=slept.append))
    work = Workload(load_recipe("simple_nn"), load("digits", digits_root).subset(64, 64), Device("cpu"), 64, None, 0)
    assert steps.resident(work, True).values == (4.0, 4.0, 4.0)
    assert slept == [steps.SLEEP_S]  # in the loader


def test_the_supply_names_its_workers(monkeypatch):
    rates = {"dataloader": 10.0, "1 worker": 30.0, "2 workers": 20.0}
    monkeypatch.setattr(steps, "_taken", lambda work: 100.0)
    monkeypatch.setattr(
        steps, "loaders", lambda: [steps.Loader("dataloader"), *(steps.Loader("workers", n) for n in (1, 2))]
    )
    monkeypatch.setattr(steps, "_rates", lambda work, loader, *_: [rates[str(loader)]])
    assert steps.supply(None, False).details == {"workers": 1}
    rates["dataloader"] = 40.0
    found = steps.supply(None, False)
    assert (found.values, found.details) == ((40.0,), {"workers": 0})
