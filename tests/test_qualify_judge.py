"""What a metric comes to against its bar, and what all the checks say of the machine."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.record.check import Check, CheckVerdict, Standing, Want
from perf.harness.record.spec import Reference
from perf.harness.verdict.by_spec import spec_bar
from perf.harness.verdict.checks import (
    BUSY_CORES,
    Bar,
    MetricValue,
    allowed_load,
    judge_check,
    limit_bar,
    measure_again,
    middle,
    strictest,
)
from perf.harness.verdict.limits import Limit
from perf.harness.verdict.machine import explanation, qualification_of

FREE, BUSY = 0.0, BUSY_CORES + 0.1
AT_LEAST_80 = Bar(80.0, "test")


def sample(value, spread=0.01, crowding=FREE, count=20, sharers=0):
    """Rates around `value`; their median is exactly that."""
    noise = random.Random(0)
    steps = [math.exp(noise.gauss(0.0, spread)) for _ in range(count // 2)]
    return MetricValue.of(
        (value, *(value * step for step in steps), *(value / step for step in steps)), crowding, sharers
    )


GOOD, BAD = sample(100.0), sample(60.0)
UNSTEADY = sample(75.0, spread=0.3)


@pytest.mark.parametrize(
    ("done", "verdict", "reason"),
    [
        ((GOOD,), CheckVerdict.PASS, ""),
        ((sample(100.0, crowding=BUSY),), CheckVerdict.PASS, ""),  # a busy machine makes nothing faster
        ((sample(100.0, crowding=None),), CheckVerdict.PASS, ""),
        ((sample(100.0, sharers=1),), CheckVerdict.PASS, ""),
        ((BAD, BAD), CheckVerdict.FAIL, "below the bar, and again when measured a second time"),
        ((BAD,), CheckVerdict.INCONCLUSIVE, "below the bar, and not measured a second time"),
        ((BAD, GOOD), CheckVerdict.INCONCLUSIVE, "below the bar at first, but within it when measured again"),
        ((BAD, GOOD, GOOD), CheckVerdict.PASS, ""),
        ((BAD, GOOD, BAD), CheckVerdict.INCONCLUSIVE, "below the bar in two of three measurements"),
        ((BAD, GOOD, UNSTEADY), CheckVerdict.INCONCLUSIVE, "below the bar in two of three measurements"),
        ((BAD, BAD, BAD), CheckVerdict.FAIL, "below the bar, and again when measured a second time"),
        ((BAD, sample(60.0, crowding=0.5), BAD), CheckVerdict.INCONCLUSIVE,
         "below the bar, but other programs or a quota took 0.5 cores (allowed: 0.1)"),
        ((BAD, BAD, UNSTEADY), CheckVerdict.INCONCLUSIVE,
         "below the bar, but, in the third measurement, by less than it varies"),
        ((BAD, sample(60.0, crowding=0.5)), CheckVerdict.INCONCLUSIVE,
         "below the bar, but other programs or a quota took 0.5 cores (allowed: 0.1)"),
        ((sample(60.0, crowding=0.5), BAD), CheckVerdict.INCONCLUSIVE,
         "below the bar, but other programs or a quota took 0.5 cores (allowed: 0.1)"),
        ((sample(60.0, crowding=BUSY_CORES), BAD), CheckVerdict.FAIL,
         "below the bar, and again when measured a second time"),
        ((sample(60.0, crowding=None), BAD), CheckVerdict.INCONCLUSIVE,
         "below the bar, but this system does not say whether other programs ran"),
        ((BAD, sample(60.0, crowding=None)), CheckVerdict.INCONCLUSIVE,
         "below the bar, but this system does not say whether other programs ran"),
        ((BAD, sample(60.0, sharers=1)), CheckVerdict.INCONCLUSIVE,
         "below the bar, but 1 other process computed on the device"),
        ((sample(60.0, sharers=2), BAD), CheckVerdict.INCONCLUSIVE,
         "below the bar, but 2 other processes computed on the device"),
        ((UNSTEADY, BAD), CheckVerdict.INCONCLUSIVE,
         "below the bar, but, in the first measurement, by less than it varies"),
        ((BAD, UNSTEADY), CheckVerdict.INCONCLUSIVE,
         "below the bar, but, in the second measurement, by less than it varies"),
        ((MetricValue.of((60.0,), FREE), MetricValue.of((60.0,), FREE)), CheckVerdict.INCONCLUSIVE,
         "below the bar, but by less than it varies"),
    ],
)  # fmt: skip
def test_a_fail_takes_two_whole_intervals_on_a_free_machine(done, verdict, reason):
    found = judge_check(done[0], AT_LEAST_80, *done[1:])
    assert (found.verdict, found.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("first", "second", "left", "verdict"),
    [
        (60.0, 60.0, 0.6, CheckVerdict.INCONCLUSIVE),
        (48.1, 40.0, 0.6, CheckVerdict.INCONCLUSIVE),
        (40.0, 48.1, 0.6, CheckVerdict.INCONCLUSIVE),
        (47.9, 47.9, 0.6, CheckVerdict.FAIL),
        (60.0, 60.0, 1.0, CheckVerdict.FAIL),
        (79.0, 79.0, 1.0, CheckVerdict.FAIL),
        (81.0, 81.0, 0.6, CheckVerdict.PASS),
    ],
)
def test_what_another_virtual_machine_explains_is_no_fail(first, second, left, verdict):
    """A healthy one reached 0.42 of its peak twice, where half is the bar, and a minute later 0.65."""
    bar = limit_bar(Limit(100.0, "2 cores"), 0.8, left)
    found = judge_check(MetricValue.of((first,) * 20, FREE), bar, MetricValue.of((second,) * 20, FREE))
    assert found.verdict is verdict
    neighbours = "below the bar, but another virtual machine on the same cores may take two fifths"
    assert (found.reason == neighbours) == (verdict is CheckVerdict.INCONCLUSIVE)


def test_a_ratio_that_looks_good_on_a_busy_machine_is_no_pass():
    """The step was slowed down more than the loader."""
    found = judge_check(MetricValue.of((5.0,) * 20, crowding=1.0), Bar(1.2, "source"), ratio=True)
    assert found.verdict is CheckVerdict.INCONCLUSIVE
    assert found.reason == "within the bar, but other programs or a quota took 1 cores (allowed: 0.1)"
    assert judge_check(MetricValue.of((5.0,) * 20, crowding=1.0), Bar(1.2, "source")).verdict is CheckVerdict.PASS
    assert (
        judge_check(MetricValue.of((5.0,) * 20, crowding=0.0), Bar(1.2, "source"), ratio=True).verdict
        is CheckVerdict.PASS
    )


@pytest.mark.parametrize(
    ("ratio", "busy", "verdict"),
    [
        (2.4, {"crowding": 0.5}, CheckVerdict.PASS),
        (2.39, {"crowding": 0.5}, CheckVerdict.INCONCLUSIVE),
        (5.0, {"crowding": 0.51}, CheckVerdict.INCONCLUSIVE),
        (5.0, {"crowding": 0.51, "allowed": 0.2}, CheckVerdict.PASS),
        (5.0, {"crowding": 0.0, "sharers": 1}, CheckVerdict.INCONCLUSIVE),
        (5.0, {"crowding": None}, CheckVerdict.INCONCLUSIVE),
        (1.19, {"crowding": 0.2}, CheckVerdict.INCONCLUSIVE),
    ],
)
def test_a_ratio_far_beyond_its_bar_passes_on_a_slightly_busy_machine(ratio, busy, verdict):
    """Data came 19 times as fast as the step took it, and others took 0.1 to 0.2 cores: three runs were thrown away."""
    once = MetricValue.of((ratio,) * 20, **busy)
    assert judge_check(once, Bar(1.2, "source"), once, ratio=True).verdict is verdict


def test_a_time_is_judged_the_other_way_round():
    bar = Bar(80.0, "test", Want.LESS)
    assert judge_check(BAD, bar).verdict is CheckVerdict.PASS
    assert judge_check(GOOD, bar, GOOD).verdict is CheckVerdict.FAIL


def test_more_than_is_possible_is_an_error_of_the_measurement():
    bar = Bar(80.0, "test", ceiling=90.0)
    found = judge_check(GOOD, bar)
    assert (found.verdict, found.reason) == (
        CheckVerdict.INCONCLUSIVE,
        "111% of the physical limit: the measurement, the limit or the clock is wrong",
    )
    assert judge_check(sample(89.0), bar).verdict is CheckVerdict.PASS
    assert (
        judge_check(MetricValue(116.0, 89.0, 140.0, 0.0), bar).verdict is CheckVerdict.INCONCLUSIVE
    )  # however it varies


def test_without_a_bar_nothing_is_judged_and_the_value_is_kept():
    found = judge_check(GOOD, None)
    assert found.verdict is CheckVerdict.UNJUDGED
    assert found.value == pytest.approx(100.0, rel=0.02)
    assert found.low < found.value < found.high


def test_only_what_is_on_the_wrong_side_is_measured_again():
    assert [measure_again([one], AT_LEAST_80) for one in (GOOD, BAD, UNSTEADY)] == [False, True, True]


def test_a_third_measurement_decides_where_the_first_two_disagree():
    vague = sample(100.0, spread=4.0)
    assert judge_check(vague, AT_LEAST_80).verdict is CheckVerdict.INCONCLUSIVE
    asked = {
        "a recovery": (BAD, GOOD),
        "a FAIL": (BAD, BAD),
        "a PASS": (vague, GOOD),
        "no recovery": (BAD, vague),
        "decided": (BAD, GOOD, GOOD),
    }
    found = {case: measure_again(done, AT_LEAST_80) for case, done in asked.items()}
    assert [case for case, more in found.items() if more] == ["a recovery"]


@pytest.mark.parametrize("order", list(itertools.permutations((60.0, 100.0, 120.0))))
def test_of_three_measurements_the_middle_one_counts(order):
    done = [sample(value) for value in order]
    found = judge_check(done[0], AT_LEAST_80, *done[1:])
    assert (found.verdict, found.value) == (CheckVerdict.PASS, 100.0) and done[middle(done)].value == 100.0
    late = judge_check(done[0], Bar(80.0, "", Want.LESS), *done[1:])
    assert (late.verdict, late.reason) == (CheckVerdict.INCONCLUSIVE, "above the bar in two of three measurements")
    assert middle(done[:1]) == middle(done[:2]) == 0


positive = st.floats(1e-3, 1e9)


@given(st.lists(positive, min_size=1, max_size=40), positive, st.lists(positive, min_size=1, max_size=40))
def test_a_median_within_the_bar_never_fails_and_the_unit_makes_no_difference(values, bar, again):
    found = judge_check(MetricValue.of(tuple(values)), Bar(bar, ""), MetricValue.of(tuple(again)))
    if found.value >= bar:
        assert found.verdict is not CheckVerdict.FAIL
        assert found.verdict is CheckVerdict.PASS or found.low < bar / 2
    doubled = [tuple(2.0 * value for value in side) for side in (values, again)]
    assert (
        judge_check(MetricValue.of(doubled[0]), Bar(2.0 * bar, ""), MetricValue.of(doubled[1])).verdict is found.verdict
    )


def check(verdict, name="matmul", reason="slow", injected="", device="cpu", variant=""):
    return Check(name, device, verdict, variant, reason=reason, injected=injected)


PASSED, FAILED = check(CheckVerdict.PASS, reason=""), check(CheckVerdict.FAIL, variant="fp32")
UNCLEAR, UNSUPPORTED = check(CheckVerdict.INCONCLUSIVE, "memory"), check(CheckVerdict.UNSUPPORTED, "copies")


@pytest.mark.parametrize(
    ("checks", "required", "standing", "reasons"),
    [
        ([PASSED], (), Standing.QUALIFIED, ()),
        ([PASSED, UNSUPPORTED], (), Standing.QUALIFIED, ()),
        ([PASSED, UNCLEAR], (), Standing.INCONCLUSIVE, ("memory on cpu: slow",)),
        ([PASSED, UNCLEAR, FAILED], (), Standing.NOT_QUALIFIED, ("matmul fp32 on cpu: slow",)),
        ([], (), Standing.INCONCLUSIVE, ("nothing was judged",)),
        ([UNSUPPORTED], (), Standing.INCONCLUSIVE, ("nothing was judged",)),
        ([PASSED, UNSUPPORTED], ("matmul",), Standing.QUALIFIED, ()),
        ([PASSED, UNSUPPORTED], ("copies",), Standing.NOT_QUALIFIED,
         ("copies is required, but cannot be judged on cpu",)),
        ([PASSED], ("replay",), Standing.NOT_QUALIFIED, ("replay is required, but did not run",)),
        ([PASSED, UNCLEAR], ("memory",), Standing.INCONCLUSIVE, ("memory on cpu: slow",)),
        ([PASSED, check(CheckVerdict.UNSUPPORTED, variant="bf16")], ("matmul",), Standing.QUALIFIED, ()),
        ([PASSED, check(CheckVerdict.UNSUPPORTED, device="cuda:1")], ("matmul",), Standing.NOT_QUALIFIED,
         ("matmul is required, but cannot be judged on cuda:1",)),
        ([check(CheckVerdict.PASS, injected="matmul:slow")], (), Standing.INCONCLUSIVE,
         ("INJECTED matmul:slow: not found: slow",)),
        ([check(CheckVerdict.FAIL, injected="matmul:slow")], (), Standing.NOT_QUALIFIED,
         ("INJECTED matmul:slow: found", "matmul on cpu: slow")),
        ([check(CheckVerdict.INCONCLUSIVE, name="preconditions", injected="preconditions:load")], (),
         Standing.INCONCLUSIVE, ("INJECTED preconditions:load: found",)),
        ([check(CheckVerdict.INCONCLUSIVE, injected="matmul:slow"), FAILED], (), Standing.NOT_QUALIFIED,
         ("INJECTED matmul:slow: not found: slow", "matmul fp32 on cpu: slow")),
    ],
)  # fmt: skip
def test_the_machine_is_as_good_as_its_worst_check(checks, required, standing, reasons):
    found = qualification_of(checks, required=required)
    assert (found.standing, found.reasons) == (standing, reasons)
    assert found.next_action


@given(st.lists(st.builds(check, st.sampled_from(CheckVerdict), st.sampled_from(["matmul", "memory"]))))
def test_one_more_bad_check_never_makes_a_machine_better(checks):
    rank = list(Standing)
    before = rank.index(qualification_of(checks).standing)
    for verdict in (CheckVerdict.FAIL, CheckVerdict.INCONCLUSIVE):
        assert rank.index(qualification_of([*checks, check(verdict)]).standing) <= before


def reference(spread, unit="FLOP/s", machines=5, runs=6):
    return Reference("matmul", "fp32", unit, 100.0, spread, runs, machines, {"device": "CPU 1"})


def test_a_bar_of_a_limit_is_a_share_of_it_and_only_a_certain_one_is_a_ceiling():
    bar = limit_bar(Limit(200.0, "datasheet"), 0.65)
    assert (bar.value, bar.source, bar.ceiling) == (130.0, "65% of datasheet", 200.0)
    assert limit_bar(Limit(200.0, "estimate", certain=False), 0.65).ceiling is None
    assert limit_bar(Limit(200.0, "estimate", certain=False, ceiling=250.0), 0.65).ceiling == 250.0


@pytest.mark.parametrize(
    ("spread", "unit", "want", "value"),
    [
        (0.0, "FLOP/s", Want.MORE, 92.0),
        (0.01, "FLOP/s", Want.MORE, 92.0),  # three times is less than the least slack
        (0.05, "samples/s", Want.MORE, 100 * math.exp(-0.15)),
        (0.05, "s", Want.LESS, 125.0),
        (0.1, "s", Want.LESS, 100 * math.exp(0.3)),
    ],
)
def test_a_reference_leaves_room_for_what_good_machines_differ_by(spread, unit, want, value):
    bar = spec_bar(reference(spread, unit, machines=20), "spec.json")
    assert (bar.value, bar.want) == (pytest.approx(value), want)
    assert bar.source == f"{value:.0f}% of the median of 20 machines in spec.json"


@pytest.mark.parametrize(
    ("machines", "runs", "deviations"),
    [(3, 9, 6.965 * math.sqrt(4 / 3)), (2, 4, 4.541 * math.sqrt(5 / 4)), (1, 2, 31.82 * math.sqrt(3 / 2)), (1, 1, 3.0)],
)
def test_the_fewer_values_a_reference_rests_on_the_more_room_it_leaves(machines, runs, deviations):
    """From the table of Student's t at 99%: of the machines, or of the runs where there are fewer than 3 machines."""
    bar = spec_bar(reference(0.01, "s", machines, runs), "spec.json")
    assert bar.value == pytest.approx(100 * max(1.25, math.exp(0.01 * deviations)), rel=1e-4)
    bar = spec_bar(reference(0.1, "s", machines, runs), "spec.json")
    assert bar.value == pytest.approx(100 * math.exp(0.1 * deviations), rel=1e-3)


@pytest.mark.parametrize(
    ("unit", "within", "beyond"), [("B/s", (100.0, 199.0, 215.0), (201.0, 210.0, 220.0)),
                                   ("s", (45.0, 48.0, 51.0), (40.0, 45.0, 49.0))],
)  # fmt: skip
def test_what_is_twice_as_good_as_good_machines_is_no_pass(unit, within, beyond):
    bar = strictest(
        [Bar(100.0, "own", Want.LESS if unit == "s" else Want.MORE), spec_bar(reference(0.0, unit), "s.json")]
    )
    assert judge_check(MetricValue(*(within[place] for place in (1, 0, 2)), 0.0), bar).verdict is CheckVerdict.PASS
    found = judge_check(MetricValue(*(beyond[place] for place in (1, 0, 2)), 0.0), bar)
    assert found.verdict is CheckVerdict.INCONCLUSIVE
    assert found.reason.startswith("better than good machines by more than a factor of 2: the measurement or the clock")


def test_of_two_bars_the_stricter_one_holds_below_the_lowest_ceiling():
    low, high = Bar(50.0, "low", ceiling=200.0), Bar(80.0, "high")
    assert strictest([low, high]) == Bar(80.0, "high", ceiling=200.0)
    less = [Bar(50.0, "low", Want.LESS), Bar(80.0, "high", Want.LESS)]
    assert strictest(less).value == 50.0
    assert strictest([]) is None


@pytest.mark.parametrize(
    ("checks", "says"),
    [
        ([check(CheckVerdict.FAIL, variant="fp32"), check(CheckVerdict.PASS, "memory")], "explained by matmul fp32"),
        ([check(CheckVerdict.PASS), check(CheckVerdict.PASS, "memory")], "unexplained: matmul, memory passed"),
        (
            [check(CheckVerdict.PASS), check(CheckVerdict.INCONCLUSIVE, "memory")],
            "unexplained: matmul passed; memory could not be judged",
        ),
        ([check(CheckVerdict.INCONCLUSIVE, "memory")], "unexplained: memory could not be judged"),
        ([check(CheckVerdict.UNSUPPORTED)], "unexplained: none of its components could be judged"),
        ([check(CheckVerdict.FAIL, device="cuda")], "unexplained: none of its components could be judged"),
        ([check(CheckVerdict.FAIL, "numerics")], "unexplained: none of its components could be judged"),
    ],
)
def test_a_slow_step_is_explained_by_what_is_slow_on_its_device(checks, says):
    assert explanation(checks, "cpu") == says


def test_a_machine_of_which_not_all_was_judged_is_told_how_it_can_be():
    unjudged = check(CheckVerdict.UNJUDGED, "memory")
    assert qualification_of([PASSED]).next_action == "Nothing to do."
    assert qualification_of([PASSED, UNSUPPORTED, unjudged]).next_action == "Nothing to do."  # neither was needed
    by_spec = "To judge what was measured and has no bar, give a reference from machines that you know are good"
    assert qualification_of([PASSED, unjudged], unjudged=["memory"]).next_action.startswith(by_spec)
    assert qualification_of([unjudged]).next_action.startswith(by_spec)
    assert qualification_of([PASSED], unjudged=["memory"]).next_action.startswith(
        "Do what the reasons above say is missing"
    )
    some = qualification_of([PASSED, unjudged], selection=["not selected: a"], unjudged=["memory"])
    assert some.next_action == "Run the other checks, too: leave out what selects some of them (--perf-check, -k)."
    unlike = replace(unjudged, reason="not comparable with spec.json: device: CPU 1 → CPU 2")
    assert qualification_of([PASSED, unlike], unjudged=["memory"]).next_action.startswith(
        "Use a spec of machines like this"
    )
    assert qualification_of([UNSUPPORTED]).next_action == "No check can be judged here. The reasons are above."
    assert (
        "Solve what the reasons above say. If you asked for too much, change --perf-require-check or"
        in qualification_of([UNSUPPORTED], required=["copies"]).next_action
    )


@pytest.mark.parametrize(
    ("found", "standing", "reasons"),
    [
        (qualification_of([PASSED], unjudged=["not judged: a"]), Standing.PARTLY, ("not judged: a",)),
        (qualification_of([PASSED], selection=["not selected: a"]), Standing.PARTLY, ("not selected: a",)),
        (qualification_of([PASSED], lacking=["7 of 8"], unjudged=["b"]), Standing.NOT_QUALIFIED, ("7 of 8",)),
        (qualification_of([PASSED], lacking=["7 of 8"], complete=False), Standing.NOT_QUALIFIED, ("7 of 8",)),
        (
            qualification_of([PASSED, UNCLEAR], unjudged=["b"]),
            Standing.INCONCLUSIVE,
            ("memory on cpu: slow",),
        ),
        (qualification_of([FAILED], selection=["s"]), Standing.NOT_QUALIFIED, ("matmul fp32 on cpu: slow", "s")),
    ],
)
def test_qualified_needs_all_that_such_devices_need(found, standing, reasons):
    assert (found.standing, found.reasons) == (standing, reasons)


VAGUE, SHARP = MetricValue(214.0, 65.0, 703.0), MetricValue(214.0, 200.0, 230.0)


@pytest.mark.parametrize(
    ("done", "verdict"),
    [
        ((VAGUE,), CheckVerdict.INCONCLUSIVE),
        ((VAGUE, VAGUE), CheckVerdict.INCONCLUSIVE),
        ((VAGUE, MetricValue(150.0, 149.0, 151.0)), CheckVerdict.INCONCLUSIVE),
        ((VAGUE, SHARP), CheckVerdict.PASS),
        ((SHARP,), CheckVerdict.PASS),
        ((MetricValue(214.0, 96.0, 400.0),), CheckVerdict.PASS),
        ((MetricValue(214.0, None, None),), CheckVerdict.PASS),
    ],
)
def test_a_value_within_its_bar_that_may_as_well_be_half_of_it_is_no_pass(done, verdict):
    found = judge_check(done[0], Bar(191.0, ""), *done[1:])
    assert found.verdict is verdict
    assert (found.reason == "") is (verdict is CheckVerdict.PASS)
    assert measure_again(done[:1], Bar(191.0, "")) is (done[0] is VAGUE)
    times = [MetricValue(1.0, one.low and 214 / one.high, one.low and 214 / one.low) for one in done]
    if done[-1].value > 191:
        assert judge_check(times[0], Bar(214 / 191, "", Want.LESS), *times[1:]).verdict is verdict


def test_what_is_measured_on_a_busy_machine_without_a_bar_says_so():
    found = judge_check(MetricValue.of((1.0,) * 20, crowding=0.5), None)
    assert found.verdict is CheckVerdict.UNJUDGED
    assert found.reason.endswith(
        "; do not make one of this value: other programs or a quota took 0.5 cores (allowed: 0.1)"
    )


def test_a_run_that_did_not_finish_qualifies_nothing():
    found = qualification_of([PASSED], complete=False)
    assert (found.standing, found.reasons) == (Standing.INCONCLUSIVE, ("the run did not finish",))
    assert found.next_action == "Run it again, and let it finish."
    busy = Check("preconditions", "cpu", CheckVerdict.INCONCLUSIVE, "load", reason="others take 2.0 cores")
    action = "Stop the other programs on this machine, run it again, and let it finish."
    assert qualification_of([busy], complete=False).next_action == action
    assert qualification_of([PASSED, FAILED], complete=False).standing is Standing.NOT_QUALIFIED
    assert qualification_of([PASSED], required=["replay"], complete=False).standing is Standing.INCONCLUSIVE


@pytest.mark.parametrize(
    ("reasons", "begins"),
    [
        (["others take 2.0 cores", "below the bar, and not measured a second time"], "Stop the other programs"),
        (["below the bar, but other programs or a quota took 0.4 of the cores"], "Stop the other programs"),
        (["1 other process computed on the device"], "Stop the other programs"),
        (
            ["150% of the physical limit: the measurement, the limit or the clock is wrong"],
            "Run it again. If a value",
        ),
        (["below the bar, and not measured a second time"], "Measure this machine again, with --perf-spec=FILE."),
        (["below the bar, but by less than it varies"], "Run it again. If it stays"),
        (
            ["below the bar, and not measured a second time", "no clock"],
            "Run it again. If it stays",
        ),
    ],
)
def test_what_is_not_clear_is_cleared_by_what_made_it_so(reasons, begins):
    checks = [check(CheckVerdict.INCONCLUSIVE, reason=reason) for reason in reasons]
    assert qualification_of([PASSED, *checks]).next_action.startswith(begins)


def test_a_failure_without_a_reason_says_its_numbers():
    wrong = Check("numerics", "cpu", CheckVerdict.FAIL, "fp32", value=2**21, unit="eps", bar=56.0, want="at most")
    assert qualification_of([wrong]).reasons == ("numerics fp32 on cpu: 2.097e+06 eps, and it must be at most 56",)


def test_what_was_not_asked_for_is_said():
    notes = ["cuda was not checked: no driver", "not selected: replay"]
    assert qualification_of([PASSED], notes=notes).reasons == tuple(notes)
    assert qualification_of([PASSED, FAILED], notes=notes).reasons == ("matmul fp32 on cpu: slow", *notes)


@pytest.mark.parametrize(
    ("machines", "said"), [(1, "6 runs of 1 machine"), (2, "6 runs of 2 machines"), (3, "3 machines")]
)
def test_the_bar_of_a_reference_says_what_it_rests_on(machines, said):
    assert (
        spec_bar(reference(0.0, machines=machines), "good.json").source == f"92% of the median of {said} in good.json"
    )


def test_the_strictest_of_bars_has_the_lowest_ceiling_and_one_bar_is_its_own():
    low, high = Bar(80.0, "a", ceiling=90.0), Bar(85.0, "b", ceiling=120.0)
    assert strictest([low, high]) == Bar(85.0, "b", ceiling=90.0)
    assert strictest([low]) == low
    assert strictest([]) is None


@pytest.mark.parametrize(
    ("cores", "slower", "allowed"),
    [
        (2, None, 0.1),
        (2, 0.0, 0.1),
        (2, 0.5, 0.1),
        (192, 0.0, 9.6),
        (192, 0.005, 9.6),
        (192, 0.5, 0.16),
        (64, 0.08, 1.0),
    ],
)
def test_others_may_take_a_share_of_the_cores_or_less_where_one_slows_all(cores, slower, allowed):
    assert allowed_load(cores, slower).cores == pytest.approx(allowed)


def test_how_busy_is_too_busy_can_be_said():
    assert not MetricValue(1.0, None, None, crowding=0.5, allowed=1.0).busy
    assert MetricValue(1.0, None, None, crowding=1.5, allowed=1.0).busy


def test_one_other_process_makes_a_device_busy():
    assert sample(60.0, sharers=1).busy and not sample(60.0, sharers=0).busy


def test_a_value_at_the_bar_or_at_its_ceiling_is_within_it_also_when_measured_once():
    once = MetricValue.of((100.0,), FREE)
    assert judge_check(once, Bar(100.0, "a", Want.LESS)).verdict is CheckVerdict.PASS
    assert judge_check(once, Bar(100.0, "a", ceiling=100.0)).verdict is CheckVerdict.PASS
    assert (
        judge_check(MetricValue.of((100.1,), FREE), Bar(90.0, "a", ceiling=100.0)).verdict is CheckVerdict.INCONCLUSIVE
    )
