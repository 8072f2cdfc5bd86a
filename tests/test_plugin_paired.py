"""The paired gate in pytest, as users meet it: verdicts as tests, exit codes, refusals.

Workers and launches are fakes, but in the last two tests.
"""

import shutil
import sys
from xml.etree import ElementTree

import pytest
import torch

from perf.harness.measurement.side_by_side.link import SideLost
from perf.harness.record.judgement import Verdict
from tests.conftest import PERF, ROOT, STEP, git, kept, read
from tests.judged import INVALID, SAME, SLOWER, UNDECIDED

pytest_plugins = ["pytester", "tests.gates"]

pytestmark = pytest.mark.usefixtures("preloaded")


def test_the_gates_parent_samples_nothing_beside_its_workers(gate, monkeypatch):
    monkeypatch.setattr("perf.harness.plugin.state.sampler_of", lambda *devices, **rest: pytest.fail("it was begun"))
    assert gate().ret == 0


def test_the_same_code_passes_and_the_sides_are_named(gate):
    result = gate()
    result.stdout.no_re_match_line(r"^data +auto")  # the sides choose, after this header
    result.assert_outcomes(passed=4, skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "gate      base: main (0123456789); head: the working tree",
            "4 cases: 10 min at most (--perf-time-budget)",
            "*[[]cpu-bs64*: one pair does not count: head: why",
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
def test_the_threads_that_are_said_and_kept_are_the_workers(gate, pytester, has_cores, options, threads):
    has_cores(4)
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


def test_an_invalid_result_fails_with_its_message(gate, world):
    world.found["epoch[cpu-bs64-resident]"] = INVALID
    result = gate("-rf")
    result.assert_outcomes(failed=1, passed=3, skipped=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["INVALID: head: the loss is not finite: 2.3 at first, nan at last"])


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
    assert "head comes to another loss: training_step[cpu-bs64] 2.3 → 2.25; its time may be that" in result.stdout.str()


def test_another_loss_on_other_data_is_no_news(gate, world):
    world.other_data = True
    world.found["training_step[cpu-bs64]"] = SAME | {"base_loss": 2.3, "head_loss": 1.1}
    said = gate().stdout.str()
    assert "base and head train on different data" in said and "another loss" not in said


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


SYNTAX = "model/networks.py:2: SyntaxError: invalid syntax; fix it first"
ABSENT = (
    "data/__init__.py:1: ModuleNotFoundError: No module named 'nowhere'; "
    "fix it, or install the missing package: pip install -r requirements.txt"
)


@pytest.mark.parametrize(
    ("file", "text", "code", "said"),
    [
        ("model/networks.py", "x = 1\ndef f(:\n", 4, f"ERROR: the working tree cannot be imported: {SYNTAX}"),
        ("data/__init__.py", "import nowhere\n", 4, f"ERROR: the working tree cannot be imported: {ABSENT}"),
        # Ctrl-C there, which is where the seconds of the start go
        ("data/__init__.py", "raise KeyboardInterrupt\n", 2,
         "interrupted while torch was imported: nothing was measured"),
        ("perf/harness/plugin/fixtures.py", "raise KeyboardInterrupt\n", 2,
         "interrupted while torch was imported: nothing was measured"),
    ],
)  # fmt: skip
def test_what_ends_the_import_of_the_working_tree_is_one_line(tmp_path, file, text, code, said, torch_process):
    for part in ("perf", "model", "data"):
        ignored = shutil.ignore_patterns("MNIST", "__pycache__", "results", ".benchmarks")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / file).write_text(text)
    command = [sys.executable, "-m", "pytest", "perf", "--perf-against=main", "-p", "no:cacheprovider"]
    result = torch_process.run(command, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr.strip()) == (code, "", said)


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
def test_a_true_slowdown_of_a_users_model_is_found_from_end_to_end(tmp_path, digits_root, torch_process):
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
    result = torch_process.run(command, cwd=project)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "SLOWER" in result.stdout
    assert "1 failed" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert len(git(project, "worktree", "list").splitlines()) == 1
    (path,) = (tmp_path / "kept").rglob("gate_*.json")
    (judged,) = read(path)["perf"]["gate"]
    assert (judged["verdict"], judged["ratio"] > 1.05) == ("SLOWER", True)
