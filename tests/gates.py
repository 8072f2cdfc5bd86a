"""The paired gate in pytest, on fakes: a test says what workers answer and what is found. Fixtures of the tests."""

import contextlib

import pytest

from perf.harness.measurement.side_by_side.sides import SideUnusable, Subject
from perf.harness.record.judgement import Judgement
from perf.harness.workload.benchmarks import BY_NAME
from tests.conftest import PERF, ROOT, STRICT
from tests.judged import NAMES, SAME, SIDES


class World:
    """What the fakes say: the verdict on each benchmark, and what a worker of each side answers."""

    def __init__(self):
        self.found = dict.fromkeys(NAMES, SAME)
        self.unusable = self.interrupt = None
        self.same = self.frozen = self.other_data = False
        self.acceptances = []
        self.facts = {side: {"python": "3.11.7", "torch": "2.9", "shapes": "A", "data": "digits"} for side in SIDES}
        self.more = {side: {} for side in SIDES}
        self.less = {side: () for side in SIDES}
        self.errors = {}
        self.open = 0
        self.gates = []
        self.devices = ["cpu"]
        self.trees, self.file = {}, None

    @contextlib.contextmanager
    def sides(self, settings, threads):
        if self.unusable:
            raise SideUnusable(self.unusable)
        self.open += 1
        yield tuple(FakeSide(self, name) for name in SIDES)
        self.open -= 1

    def judge(self, case):
        short = case.name.rpartition("::")[2].removeprefix("test_")
        return Judgement(case.name, **self.found[short])


def axes(device, batch_size, pipeline, execution="eager"):
    return [device, batch_size, pipeline, execution, "fp32", None]


class FakeSide:
    def __init__(self, world, name):
        self.world, self.name = world, name
        self.title = {"base": "main (0123456789)", "head": "the working tree"}[name]
        self.subject = Subject(world.trees.get(name, ROOT), (), ROOT, world.file)

    def launch(self, inject=None):
        self.world.open += 1
        return FakeLink(self.world, self.name)


class FakeLink:
    def __init__(self, world, side):
        self.world, self.side = world, side

    def request(self, do, kinds):
        self.kinds = kinds

    def reply(self, limit_s):
        if error := self.world.errors.get(self.side):
            raise error
        devices = self.world.devices
        cases = {
            kind: [axes(device, 64, "resident" if "pipeline" in BY_NAME[kind].axes else None) for device in devices]
            for kind in self.kinds
            if not BY_NAME[kind].all_at_once
        }
        for kind in cases:
            cases[kind] = [] if kind in self.world.less[self.side] else cases[kind]
            cases[kind] += [axes(*one) for one in self.world.more[self.side].get(kind, [])]
        return {**self.world.facts[self.side], "cases": cases}

    def close(self):
        self.world.open -= 1


@pytest.fixture
def world(monkeypatch):
    made = World()

    class FakeGate:
        elapsed_s = 12.0
        others_cores = 0.1

        def __init__(self, cases, launch, rule, *, budget_s, cores, watcher):
            self.frozen, self.other_data = {case.name for case in cases if made.frozen}, made.other_data
            self.cases, self.rule, self.budget_s, self.watcher = cases, rule, budget_s, watcher
            made.gates.append(self)

        def run(self):
            self.watcher.working(1, self.cases[0], 0.0, len(self.cases))
            if made.interrupt:
                raise made.interrupt
            decided = self.judgements()
            self.watcher.doubted(self.cases[0], "head: why")
            self.watcher.looked(4, decided[1:], self.cases[:1], 12.0)

        def judgements(self):
            return [made.judge(case) for case in self.cases]

    monkeypatch.setattr("perf.harness.plugin.gate.sides", made.sides)
    monkeypatch.setattr("perf.harness.plugin.gate.Gate", FakeGate)
    monkeypatch.setattr("perf.harness.plugin.gate.same_code", lambda base, head: made.same)
    monkeypatch.setattr("perf.harness.plugin.gate.lacking", lambda base, head, opened: "")
    monkeypatch.setattr("perf.harness.plugin.gate.acceptances", lambda base, head: made.acceptances)
    return made


@pytest.fixture
def gate(world, pytester, digits_root, monkeypatch):
    """Runs pytest in this process with `--perf-against=main`; a warning is an error."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "300")  # pytest cuts its short summary
    storage = f"--benchmark-storage={pytester.path / 'kept'}"
    common = ("-p", "no:xdist", *STRICT, f"--perf-data-root={digits_root}", "--perf-data=digits", storage)
    quick = ("--perf-profile=smoke", "--perf-batch-size=64", "--perf-pipeline=resident")

    def run(*arguments, against="main", device="cpu", cache=False, path=PERF, quick=quick):
        options = [*common, *quick, f"--perf-against={against}", f"--perf-device={device}"]
        options += ["-o", f"cache_dir={pytester.path / 'cache'}"] if cache else ["-p", "no:cacheprovider"]
        result = pytester.runpytest_inprocess(path, *options, *map(str, arguments), no_reraise_ctrlc=True)
        assert "\x1b" not in result.stdout.str()
        assert "PytestBenchmarkWarning" not in result.stdout.str() + result.stderr.str()
        assert "Traceback" not in result.stdout.str() + result.stderr.str()
        assert world.open == 0  # worktrees and workers
        return result

    return run
