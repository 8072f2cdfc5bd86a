"""Against stored runs: planted slowdowns are found, unchanged code is not accused, few runs decide nothing."""

import math
import random
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.record.judgement import Verdict
from perf.harness.record.run import Baseline, Benchmark, Case, Medians, Run
from perf.harness.verdict.launches import Rule
from perf.harness.verdict.stored import judge_all, judge_stored
from perf.harness.verdict.stored_runs import changed_fields, compare, several_hosts
from perf.harness.verdict.tally import ALPHA

ONE = Rule(1)


def runs(random, count, spread, center=1e-3):
    """The medians of `count` runs of the same code, whose logs are normal with the deviation `spread`."""
    return [center * math.exp(random.gauss(0, spread)) for _ in range(count)]


@pytest.mark.parametrize("count", [5, 20])
def test_the_interval_covers_no_change_in_98_of_100_runs(in_floats, count):
    source = random.Random(count)
    trials = 2000
    covered = 0
    for _ in range(trials):
        *stored, head = runs(source, count + 1, 0.05)
        found = judge_stored("step", head, stored, ONE)
        covered += found.low <= 1 <= found.high
    assert covered / trials == pytest.approx(0.98, abs=4 * math.sqrt(0.98 * 0.02 / trials))


@pytest.mark.parametrize("spread", [0.003, 0.05])
def test_unchanged_code_is_called_slower_in_at_most_one_run_of_100(in_floats, spread):
    source = random.Random(7)
    trials, benchmarks = 2000, 12
    accused = 0
    for _ in range(trials):
        stored = {str(i): runs(source, 5, spread) for i in range(benchmarks)}
        head = {name: runs(source, 1, spread)[0] for name in stored}
        accused += any(found.verdict is Verdict.SLOWER for found in judge_all(head, stored, 0.025))
    # 3 standard errors above the rate that is allowed.
    assert accused / trials <= ALPHA + 3 * math.sqrt(ALPHA / trials)


def test_a_planted_slowdown_of_half_is_found_where_runs_hardly_differ(in_floats):
    source = random.Random(1)
    found = [judge_stored("step", 1.5 * runs(source, 1, 0.02)[0], runs(source, 8, 0.02), Rule(12)) for _ in range(200)]
    assert {judgement.verdict for judgement in found} == {Verdict.SLOWER}
    assert all(1.3 < judgement.ratio < 1.7 and judgement.smallest_detectable < judgement.ratio for judgement in found)


def test_a_speedup_is_mirrored():
    assert judge_stored("step", 1e-3 / 1.5, [1e-3] * 5, ONE).verdict is Verdict.FASTER


def test_no_difference_between_runs_that_differ_much_is_not_called_the_same():
    stored = [1e-3 * (1 + share) for share in (-0.08, -0.04, 0.0, 0.04, 0.08)]
    found = judge_stored("b", 1e-3, stored, Rule(1))
    assert found.ratio == pytest.approx(1.0, abs=0.01)
    assert found.high > 1.05
    assert found.verdict is Verdict.INCONCLUSIVE


def test_runs_that_differ_much_decide_nothing_and_say_what_would_have_shown():
    stored = [1e-3 * factor for factor in (0.9, 0.95, 1.0, 1.05, 1.1)]
    found = judge_stored("step", 1.2e-3, stored, Rule(12))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == "5 stored runs differ by ±8.3%; only a slowdown above 94.3% would show"
    assert found.low < found.ratio < found.high < found.smallest_detectable
    usual = statistics.geometric_mean(stored)
    for share, verdict in ((1.001, Verdict.SLOWER), (0.999, Verdict.INCONCLUSIVE)):
        assert judge_stored("step", usual * found.smallest_detectable * share, stored, Rule(12)).verdict is verdict


def test_what_would_have_shown_is_students_t_from_the_runs_and_the_benchmarks():
    """From the table of Student's t with 4 degrees of freedom: 3.747 at 99%, 4.604 at 99.5%."""
    for benchmarks, deviations in ((1, 3.747), (2, 4.604)):
        for power in (0.01, 0.2):
            stored = [math.exp(power * step) for step in (-2, -1, 0, 1, 2)]
            error = power * math.sqrt(10 / 4) * math.sqrt(6 / 5)
            found = judge_stored("step", 1.0, stored, Rule(benchmarks))
            assert found.smallest_detectable == pytest.approx(1.01 * math.exp(deviations * error), rel=1e-3)


@pytest.mark.parametrize(
    ("power", "words"),
    [(0.1, "±17.1%; only a slowdown above 93.3% would"), (0.125, "±21.9%; only a slowdown above 127% would"),
     (0.2, "±37.2%; only a slowdown above 270% would"),
     (0.4, "±88.2%; only a slowdown above 1254% would"), (1.2, "±567%; only a slowdown above 10000% would")],
)  # fmt: skip
def test_a_large_share_has_no_decimals_and_an_enormous_one_is_10000_percent(power, words):
    found = judge_stored("step", 1.0, [math.exp(power * step) for step in (-2, -1, 0, 1, 2)], Rule(1))
    assert words in found.reason


@pytest.mark.parametrize(
    ("stored", "verdict", "reason"),
    [
        ([], Verdict.NEW, ""),
        ([2e-3], Verdict.NOT_JUDGED, "1 of 5 stored runs"),
        ([2e-3, 2e-3], Verdict.NOT_JUDGED, "2 of 5 stored runs"),
        ([2e-3] * 4, Verdict.NOT_JUDGED, "4 of 5 stored runs"),
    ],
)
def test_fewer_than_5_runs_decide_nothing(stored, verdict, reason):
    found = judge_stored("step", 3e-3, stored, ONE)
    assert (found.verdict, found.reason, found.launches) == (verdict, reason, len(stored))
    assert (found.low, found.high) == (None, None)
    assert found.ratio == (pytest.approx(1.5) if stored else None)


def test_identical_runs_are_not_taken_for_certain():
    """Five equal times are chance, or a clock that cannot tell them apart."""
    assert judge_stored("step", 1.01e-3, [1e-3] * 5, ONE).verdict is Verdict.SAME
    assert judge_stored("step", 1.02e-3, [1e-3] * 5, Rule(12)).verdict is not Verdict.SLOWER
    assert judge_stored("step", 1.06e-3, [1e-3] * 5, Rule(12)).verdict is Verdict.SLOWER


def test_a_change_below_the_minimum_effect_is_never_slower():
    assert judge_stored("step", 1.024e-3, [1e-3] * 1000, ONE).verdict is Verdict.SAME
    assert judge_stored("step", 1.026e-3, [1e-3] * 1000, ONE).verdict is Verdict.SLOWER
    assert judge_stored("step", 1.026e-3, [1e-3] * 1000, Rule(1, 0.05)).verdict is Verdict.SAME


def test_a_smoke_run_decides_nothing():
    found = judge_stored("step", 9e-3, [1e-3] * 9, ONE, smoke=True)
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, "a smoke run is too short for a verdict")


def test_a_run_is_judged_over_all_that_it_shares_with_the_stored_ones():
    stored = {"a": [1e-3] * 5, "b": [1e-3] * 5, "gone": [4e-3] * 5}
    found = {judgement.name: judgement for judgement in judge_all({"a": 1e-3, "b": 2e-3, "new": 1.0}, stored, 0.025)}
    assert {name: judgement.verdict for name, judgement in found.items()} == {
        "a": Verdict.SAME, "b": Verdict.SLOWER, "new": Verdict.NEW, "gone": Verdict.MISSING,
    }  # fmt: skip
    assert (found["new"].head_s, found["gone"].base_s) == (1.0, pytest.approx(4e-3))


times = st.floats(1e-6, 1e3)


@given(times, st.lists(times, min_size=5, max_size=20), st.integers(-20, 20))
def test_the_unit_of_time_changes_nothing(head, stored, power):
    scale = 2.0**power
    one, other = (
        judge_stored("x", head, stored, ONE),
        judge_stored("x", head * scale, [time * scale for time in stored], ONE),
    )
    assert other.ratio == pytest.approx(one.ratio, rel=1e-6)
    assert other.high == pytest.approx(one.high, rel=1e-6)
    assert abs(one.high - 1.05) < 1e-9 or one.verdict is other.verdict


@given(st.floats(1e-18, 1e10), st.lists(st.floats(1e-18, 1e10), max_size=9))
def test_any_times_get_a_finite_judgement(head, stored):
    found = judge_stored("x", head, stored, ONE)
    numbers = [found.ratio, found.low, found.high, found.base_s, found.smallest_detectable]
    assert all(number is None or math.isfinite(number) for number in numbers)


def run(seconds, day, **rest):
    """A whole run of one benchmark."""
    stats = {"median": seconds}
    return Run(f"{day}.json", f"2026-11-{day:02}", (Benchmark("b", "b", None, (seconds,), 1, stats),), **rest)


@pytest.mark.parametrize("side", ["base", "head"])
def test_a_smoke_run_on_either_side_decides_nothing(side):
    smoke = {"perf": {"profile": "smoke"}}
    bases = [run(1e-3, day, **(smoke if side == "base" else {})) for day in range(1, 7)]
    (found,) = compare(bases, run(2e-3, 9, **(smoke if side == "head" else {})), 0.025).judgements
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, "a smoke run is too short for a verdict")
    (found,) = compare([run(1e-3, day) for day in range(1, 7)], run(2e-3, 9), 0.025).judgements
    assert found.verdict is Verdict.SLOWER


def test_one_smoke_run_among_the_stored_ones_is_one_too_many():
    bases = [run(1e-3, day, **({"perf": {"profile": "smoke"}} if day == 3 else {})) for day in range(1, 7)]
    assert compare(bases, run(2e-3, 9), 0.025).judgements[0].verdict is Verdict.INCONCLUSIVE


def test_what_head_skipped_and_no_stored_run_has_is_named_and_what_one_has_is_missing():
    cases = tuple(Case(name, "skipped", "no CUDA") for name in ("b", "c"))
    found = compare([run(1e-3, 1)], Run("2.json", "2026-11-02", (), cases), 0.025)
    assert [case.name for case in found.skipped] == ["c"]
    assert [(one.name, one.verdict, one.reason) for one in found.judgements] == [
        ("b", Verdict.MISSING, "skipped: no CUDA")
    ]


def test_baselines_are_of_no_host():
    one, other = (run(1e-3, day, perf={"host_name": host}) for day, host in ((1, "a"), (2, "b")))
    assert several_hosts([one, other]) and not several_hosts([one, one])
    baseline = Baseline("default", "2026-11-01", (Medians("a.json", "2026-11-01", "", {}),))
    assert several_hosts([one, replace(other, baseline=baseline)]) == []
    assert several_hosts([one, replace(other, perf={})]) == []


def test_a_long_value_is_cut_in_what_differs():
    said = changed_fields({"a": "x" * 61}, {"a": "y" * 60})
    assert said == [f"a: {'x' * 60} → {'y' * 60}"]


def test_a_field_that_one_side_lacks_is_a_difference_even_where_the_other_has_nothing_in_it():
    assert changed_fields({"driver": None}, {}) == ["driver: none → not recorded"]
    assert changed_fields({"driver": None}, {"driver": None}) == []
