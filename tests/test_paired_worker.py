"""The worker's commands, called in this process: what is planted, and which files are the subject."""

import json
import os
import sysconfig
import threading
from pathlib import Path

import pytest

from perf.harness.machine import cpu
from perf.harness.measurement.side_by_side import inject
from perf.harness.measurement.side_by_side.worker import CHECKOUT, Worker, place_of_error, told

PLAIN = {"execution": "eager", "precision": "fp32", "model": None}
AXES = {"kind": "training_step", "device": "cpu", "batch_size": 64, "pipeline": None, **PLAIN}


class Extra(inject.Extra):
    """As the real one, but finds its amount without measuring, and keeps what was called."""

    made: list

    def __init__(self, kind, share):
        super().__init__(kind, share)
        self.called = []
        self._do = self.called.append
        self.made.append(self)

    def calibrate(self, times, step_s):
        self.amount = 40.0
        self._took_s.extend([9.0] * 9)  # of the calibration, more than a visit has


@pytest.fixture
def worker(digits_root, monkeypatch):
    """Starts a worker; `inject` is what it plants."""
    monkeypatch.setattr(inject, "Extra", Extra)
    Extra.made = []
    started = []

    def start(*, options=(), root=str(CHECKOUT), **rest):
        common = {
            "device": "cpu",
            "data": "digits",
            "profile": "smoke",
            "threads": "1",
            "data-root": str(digits_root),
        }
        one = Worker({"root": root, "options": {**common, **dict(options)}, **rest})
        one.load()
        started.append(one)
        return one

    yield start
    for one in started:
        if one._sliced is not None:
            one.finish()


def test_an_amount_that_is_not_given_is_found_and_told(worker):
    head = worker(inject={"kind": "compute", "share": 0.05})
    reply = head.prepare(**AXES)
    assert reply["amount"] == 40.0
    assert reply["step_s"] > 0


def test_an_amount_that_is_given_is_planted_and_not_found_anew(worker, monkeypatch):
    monkeypatch.setattr(Extra, "calibrate", None)
    head = worker(inject={"kind": "compute", "share": 0.05})
    assert head.prepare(**AXES, amount=25.0)["amount"] == 25.0
    head.visit(3)
    (extra,) = Extra.made
    assert extra.called == [25.0] * 3  # in each step, and not during the warm-up


def test_what_was_planted_is_told_as_it_was_while_it_was_measured(worker):
    """It costs more on one day than on another: a sleep ends late where the core has gone to sleep, too."""
    head = worker(inject={"kind": "compute", "share": 0.05})
    head.prepare(**AXES)
    head.visit(3)
    assert 0 < head.finish()["extra_s"] < 1.0  # the 9 s of the calibration are forgotten
    base = worker()
    base.prepare(**AXES)
    assert base.finish()["extra_s"] is None


NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, held=0, cut=False):
        super().__init__()
        self.body, self.head = nn.Linear(784, 32), nn.Linear(32, 10)
        self.table = nn.Parameter(torch.ones(3), requires_grad=False)
        self.cut, self.held = cut, torch.zeros(held)

    def forward(self, images):
        hidden = self.body(images.flatten(1)).relu()
        return self.head(hidden.detach() if self.cut else hidden)


plain, again = Net, lambda: Net()
holding, cutting = lambda: Net(held=25 * 2**20), lambda: Net(cut=True)
for factory in (plain, again, holding, cutting):
    factory.input_shape, factory.classes = (1, 28, 28), 10
"""


@pytest.fixture
def weighed(worker, tmp_path):
    """What the training of a network in NETS takes and does."""
    (tmp_path / "weighed_nets.py").write_text(NETS)
    axes = {name: value for name, value in AXES.items() if name != "kind"} | PLAIN

    def weigh(name):
        one = worker(options={"model": f"{tmp_path / 'weighed_nets.py'}:{name}"}, root=str(tmp_path))
        return one.weigh(**axes)

    return weigh


def test_what_training_takes_does_not_vary_and_what_it_holds_is_seen(weighed):
    plain, again, holding = map(weighed, ("plain", "again", "holding"))
    assert plain == again
    assert plain["bytes"] < 2**20
    assert holding["bytes"] == plain["bytes"] + 100 * 2**20
    assert 2 < plain["loss"] < 2.4


def test_the_parameters_that_a_training_changes_are_told_from_those_that_it_does_not(weighed):
    layers = {f"{layer}.{kind}" for layer in ("body", "head") for kind in ("weight", "bias")}
    assert weighed("plain")["trained"] == dict.fromkeys(layers, True) | {"table": False}
    cut = weighed("cutting")["trained"]
    assert {name for name, trained in cut.items() if trained} == {"head.weight", "head.bias"}


def test_nothing_is_planted_where_nothing_is_asked_for(worker):
    base = worker()
    assert base.prepare(**AXES).keys() == {"step_s", "cycle"}
    assert Extra.made == []


def test_the_sources_are_the_subjects_files_and_no_others(worker, monkeypatch):
    base = worker()
    sources = base.load()["sources"]
    assert "model/__init__.py" in sources and "data/__init__.py" in sources
    assert not any(path.startswith("perf/") for path in sources)
    # A project that its environment lies in.
    library = Path(sysconfig.get_path("purelib")).resolve()
    monkeypatch.setattr(base, "_root", Path(library.anchor))
    found = [Path(library.anchor, path) for path in base.load()["sources"]]
    assert CHECKOUT / "model/__init__.py" in found
    assert not any(path.is_relative_to(library) for path in found)


def failure(path, text):
    """The error that running the file `path` with these lines ends in."""
    path.write_text(text)
    with pytest.raises(Exception) as caught:
        exec(compile(text, path, "exec"), {"json": json})
    return caught.value


def test_an_error_is_placed_at_the_innermost_line_of_the_project(tmp_path):
    error = failure(tmp_path / "nets.py", "def build():\n    json.loads('{')\n\nbuild()\n")
    assert place_of_error(error, tmp_path) == "nets.py:2"  # and not in json, which raised it
    assert place_of_error(error, tmp_path / "elsewhere") == ""
    assert place_of_error(ValueError("never raised"), tmp_path) == ""


def test_an_error_is_placed_where_its_cause_was(tmp_path):
    error = failure(tmp_path / "nets.py", "try:\n    1 / 0\nexcept ArithmeticError as e:\n    raise OSError from e\n")
    assert place_of_error(error, tmp_path) == "nets.py:2"
    error.__cause__ = error
    assert place_of_error(error, tmp_path) == "nets.py:4"


def test_a_syntax_error_is_placed_in_its_file_and_told_in_one_line(tmp_path):
    error = failure(tmp_path / "nets.py", "a = 1\ndef build(:\n")
    assert place_of_error(error, tmp_path) == "nets.py:2"
    assert told(error) == "SyntaxError: invalid syntax"
    assert told(ValueError("this\nand that")) == "ValueError: this"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list the threads of a process")
def test_every_thread_is_pinned_and_not_only_the_main_one():
    """autograd's thread for a GPU is one that torch has started before."""
    core, end = min(os.sched_getaffinity(0)), threading.Event()
    thread = threading.Thread(target=end.wait)
    before = os.sched_getaffinity(0)
    thread.start()
    try:
        cpu.bind([core])
        assert os.sched_getaffinity(thread.native_id) == os.sched_getaffinity(0) == {core}
    finally:
        for task in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(task.name), before)
        end.set()
        thread.join()
