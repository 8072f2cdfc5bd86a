"""What the paired gate judges, and whose settings decide."""

import pytest

from tests.conftest import ROOT, STEP, kept, read
from tests.judged import SAME, SIDES, UNDECIDED

pytest_plugins = ["pytester", "tests.gates"]

pytestmark = pytest.mark.usefixtures("preloaded")


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
