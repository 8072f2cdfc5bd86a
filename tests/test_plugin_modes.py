"""`--perf-execution` and `--perf-precision` in whole runs: ids, skips with their reason, parity before any time."""

import json

import jsonschema
import pytest

from model import TrainingStep
from perf.harness.workload.modes import compiler
from tests.conftest import PERF, STEP, kept, read

EPOCH, INFERENCE = PERF / "test_epoch.py", PERF / "test_inference.py"

pytest_plugins = ["pytester"]

compiler.load_compiler()  # pytester forgets what is imported meanwhile, and torch does not bear a second import


def benchmarks(pytester):
    (path,) = kept(pytester)
    return {one["name"]: one["extra_info"] for one in read(path)["benchmarks"]}


@pytest.fixture
def uncompiled(monkeypatch):
    """torch.compile leaves its function as it is: what it makes of one is tested elsewhere, and takes seconds."""
    monkeypatch.setattr("torch.compile", lambda call, **options: call)
    monkeypatch.setattr(compiler, "why_not_compiled", lambda device: None)


def test_each_mode_is_a_case_and_what_cannot_be_is_skipped_with_its_reason(perf, pytester, uncompiled):
    axes = ("--perf-execution=eager,compile,cudagraph", "--perf-precision=fp32,tf32,bf16")
    result = perf(STEP, "--perf-device=cpu", *axes, "-rs")
    result.assert_outcomes(passed=4, skipped=5)
    result.stdout.fnmatch_lines_random(
        ["*: tf32 on cpu: TF32 needs a CUDA device", "*: cudagraph on cpu: CUDA graphs need a CUDA device"]
    )
    found = benchmarks(pytester)
    assert list(found) == [
        "test_training_step[cpu-bs64]", "test_training_step[cpu-bs64-bf16]",
        "test_training_step[cpu-bs64-compile]", "test_training_step[cpu-bs64-compile-bf16]",
    ]  # fmt: skip
    assert "parity_steps" not in found["test_training_step[cpu-bs64]"]
    mode = found["test_training_step[cpu-bs64-compile-bf16]"]
    assert (mode["execution"], mode["precision"]) == ("compile", "bf16")
    assert mode["parity_steps"] == 50 and mode["parity_difference"] < 0.03 and mode["precision_difference"] < 0.05
    result.stdout.fnmatch_lines(["Training step by mode: simple_nn on cpu*"])


def test_epochs_and_forward_passes_have_modes_and_a_record_fits_the_schema(perf, pytester, uncompiled):
    axes = ("--perf-execution=eager,compile", "--perf-precision=bf16")
    result = perf(EPOCH, INFERENCE, "--perf-device=cpu", *axes)
    result.assert_outcomes(passed=4)
    root = read(kept(pytester)[0])
    jsonschema.validate(root, json.loads((PERF / "schema.json").read_text()))
    assert root["perf"]["settings"]["executions"] == "eager,compile"
    found = benchmarks(pytester)
    assert "phases_s" in found["test_epoch[cpu-bs64-resident-bf16]"]
    assert "phases_s" not in found["test_epoch[cpu-bs64-resident-compile-bf16]"]  # it has none that can be told apart
    assert 0 < found["test_inference[cpu-bs64-bf16]"]["parity_difference"] < 0.03


def test_a_mode_that_computes_something_else_fails_in_one_line_and_leaves_no_time(
    perf, pytester, monkeypatch, uncompiled
):
    class Skipping(TrainingStep):
        def update(self):
            pass

    def executed(step, kind):
        return step if kind == "eager" else Skipping(step.model, step.optimizer, step.loss)

    monkeypatch.setattr("perf.harness.workload.workload.executed", executed)
    result = perf(STEP, "--perf-device=cpu", "--perf-execution=eager,compile")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["compile fp32 does not compute what eager fp32 does: the loss of step * is *"])
    assert list(benchmarks(pytester)) == ["test_training_step[cpu-bs64]"]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--perf-execution=jit", "--perf-execution: 'jit' is not one of eager, compile, cudagraph"),
        ("--perf-precision=int8", "--perf-precision: 'int8' is not one of fp32, tf32, bf16, fp16"),
    ],
)
def test_unknown_modes_are_refused(perf, argument, says):
    result = perf(STEP, argument)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{says}*"])
