"""The self-test of the gate: what its trials come to, its words, and its command line; nothing is measured."""

import subprocess
import sys
from dataclasses import replace

import pytest

from model import load_recipe
from perf.__main__ import main
from perf.harness.measurement.side_by_side import selftest
from perf.harness.measurement.side_by_side.pair import Compared
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.report.selftest import one_trial, render_selftest
from perf.harness.verdict.launches import Visit
from perf.harness.verdict.trials import Trial, outcome_of
from perf.harness.workload.axes import Axes
from tests.conftest import PERF


def judged(name, verdict, detectable=1.03):
    return Judgement(name, verdict, ratio=1.0, low=0.99, high=1.01, launches=4, smallest_detectable=detectable)


SAME = (judged("a", Verdict.SAME), judged("b", Verdict.SAME, 1.034))
NULL = [Trial("compute", 0.0, SAME, 50.0, 0.12, (), (), (1.0, 1.08))] * 2
SLOWER = (judged("a", Verdict.SLOWER), judged("b", Verdict.SLOWER))
FOUND = [Trial("compute", 0.05, SLOWER, 60.0, None, (0.049, 0.051), (), (1.06,))]
MISSED = [Trial("sleep", 0.02, (judged("a", Verdict.INCONCLUSIVE), judged("b", Verdict.INVALID, None)), 61.0, 0.5)]
ACCUSED = [Trial("compute", 0.0, (judged("a", Verdict.SLOWER), judged("b", Verdict.SAME)), 55.0, 0.3)]


def test_trials_are_summed_up():
    found = outcome_of(NULL)
    assert (found.gates, found.benchmarks, found.slower, found.same, found.other) == (2, 4, 0, 4, 0)
    assert (found.gates_with_slower, found.launches, found.seconds) == (0, 4.0, 50.0)
    assert (found.stock_flagged, found.stock_pairs, found.reached) == (2, 4, None)
    assert found.detectable == pytest.approx(0.032)
    planted = outcome_of(FOUND)
    assert (planted.slower, planted.gates_with_slower, planted.others_cores) == (2, 1, None)
    assert planted.reached == pytest.approx(0.05)
    assert outcome_of(MISSED).other == 1
    assert outcome_of(ACCUSED).gates_with_slower == 1


@pytest.mark.parametrize(
    ("share", "slower", "missed", "false_alarm"),
    [(0.1, 20, False, False), (0.1, 19, False, False), (0.1, 18, True, False), (0.0, 0, False, False),
     (0.0, 1, False, True)],
)  # fmt: skip
def test_19_of_20_planted_slowdowns_are_enough_and_one_of_nothing_is_too_many(share, slower, missed, false_alarm):
    found = [judged(str(number), Verdict.SLOWER if number < slower else Verdict.SAME) for number in range(20)]
    outcome = outcome_of([Trial("compute", share, tuple(found), 50.0, None)])
    assert (outcome.missed, outcome.false_alarm) == (missed, false_alarm)


SMALL = [Trial("sleep", 0.1, (judged("a", Verdict.SLOWER),), 61.0, 0.5, (0.1,), ("b",))]


def test_a_stored_run_flags_what_is_more_than_5_percent_slower():
    (trial,) = FOUND
    found = outcome_of([replace(trial, stock=(1.04, 1.05, 1.051))])
    assert (found.stock_flagged, found.stock_pairs) == (1, 3)


def test_what_is_too_small_to_be_planted_is_neither_found_nor_missed():
    """10% of a step of 0.3 ms is less than the shortest sleep."""
    found = outcome_of(SMALL * 2)
    assert (found.benchmarks, found.slower, found.unplanted) == (2, 2, 2)
    assert "10% sleep: found in 2 of 2 benchmarks; it was too small to be planted in 2 more." in render_selftest(
        [found], width=100
    )
    assert (
        one_trial(SMALL[0], 1, 2) == "10% sleep, gate 1 of 2: 1 SLOWER, 61 s, load 0.50; too small to be planted in b"
    )
    nothing = Trial("sleep", 0.1, (), 61.0, 0.5, (), ("a", "b"))
    assert (outcome_of([nothing]).benchmarks, outcome_of([nothing]).launches) == (0, 0.0)
    assert one_trial(nothing, 1, 1).startswith("10% sleep, gate 1 of 1: nothing judged, 61 s")


class FakeGate:
    """A gate in which nothing could be planted in one benchmark, and half of it in another; all are SAME.

    The first launch of the latter told no size.
    """

    elapsed_s, others_cores = 50.0, None

    def __init__(self, todo, launch, rule, *, budget_s, cores, watcher):
        self.todo, self.watcher = todo, watcher
        self.reached = dict.fromkeys([case.name for case in todo], (0.1, 0.09, 0.1))
        self.reached |= {"inference[cpu-bs64]": (None,) * 3, "epoch[cpu-bs64-resident]": (None, 0.05, 0.05)}

    def run(self):
        for case in self.todo:
            for size in self.reached[case.name]:
                self.watcher.measured(case, [{"base": Visit((1.0,)), "head": Visit((1.1,))}], size)
        return [judged(case.name, Verdict.SAME) for case in self.todo]


def test_only_what_was_planted_is_judged(monkeypatch):
    monkeypatch.setattr(selftest, "Gate", FakeGate)
    inject = {"kind": "sleep", "share": 0.1}
    todo = selftest.cases("sleep", "cpu", load_recipe("simple_nn"))
    trial = selftest._one(selftest.settings("cpu"), {}, todo, inject, 0.1, "sleep", lambda line: None)
    assert trial.unplanted == ("inference[cpu-bs64]",)
    assert [one.name for one in trial.judgements] == [case.name for case in todo if case.kind != "inference"]
    assert trial.injected == (0.1, 0.09, 0.1, 0.1, 0.09, 0.1, 0.0, 0.05, 0.05)
    null = selftest._one(selftest.settings("cpu"), {}, todo, None, 0.0, "sleep", lambda line: None)
    assert (len(null.judgements), null.unplanted, null.injected) == (4, (), ())


def test_no_trials_cannot_be_summed_up():
    with pytest.raises(ValueError, match="no trials"):
        outcome_of([])


def test_the_table_and_the_words_of_a_machine_that_misses_a_small_slowdown():
    outcomes = [outcome_of(trials) for trials in (NULL, FOUND, MISSED)]
    assert (
        render_selftest(outcomes, width=100)
        == """\
What the gate can tell on this machine

Self-test

planted     reached  gates  SLOWER  SAME  INCONCL.  other  pairs  s/gate  load  median:5%
----------  -------  -----  ------  ----  --------  -----  -----  ------  ----  ---------
nothing           –      2  0 of 4     4         0      0    4.0      50  0.12     2 of 4
5% compute     5.0%      1  2 of 2     0         0      0    4.0      60     –     1 of 1
2% sleep          –      1  0 of 2     0         1      1    4.0      61  0.50     0 of 0

Nothing planted: 0 of 4 benchmarks were false alarms, in 0 of 2 gates: at most 52.7% of all with 95%
confidence.
5% compute: found in 2 of 2 benchmarks.
2% sleep: found in 0 of 2 benchmarks.
median:5%: how often --benchmark-compare-fail=median:5% would have failed, if it compares head with
the base of the pair before. load: the cores that other programs used. reached: the slowdown that
the worker measured.
A slowdown typically has to reach 3.2% to be found here.
No false alarm in 2 gates of unchanged code, but the gate misses slowdowns of 2% sleep."""
    )


@pytest.mark.parametrize(
    ("trials", "advice"),
    [
        (
            (NULL, FOUND),
            "No false alarm, but so few benchmarks show only that at most 52.7% of unchanged ones would fail. "
            "To show 1%, it takes 150 gates: --gates 150.",
        ),
        (
            (NULL * 75, FOUND),
            "You can switch --perf-gate=fail on: at most 1.0% of unchanged benchmarks would fail, with 95% confidence.",
        ),
        (
            (ACCUSED, FOUND),
            "The gate called unchanged code SLOWER: do not let it fail a build here (use --perf-gate=warn), "
            "and please report it.",
        ),
    ],
)
def test_the_last_word_is_whether_the_gate_may_fail_a_build(trials, advice):
    text = render_selftest([outcome_of(some) for some in trials], width=1000)
    assert text.splitlines()[-1] == advice


def test_without_a_null_or_without_a_slowdown_there_is_no_such_word():
    for trials in (NULL, FOUND):
        assert "You can" not in render_selftest([outcome_of(trials)], width=100)


def test_markdown_is_a_table_too():
    lines = render_selftest([outcome_of(NULL)], width=100, format="github").splitlines()
    assert lines[0] == "## What the gate can tell on this machine"
    assert any(line.startswith("| nothing ") for line in lines)


def test_one_gate_is_one_line():
    assert one_trial(NULL[0], 1, 2) == "nothing planted, gate 1 of 2: 2 SAME, 50 s, load 0.12"
    assert one_trial(MISSED[0], 3, 5) == (
        "2% sleep, gate 3 of 5: 1 INCONCLUSIVE · 1 INVALID, 61 s, load 0.50; missed a, b"
    )


def test_a_slow_input_is_looked_for_where_there_is_an_input():
    assert selftest.cases("sleep", "cpu", load_recipe("simple_nn"))[0] == Compared(
        "training_step[cpu-bs64]", "training_step", Axes("cpu", 64, None)
    )
    assert {case.kind for case in selftest.cases("input", "cuda", load_recipe("simple_nn"))} == {
        "epoch",
        "input_pipeline",
    }
    assert all(
        case.axes.pipeline and case.axes.device == "cuda"
        for case in selftest.cases("input", "cuda", load_recipe("simple_nn"))
    )


class FakeLink:
    """A worker that finds an amount of 40 where none is given to it."""

    def __init__(self):
        self.asked = []

    def request(self, do, **arguments):
        self.asked.append((do, arguments))

    def reply(self, limit_s):
        do, arguments = self.asked[-1]
        return {"step_s": 1.0, "amount": 40.0} if do == "prepare" and arguments["amount"] is None else {"step_s": 1.0}


def test_later_launches_plant_the_amount_that_the_first_one_found():
    amounts = {}
    planted = []
    for core in (0, 1):  # each launch has its own worker; which core warms it up makes no difference
        link = FakeLink()
        worker = selftest._Planted(link, amounts)
        for kind in ("epoch", "inference"):
            worker.request("prepare", kind=kind, batch_size=64, core=core)
            worker.reply(1.0)
            worker.request("visit", steps=3)
            worker.reply(1.0)
        planted.append([arguments["amount"] for do, arguments in link.asked if do == "prepare"])
    assert planted == [[None, None], [40.0, 40.0]]
    assert len(amounts) == 2


def test_a_stored_run_is_contrasted_with_the_next_process():
    seen = selftest._Seen(lambda line: None)
    case = Compared("epoch[cpu-bs64]", "epoch", Axes("cpu", 64, "resident"))
    for base, head in ((1.0, 1.1), (2.0, 1.2), (4.0, 3.0)):
        rounds = [{"base": Visit((base, base, 9.0)), "head": Visit((head,))}] * 3
        seen.measured(case, rounds, 0.05)
    assert list(seen.stock_ratios()) == [1.2 / 1.0, 3.0 / 2.0]
    assert seen.injected == {"epoch[cpu-bs64]": [0.05] * 3}


@pytest.fixture
def planned(monkeypatch):
    """What the command would have run; each gate comes to the same."""
    asked = []

    def run(settings, todo, kind, share, gates, say):
        asked.append((settings.devices, len(todo), kind, share, gates))
        yield from (FOUND if share else NULL[:1]) * gates

    monkeypatch.setattr(selftest, "run", run)
    return asked


def test_the_command_runs_the_gates_of_each_size_and_prints_the_table(planned, capsys, tmp_path):
    table = tmp_path / "table.md"
    asked = ["--gates=2", "--inject=0%,5%", "-k", "training_step", "--format=github", f"--output={table}"]
    assert main(["selftest", *asked]) == 0
    assert planned == [(("cpu",), 2, "compute", 0.0, 2), (("cpu",), 2, "compute", 0.05, 2)]
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(
        "4 gates; the first one shows how long all of them take\n"
        "nothing planted, gate 1 of 2: 2 SAME, 50 s, load 0.12; about 0 s left\n"
    )
    assert "5% compute: found in 4 of 4 benchmarks." in out
    assert table.read_text().startswith("## What the gate can tell on this machine\n")


def test_the_defaults_are_five_gates_of_nothing_5_and_10_percent(planned, capsys):
    assert main(["selftest"]) == 0
    assert [(cases, share, gates) for _, cases, _, share, gates in planned] == [(4, 0.0, 5), (4, 0.05, 5), (4, 0.1, 5)]


def test_a_part_of_the_benchmarks_can_be_chosen():
    (found,) = selftest.cases("sleep", "cpu", load_recipe("simple_nn"), "step[cpu-bs64]")
    assert found.name == "training_step[cpu-bs64]"


def test_an_interrupt_prints_what_is_known(monkeypatch, capsys):
    def run(*arguments):
        yield NULL[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "run", run)
    assert main(["selftest", "--gates=3"]) == 130
    out = " ".join(capsys.readouterr().out.split())
    assert "Nothing planted: 0 of 2 benchmarks were false alarms, in 0 of 1 gates: at most 77.6% of all" in out


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--gates=0", "argument --gates: '0' is not a number of gates, 1 to 1000"),
        ("--gates=1001", "argument --gates: '1001' is not a number of gates, 1 to 1000"),
        ("--gates=many", "argument --gates: 'many' is not a number of gates, 1 to 1000"),
        ("--inject=5", "argument --inject: '5' is not a size, written like 5%, of 100% at most"),
        ("--inject=0%,-5%", "argument --inject: '-5%' is not a size, written like 5%, of 100% at most"),
        ("--inject=101%", "argument --inject: '101%' is not a size, written like 5%, of 100% at most"),
        ("--inject=", "argument --inject: '' is not a size, written like 5%, of 100% at most"),
        ("--kind=heat", "argument --kind: invalid choice: 'heat'"),
        ("--device=toaster", "--device: 'toaster' is not a device; use cpu, cuda, cuda:1, mps, xpu or all"),
        ("--device=cuda", "--device: cuda is absent: unplugged"),
        ("-kepok", "-k: 'epok' is in no name of training_step[cpu-bs64], training_step[cpu-bs512], inference"),
        ("--device=cpu,cuda", "--device: 'cpu,cuda' is 2 devices; test one device at a time"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_4(argument, says, planned, capsys, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    try:
        code = main(["selftest", argument])
    except SystemExit as stop:
        code = stop.code
    assert code == 4
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m perf") and says in last
    assert planned == []


def test_a_users_training_is_tested_at_its_own_batch_sizes_and_without_inference_if_it_has_none(tmp_path):
    (tmp_path / "gan.py").write_text(
        "from torch import nn\nclass Gan:\n    batch_sizes = (3, 5)\n"
        "    def __init__(self): self.net = nn.Linear(1, 1)\n"
        "    def batch(self, size): ...\n    def step(self, batch): ...\n"
    )
    found = selftest.cases("sleep", "cpu", load_recipe(f"{tmp_path}/gan.py:Gan"))
    assert [case.name for case in found] == [
        "training_step[cpu-bs3]",
        "training_step[cpu-bs5]",
        "epoch[cpu-bs3-resident]",
    ]


def test_the_offline_commands_run_from_any_folder(tmp_path):
    command = [sys.executable, PERF, "report", "nowhere.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "nowhere.json" in done.stderr and "Traceback" not in done.stderr
