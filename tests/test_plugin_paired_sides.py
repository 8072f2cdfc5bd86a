"""The paired gate in pytest, where one side lacks or cannot do what the other can."""

from xml.etree import ElementTree

import pytest

from perf.harness.measurement.side_by_side.link import SideError, SideLost
from perf.harness.record.judgement import Verdict
from tests.conftest import STEP
from tests.judged import INVALID, NAMES, SIDES, UNDECIDED

pytest_plugins = ["pytester", "tests.gates"]

pytestmark = pytest.mark.usefixtures("preloaded")


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


NO_INFERENCE = {"unable": {"inference": "the task has a whole `step`"}}


def test_a_benchmark_that_neither_side_can_have_is_skipped_with_the_reason(gate, world):
    world.facts = {side: facts | NO_INFERENCE for side, facts in world.facts.items()}
    result = gate("-rs")
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(
        ["SKIPPED *the task has a whole `step`", "compared 3 · missing 0 · new 0 · *", "3 SAME"]
    )


def test_a_mode_that_the_device_does_not_have_is_skipped_as_in_a_plain_run(gate, world):
    for side in SIDES:
        world.more[side] = {"training_step": [("cpu", 64, None, "cudagraph")]}
    result = gate("-rs")
    assert result.ret == 0
    why = "SKIPPED *cudagraph on cpu: CUDA graphs need a CUDA device*"
    result.stdout.fnmatch_lines_random([why, "compared 4 · missing 0 · new 0 · *", "4 SAME"])


def test_a_benchmark_that_one_side_cannot_have_is_missing_or_new(gate, world):
    world.facts["head"] |= NO_INFERENCE
    result = gate()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["inference[[]cpu-bs64]: head: the task has a whole `step`", "1 MISSING · 3 SAME"])
    world.facts = {side: dict(facts) for side, facts in world.facts.items()}
    world.facts["base"] |= NO_INFERENCE
    del world.facts["head"]["unable"]
    world.found["inference[cpu-bs64]"] = NEW
    gate().stdout.fnmatch_lines(["1 NEW · 3 SAME"])
    assert alone(world) == {"inference[cpu-bs64]": "base: the task has a whole `step`"}


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


def test_another_shape_is_another_training_and_measured_alone(gate, world):
    world.facts["base"] = world.facts["base"] | {"shapes": "B"}
    world.found = dict.fromkeys(NAMES, NEW)
    assert gate().ret == 0
    assert alone(world) == dict.fromkeys(NAMES, "another training: base takes B, head A")
