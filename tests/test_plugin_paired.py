"""The paired gate in pytest, as users meet it: verdicts as tests, exit codes, files, refusals.

Workers and launches are fakes, but in the last test.
"""

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from perf.__main__ import main
from perf.harness.measurement.side_by_side.link import SideError, SideLost
from perf.harness.measurement.side_by_side.sides import SideUnusable, Subject
from perf.harness.plugin.gate import SideBySide
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.workload.benchmarks import BY_NAME
from tests.conftest import STRICT, git

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.usefixtures("preloaded")

ROOT = Path(__file__).resolve().parent.parent
PERF = ROOT / "perf"
STEP = PERF / "test_training_step.py"
NAMES = (
    "training_step[cpu-bs64]",
    "inference[cpu-bs64]",
    "input_pipeline[cpu-bs64-resident]",
    "epoch[cpu-bs64-resident]",
)
SIDES = ("base", "head")
KNOWN = {"base_s": 1.0e-3, "head_s": 1.1e-3, "launches": 4, "smallest_detectable": 1.03}
SLOWER = {"verdict": Verdict.SLOWER, "ratio": 1.1, "low": 1.08, "high": 1.12, **KNOWN}
SAME = {"verdict": Verdict.SAME, "ratio": 1.0, "low": 0.99, "high": 1.01, **KNOWN}
UNDECIDED = {"verdict": Verdict.INCONCLUSIVE, "reason": "16 pairs differ too much", **SAME} | {
    "verdict": Verdict.INCONCLUSIVE, "high": 1.2
}  # fmt: skip
INVALID = {"verdict": Verdict.INVALID, "reason": "head: the loss is not finite: 2.3 at first, nan at last"}


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


def axes(device, batch_size, pipeline):
    return [device, batch_size, pipeline, "eager", "fp32", None]


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


def kept(pytester):
    return sorted((pytester.path / "kept").rglob("*.json"))


def read(path):
    return json.loads(Path(path).read_text())


def test_the_gates_parent_samples_nothing_beside_its_workers(gate, monkeypatch):
    monkeypatch.setattr("perf.harness.plugin.state.sampler_of", lambda *devices, **rest: pytest.fail("it was begun"))
    assert gate().ret == 0


def test_the_same_code_passes_and_the_sides_are_named(gate):
    result = gate()
    result.assert_outcomes(passed=4, skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "gate      base: main (0123456789); head: the working tree",
            "after 4 pairs, 12 s: 3 SAME; undecided: *",
            "*Stepwatch: base against head*",
            "base: main (0123456789); head: the working tree.",
            "Nothing changed in 4 benchmarks.",
            "training_step[[]cpu-bs64] *1.00 ms → 1.10 ms  +0.0% [[]-1.0%, +1.0%[]]  SAME",
            "Measured for 12 s with 1 thread*",
            "Kept as *gate_*.json",
        ]
    )


@pytest.mark.parametrize(("options", "threads"), [((), "1 thread"), (("--perf-threads=3",), "3 threads")])
def test_the_threads_that_are_said_and_kept_are_the_workers(gate, pytester, options, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        result = gate(*options)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    result.stdout.fnmatch_lines([f"software  torch *, {threads}*, Python *", f"Measured for 12 s with {threads}; *"])
    (path,) = kept(pytester)
    assert f"{read(path)['perf']['environment']['threads']} thread" in threads


def test_the_same_sources_are_said_to_be_the_same_code(gate, world):
    gate().stdout.no_fnmatch_line("*same code*")
    world.same = True
    gate().stdout.fnmatch_lines(["base and head are the same code."])


def test_another_torch_is_said(gate, world):
    world.facts["base"] = world.facts["base"] | {"torch": "2.8"}
    gate().stdout.fnmatch_lines(["torch: base 2.8, head 2.9."])


def test_a_slower_benchmark_is_a_failed_test_in_one_line(gate, world):
    world.found["inference[cpu-bs64]"] = SLOWER
    result = gate("-rf")
    result.assert_outcomes(failed=1, passed=3, skipped=3)
    assert result.ret == 1
    line = "SLOWER: 1.00 ms → 1.10 ms, +10% [[]+8.0%, +12%]"
    result.stdout.fnmatch_lines(
        [
            line,
            "*1 SLOWER · 3 SAME*",
            f"FAILED *test_inference[[]cpu-bs64] - *{line}",
            "*1 failed, 3 passed, 3 skipped*",
        ]
    )
    assert "runtest" not in result.stdout.str()


def test_junit_counts_a_slower_benchmark_as_a_failure(gate, world, pytester):
    world.found["inference[cpu-bs64]"] = SLOWER
    gate(f"--junitxml={pytester.path / 'out.xml'}")
    suite = ElementTree.parse(pytester.path / "out.xml").find("testsuite")
    assert (suite.get("failures"), suite.get("errors"), suite.get("tests")) == ("1", "0", "7")
    (failure,) = suite.iter("failure")
    assert failure.get("message").endswith("SLOWER: 1.00 ms → 1.10 ms, +10% [+8.0%, +12%]")


def test_last_failed_measures_the_slower_benchmark_again_and_nothing_else(gate, world):
    world.found["inference[cpu-bs64]"] = SLOWER
    gate(cache=True)
    result = gate("--lf", cache=True)
    result.assert_outcomes(failed=1)
    assert [case.name.rpartition("::")[2] for case in world.gates[-1].cases] == ["test_inference[cpu-bs64]"]
    assert world.gates[-1].rule.benchmarks == 1


def test_an_inconclusive_benchmark_is_a_skip_and_exit_10(gate, world):
    world.found["inference[cpu-bs64]"] = UNDECIDED
    result = gate("-rs")
    result.assert_outcomes(passed=3, skipped=4)
    assert result.ret == 10
    result.stdout.fnmatch_lines(
        [
            "*1 INCONCLUSIVE · 3 SAME*",
            "Nothing failed, but 1 benchmark could not be decided: exit code 10.*",
            "SKIPPED *INCONCLUSIVE: *16 pairs differ too much",
        ]
    )


def test_a_failure_outweighs_what_is_inconclusive(gate, world):
    world.found |= {"inference[cpu-bs64]": UNDECIDED, "training_step[cpu-bs64]": SLOWER}
    assert gate().ret == 1


def test_inconclusive_can_be_made_a_failure(gate, world):
    world.found["inference[cpu-bs64]"] = UNDECIDED
    result = gate("--perf-inconclusive=fail")
    result.assert_outcomes(failed=1, passed=3, skipped=3)
    assert result.ret == 1


def test_a_gate_that_warns_exits_with_0_and_says_so(gate, world):
    world.found |= {"inference[cpu-bs64]": SLOWER, "training_step[cpu-bs64]": UNDECIDED}
    result = gate("--perf-gate=warn")
    result.assert_outcomes(passed=3, skipped=4)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["--perf-gate=warn: 1 of them would fail the run."])


def test_a_gate_that_is_off_measures_as_always(gate, world):
    result = gate("--perf-gate=off", "--perf-rounds=1", path=STEP)
    result.assert_outcomes(passed=1)
    assert world.gates == []
    result.stdout.fnmatch_lines(["*measured 1*"])


def test_an_inconclusive_benchmark_can_be_let_pass_while_what_is_slower_fails(gate, world):
    world.found["inference[cpu-bs64]"] = UNDECIDED
    result = gate("--perf-inconclusive=pass")
    result.assert_outcomes(passed=3, skipped=4)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*1 INCONCLUSIVE · 3 SAME"])
    world.found["training_step[cpu-bs64]"] = SLOWER
    assert gate("--perf-inconclusive=pass").ret == 1


def alone(world):
    """What the gate was given to measure with head alone, and why."""
    return {case.name.rpartition("test_")[2]: case.alone for case in world.gates[-1].cases if case.alone}


NEW = {"verdict": Verdict.NEW, "reason": "base has no such benchmark", "head_s": 1.1e-3}


def test_a_benchmark_that_base_has_not_is_measured_alone_and_new(gate, world):
    world.less["base"] = ("inference",)
    world.found["inference[cpu-bs64]"] = NEW
    result = gate()
    result.assert_outcomes(passed=4, skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["compared 3 · missing 0 · new 1 · *", "1 NEW · 3 SAME"])
    assert alone(world) == {"inference[cpu-bs64]": "base has no such benchmark"}
    assert world.gates[0].rule.benchmarks == 3


def test_a_model_that_base_has_not_is_measured_alone(gate, world):
    world.errors["base"] = SideError("UnknownModel: unknown model 'simple_nn'", "model/recipes.py:70")
    world.found = dict.fromkeys(NAMES, NEW)
    result = gate()
    assert result.ret == 0
    assert set(alone(world)) == set(NAMES)
    result.stdout.fnmatch_lines(["base has no such model: unknown model *", "4 NEW"])
    world.found["inference[cpu-bs64]"] = INVALID  # a factory that is broken must not pass as new
    assert gate().ret == 1


def test_a_base_that_is_broken_leaves_head_to_be_measured_alone(gate, world):
    world.errors["base"] = SideError("RecipeError: mine:net: importing 'mine' raised SyntaxError", "model/recipes.py:9")
    broken = {"verdict": Verdict.INCONCLUSIVE, "reason": "base: model/recipes.py:9: RecipeError", "head_s": 1e-3}
    world.found = dict.fromkeys(NAMES, broken)
    assert gate().ret == 10
    assert set(alone(world)) == set(NAMES)
    assert {case.verdict for case in world.gates[-1].cases} == {Verdict.INCONCLUSIVE}
    assert gate("--perf-inconclusive=pass").ret == 0
    world.found["inference[cpu-bs64]"] = INVALID
    assert gate("--perf-inconclusive=pass").ret == 1


def test_a_base_that_lacks_what_git_ignores_says_what_helps(gate, world, monkeypatch):
    world.errors["base"] = SideError("RecipeError: mine:net: FileNotFoundError: sizes.json", "nets.py:9")
    world.found = dict.fromkeys(NAMES, UNDECIDED)
    monkeypatch.setattr("perf.harness.plugin.gate.lacking", lambda base, head, opened: f"head reads {opened}: make")
    world.facts["head"]["opened"] = ["sizes.json"]
    gate().stdout.fnmatch_lines(["head reads [[]'sizes.json']: make."])


def test_a_base_that_opens_files_of_head_is_refused(gate, world):
    world.errors["base"] = SideError("it opens files of the other side: src/x.py", strange=True)
    result = gate()
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines(["ERROR: --perf-against=main: base cannot be measured: it opens *src/x.py; a path *"])


def test_a_base_without_the_model_that_is_named_for_it_is_refused(gate, world):
    world.errors["base"] = SideError("UnknownModel: unknown model 'old'")
    result = gate("--perf-base-model=old")
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines(["ERROR: --perf-base-model=old: base cannot be measured: *"])


@pytest.mark.parametrize(
    "error",
    [
        SideLost("its process ended by itself with exit code 0"),
        SideError("RecipeError: mine:net: importing 'mine' raised SyntaxError", "nets.py:9"),
        SideError("it opens files of the other side: model/x.py", strange=True),
    ],
)
def test_a_head_that_cannot_be_imported_is_invalid_in_every_output(gate, world, pytester, error):
    world.errors["head"] = error
    result = gate(f"--junitxml={pytester.path / 'out.xml'}")
    assert (result.ret, world.gates) == (1, [])
    result.assert_outcomes(failed=4, skipped=3)
    suite = ElementTree.parse(pytester.path / "out.xml").find("testsuite")
    assert (suite.get("failures"), suite.get("errors"), suite.get("tests")) == ("4", "0", "7")
    result.stdout.fnmatch_lines([f"4 benchmarks: head: {error}", "4 INVALID"])


def test_a_head_that_cannot_be_imported_is_invalid_where_base_cannot_either(gate, world):
    for side in SIDES:
        world.errors[side] = SideLost("its process ended by itself with exit code 1: No module named torch")
    result = gate()
    assert (result.ret, world.gates) == (1, [])
    result.stdout.fnmatch_lines(["*test_training_step*", "*INVALID"])


def test_a_model_that_head_has_no_more_is_missing(gate, world):
    world.errors["head"] = SideError("UnknownModel: mine:net: 'mine' has no 'net'")
    result = gate()
    assert (result.ret, world.gates) == (1, [])
    result.stdout.fnmatch_lines(["4 benchmarks: head: UnknownModel: *", "4 MISSING"])


def test_a_model_that_nobody_has_is_refused(gate, world):
    for side in SIDES:
        world.errors[side] = SideError("UnknownModel: mine:net: 'mine' has no 'net'; did you mean nett?")
    result = gate()
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines(["ERROR: --perf-model=simple_nn: UnknownModel: *did you mean nett[?]"])


def test_a_benchmark_that_head_has_not_is_a_failed_test(gate, world):
    world.more["base"] = {"inference": [["cpu", 128, None]]}
    result = gate("-rf")
    result.assert_outcomes(failed=1, passed=4, skipped=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "compared 4 · missing 1 · new 0 *",
            "FAILED *test_inference[[]cpu-bs128] - *MISSING: base has this benchmark, but head does not",
        ]
    )


def test_the_names_chosen_apply_to_what_is_missing_too(gate, world):
    world.more["base"] = {"inference": [["cpu", 128, None]]}
    gate("-k", "step").assert_outcomes(passed=1, deselected=7)
    gate("-k", "bs128").assert_outcomes(failed=1, deselected=7)
    assert len(world.gates) == 1  # nothing is measured for what is missing


def test_of_a_benchmark_picked_by_its_id_nothing_is_missing(gate, world):
    world.more["base"] = {"training_step": [["cpu", 128, None]]}
    gate(path=f"{STEP}::test_training_step[cpu-bs64]").assert_outcomes(passed=1)


def test_an_invalid_result_fails_with_its_message(gate, world):
    world.found["epoch[cpu-bs64-resident]"] = INVALID
    result = gate("-rf")
    result.assert_outcomes(failed=1, passed=3, skipped=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["INVALID: head: the loss is not finite: 2.3 at first, nan at last"])


def test_another_shape_is_another_training_and_measured_alone(gate, world):
    world.facts["base"] = world.facts["base"] | {"shapes": "B"}
    world.found = dict.fromkeys(NAMES, NEW)
    assert gate().ret == 0
    assert alone(world) == dict.fromkeys(NAMES, "another training: base takes B, head A")


def test_an_absent_device_is_a_skip_with_its_reason(gate, world, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    world.devices = ["cpu", "cuda"]
    result = gate("-rs", device="cpu,cuda")
    result.assert_outcomes(passed=4, skipped=10)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*cuda: unplugged"])


def test_a_required_device_that_is_absent_is_refused(gate, world, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    result = gate("--perf-require-device=cuda")
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines(["ERROR: --perf-require-device: cuda is absent: unplugged"])


def test_nothing_to_judge_is_refused(gate, world, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    world.devices = ["cuda"]
    result = gate(device="cuda")
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines(
        ["ERROR: --perf-against: none of the selected benchmarks can be judged: *cuda: unplugged*"]
    )


@pytest.mark.parametrize("option", ["--benchmark-compare", "--benchmark-disable", "--benchmark-skip"])
def test_what_would_judge_nothing_or_twice_is_refused(gate, world, option):
    result = gate(option)
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines(
        [f"ERROR: {option} and --perf-against exclude each other: the gate compares side by side"]
    )


def test_benchmark_only_judges_all_the_same(gate):
    gate("--benchmark-only").assert_outcomes(passed=4, skipped=3)


def test_a_bad_ref_is_one_line_and_exit_4_before_anything_is_measured(gate, world):
    world.unusable = "--perf-against: 'nowhere' is neither a folder nor a commit"
    result = gate()
    assert (result.ret, world.gates) == (4, [])
    assert result.stderr.str().strip() == f"ERROR: {world.unusable}"
    assert "collected" not in result.stdout.str()


def test_a_python_that_lacks_something_is_named_by_its_option(gate, world):
    world.errors["base"] = SideLost("its process ended by itself with exit code 1: No module named torch")
    result = gate(f"--perf-against-python={sys.executable}")
    result.stderr.fnmatch_lines([f"ERROR: --perf-against-python={sys.executable}: base cannot be measured: *"])


def test_an_interrupt_prints_and_keeps_what_is_known(gate, world, pytester):
    world.interrupt = KeyboardInterrupt()
    world.found = dict.fromkeys(NAMES, UNDECIDED | {"reason": "interrupted"}) | {"inference[cpu-bs64]": SLOWER}
    result = gate()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*1 SLOWER · 3 INCONCLUSIVE", "Kept as */partial_gate_*.json"])
    (path,) = kept(pytester)
    assert path.name.startswith("partial_gate_")
    assert read(path)["perf"]["complete"] is False


def test_a_gate_tries_its_folder_first_and_keeps_its_verdict_if_the_disk_fills(
    gate, world, pytester, monkeypatch, full
):
    elsewhere = pytester.mkdir("elsewhere")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))
    world.found["inference[cpu-bs64]"] = SLOWER
    judge = SideBySide._judge
    monkeypatch.setattr(SideBySide, "_judge", lambda *named: full.append(pytester.path / "kept") or judge(*named))
    result = gate()
    assert result.ret == 1
    (path,) = elsewhere.glob("*.json")
    assert path.name.startswith("gate_") and read(path)["perf"]["gate"]
    result.stdout.fnmatch_lines(["*1 SLOWER · 3 SAME", "*No space left on device", f"Kept as {path} instead"])
    full.append(pytester.path)
    result = gate()
    assert (result.ret, len(world.gates)) == (4, 1)
    result.stderr.fnmatch_lines(["*No space left on device, so the record of this run would be lost; make room, or *"])


def test_collecting_alone_measures_nothing(gate, world, pytester):
    result = gate("--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_training_step[[]cpu-bs64]"])
    assert (world.gates, kept(pytester)) == ([], [])


def test_the_record_is_kept_beside_the_others_and_where_it_is_wanted_and_fits_its_schema(gate, world, pytester):
    jsonschema = pytest.importorskip("jsonschema")
    world.found["inference[cpu-bs64]"] = SLOWER
    world.found["training_step[cpu-bs64]"] = INVALID
    gate(f"--benchmark-json={pytester.path / 'out.json'}")
    (path,) = kept(pytester)
    assert path.name.startswith("gate_")
    assert path.parent.name.startswith("smoke-simple_nn-digits-") or path.parent.parent.name.startswith("smoke-")
    document = read(path)
    assert read(pytester.path / "out.json") == document
    validator = jsonschema.Draft202012Validator(read(PERF / "schema.json"))
    assert [error.message for error in validator.iter_errors(document)] == []
    found = {entry["name"].rpartition("test_")[2]: entry for entry in document["perf"]["gate"]}
    slower = found["inference[cpu-bs64]"]
    assert {key: slower[key] for key in SLOWER} == SLOWER
    assert found["training_step[cpu-bs64]"]["ratio"] is None
    run = document["perf"]["gate_run"]
    assert (run["base"], run["head"], run["seconds"], run["min_effect"]) == (
        "main (0123456789)", "the working tree", 12.0, 0.025,
    )  # fmt: skip
    assert document["perf"]["complete"] is True
    slower["verdict"] = "SLOW"
    assert not validator.is_valid(document)


@pytest.fixture
def github(monkeypatch, pytester):
    """The variables of a job on GitHub, and the file of its page."""
    page = pytester.path / "page.md"
    page.write_text("of an earlier step\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    return page


def test_a_reviewer_reads_the_same_live_and_from_the_record(gate, world, pytester, github, capsys):
    world.found["inference[cpu-bs64]"] = SLOWER
    wanted = pytester.path / "summary.md"
    result = gate(f"--perf-summary={wanted}")
    assert result.ret == 1
    (record,) = kept(pytester)
    assert main(["report", str(record), "--format=github"]) == 0
    text = wanted.read_text()
    assert capsys.readouterr().out.endswith(text)
    assert text.startswith("<!-- stepwatch -->\n## Stepwatch: 1 SLOWER · 3 SAME\n")
    assert "base: main (0123456789); head: the working tree." in text and "cuda" not in text
    said = text.partition("The command</summary>\n\n")[2].partition("\n\n</details>")[0]
    command = shlex.split(said.replace("\\\n", ""))
    assert command[:2] == ["pytest", "$STEPWATCH/perf"] and "--perf-against=main" in command
    assert github.read_text() == f"of an earlier step\n{text}"
    result.stdout.fnmatch_lines(
        [f"Summary in {wanted}", "::error title=Stepwatch%3A inference[[]cpu-bs64]::SLOWER: 1.0*"]
    )


def test_a_summary_is_written_of_a_head_that_cannot_be_measured(gate, world, pytester, github):
    world.errors["head"] = SideError("ImportError: no such thing")
    assert gate().ret == 1
    assert "## Stepwatch: 4 INVALID\n" in github.read_text() and "no such thing" in github.read_text()


def test_what_cannot_be_judged_is_in_the_summary_with_its_reason(gate, world, pytester):
    gate(f"--perf-summary={pytester.path / 's.md'}", device="cpu,cuda")
    text = (pytester.path / "s.md").read_text()
    assert "<details><summary>Not judged: " in text and "not timed" not in text
    (record,) = kept(pytester)
    assert {case["outcome"] for case in read(record)["perf"]["cases"]} == {"skipped"}


@pytest.mark.parametrize("place", ["no/where.md", "."])
def test_a_summary_that_cannot_be_written_is_refused_before_anything_is_measured(gate, world, pytester, place):
    result = gate(f"--perf-summary={pytester.path / place}")
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines(["ERROR: --perf-summary=*: cannot be written; choose a file in a writable folder"])


def test_without_github_nothing_is_annotated(gate, world, monkeypatch):
    world.found["inference[cpu-bs64]"] = SLOWER
    assert "::error" not in gate().stdout.str()


def test_a_page_of_the_job_that_cannot_be_written_is_said_and_changes_no_verdict(gate, world, github, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(github.parent))
    result = gate()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["GITHUB_STEP_SUMMARY: *: the page of the job has no summary"])


def test_a_json_file_that_cannot_be_written_is_refused_before_anything_is_measured(gate, world, pytester):
    result = gate(f"--benchmark-json={pytester.path / 'no' / 'where.json'}")
    assert (result.ret, world.gates) == (4, [])
    # Version 5.2 of pytest-benchmark opens it by itself.
    result.stderr.re_match_lines(
        [".*(cannot be written; choose a file in a writable folder|can't open .*where.json.*)$"]
    )


def test_a_gates_record_is_no_baseline_of_measured_runs(gate, pytester):
    gate()
    result = gate("--perf-gate=off", "--benchmark-compare", "--perf-rounds=1", path=STEP)
    result.stdout.fnmatch_lines(["NO BASELINE*"])


PASSING = {Verdict.SAME, Verdict.FASTER, Verdict.NEW, Verdict.ACCEPTED}


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("options", [(), ("--perf-inconclusive=fail",)])
def test_the_exit_code_is_0_only_if_every_verdict_passes(gate, world, verdict, options):
    world.found["inference[cpu-bs64]"] = SAME | {"verdict": verdict}
    assert (gate(*options).ret == 0) is (verdict in PASSING)


HEAVIER = {
    "verdict": Verdict.HEAVIER,
    "reason": "training takes 500.0 MiB instead of 100.0 MiB",
    "base_bytes": 100,
    "head_bytes": 500,
}


def test_what_is_heavier_fails_and_says_both_sizes(gate, world):
    world.found["training_step[cpu-bs64]"] = SAME | HEAVIER | {"base_loss": 2.3, "head_loss": 2.25}
    result = gate()
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "training_step[[]cpu-bs64] *HEAVIER",
            "training_step[[]cpu-bs64]: training takes 500.0 MiB instead of 100.0 MiB",
            "What training takes",
            "benchmark * memory * loss",
            "training_step[[]cpu-bs64]  100 B → 500 B  2.300 → 2.250",
            "memory: of torch's allocator, from building the training to the peak of a step.",
            "1 HEAVIER · 3 SAME",
        ]
    )


def test_what_a_commit_accepts_passes_with_its_reason(gate, world):
    world.found["training_step[cpu-bs64]"] = SLOWER
    world.acceptances = [("abc1234", "training_step[*]: twice the layers")]
    result = gate("-rA")
    result.assert_outcomes(passed=4, skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["training_step[[]cpu-bs64]: SLOWER +10%; accepted in abc1234: twice the layers", "1 ACCEPTED · 3 SAME"]
    )


def test_what_is_frozen_may_be_accepted_and_what_crashes_may_not(gate, world):
    world.found["training_step[cpu-bs64]"] = INVALID
    world.acceptances = [("abc1234", "*: on purpose")]
    result = gate()
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["Perf-Accept: a benchmark that is INVALID for this reason cannot be accepted (commit abc1234)."]
    )
    world.frozen = True
    assert gate().ret == 0


def test_other_data_that_the_training_brings_is_said(gate, world):
    world.other_data = True
    gate().stdout.fnmatch_lines(["base and head train on different data, which each of them brings."])


def test_an_acceptance_that_is_none_or_that_nothing_needs_is_said(gate, world):
    world.acceptances = [("abc1234", "I know what I do"), ("def5678", "training_step*: slower")]
    result = gate()
    assert result.ret == 0
    said = " ".join(result.stdout.str().split())
    assert "Perf-Accept: 'I know what I do' in commit abc1234 is not of the form <cases>: <reason>" in said
    assert "Perf-Accept: nothing to accept for training_step* (commit def5678)" in said


def listed_of(world):
    """What the gate was given to measure."""
    return [case.name.rpartition("test_")[2] for case in world.gates[-1].cases]


@pytest.fixture
def more(world):
    """Sides with more cases than a gate of three minutes has time for."""
    for side in SIDES:
        world.more[side] = {
            "training_step": [["cpu", 512, None]],
            "input_pipeline": [["cpu", 64, "dataloader"], ["cpu", 64, "workers"]],
        }
    world.found |= {f"training_step[cpu-bs{size}]": SAME for size in (64, 512)}
    world.found |= {f"input_pipeline[cpu-bs64-{name}]": SAME for name in ("dataloader", "resident")}
    return world


STEP_FIRST = ["training_step[cpu-bs64]", "inference[cpu-bs64]", "input_pipeline[cpu-bs64-dataloader]"]


def test_a_gate_has_three_cases_and_three_minutes(gate, more):
    gate(quick=())
    assert listed_of(more) == STEP_FIRST
    assert more.gates[-1].budget_s == 180


@pytest.mark.parametrize(
    ("options", "cases"),
    [
        (["-k", "step or epoch"], [STEP_FIRST[0], "training_step[cpu-bs512]", "epoch[cpu-bs64-resident]"]),
        (["--perf-batch-size=64,512"], [STEP_FIRST[0], "training_step[cpu-bs512]", *STEP_FIRST[1:]]),
        (["--perf-pipeline=dataloader"], [*STEP_FIRST[:2], "input_pipeline[cpu-bs64-resident]", STEP_FIRST[2]]),
        (["--perf-profile=gate"], STEP_FIRST),
        (["--perf-time-budget=5m"], STEP_FIRST),
    ],
)  # fmt: skip
def test_other_cases_are_judged_by_naming_them(gate, more, options, cases):
    gate(*options, quick=())
    assert listed_of(more) == cases
    assert more.gates[-1].budget_s == (300 if "5m" in options[0] else 180)


def test_a_file_that_is_named_has_all_its_cases(gate, more):
    gate(quick=(), path=STEP)
    assert listed_of(more) == ["training_step[cpu-bs64]", "training_step[cpu-bs512]"]


def test_a_network_of_the_users_has_an_input_only_if_it_brings_one(gate, more):
    more.file = ROOT / "nets.py"
    gate(quick=())
    assert listed_of(more) == STEP_FIRST[:2]
    for side in SIDES:
        more.facts[side]["data"] = "own"
    gate(quick=())
    assert listed_of(more) == STEP_FIRST


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--perf-profile=gate"], "--perf-profile=gate needs --perf-against"),
        (["--perf-against-setup=make"], "--perf-against-setup needs --perf-against"),
        (["--perf-max-memory=10%"], "--perf-max-memory needs --perf-against"),
        (["--perf-time-budget=1m"], "--perf-time-budget needs --perf-against"),
        (["--perf-base-model=old"], "--perf-base-model needs --perf-against"),
    ],
)
def test_what_only_a_gate_knows_is_refused_without_one(perf, options, says):
    result = perf(STEP, *options, quick=False)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {says}*"])


@pytest.fixture
def ini(world, pytester, monkeypatch):
    """A project with an ini file, from which pytest is called; returns a function that writes it in head and base."""
    world.trees = {name: pytester.path / name for name in SIDES}

    def write(**texts):
        for name, text in texts.items():
            world.trees[name].mkdir(exist_ok=True)
            (world.trees[name] / "pytest.ini").write_text(f"[pytest]\n{text}\n")
        monkeypatch.chdir(world.trees["head"])

    return write


def test_the_settings_that_decide_are_bases(gate, world, ini, pytester):
    """A pull request must not decide its own verdict."""
    ini(head="perf_min_effect = 40%\nperf_inconclusive = pass\nperf_seed = 7", base="perf_inconclusive = fail")
    world.found["inference[cpu-bs64]"] = UNDECIDED
    result = gate()
    assert result.ret == 1
    said = " ".join(result.stdout.str().split())
    assert "perf_min_effect=40% in pytest.ini counts once base has it, and now the default" in said
    assert "perf_inconclusive=pass in pytest.ini counts once base has it, and now fail" in said
    assert world.gates[-1].rule.min_effect == 0.025
    kept_settings = read(kept(pytester)[-1])["perf"]["settings"]
    assert (kept_settings["seed"], kept_settings["threads"]) == (7, 1)  # what decides nothing is head's
    assert gate("--perf-inconclusive=pass", "--perf-min-effect=5%").ret == 0  # the command line is not head's
    assert world.gates[-1].rule.min_effect == 0.05


def test_settings_that_base_has_too_count(gate, world, ini):
    ini(head="perf_min_effect = 5%\nperf_seed = 3", base="perf_min_effect = 5%")
    gate().stdout.no_fnmatch_line("*counts once*")
    assert world.gates[-1].rule.min_effect == 0.05


@pytest.mark.parametrize("name", ["perf_against_setup", "perf_base_model"])
def test_an_ini_file_does_not_decide_what_base_is(gate, world, ini, name):
    ini(head=f"{name} = old", base=f"{name} = old")
    result = gate()
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines([f"ERROR: {name} in *pytest.ini: a change to a file must not decide what base is; *"])


def test_an_ini_file_does_not_end_the_gate_that_the_command_line_asks_for(gate, world, ini):
    ini(head="perf_gate = off", base="")
    result = gate()
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines(["ERROR: --perf-against and perf_gate in *pytest.ini exclude each other: *"])


SYNTAX = "model/networks.py:2: SyntaxError: invalid syntax; fix it first"
ABSENT = (
    "data/__init__.py:1: ModuleNotFoundError: No module named 'nowhere'; "
    "fix it, or install the missing package: pip install -r requirements.txt"
)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [("model/networks.py", "x = 1\ndef f(:\n", SYNTAX), ("data/__init__.py", "import nowhere\n", ABSENT)],
)
def test_a_working_tree_that_cannot_be_imported_is_one_line_and_exit_4(tmp_path, file, text, said, torch_process):
    for part in ("perf", "model", "data"):
        ignored = shutil.ignore_patterns("MNIST", "__pycache__", "results", ".benchmarks")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / file).write_text(text)
    command = [sys.executable, "-m", "pytest", "perf", "--perf-against=main", "-p", "no:cacheprovider"]
    result = torch_process.run(command, cwd=tmp_path)
    assert result.returncode == 4, result.stdout + result.stderr
    assert result.stdout == ""
    assert result.stderr.strip() == f"ERROR: the working tree cannot be imported: {said}"


MODEL = """
import torch
from torch import nn

WASTE = {waste}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
        self.wasted = torch.ones(256, 256)

    def forward(self, images):
        for _ in range(WASTE):
            self.wasted @ self.wasted
        return self.layers(images)


def factory():
    return Network()


factory.input_shape = (1, 28, 28)
factory.classes = 10
"""


@pytest.mark.usefixtures("places")
def test_a_true_slowdown_of_a_users_model_is_found_from_end_to_end(tmp_path, digits_root):
    project = tmp_path / "project"
    (project / "pkg").mkdir(parents=True)
    git(project, "init", "-q", "-b", "main")
    for waste in (0, 2):
        (project / "pkg/networks.py").write_text(MODEL.format(waste=waste))
        git(project, "add", ".")
        git(project, "commit", "-q", "-m", f"waste {waste}")
    command = [sys.executable, "-m", "pytest", PERF, "-k", "training_step and bs64", "-p", "no:cacheprovider"]
    command += ["--perf-model=pkg.networks:factory", "--perf-against=HEAD~1", "--perf-device=cpu"]
    command += ["--perf-batch-size=64", "--perf-profile=smoke", f"--perf-data-root={digits_root}", "--perf-data=digits"]
    command += [f"--benchmark-storage={tmp_path / 'kept'}"]
    result = subprocess.run(list(map(str, command)), cwd=project, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "SLOWER" in result.stdout
    assert "1 failed" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert len(git(project, "worktree", "list").splitlines()) == 1
    (path,) = (tmp_path / "kept").rglob("gate_*.json")
    (judged,) = read(path)["perf"]["gate"]
    assert (judged["verdict"], judged["ratio"] > 1.05) == ("SLOWER", True)
