"""Runs of several passes: each in a process of its own, which may do to itself whatever it likes."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import psutil
import pytest

from perf.harness.machine.load import Company
from perf.harness.measurement.rounds import Pass
from perf.harness.measurement.side_by_side.link import Link, SideSilent
from perf.harness.measurement.timetable import Timetable
from perf.harness.options import PROFILES
from perf.harness.plugin.measure import Measure
from perf.harness.plugin.passes import InPasses
from perf.harness.record.read import load
from tests.conftest import PERF, QUICK, ROOT, STEP, kept, read, validator

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.usefixtures("preloaded")

TWO = ("--perf-device=cpu", "--perf-passes=2")


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """How many cores other programs use, as far as these tests are concerned: none, unless a test changes it."""
    used = [0.0]
    meter = types.SimpleNamespace(read=lambda: types.SimpleNamespace(missing_cores=lambda threads: used[0]))
    monkeypatch.setattr("perf.harness.plugin.passes.Meter", lambda: meter)
    return used


def test_what_the_process_of_the_results_computes_between_two_cases_is_not_the_load_of_others(perf, pytester):
    pytester.makepyfile(
        says="""
        from pathlib import Path
        from torch import nn
        from perf.harness.machine import load

        class Says(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(784, 10)

            def forward(self, images):
                with Path("ours.txt").open("a") as file:
                    print(*load.works_for, file=file)
                return self.layer(images.flatten(1))
        """
    )
    perf(STEP, *TWO, "--perf-model=says.py:Says").assert_outcomes(passed=1)
    assert set(Path("ours.txt").read_text().splitlines()) == {str(os.getpid())}


def test_two_passes_measure_each_case_twice_and_the_record_says_which_rounds_are_whose(perf, pytester):
    result = perf(STEP, PERF / "test_epoch.py", *TWO, "--perf-rounds=4")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "passes    2, each in its own process; results appear during the last pass",
            "time: the median of the passes *",
        ]
    )
    document = read(kept(pytester)[-1])
    assert not list(validator().iter_errors(document))
    assert document["perf"]["passes"] == 2
    for one, benchmark in zip(document["benchmarks"], load(kept(pytester)[-1]).benchmarks, strict=True):
        assert one["extra_info"]["pass_rounds"] == {"1": 2, "2": 2}
        assert [len(samples) for samples in benchmark.passes] == [2, 2]
        assert one["stats"]["rounds"] == 4
        assert one["stats"]["iterations"] == 1
        assert sorted(one["extra_info"]["cold_starts_s"]) == ["1", "2"]
        assert one["params"]["device"] == "cpu"
    assert [case["outcome"] for case in document["perf"]["cases"]] == ["measured"] * 2


@pytest.mark.parametrize("asked", ["--perf-passes=2", "--perf-rounds=2"])
def test_passes_and_rounds_that_are_asked_for_are_made_however_long_a_case_takes(perf, pytester, monkeypatch, asked):
    smoke = dataclasses.replace(PROFILES["smoke"], long_s=1e-6, passes=2)
    monkeypatch.setitem(PROFILES, "smoke", smoke)
    assert perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", asked, quick=False).ret == 0
    (benchmark,) = load(kept(pytester)[-1]).benchmarks
    assert len(benchmark.passes) == 2


def test_the_page_of_a_job_has_one_summary_however_many_processes_measure(perf, pytester, monkeypatch):
    page = pytester.path / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert perf(STEP, *TWO, "--perf-rounds=4").ret == 0
    assert page.read_text().count("<!-- stepwatch -->") == 1
    assert "### Training step" in page.read_text()


MODEL = """
import os
import torch
from torch import nn

PARENT = {parent}

class Network(nn.Sequential):
    calls = 0

    def forward(self, images):
        self.calls += 1
        if self.calls > 6 and os.getpid() != PARENT:  # it is measured, and not only tried
            {does}
        return super().forward(images)

def factory():
    return Network(nn.Flatten(), nn.Linear(784, 10))
"""


@pytest.mark.parametrize("forks", [True, False])
def test_each_pass_is_a_process_of_its_own(perf, pytester, monkeypatch, forks):
    if forks and sys.platform != "linux":
        pytest.skip("passes are forked on Linux only")
    monkeypatch.setattr("perf.harness.plugin.passes.can_fork", lambda plan: forks)
    (pytester.path / "mine.py").write_text(MODEL.format(parent=os.getpid(), does="print('in', os.getpid())"))
    result = perf(STEP, *TWO, "--perf-model=mine:factory", "-rP")
    result.assert_outcomes(passed=1)
    found = {line for line in result.outlines if line.startswith("in ")}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("os._exit(0)", "its process ended by itself with exit code 0"),
        ("os.kill(os.getpid(), 9)", "its process was ended by signal 9"),
        (
            "torch.set_num_threads(2)",
            "it changed the number of torch's threads from 1 to 2, which is another benchmark",
        ),
        ("raise MemoryError('no more')", "out of memory on cpu at batch size 64: no more"),
        ("raise ZeroDivisionError('mine')", "ZeroDivisionError: mine"),
    ],
)
def test_what_a_case_does_to_its_process_ends_that_case_alone(perf, pytester, does, says):
    (pytester.path / "mine.py").write_text(MODEL.format(parent=os.getpid(), does=does))
    (pytester.path / "test_other.py").write_text("def test_other():\n    pass\n")
    result = perf(STEP, pytester.path / "test_other.py", *TWO, "--perf-model=mine:factory", "--perf-threads=1")
    result.assert_outcomes(passed=1, failed=1)
    assert says in result.stdout.str()
    assert result.ret == pytest.ExitCode.TESTS_FAILED


LOST = "if len(images) == 32: raise torch.AcceleratorError('CUDA error: an illegal memory access')"


def test_a_device_that_stops_working_ends_its_process_and_the_next_case_has_a_new_one(perf, pytester):
    (pytester.path / "mine.py").write_text(MODEL.format(parent=os.getpid(), does=LOST))
    result = perf(STEP, *TWO, "--perf-model=mine:factory", "--perf-batch-size=16,32,64")
    result.assert_outcomes(passed=2, failed=1)
    assert "cpu stopped working: CUDA error: an illegal memory access" in result.stdout.str()


@pytest.mark.parametrize("execution", ["cudagraph", "eager"])
def test_where_a_graph_fails_the_next_case_needs_a_new_process(monkeypatch, execution):
    axes = {"execution": execution, "device": "cuda", "model": None}
    monkeypatch.setattr("perf.harness.plugin.measure.params", lambda item: axes)
    recipe = types.SimpleNamespace(ours=False, users=True, name="mine:Net")
    plan = types.SimpleNamespace(network=lambda model: types.SimpleNamespace(recipe=recipe))
    run = object.__new__(Measure)
    run.lost, run.failed_in_graph = {}, False
    run.state = types.SimpleNamespace(cases={"case": None}, plan=plan)
    with pytest.raises(pytest.fail.Exception), run.running(types.SimpleNamespace(nodeid="case")):
        raise RuntimeError("operation not permitted when stream is capturing")
    assert run.is_spoilt == (execution == "cudagraph")


def test_in_one_process_the_other_cases_of_that_device_say_why_they_are_not_measured(perf, pytester):
    (pytester.path / "mine.py").write_text(MODEL.format(parent=0, does=LOST))
    result = perf(STEP, "--perf-device=cpu", "--perf-model=mine:factory", "--perf-batch-size=16,32,64")
    result.assert_outcomes(passed=1, failed=1, errors=1)
    said = "not measured, as cpu stopped working: CUDA error: an illegal memory access"
    assert f"{said} (in test_training_step[cpu-bs32]); without --perf-passes=1, the next" in result.stdout.str()
    outcomes = [case["outcome"] for case in read(kept(pytester)[-1])["perf"]["cases"]]
    assert outcomes == ["measured", "failed", "failed"]


def test_an_ordinary_test_may_have_as_many_threads_as_it_likes(perf, pytester):
    """As the scripts in perf/proof have."""
    (pytester.path / "test_other.py").write_text("import torch\n\ndef test_other():\n    torch.set_num_threads(2)\n")
    result = perf(STEP, pytester.path / "test_other.py", "--perf-device=cpu", "--perf-threads=1")
    result.assert_outcomes(passed=2)


def test_a_lost_process_takes_no_other_case_along(perf, pytester):
    does = "os._exit(3) if len(images) == 32 else None"
    (pytester.path / "mine.py").write_text(MODEL.format(parent=os.getpid(), does=does))
    result = perf(STEP, *TWO, "--perf-model=mine:factory", "--perf-batch-size=16,32,64")
    result.assert_outcomes(passed=2, failed=1)
    assert "ended by itself with exit code 3" in result.stdout.str()
    names = [benchmark["param"] for benchmark in read(kept(pytester)[-1])["benchmarks"]]
    assert names == ["cpu-bs16", "cpu-bs64"]


def test_what_is_warned_of_in_a_pass_is_said_once(perf, pytester):
    does = "__import__('warnings').warn('look at this', FutureWarning)"
    (pytester.path / "mine.py").write_text(MODEL.format(parent=os.getpid(), does=does))
    result = perf(STEP, *TWO, "--perf-model=mine:factory", "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*FutureWarning: look at this"])


@pytest.mark.parametrize("how", ["-s", "-rP"])
def test_what_is_printed_in_a_pass_is_not_lost(perf, pytester, how):
    (pytester.path / "mine.py").write_text(MODEL.format(parent=os.getpid(), does="print('look', 'here')"))
    result = perf(STEP, *TWO, "--perf-model=mine:factory", how)
    result.assert_outcomes(passed=1)
    assert "look here" in result.stdout.str()


class FakeLink:
    """A worker that has measured what it is asked for: two rounds of half a second, three calls each."""

    asked: list

    def __init__(self, command, start, env):
        self.asked.append("begin")

    def ask(self, do, limit_s, **arguments):
        self.asked.append((do, *(arguments[name] for name in ("number", "call_s", "iterations") if name in arguments)))
        return {
            "outcome": "measured", "reason": "", "text": "", "warnings": [], "printed": ["", ""], "wall_s": 0.1,
            "pass_s": 0.0, "seconds": [0.5, 0.5], "iterations": 3, "info": {}, "options": {},
        }  # fmt: skip

    def close(self):
        self.asked.append("closed")


@pytest.mark.parametrize(("forks", "between"), [(True, [("end",)]), (False, ["closed", "begin"])])
def test_a_later_pass_knows_what_the_first_has_found(perf, monkeypatch, forks, between):
    FakeLink.asked = []
    monkeypatch.setattr("perf.harness.plugin.passes.can_fork", lambda plan: forks)
    monkeypatch.setattr("perf.harness.plugin.passes.Link", FakeLink)
    perf(STEP, *TWO).assert_outcomes(passed=1)
    first, second = [("pass", 1), ("case", None, None)], [("pass", 2), ("case", 0.5, 3)]
    assert FakeLink.asked == ["begin", *first, *between, *second, "closed"]


@pytest.fixture
def start_of(monkeypatch):
    """A function that sets how long a run takes until it can measure [s]; nothing else takes time."""

    def start_of(seconds):
        readings = itertools.chain([0.0], itertools.repeat(seconds))
        monkeypatch.setattr("perf.harness.plugin.passes.time", types.SimpleNamespace(monotonic=lambda: next(readings)))

    return start_of


@pytest.mark.parametrize(("start_s", "says"), [(3.0, "7 s"), (20.0, "24 s")])
def test_a_run_says_at_its_start_how_long_it_takes(perf, monkeypatch, start_of, start_s, says):
    FakeLink.asked = []
    start_of(start_s)
    monkeypatch.setattr("perf.harness.plugin.passes.Link", FakeLink)
    short = ("--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu")
    result = perf(STEP, *short, quick=False)
    result.stdout.fnmatch_lines([f"1 case in 4 passes: about {says} in all"])
    assert sum(asked[0] == "case" for asked in FakeLink.asked) == 4


@pytest.mark.parametrize(
    ("used", "asked", "says"),
    [
        (0.2, (), "1 case in 4 passes: about 12 s in all"),
        (0.6, (), "1 case in 4 passes: about 14 s in all (other programs use 0.6 of the cores that it needs)"),
        (0.6, ("--perf-passes=4",),
         "1 case in 4 passes: at least 14 s in all (other programs use 0.6 of the cores that it needs)"),
        (0.0, ("--perf-passes=4",), "1 case in 4 passes: about 11 s in all"),
        (None, (), "1 case in 4 passes: about 11 s in all"),
    ],
)  # fmt: skip
def test_beside_other_programs_a_run_promises_less(perf, monkeypatch, others, start_of, used, asked, says):
    FakeLink.asked = []
    start_of(7.0)  # it is over, so that no other program makes it longer
    others[0] = used
    monkeypatch.setattr("perf.harness.plugin.passes.Link", FakeLink)
    result = perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", *asked, quick=False)
    result.stdout.fnmatch_lines([says])


def test_the_time_for_the_cases_is_the_promise_without_the_start(perf, monkeypatch):
    FakeLink.asked, seen, planned = [], [], Timetable.next_pass
    monkeypatch.setattr("perf.harness.plugin.passes.Link", FakeLink)
    monkeypatch.setattr(
        Timetable, "next_pass", lambda plan, *rest: (seen.append(plan.limit_s), planned(plan, *rest))[1]
    )
    perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", quick=False)
    assert seen[0] == pytest.approx(PROFILES["smoke"].whole_s)


class SlowLink(FakeLink):
    """Its cases take longer than those of a small network."""

    def ask(self, do, limit_s, **arguments):
        return super().ask(do, limit_s, **arguments) | {"wall_s": 3.0}


def test_a_run_that_takes_longer_says_so_after_its_first_pass(perf, monkeypatch, start_of):
    SlowLink.asked = []
    start_of(5.0)
    monkeypatch.setattr("perf.harness.plugin.passes.Link", SlowLink)
    result = perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", quick=False)
    result.stdout.fnmatch_lines(
        ["1 case in 4 passes: about 9 s in all", "the cases take longer than expected: about 13 s in all"]
    )
    assert "no time for more" not in result.stdout.str()


def test_the_plan_and_the_promise_know_what_a_pass_takes_to_begin(perf, monkeypatch, start_of):
    class Late(FakeLink):
        def ask(self, do, limit_s, **arguments):
            return super().ask(do, limit_s, **arguments) | {"pass_s": 2.5}

    seen, planned, FakeLink.asked = [], Timetable.next_pass, []
    monkeypatch.setattr(
        Timetable, "next_pass", lambda plan, *rest: (seen.append((plan.pass_s, plan.limit_s)), planned(plan, *rest))[1]
    )
    start_of(5.0)
    monkeypatch.setattr("perf.harness.plugin.passes.Link", Late)
    result = perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", quick=False)
    assert seen[0] == (2.5, pytest.approx(PROFILES["smoke"].whole_s + 3 * 2.5))
    result.stdout.fnmatch_lines(["1 case in 4 passes: about 17 s in all"])


class CrowdedLink(SlowLink):
    """They take longer because other programs use the cores."""

    def ask(self, do, limit_s, **arguments):
        reply = super().ask(do, limit_s, **arguments)
        return reply | {"info": reply.get("info", {}) | {"crowding": 1.5}}


def test_a_run_that_other_programs_hold_up_says_after_its_first_pass_that_there_is_no_other(perf, monkeypatch):
    CrowdedLink.asked = []
    times = iter(range(0, 900, 20))
    monkeypatch.setattr("perf.harness.plugin.passes.Link", CrowdedLink)
    monkeypatch.setattr("perf.harness.plugin.passes.time", types.SimpleNamespace(monotonic=lambda: next(times)))
    result = perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", quick=False)
    late = "took 40 s, as other programs use the cores: there is no time for more passes"
    result.stdout.fnmatch_lines(["1 case in 4 passes: about *", f"pass 1 of 4 {late}"])
    assert result.stdout.str().count("in all") == 1
    assert sum(asked[0] == "case" for asked in CrowdedLink.asked) == 1


def test_a_second_pass_that_is_not_the_next_one_is_not_denied(perf, monkeypatch, start_of):
    CrowdedLink.asked = []
    start_of(5.0)
    monkeypatch.setattr("perf.harness.plugin.passes.Link", CrowdedLink)
    result = perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", quick=False)
    assert [asked[1] for asked in CrowdedLink.asked if asked[0] == "pass"] == [1, 4]
    assert "pass 1 of 4 took" not in result.stdout.str()


@pytest.mark.parametrize(("execution", "passes"), [("compile", 3), ("eager", 1)])
def test_a_case_that_compiles_for_long_has_three_passes_as_later_ones_reuse_that(perf, monkeypatch, execution, passes):
    class Compiles(FakeLink):
        def ask(self, do, limit_s, **arguments):
            first = not any(asked[0] == "case" for asked in self.asked)
            return super().ask(do, limit_s, **arguments) | {
                "wall_s": (2.5 if first else 1.0) * PROFILES["smoke"].long_s
            }

    Compiles.asked = []
    monkeypatch.setattr("perf.harness.plugin.passes.Link", Compiles)
    short = ("--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", f"--perf-execution={execution}")
    perf(STEP, *short, quick=False)
    assert sum(asked[0] == "case" for asked in Compiles.asked) == passes


def test_a_case_that_is_too_long_for_a_second_pass_is_said(perf, monkeypatch):
    class Long(FakeLink):
        def ask(self, do, limit_s, **arguments):
            return super().ask(do, limit_s, **arguments) | {"wall_s": 2.1 * PROFILES["smoke"].long_s}

    Long.asked = []
    monkeypatch.setattr("perf.harness.plugin.passes.Link", Long)
    result = perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", quick=False)
    result.stdout.re_match_lines([r"pass 1 of 4 took \S+ \w+: there is no time for more passes"])
    assert sum(asked[0] == "case" for asked in Long.asked) == 1


@pytest.mark.parametrize("named", ["--perf-rounds=2", "--perf-passes=5"])
def test_a_run_of_named_rounds_or_passes_says_after_the_first_how_long_they_take(perf, monkeypatch, named):
    FakeLink.asked = []
    times = iter(range(0, 900, 7))
    monkeypatch.setattr("perf.harness.plugin.passes.Link", FakeLink)
    monkeypatch.setattr("perf.harness.plugin.passes.time", types.SimpleNamespace(monotonic=lambda: next(times)))
    result = perf(STEP, "--perf-batch-size=64", "--perf-device=cpu", named, quick=False)
    result.stdout.fnmatch_lines(["pass 1 of 5 took 14 s: about 79 s in all"])
    assert result.stdout.str().count("14 s: about") == 1


class SilentLink(FakeLink):
    """It measures a case once, and does not answer when it is asked again."""

    def ask(self, do, limit_s, **arguments):
        if do == "case" and arguments["iterations"]:
            raise SideSilent(f"its process did not answer for {limit_s} s")
        return super().ask(do, limit_s, **arguments)


def test_a_pass_that_takes_far_longer_than_the_first_is_ended_and_the_first_counts(perf, pytester, monkeypatch):
    SilentLink.asked = []
    monkeypatch.setattr("perf.harness.plugin.passes.Link", SilentLink)
    result = perf(STEP, "--perf-device=cpu", "--perf-passes=4")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*cpu-bs64*: pass 2 of 4 was ended after 60 s; the earlier ones count"])
    assert result.stdout.str().count("was ended") == 1  # it is not tried again
    assert read(kept(pytester)[-1])["benchmarks"][0]["extra_info"]["pass_rounds"] == {"1": 2}


def test_beside_other_programs_a_later_pass_takes_no_longer_than_the_run_may_still_take(perf, monkeypatch):
    SilentLink.asked = []
    monkeypatch.setattr("perf.harness.plugin.passes.Link", SilentLink)
    monkeypatch.setattr("perf.harness.plugin.passes.time", types.SimpleNamespace(monotonic=lambda: 100.0))
    result = perf(STEP, "--perf-profile=smoke", "--perf-batch-size=64", "--perf-device=cpu", quick=False)
    result.stdout.fnmatch_lines(["*cpu-bs64*: pass 2 of 4 was ended after 13 s; the earlier ones count"])


class SlowerLink(FakeLink):
    """It measures a case once; then the case takes longer than its profile allows."""

    def ask(self, do, limit_s, **arguments):
        later = do == "case" and arguments["iterations"]
        return super().ask(do, limit_s, **arguments) | ({"outcome": "skipped", "reason": "too long"} if later else {})


def test_a_case_that_is_skipped_in_a_later_pass_keeps_what_it_has(perf, pytester, monkeypatch):
    SlowerLink.asked = []
    monkeypatch.setattr("perf.harness.plugin.passes.Link", SlowerLink)
    perf(STEP, *TWO).assert_outcomes(passed=1)
    assert read(kept(pytester)[-1])["benchmarks"][0]["extra_info"]["pass_rounds"] == {"1": 2}


class CompiledLink(FakeLink):
    """It notes whether the folder for what is compiled has been used before, and uses it."""

    folders: list

    def ask(self, do, limit_s, **arguments):
        if do == "case":
            folder = Path(arguments["cache"])
            self.folders.append((folder, folder.exists()))
            folder.mkdir(parents=True, exist_ok=True)
        return super().ask(do, limit_s, **arguments)


def test_a_later_pass_uses_what_the_first_compiled_and_nothing_stays(perf, monkeypatch):
    CompiledLink.asked, CompiledLink.folders = [], []
    monkeypatch.setattr("perf.harness.plugin.passes.Link", CompiledLink)
    perf(STEP, *TWO, "--perf-execution=compile", "--perf-batch-size=16,64").assert_outcomes(passed=2)
    (one, _), (other, _), *_ = CompiledLink.folders
    assert CompiledLink.folders == [(one, False), (other, False), (one, True), (other, True)]
    assert one != other
    assert not one.parent.exists()


REFUSED = """
import os
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images):
        {does}

def factory():
    return Network()
"""


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("return images", "mine:factory: for images (2, 1, 28, 28) the network must return logits (2, 10)*"),
        ("os._exit(7)", "pass 1 cannot start: its process ended by itself with exit code 7*"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_in_one_line_by_the_process_that_measures(perf, pytester, does, says):
    (pytester.path / "mine.py").write_text(REFUSED.format(does=does))
    result = perf(STEP, *TWO, "--perf-model=mine:factory")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {says}"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_what_needs_no_second_look_is_left_out_of_later_passes(perf, pytester, monkeypatch):
    once = {"overhead_s", "flop_per_sample", "flop_uncounted", "bytes_per_sample", "parity_steps", "parity_difference"}
    seen = []
    for one in (Pass(1, 2), Pass(2, 2)):
        monkeypatch.setattr(Measure, "one", one)
        perf(STEP, PERF / "test_inference.py", "--perf-device=cpu", "--perf-precision=bf16").assert_outcomes(passed=2)
        newest = max(kept(pytester), key=lambda path: path.stat().st_mtime_ns)
        seen.append([once & benchmark["extra_info"].keys() for benchmark in read(newest)["benchmarks"]])
    assert seen == [[once, once - {"bytes_per_sample", "parity_steps"}], [set(), set()]]


def test_a_pass_that_cannot_begin_says_why(perf, monkeypatch):
    monkeypatch.setattr("perf.harness.plugin.passes.InPasses._arguments", lambda self: ["--no-such-option"])
    result = perf(STEP, *TWO)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    why = "its process ended by itself with exit code 4: *unrecognized arguments: --no-such-option"
    result.stderr.fnmatch_lines([f"ERROR: pass 1 cannot start: {why}; use --perf-passes=1 to measure in this process"])


def test_one_pass_is_in_this_process(perf, pytester):
    does = "__import__('pathlib').Path('pids').write_text(str(os.getpid()))"
    (pytester.path / "mine.py").write_text(MODEL.format(parent=0, does=does))
    perf(STEP, "--perf-device=cpu", "--perf-passes=1", "--perf-model=mine:factory").assert_outcomes(passed=1)
    assert (pytester.path / "pids").read_text() == str(os.getpid())
    assert "pass_rounds" not in read(kept(pytester)[-1])["benchmarks"][0]["extra_info"]


def test_a_case_that_is_too_short_for_its_load_to_be_seen_has_that_of_the_time_before_it(perf, pytester, monkeypatch):
    """Others use half a core; each look at the load is 0.11 s after the one before."""
    looks = itertools.count()

    def look(company):
        now = 0.11 * next(looks)
        company._seen.append((now, 0.5 * now, None))
        return company._seen[-1]

    monkeypatch.setattr(Company, "_read", look)
    perf(STEP, "--perf-device=cpu", "--perf-passes=1", "--perf-batch-size=8,16").assert_outcomes(passed=2)
    first, second = (one["extra_info"] for one in read(kept(pytester)[-1])["benchmarks"])
    assert "others_cores" not in first
    assert second["others_cores"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "option", ["--benchmark-disable", "--benchmark-skip", "--pdb", "--benchmark-cprofile=cumtime", "--setup-only"]
)
def test_what_looks_into_this_process_has_one_pass(perf, option):
    result = perf(STEP, "--perf-device=cpu", "--perf-passes=2", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = option.split("=")[0]
    result.stderr.fnmatch_lines([f"ERROR: {name} needs --perf-passes=1, because several passes run in other processes"])


@pytest.mark.parametrize(
    ("option", "says"),
    [("--benchmark-disable", "1, in this process, because of --benchmark-disable"),
     ("--benchmark-cprofile=cumtime", "1, in this process, because of --benchmark-cprofile"),
     ("--perf-passes=1", None)],
)  # fmt: skip
def test_an_option_that_needs_this_process_is_named_where_the_passes_are(perf, option, says):
    result = perf(STEP, "--perf-device=cpu", option, "--collect-only", quick=False)
    found = [line.removeprefix("passes").strip() for line in result.outlines if line.startswith("passes ")]
    assert found == ([says] if says else [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--perf-precision-target=1%"], "--perf-precision-target and --perf-rounds exclude each other*"),
        (["--perf-passes=2", "--perf-profile=qualify"], "--perf-passes and --perf-profile=qualify exclude each other*"),
        (["--perf-passes=2", "--perf-against=HEAD"], "--perf-passes and --perf-against exclude each other*"),
    ],
)
def test_what_belongs_to_passes_is_refused_where_it_would_be_ignored(perf, arguments, says):
    result = perf(STEP, *arguments)  # and --perf-rounds
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {says}"])


def test_a_case_after_one_that_another_plugin_ended_has_its_own_times(perf, monkeypatch):
    """As pytest-timeout does it: the reply to the first case is never read."""
    asked, line, kept, keep = itertools.count(1), Link._line, [], InPasses._keep

    def limited(link, limit_s):
        if next(asked) == 6:  # a pass, two cases, its end, a pass, and the first case of the last pass
            pytest.fail("Timeout (>13.0s) from pytest-timeout.")
        return line(link, limit_s)

    def keeps(way, item):
        kept.append((item.name, way._replies[item.nodeid][-1]["info"]["batch_size"]))
        return keep(way, item)

    monkeypatch.setattr(Link, "_line", limited)
    monkeypatch.setattr(InPasses, "_keep", keeps)
    result = perf(STEP, "--perf-device=cpu", "--perf-passes=2", "--perf-batch-size=8,16")
    result.assert_outcomes(passed=1, failed=1)
    first, second = "test_training_step[cpu-bs8]", "test_training_step[cpu-bs16]"
    assert kept == [(first, 8), (second, 16), (second, 16)]


def test_a_profile_has_its_passes(perf):
    for profile, passes in {"smoke": 4, "standard": 5, "full": 3}.items():
        result = perf(STEP, "--perf-device=cpu", f"--perf-profile={profile}", "--collect-only", quick=False)
        result.stdout.fnmatch_lines([f"passes    {passes}, each in its own process; *"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])  # SIGINT is ignored below a nohup
def test_an_interrupted_run_keeps_what_is_finished_and_leaves_no_process(pytester, digits_root, torch_process, how):
    storage = pytester.path / "kept"
    command = [sys.executable, "-m", "pytest", str(STEP), "-p", "no:cacheprovider", *QUICK, *TWO, "--perf-data=digits"]
    command += [f"--perf-data-root={digits_root}", f"--benchmark-storage={storage}", "--perf-batch-size=16,64"]
    with torch_process.start(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        while not kept(pytester):
            assert run.poll() is None
            time.sleep(0.02)
        started = torch_process.started()
        workers = [one for one in started if one.pid != run.pid and one.ppid() != torch_process.pid]
        assert workers
        run.send_signal(how)
        said = run.stdout.read()
    document = read(kept(pytester)[0])
    assert document["benchmarks"]
    for benchmark in document["benchmarks"]:  # before the second pass began
        assert benchmark["extra_info"]["pass_rounds"] == {"1": 2}
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive
    if how is signal.SIGTERM:
        assert run.returncode == pytest.ExitCode.INTERRUPTED
        assert "PARTIAL: the run did not finish" in said
