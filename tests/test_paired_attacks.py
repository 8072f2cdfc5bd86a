"""What the code of a pull request may try against its own verdict, in real workers: none of it passes."""

import contextlib
import os
import random
import textwrap
import time

import pytest

from perf.harness.measurement.side_by_side import listing, pair
from perf.harness.measurement.side_by_side.pair import BASE, HEAD, Compared, Failed, Pair
from perf.harness.measurement.side_by_side.sides import sides
from perf.harness.options import resolve
from perf.harness.record.judgement import Verdict
from perf.harness.workload.axes import Axes
from tests.conftest import git

pytestmark = pytest.mark.usefixtures("places", "preloaded")

NETS = """
from torch import nn

def factory():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))

factory.input_shape, factory.classes = (1, 28, 28), 10
"""
CASE = Compared("a", "training_step", Axes("cpu", 64, None))


@pytest.fixture
def project(tmp_path, digits_root, monkeypatch):
    """Makes the sides of a project whose working tree has these lines in addition."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    git(root, "init", "-q", "-b", "main")
    (root / "nets.py").write_text(NETS)
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "base")
    typed = {"model": "nets.py:factory", "against": "HEAD", "device": "cpu", "batch-size": "64", "profile": "gate",
             "data": "digits"}  # fmt: skip
    settings = resolve(typed, {}, "", digits_root)
    with contextlib.ExitStack() as held:

        def made(lines):
            (root / "nets.py").write_text(textwrap.dedent(lines) + NETS)
            base, head = held.enter_context(sides(settings, 1))
            return {BASE: base, HEAD: head}

        yield made


def listed(both):
    return listing.listed(both, ["training_step"])


def launched(both):
    """One launch of both sides; returns what became of it."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ()
    with contextlib.ExitStack() as held:
        workers = {side: held.enter_context(contextlib.closing(one.launch())) for side, one in both.items()}
        one = Pair(workers, cores, time.monotonic, random.Random(0))
        one.load()
        return one.measure(CASE, lambda rounds, round_s: None, lambda share: None)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("import os; os._exit(0)", "its process ended by itself with exit code 0"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
    ],
)
def test_what_ends_at_import_is_an_error_of_head(project, lines, says):
    found = listed(project(lines))
    assert says in found[HEAD].error
    assert not found[HEAD].unknown  # which would be MISSING
    assert found[BASE].error == ""


def test_what_never_answers_is_ended(project, monkeypatch):
    monkeypatch.setattr(listing, "LOAD_S", 3.0)
    both = project("import time; time.sleep(600)")
    assert "did not answer for 3 s" in listed({HEAD: both[HEAD]})[HEAD].error


ATTACKS = {
    "a thread that ends the process": """
        import os, threading
        threading.Timer(3.0, os._exit, [0]).start()
    """,
    "half the time on every clock": """
        import time
        def slow(clock):
            return lambda: clock() / 2
        time.perf_counter, time.process_time = slow(time.perf_counter), slow(time.process_time)
        import perf.harness.measurement.side_by_side.visit as visit
        visit.host_visit.__defaults__ = (time.perf_counter, time.process_time)
    """,
    "half of each time that is answered": """
        import json
        dumps = json.dumps
        def half(message):
            halved = {"wall_s": [one / 2 for one in message.get("wall_s", ())]}
            return dumps(message | halved if "wall_s" in message else message)
        json.dumps = half
    """,
    "base's files": """
        from pathlib import Path
        import tempfile
        for one in Path(tempfile.gettempdir()).glob("stepwatch-base-*/nets.py"):
            try:
                one.write_text("import time; time.sleep(1)" + one.read_text())
            except OSError:
                pass
    """,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_invalid(project, monkeypatch, attack):
    monkeypatch.setattr(pair, "CASE_S", 3.0 if "thread" in attack else 0.3)
    with pytest.raises(Failed) as caught:
        launched(project(ATTACKS[attack]))
    assert caught.value.verdict is Verdict.INVALID, str(caught.value)
    assert str(caught.value).startswith("head: ")


def test_without_an_attack_the_sides_are_measured(project, monkeypatch):
    monkeypatch.setattr(pair, "CASE_S", 0.3)
    assert len(launched(project("")).rounds) >= 40
