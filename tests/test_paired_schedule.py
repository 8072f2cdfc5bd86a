"""The paired gate's schedule, with fake workers and a fake clock: who is launched when, and what ends it."""

import itertools
import random
import re

import pytest

from perf.harness.measurement.side_by_side.link import SideError, SideLost, SideSilent
from perf.harness.measurement.side_by_side.pair import (
    BASE,
    CPU_SHARE,
    HEAD,
    LEAST_STEPS,
    MOST_STEPS,
    ROUNDS_PER_CORE,
    VISIT_S,
    Compared,
)
from perf.harness.measurement.side_by_side.schedule import Gate, Watcher
from perf.harness.record.judgement import Verdict
from perf.harness.verdict.launches import FEWEST_ROUNDS, LEAST_ROUNDS, LOOKS, Rule
from perf.harness.workload.axes import Axes

STEP_S = 1e-3
CASE_S = 1.5
START_S = 2.0  # what a fake pair takes to load
REQUEST_S = 1e-5  # what a request takes beside its steps


@pytest.fixture(autouse=True)
def _case_s(monkeypatch):
    """These tests are about the schedule, whatever the time of a case is set to."""
    monkeypatch.setattr("perf.harness.measurement.side_by_side.pair.CASE_S", CASE_S)
    monkeypatch.setattr("perf.harness.measurement.side_by_side.schedule.GUESSED_START_S", START_S)
    monkeypatch.setattr("perf.harness.measurement.side_by_side.schedule.GUESSED_CASE_S", CASE_S)


class Lab:
    """Fake workers of both sides on one fake clock.

    `ratios` gives head's time over base's by case and launch; `faults` what a side does on a command for a case.
    """

    def __init__(self, *, step_s=STEP_S, ratio=lambda case, launch: 1.0, faults=None, replies=None, cores=()):
        self.now = 0.0
        self.step_s = step_s
        self.ratio = ratio
        self.faults = faults or {}
        self.replies = replies or {}
        self.cores = cores
        self.workers = []
        self.most_alive = 0
        self.visits = []  # (launch, case, side, core, steps)
        self.prepared = []  # (launch, case), once for both sides
        self.homes = []  # (side, core) of each that was warmed up
        self.start_s = lambda: START_S
        self.others_s = lambda: None
        self.used = None  # the CPU time of each side, by the kernel's count

    @property
    def launch_number(self):
        return sum(worker.side == HEAD for worker in self.workers)

    def clock(self):
        return self.now

    def start(self, side):
        if error := self.faults.get((side, "start", None)):
            raise error
        worker = FakeWorker(self, side)
        self.workers.append(worker)
        self.most_alive = max(self.most_alive, sum(worker.alive for worker in self.workers))
        return worker

    def gate(self, *cases, budget_s=1e6, watcher=None, seed=1):
        cases = [case if isinstance(case, Compared) else named(case) for case in cases]
        return Gate(
            cases,
            self.start,
            Rule(len(cases)),
            budget_s=budget_s,
            cores=self.cores,
            watcher=watcher or Watcher(),
            clock=self.clock,
            foreign_cpu_s=self.others_s,
            rng=random.Random(seed),
        )

    def rounds(self, launch=1):
        """The visits of one launch, two by two."""
        made = [visit for visit in self.visits if visit[0] == launch]
        return list(zip(made[::2], made[1::2], strict=True))


def named(name):
    return Compared(name, name, Axes("cpu", 64, None))


class FakeWorker:
    def __init__(self, lab, side):
        self.lab = lab
        self.side = side
        self.alive = True
        self.case = None
        self.waiting = []

    def request(self, do, **arguments):
        assert self.alive, "a request to a worker that has gone"
        self.waiting.append((do, arguments))

    def reply(self, limit_s):
        do, arguments = self.waiting.pop(0)
        if do == "prepare":
            self.case = arguments["kind"]
        key = (self.side, do, self.case)
        fault = self.lab.faults.get(key)
        if isinstance(fault, list):  # one for each time; None for none
            fault = fault.pop(0) if fault else None
        if fault is not None:
            self.alive = self.alive and not isinstance(fault, SideLost)
            raise fault
        made = getattr(self, do)(**arguments)
        return made | self.lab.replies.get(key, {})

    def cpu_s(self):
        return None if self.lab.used is None else self.lab.used[self.side]

    def load(self):
        self.lab.now += self.lab.start_s() / 2
        return {"data": "abc", "sources": {"model/mlp.py": "1"}}

    def weigh(self, **axes):
        return {"bytes": 100 << 20, "trained": {"weight": True}, "loss": 2.3}

    def prepare(self, kind, core, **axes):
        assert Axes(**axes) == Axes("cpu", 64, None)
        self.lab.homes.append((self.side, core))
        if self.side == HEAD:
            self.lab.prepared.append((self.lab.launch_number, kind))
        return {"step_s": self.lab.step_s}

    def visit(self, steps, core):
        launch = self.lab.launch_number
        self.lab.visits.append((launch, self.case, self.side, core, steps))
        factor = self.lab.ratio(self.case, launch) if self.side == HEAD else 1.0
        self.lab.now += steps * self.lab.step_s * factor
        each_s = self.lab.step_s * factor
        self.lab.now += REQUEST_S
        return {"wall_s": [each_s] * (steps - 1), "cpu_s": [each_s] * (steps - 1), "total_s": each_s * steps}

    def finish(self):
        return {"problem": ""}

    def close(self):
        self.alive = False


def verdicts(judgements):
    return {judged.name: str(judged.verdict) for judged in judgements}


def test_the_same_code_is_same_after_the_first_look():
    lab = Lab()
    (judged,) = lab.gate("a").run()
    assert (judged.verdict, judged.launches, judged.ratio) == (Verdict.SAME, LOOKS[0], 1.0)


def test_the_times_are_those_of_a_step_where_a_side_takes_whole_cycles():
    """Head takes as long for four steps as base for one."""
    (judged,) = Lab(replies={(HEAD, "prepare", "a"): {"cycle": 4}}).gate("a").run()
    assert (judged.verdict, judged.ratio) == (Verdict.FASTER, pytest.approx(0.25))


def test_every_round_visits_both_sides_in_a_random_order():
    lab = Lab()
    lab.gate("a").run()
    sides = [(first[2], second[2]) for first, second in lab.rounds()]
    assert {tuple(sorted(pair)) for pair in sides} == {(BASE, HEAD)}
    heads_first = sum(pair[0] == HEAD for pair in sides)
    assert 0.3 < heads_first / len(sides) < 0.7
    assert len({pair for pair in itertools.pairwise(pair[0] for pair in sides)}) == 4  # no pattern of two


@pytest.mark.parametrize(("step_s", "per_core"), [(1e-3, ROUNDS_PER_CORE), (2.0, FEWEST_ROUNDS // 2)])
def test_all_visits_of_a_round_are_on_one_core_and_the_core_rotates(step_s, per_core):
    lab = Lab(cores=(4, 7, 9), step_s=step_s)
    lab.gate("a").run()
    rounds = lab.rounds()
    assert all(first[3] == second[3] for first, second in rounds)
    cores = [first[3] for first, _ in rounds]
    expected = [(4, 7, 9)[number // per_core % 3] for number in range(len(cores))]
    assert ROUNDS_PER_CORE == 10
    assert cores == expected


def test_without_cores_nothing_is_pinned():
    lab = Lab()
    lab.gate("a").run()
    assert {visit[3] for visit in lab.visits} == {None}
    assert {core for _, core in lab.homes} == {None}


@pytest.mark.parametrize(("cores", "homes"), [((4, 7, 9), {4, 7}), ((4,), {4})])
def test_the_sides_warm_up_at_the_same_time_on_different_cores_where_there_are_two(cores, homes):
    lab = Lab(cores=cores)
    lab.gate("a", "b").run()
    for first, second in zip(lab.homes[::2], lab.homes[1::2], strict=True):
        assert {first[0], second[0]} == {BASE, HEAD}
        assert {first[1], second[1]} == homes


def test_the_load_is_what_others_used_since_the_gate_began():
    lab = Lab()
    lab.others_s = lambda: 100.0 + 0.4 * lab.now
    gate = lab.gate("a")
    gate.run()
    assert gate.others_cores == pytest.approx(0.4)
    lab.others_s = lambda: None
    gate = lab.gate("a")
    gate.run()
    assert gate.others_cores is None


def test_each_launch_has_a_fresh_worker_of_each_side_and_never_more_than_two_are_alive():
    lab = Lab()
    lab.gate("a", "b").run()
    assert [worker.side for worker in lab.workers].count(BASE) == LOOKS[0]
    assert [worker.side for worker in lab.workers].count(HEAD) == LOOKS[0]
    assert lab.most_alive == 2
    assert not any(worker.alive for worker in lab.workers)


def test_a_launch_takes_all_undecided_benchmarks_in_random_order():
    lab = Lab(ratio=lambda case, launch: 1.15 if launch % 2 else 1 / 1.15)
    names = ["a", "b", "c", "d"]
    lab.gate(*names).run()
    orders = [[case for launch, case in lab.prepared if launch == number + 1] for number in range(LOOKS[-1])]
    assert all(sorted(order) == names for order in orders)
    assert len({tuple(order) for order in orders}) > 8


@pytest.mark.parametrize("command", ["load", "prepare", "visit", "finish"])
def test_workers_are_closed_after_an_interrupt(command):
    case = None if command == "load" else "a"
    lab = Lab(faults={(HEAD, command, case): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        lab.gate("a").run()
    assert len(lab.workers) == 2
    assert not any(worker.alive for worker in lab.workers)


def test_a_worker_is_closed_where_the_other_cannot_be_started():
    lab = Lab(faults={(BASE, "start", None): SideLost("python9 cannot be started: No such file or directory")})
    for seed in range(4):  # in whichever order
        (judged,) = lab.gate("a", seed=seed).run()
        assert judged.verdict is Verdict.INCONCLUSIVE
        assert judged.reason == "base: python9 cannot be started: No such file or directory"
    assert not any(worker.alive for worker in lab.workers)


def test_a_benchmark_that_is_decided_early_is_left_out_of_later_launches():
    lab = Lab(ratio=lambda case, launch: {"steady": 1.0, "slow": 1.1}.get(case) or (1.15 if launch % 2 else 1 / 1.15))
    found = {judged.name: judged for judged in lab.gate("steady", "slow", "unsteady").run()}
    assert verdicts(found.values()) == {"steady": "SAME", "slow": "SLOWER", "unsteady": "INCONCLUSIVE"}
    assert [found[name].launches for name in ("steady", "slow", "unsteady")] == [LOOKS[0], LOOKS[0], LOOKS[-1]]
    launched = [case for _, case in lab.prepared]
    assert [launched.count(name) for name in ("steady", "slow", "unsteady")] == [4, 4, 16]


def test_a_slower_benchmark_says_by_how_much():
    (judged,) = Lab(ratio=lambda case, launch: 1.1).gate("a").run()
    assert judged.verdict is Verdict.SLOWER
    assert judged.ratio == pytest.approx(1.1)
    assert (judged.base_s, judged.head_s) == pytest.approx((1e-3, 1.1e-3))


def test_launches_that_differ_too_much_are_inconclusive_after_the_last_look():
    lab = Lab(ratio=lambda case, launch: 1.15 if launch % 2 else 1 / 1.15)
    (judged,) = lab.gate("a").run()
    assert (judged.verdict, judged.launches) == (Verdict.INCONCLUSIVE, 16)
    assert judged.reason == "16 pairs differ too much"
    assert judged.smallest_detectable > 1.05
    assert lab.launch_number == 16


def test_the_time_budget_ends_it_and_the_message_names_the_option():
    lab = Lab(ratio=lambda case, launch: 1.15 if launch % 2 else 1 / 1.15)
    (judged,) = lab.gate("a", budget_s=30).run()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.launches == LOOKS[2]
    assert judged.reason == (
        "undecided after 8 pairs: a verdict is possible in about 14 s, and the time budget of 30 s has 1 s left; "
        "give at least --perf-time-budget=50s, or a quieter machine"
    )
    assert judged.low < 1 < judged.high  # what is known is said
    (judged,) = Lab(ratio=lambda case, launch: 1.15 if launch % 2 else 1 / 1.15).gate("a", budget_s=50).run()
    assert judged.launches == LOOKS[3]


def test_nothing_is_launched_that_does_not_fit():
    """A launch takes 2 s to load and 1.5 s of rounds: four fit into 17 s, a fifth does not."""
    lab = Lab(ratio=lambda case, launch: 1.15 if launch % 2 else 1 / 1.15)
    (judged,) = lab.gate("a", budget_s=17).run()
    assert lab.launch_number == judged.launches == 4
    assert lab.now < 17


@pytest.mark.parametrize(("budget_s", "launches"), [(21.5, 4), (20.5, 1)])
def test_a_budget_that_may_suffice_is_used(budget_s, launches):
    """The first launch takes 6.25 s, and the others 4.25 s: four take 19 s, and seem to take 25 s after the first."""
    lab = Lab(ratio=lambda case, launch: 2.0)
    lab.start_s = lambda: 4.0 if lab.launch_number < 2 else START_S
    (judged,) = lab.gate("a", budget_s=budget_s).run()
    assert judged.launches == launches


def test_a_budget_for_fewer_launches_than_a_verdict_takes_says_how_many_those_are():
    lab = Lab(ratio=lambda case, launch: 2.0)  # however clear it is
    (judged,) = lab.gate("a", budget_s=10).run()
    assert (judged.verdict, judged.ratio) == (Verdict.INCONCLUSIVE, pytest.approx(2.0))
    assert judged.low is judged.high is None  # an interval of so few launches says nothing
    assert judged.reason == (
        "1 of at least 4 pairs made: a verdict is possible in about 13 s, and the time budget of 10 s has 5 s "
        "left; give at least --perf-time-budget=20s"
    )
    (judged,) = Lab(ratio=lambda case, launch: 2.0).gate("a", budget_s=20).run()
    assert judged.verdict is Verdict.SLOWER


def test_an_undecided_case_says_to_which_side_it_leans():
    lab = Lab(ratio=lambda case, launch: (1.35, 1.1, 1.15, 1.2)[launch % 4])
    (judged,) = lab.gate("a", budget_s=17).run()
    assert (judged.verdict, judged.launches) == (Verdict.INCONCLUSIVE, 4)
    assert re.search(
        r"; probably slower \(wall time .+\): with unchanged code, that happens in 1 of \d+", judged.reason
    )


def test_the_next_launch_is_expected_to_take_less_where_less_is_undecided():
    """With three of four decided, a launch that took 8 s takes less than half of that: there is room for two."""
    lab = Lab(ratio=lambda case, launch: 1.0 if case != "d" else 1.15 if launch % 2 else 1 / 1.15)
    found = {judged.name: judged for judged in lab.gate("a", "b", "c", "d", budget_s=40).run()}
    assert found["d"].launches == LOOKS[1]
    assert lab.now < 40


def test_where_there_is_no_time_for_all_the_first_are_decided_and_the_others_named():
    """A case takes 2 s to load and 1.5 s: four launches of two of them fit into 25 s, and then of none."""
    lab = Lab()
    found = lab.gate("a", "b", "c", "d", budget_s=25).run()
    assert [(judged.name, str(judged.verdict), judged.launches) for judged in found] == [
        ("a", "SAME", 4), ("b", "SAME", 4), ("c", "INCONCLUSIVE", 0), ("d", "INCONCLUSIVE", 0),
    ]  # fmt: skip
    no_room = "not measured: a verdict is possible in about 15 s, and the time budget of 25 s has 4 s left"
    assert found[-1].reason.startswith(no_room)
    assert lab.now <= 25


def test_what_waited_is_measured_when_there_is_time_after_all():
    found = Lab().gate("a", "b", "c", "d", budget_s=36).run()
    assert [judged.launches for judged in found] == [4, 4, 4, 4]
    found = Lab().gate("a", "b", "c", budget_s=34).run()  # two at first, and the third afterwards
    assert {str(judged.verdict) for judged in found} == {"SAME"}


def test_steps_so_long_that_the_first_look_cannot_fit_are_refused_at_once():
    lab = Lab(step_s=8.0)
    (judged,) = lab.gate("a", budget_s=600).run()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason == (
        "4 pairs of 12 rounds take at least 1,544 s, the time budget is 600 s; give more with --perf-time-budget, "
        "or take a smaller batch"
    )
    assert lab.visits == []


def test_a_budget_of_seconds_is_compared_in_seconds():
    (judged,) = Lab().gate("a", budget_s=5).run()
    assert judged.reason.startswith("4 pairs of 107 rounds take at least 14 s, the time budget is 5 s;")


def test_a_refused_benchmark_does_not_keep_the_others_from_being_measured():
    lab = Lab(replies={(side, "prepare", "long"): {"step_s": 8.0} for side in (BASE, HEAD)})
    assert verdicts(lab.gate("long", "short", budget_s=600).run()) == {"long": "INCONCLUSIVE", "short": "SAME"}


@pytest.mark.parametrize("command", ["prepare", "visit", "finish"])
def test_a_head_that_answers_an_error_is_invalid_and_the_others_go_on_with_the_same_workers(command):
    lab = Lab(faults={(HEAD, command, "bad"): SideError("RuntimeError: shapes do not match")})
    found = {judged.name: judged for judged in lab.gate("good", "bad", "better").run()}
    assert verdicts(found.values()) == {"good": "SAME", "bad": "INVALID", "better": "SAME"}
    assert found["bad"].reason == "head: RuntimeError: shapes do not match"
    assert len(lab.workers) == 2 * LOOKS[0]


@pytest.mark.parametrize(("side", "verdict"), [(HEAD, "INVALID"), (BASE, "INCONCLUSIVE")])
@pytest.mark.parametrize("command", ["prepare", "visit", "finish"])
@pytest.mark.parametrize(
    ("kind", "how", "advice"),
    [
        (SideLost, "its process ended by itself with exit code 3", ""),
        (
            SideSilent,
            "its process did not answer for 180 s",
            "; it hangs, or the machine was out of memory or very busy: then gate again while nothing else runs",
        ),
    ],
)
def test_a_worker_that_is_lost_costs_its_benchmark_and_the_rest_go_on(side, verdict, command, kind, how, advice):
    lab = Lab(faults={(side, command, "bad"): kind(how)})
    found = {judged.name: judged for judged in lab.gate("good", "bad", "better").run()}
    assert verdicts(found.values()) == {"good": "SAME", "bad": verdict, "better": "SAME"}
    assert found["bad"].reason == f"{side}: {how}{advice}"
    assert found["good"].launches == found["better"].launches == LOOKS[0]
    assert lab.most_alive == 2
    assert not any(worker.alive for worker in lab.workers)


def test_a_head_that_answers_an_error_while_base_is_lost_needs_a_new_pair():
    lab = Lab(
        faults={
            (HEAD, "prepare", "bad"): SideError("RuntimeError: no"),
            (BASE, "prepare", "bad"): SideLost("its process ended by itself with exit code 3"),
        }
    )
    for seed in range(4):
        found = {judged.name: judged for judged in lab.gate("good", "bad", "better", seed=seed).run()}
        assert verdicts(found.values()) == {"good": "SAME", "bad": "INVALID", "better": "SAME"}


def test_a_base_that_answers_an_error_says_nothing_about_the_change():
    lab = Lab(faults={(BASE, "prepare", "a"): SideError("RuntimeError: old and broken")})
    (judged,) = lab.gate("a").run()
    assert (judged.verdict, judged.reason) == (Verdict.INCONCLUSIVE, "base: RuntimeError: old and broken")


def test_where_both_sides_fail_it_is_heads_fault_to_mend():
    lab = Lab(faults={(side, "prepare", "a"): SideError(f"of {side}") for side in (BASE, HEAD)})
    (judged,) = lab.gate("a").run()
    assert (judged.verdict, judged.reason) == (Verdict.INVALID, "head: of head")


def test_a_head_that_cannot_load_is_invalid_for_every_benchmark():
    lab = Lab(faults={(HEAD, "load", None): SideError("RecipeError: the network fails")})
    found = lab.gate("a", "b").run()
    assert {(judged.verdict, judged.reason) for judged in found} == {
        (Verdict.INVALID, "head: RecipeError: the network fails")
    }
    assert not any(worker.alive for worker in lab.workers)


def test_a_wrong_result_of_head_is_invalid_however_fast_it_was():
    problem = "the loss is not finite: 2.3 at first, nan at last"
    lab = Lab(replies={(HEAD, "finish", "a"): {"problem": problem}}, ratio=lambda case, launch: 0.5)
    (judged,) = lab.gate("a").run()
    assert (judged.verdict, judged.reason) == (Verdict.INVALID, f"head: {problem}")
    assert judged.launches == 0  # what it measured does not count


def test_a_wrong_result_of_base_is_inconclusive():
    lab = Lab(replies={(BASE, "finish", "a"): {"problem": "the loss does not fall"}})
    (judged,) = lab.gate("a").run()
    assert (judged.verdict, judged.reason) == (Verdict.INCONCLUSIVE, "base: the loss does not fall")


def test_sides_that_train_on_different_data_are_not_compared():
    lab = Lab(replies={(HEAD, "load", None): {"data": "xyz"}})
    (judged,) = lab.gate("a").run()
    assert (judged.verdict, judged.reason) == (Verdict.INVALID, "base and head train on different data")
    assert lab.visits == []


def test_data_that_both_trainings_bring_may_differ():
    own = {"data": "abc", "own": True}
    lab = Lab(replies={(BASE, "load", None): own, (HEAD, "load", None): own | {"data": "xyz"}})
    gate = lab.gate("a")
    assert verdicts(gate.run()) == {"a": "SAME"}
    assert gate.other_data


class Editor(Lab):
    """Someone saves a file of head after two launches."""

    def start(self, side):
        if self.launch_number == 2:
            self.replies[(HEAD, "load", None)] = {"sources": {"model/mlp.py": "2"}}
        return super().start(side)


def test_a_source_file_that_is_changed_meanwhile_is_noticed():
    (judged,) = Editor().gate("a").run()
    assert judged.verdict is Verdict.INVALID
    assert judged.reason == "head's model/mlp.py was changed while it was measured"
    assert judged.launches < LOOKS[0]


@pytest.mark.parametrize(
    ("step_s", "steps", "rounds"),
    [
        (2e-5, MOST_STEPS, round(CASE_S / (2 * 64 * 2e-5))),
        (1e-3, 7, 107),
        (3e-3, 3, 83),
        (5e-3, LEAST_STEPS, 75),
        (0.07, LEAST_STEPS, LEAST_ROUNDS),
        (0.1, LEAST_STEPS, 30),  # of 0.4 s each
        (0.24, LEAST_STEPS, FEWEST_ROUNDS),
        (2.0, LEAST_STEPS, FEWEST_ROUNDS),
    ],
)
def test_the_step_time_decides_the_steps_of_a_visit_and_the_rounds(step_s, steps, rounds):
    lab = Lab(step_s=step_s)
    lab.gate("a").run()
    assert (LEAST_STEPS, MOST_STEPS, VISIT_S) == (2, 64, 6e-3)
    assert {visit[4] for visit in lab.visits} == {steps}
    assert len(lab.rounds()) == rounds


class Notes(Watcher):
    def __init__(self):
        self.worked, self.done, self.looks = [], [], []

    def working(self, launch, case, share, undecided):
        self.worked.append((launch, case.name, share, undecided))

    def measured(self, case, rounds, injected):
        self.done.append((case.name, len(rounds), injected and round(injected, 9)))

    def looked(self, launches, decided, undecided, elapsed_s):
        self.looks.append((launches, verdicts(decided), [case.name for case in undecided], elapsed_s))


def test_the_watcher_is_told_each_round_each_launch_and_each_look():
    notes = Notes()
    lab = Lab(ratio=lambda case, launch: 1.0 if case == "steady" else 1.15 if launch % 2 else 1 / 1.15)
    lab.replies[(HEAD, "finish", "steady")] = {"extra_s": 0.05 * STEP_S}
    lab.gate("steady", "unsteady", watcher=notes).run()
    assert notes.worked[0][0] == 1
    assert {launch for launch, *_ in notes.worked} == set(range(1, 17))
    shares = [share for launch, name, share, _ in notes.worked if (launch, name) == (1, "steady")]
    assert (shares[0], len(shares), shares) == (0.0, 107, sorted(shares))
    assert max(shares) < 1
    assert {entry for entry in notes.done if entry[0] == "steady"} == {("steady", 107, 0.05)}
    assert [look[:3] for look in notes.looks] == [
        (4, {"steady": "SAME"}, ["unsteady"]),
        (6, {}, ["unsteady"]),
        (8, {}, ["unsteady"]),
        (12, {}, ["unsteady"]),
        (16, {"unsteady": "INCONCLUSIVE"}, []),
    ]
    assert notes.looks[-1][3] == pytest.approx(lab.now)


def test_the_watcher_is_told_of_a_benchmark_that_failed_when_it_did():
    notes = Notes()
    Lab(faults={(HEAD, "prepare", "bad"): SideError("no")}).gate("good", "bad", watcher=notes).run()
    assert [look[:3] for look in notes.looks] == [(1, {"bad": "INVALID"}, ["good"]), (4, {"good": "SAME"}, [])]


def test_an_interrupt_leaves_what_is_known():
    faults = {(HEAD, "visit", "unsteady"): [None] * 107 * 5 + [KeyboardInterrupt()]}
    lab = Lab(ratio=lambda case, launch: 1.0 if case == "steady" else 1.15 if launch % 2 else 1 / 1.15, faults=faults)
    gate = lab.gate("unsteady", "steady")
    with pytest.raises(KeyboardInterrupt):
        gate.run()
    unsteady, steady = gate.judgements()
    assert (steady.verdict, steady.launches) == (Verdict.SAME, 4)
    assert (unsteady.verdict, unsteady.reason, unsteady.launches) == (Verdict.INCONCLUSIVE, "interrupted", 5)
    assert unsteady.low < unsteady.high


def test_an_interrupt_before_anything_is_known_leaves_every_benchmark_named():
    lab = Lab(faults={(BASE, "load", None): KeyboardInterrupt()})
    gate = lab.gate("a", "b")
    with pytest.raises(KeyboardInterrupt):
        gate.run()
    assert [(judged.name, judged.reason, judged.ratio) for judged in gate.judgements()] == [
        ("a", "interrupted", None),
        ("b", "interrupted", None),
    ]


def alone(name, why="base has no such benchmark", verdict=Verdict.NEW):
    return Compared(name, name, Axes("cpu", 64, None), why, verdict)


def test_what_only_head_has_is_measured_alone_and_last():
    lab = Lab()
    found = {judged.name: judged for judged in lab.gate(alone("new"), "a").run()}
    assert verdicts(found.values()) == {"new": "NEW", "a": "SAME"}
    assert (found["new"].head_s, found["new"].base_s, found["new"].ratio) == (STEP_S, None, None)
    assert found["new"].reason == "base has no such benchmark"
    sides = [side for _, case, side, *_ in lab.visits if case == "new"]
    assert set(sides) == {HEAD}
    assert [worker.side for worker in lab.workers].count(BASE) == LOOKS[0]
    assert not any(worker.alive for worker in lab.workers)


@pytest.mark.parametrize("command", ["load", "prepare", "visit", "finish"])
@pytest.mark.parametrize("error", [SideError("RuntimeError: no"), SideLost("its process ended")])
def test_what_only_head_has_must_work(command, error):
    lab = Lab(faults={(HEAD, command, None if command == "load" else "new"): error})
    (judged,) = lab.gate(alone("new")).run()
    assert (judged.verdict, judged.reason) == (Verdict.INVALID, f"head: {error}")


def test_of_several_that_only_head_has_the_rest_go_on_in_a_new_process():
    lab = Lab(faults={(HEAD, "prepare", "bad"): SideLost("its process ended")})
    assert verdicts(lab.gate(alone("bad"), alone("good")).run()) == {"bad": "INVALID", "good": "NEW"}


@pytest.mark.parametrize("where", ["load", "prepare"])
def test_where_base_is_broken_head_must_work_alone(where):
    case = None if where == "load" else "a"
    broken = {(BASE, where, case): SideError("ImportError: old")}
    (judged,) = Lab(faults=broken).gate("a").run()
    assert (judged.verdict, judged.reason) == (Verdict.INCONCLUSIVE, "base: ImportError: old")
    assert judged.head_s == STEP_S
    (judged,) = Lab(faults=broken | {(HEAD, "finish", "a"): SideError("no")}).gate("a").run()
    assert (judged.verdict, judged.reason) == (Verdict.INVALID, "head: no")


def test_a_base_that_opens_files_of_head_is_invalid():
    lab = Lab(faults={(BASE, "load", None): SideError("it opens files of the other side: src/x.py", strange=True)})
    (judged,) = lab.gate("a").run()
    assert judged.verdict is Verdict.INVALID


class Clocks(Lab):
    """Head's clock shows only `part` of its time. Each side waits `late_s` for its core before a visit."""

    def __init__(self, part=1.0, late_s=(0.0, 0.0), **rest):
        super().__init__(**rest)
        self.part, self.late_s = part, dict(zip((BASE, HEAD), late_s, strict=True))
        self.used = {BASE: 0.0, HEAD: 0.0}

    def start(self, side):
        worker = super().start(side)
        visit, part = worker.visit, self.part if side == HEAD else 1.0

        def seen(**arguments):
            made = visit(**arguments)
            self.now += self.late_s[side]
            self.used[side] += made["total_s"] + REQUEST_S
            return {
                key: [one * part for one in value] if isinstance(value, list) else value * part
                for key, value in made.items()
            }

        worker.visit = seen
        return worker


@pytest.mark.parametrize("cores", [(), (0,)])
@pytest.mark.parametrize(("part", "says"), [(0.5, "50% less time"), (1 - 2 * CPU_SHARE, "3% less time")])
def test_a_clock_that_shows_less_than_the_gates_is_invalid(part, says, cores):
    (judged,) = Clocks(part, cores=cores).gate("a").run()
    if part == 0.5 or cores:  # the kernel's count of one thread shows more than the time until the answer
        assert judged.verdict is Verdict.INVALID
        assert judged.reason == f"head: its clock shows {says} than the gate's, and base's does not"
    else:
        assert judged.verdict is Verdict.FASTER
    assert verdicts(Clocks(part).gate(alone("a")).run()) == {"a": "NEW"}  # with nothing to compare it with


def test_a_clock_that_shows_more_accuses_only_itself():
    assert verdicts(Clocks(1.1, cores=(0,)).gate("a").run()) == {"a": "SLOWER"}


@pytest.mark.parametrize(("ratio", "late_s", "verdict"), [(3.0, (1e-3, 5e-3), "SLOWER"), (0.3, (5e-3, 1e-3), "FASTER")])
def test_who_waits_longer_for_a_core_has_a_right_clock(ratio, late_s, verdict):
    lab = Clocks(late_s=late_s, ratio=lambda case, launch: ratio, cores=(0,))
    assert verdicts(lab.gate("a").run()) == {"a": verdict}


def test_a_head_that_is_slower_or_faster_has_a_right_clock():
    for ratio, verdict in ((2.0, "SLOWER"), (0.5, "FASTER")):
        assert verdicts(Lab(ratio=lambda case, launch, ratio=ratio: ratio).gate("a").run()) == {"a": verdict}


@pytest.mark.parametrize(
    ("do", "reply"),
    [
        ("load", {"data": None}),
        ("load", {"sources": ["a"]}),
        ("prepare", {"step_s": -1.0}),
        ("prepare", {"step_s": float("nan")}),
        ("prepare", {"step_s": "quick"}),
        ("prepare", {"cycle": 0}),
        ("prepare", {"cycle": 17}),  # longer than a worker looks for
        ("visit", {"wall_s": []}),
        ("visit", {"wall_s": [1e-3] * 3}),
        ("visit", {"wall_s": [0.0] * 6}),
        ("visit", {"wall_s": [float("inf")] * 6}),
        ("visit", {"cpu_s": "none"}),
        ("visit", {"total_s": None}),
        ("finish", {"problem": 5}),
    ],
)
def test_an_answer_that_no_worker_gives_is_invalid(do, reply):
    lab = Lab(replies={(HEAD, do, None if do == "load" else "a"): reply})
    (judged,) = lab.gate("a").run()
    assert judged.verdict is Verdict.INVALID
    assert judged.reason.startswith("head: it answers ")


STEP = "training_step"


def weighing(**head):
    return Lab(replies={(HEAD, "weigh", None): head})


@pytest.mark.parametrize(
    ("head", "verdict", "reason"),
    [
        ({}, "SAME", ""),
        ({"bytes": 104 << 20}, "SAME", ""),
        ({"bytes": 106 << 20}, "HEAVIER", "training takes 106.0 MiB instead of 100.0 MiB"),
        ({"trained": {"weight": False}}, "INVALID", "head does not train a parameter that base trains: weight"),
        ({"bytes": -1}, "INVALID", "head: it answers what no worker does: Expected `int` >= 0 - at `$.bytes`"),
    ],
)
def test_the_training_step_is_weighed_once(head, verdict, reason):
    lab = weighing(**head)
    gate = lab.gate(STEP)
    (judged,) = gate.run()
    assert (str(judged.verdict), judged.reason) == (verdict, reason)
    assert gate.frozen == ({STEP} if "trained" in head else set())
    if not judged.reason.startswith("head: "):
        assert (judged.base_bytes, judged.base_loss, judged.head_loss) == (100 << 20, 2.3, 2.3)


def test_only_the_training_step_is_weighed():
    lab = weighing(bytes=900 << 20)
    assert verdicts(lab.gate("inference").run()) == {"inference": "SAME"}


class Hiding(Lab):
    """Head says the truth of a visit as a whole, and half the time of the steps that count, in its first `launches`."""

    launches = 2

    def start(self, side):
        worker = super().start(side)
        if side == HEAD and len(self.prepared) < self.launches:
            visit = worker.visit
            worker.visit = lambda **arguments: (
                (made := visit(**arguments)) | {"wall_s": [one / 2 for one in made["wall_s"]]}
            )
        return worker


def test_time_that_is_hidden_in_the_step_that_does_not_count_is_invalid():
    (judged,) = Hiding().gate("a").run()
    assert (judged.verdict, judged.launches) == (Verdict.INVALID, 0)
    assert judged.reason == (
        "head: the first step after each pause, which does not count, takes 57% of the time, and base's 14%; do in "
        "each step what is done there, or gate again while nothing else runs"
    )


def test_one_launch_whose_times_are_doubted_does_not_count():
    lab, told = Hiding(), []
    lab.launches = 1
    gate = lab.gate("a")
    gate._watcher.doubted = lambda case, why: told.append(f"{case.name}: {why}")
    (judged,) = gate.run()
    assert len(told) == 1 and told[0].startswith("a: head: the first step after each pause, which does not count,")
    assert (judged.verdict, judged.launches) == (Verdict.SAME, LOOKS[0])
    assert [case for _, case in lab.prepared] == ["a"] * (1 + LOOKS[0])


def test_the_first_launch_ends_with_the_time_and_the_first_cases_are_measured(monkeypatch):
    """Nobody knows before what a case takes: these take ten times the guess."""
    monkeypatch.setattr("perf.harness.measurement.side_by_side.schedule.GUESSED_CASE_S", CASE_S / 10)
    monkeypatch.setattr("perf.harness.measurement.side_by_side.schedule.GUESSED_START_S", START_S / 10)
    lab = Lab()
    found = lab.gate("a", "b", "c", "d", "e", "f", budget_s=8).run()
    assert [judged.launches for judged in found[-2:]] == [0, 0]
    assert found[0].launches >= 1
    assert lab.now <= 8 + CASE_S
