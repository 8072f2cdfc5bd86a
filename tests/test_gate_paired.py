"""The paired gate's rule: simulated gates with null data, planted effects and disturbed launches; n = 0, 1, 2."""

import math
import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import stdtr, stdtrit

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.verdict.launches import (
    FEWEST_ROUNDS,
    LEAST_ROUNDS,
    LEAST_SPREAD,
    LOOKS,
    SHARES,
    Launch,
    Rule,
    Visit,
    decide,
    give_up,
    launch_of,
    leaning,
    spent,
    trim,
)
from perf.harness.verdict.tally import ALPHA, DEFAULT_MIN_EFFECT, exit_code, tally

SLOWER, FASTER, SAME, INCONCLUSIVE = Verdict.SLOWER, Verdict.FASTER, Verdict.SAME, Verdict.INCONCLUSIVE
# Between launches, as measured on a shared 2-core machine. Beside others, the mean time spreads by so many times it.
SPREAD, MEAN = 0.006, 4.0
LAST = LOOKS[-1]


def normal(rng, shape, spread):
    return spread * rng.standard_normal(shape)


def heavy(rng, shape, spread):
    """Student's t with 3 degrees of freedom: of 16 launches, one is usually 3 spreads off, and now and then 10."""
    return spread * rng.standard_t(3, shape)


def launches(wall, cpu=None, mean=None, rounds=60):
    """Launches that say these log ratios."""
    cpu, mean = ([None] * len(wall) if one is None else one for one in (cpu, mean))
    return [
        Launch(
            wall=float(w),
            cpu=None if c is None else float(c),
            base_s=1.0,
            head_s=math.exp(w),
            rounds=rounds,
            mean=None if m is None else float(m),
        )
        for w, c, m in zip(wall, cpu, mean, strict=True)
    ]


def verdict_of(judgement):
    return None if judgement is None else judgement.verdict


def gate(wall, cpu=None, mean=None, rule=Rule(10)):  # noqa: B008 (frozen)
    """What becomes of one benchmark, look by look."""
    for look in LOOKS:
        found = decide("b", launches(wall[:look], *(one if one is None else one[:look] for one in (cpu, mean))), rule)
        if found is not None:
            return found
    return give_up("b", launches(wall, cpu, mean), rule, "no look left")


def alarms(rng, noise, spread, gates, benchmarks, shift=0.0):
    """The share of gates with a SLOWER among their benchmarks. The metrics err independently: the worst case."""
    samples = shift + noise(rng, (gates, benchmarks, 3, LAST), spread) * np.array([[1], [1], [MEAN]])
    rule = Rule(benchmarks)
    return sum(any(gate(*metrics, rule).verdict is SLOWER for metrics in one) for one in samples) / gates


def outcomes(rng, slowdown, spread, gates, noise=normal):
    """The verdicts on one benchmark of ten. The two metrics err alike: the second finds nothing more."""
    samples = math.log1p(slowdown) + noise(rng, (gates, LAST), spread)
    return Counter(gate(one, one).verdict for one in samples)


# Unchanged code, and planted slowdowns


@pytest.mark.parametrize(("noise", "spread"), [(normal, SPREAD), (normal, 3 * SPREAD), (heavy, SPREAD)])
def test_of_gates_on_unchanged_code_at_most_1_percent_call_anything_slower(in_floats, noise, spread):
    assert alarms(np.random.default_rng(1), noise, spread, gates=2000, benchmarks=10) <= ALPHA


def test_in_noise_so_loud_that_only_the_error_rate_protects_it_still_holds_at_the_margin(in_floats):
    # With a spread of 6%, the median launch is beyond the minimum effect in every third gate, and no SAME ends the
    # looks early. The share itself errs by 0.18%.
    share = alarms(np.random.default_rng(2), normal, 0.06, gates=2500, benchmarks=1, shift=Rule(1).margin)
    assert 0.2 * ALPHA < share < ALPHA + 0.003


@pytest.mark.parametrize(("slowdown", "power"), [(0.05, 0.95), (0.10, 0.99)])
def test_a_planted_slowdown_is_found_and_hardly_ever_called_the_same(in_floats, slowdown, power):
    found = outcomes(np.random.default_rng(3), slowdown, SPREAD, 800)
    assert found[SLOWER] >= power * 800
    assert found[SAME] <= 0.01 * 800
    assert found[FASTER] == 0


def test_in_three_times_the_noise_a_slowdown_of_5_percent_is_mostly_found_and_rarely_called_the_same(in_floats):
    found = outcomes(np.random.default_rng(4), 0.05, 3 * SPREAD, 800)
    assert found[SLOWER] >= 0.85 * 800
    assert found[SAME] <= 0.04 * 800  # 1% a look, and few get to all of them


def found_of_long_rounds(rng, slowdown, rounds, gates, budget_s=600, start_s=12, round_s=1.7, differ=0.08):
    """The verdicts in time on rounds so long that a launch has few, as of a network with 13 million parameters."""
    count = sum(look * (start_s + rounds * round_s) <= budget_s for look in range(1, LAST + 1))
    samples = (
        math.log1p(slowdown) + normal(rng, (gates, count, rounds), differ) + normal(rng, (gates, count, 1), SPREAD)
    )
    wall, cpu = np.median(samples, axis=2), np.mean(samples, axis=2)
    looks = [look for look in LOOKS if look <= count]
    decided = [
        [found for look in looks if (found := decide("b", launches(one[:look], other[:look]), Rule(1)))]
        for one, other in zip(wall, cpu, strict=True)
    ]
    return Counter(found[0].verdict if found else None for found in decided)


def test_where_rounds_are_long_more_launches_find_more_than_more_rounds(in_floats):
    few, many = (found_of_long_rounds(np.random.default_rng(6), 0.05, rounds, 300) for rounds in (FEWEST_ROUNDS, 40))
    assert few[SLOWER] >= 0.98 * 300 and few[SAME] <= 0.01 * 300
    assert many[SLOWER] < 0.93 * 300
    assert found_of_long_rounds(np.random.default_rng(7), 0.0, FEWEST_ROUNDS, 300) == {SAME: 300}


def test_unchanged_code_is_called_the_same_after_the_fewest_launches(in_floats):
    rng = np.random.default_rng(5)
    found = [gate(*normal(rng, (2, LAST), SPREAD), normal(rng, LAST, 2 * SPREAD)) for _ in range(300)]
    assert sum(one.verdict is SAME for one in found) == 300
    assert sum(one.launches == LOOKS[0] for one in found) >= 0.85 * 300


@pytest.mark.parametrize("n", [4, 8, 16])
def test_98_percent_of_the_shown_intervals_hold_the_true_ratio(in_floats, n):
    # Loud, so that the least spread plays no part. Of 2500 intervals, the share errs by 0.28%.
    samples = math.log(1.03) + normal(np.random.default_rng(n), (2500, n), 0.05)
    shown = [give_up("b", launches(one), Rule(10), "") for one in samples]
    assert sum(one.low <= 1.03 <= one.high for one in shown) / 2500 == pytest.approx(0.98, abs=0.0085)


# From steps to launches


def visits(rng, count, steps, true_ratio=1.0, noise=0.01):
    """Wall times of `count` rounds of a base of 1 ms and a head of `true_ratio` ms: two arrays, (rounds, steps)."""
    times = 1e-3 * np.exp(noise * np.abs(rng.standard_normal((2, count, steps))))
    return times * np.array([1.0, true_ratio])[:, None, None]


def rounds_of(wall, cpu=None):
    """Rounds from arrays of (side, round, step)."""
    sides = [
        [Visit(tuple(w), () if cpu is None else tuple(cpu[side][k])) for k, w in enumerate(wall[side].tolist())]
        for side in (0, 1)
    ]
    return list(zip(*sides, strict=True))


@pytest.mark.parametrize("true_ratio", [1.0, 1.05])
def test_pre_emption_of_a_quarter_of_the_steps_moves_a_launch_by_tenths_of_a_percent(true_ratio):
    rng = np.random.default_rng(6)
    errors = []
    for _ in range(100):
        wall = visits(rng, 60, 7, true_ratio)
        hit = rng.random(wall.shape) < 0.25
        wall = wall * np.where(hit, rng.uniform(2, 50, wall.shape), 1.0)
        errors.append(launch_of(rounds_of(wall)).wall - math.log(true_ratio))
    assert max(map(abs, errors)) < 0.004
    assert abs(statistics.fmean(errors)) < 0.0005


def test_a_neighbour_who_takes_the_core_for_whole_visits_moves_a_launch_by_tenths_of_a_percent():
    rng = np.random.default_rng(7)
    errors = []
    for _ in range(100):
        wall = visits(rng, 60, 7)
        hit = rng.random((2, 60, 1)) < 0.1
        errors.append(launch_of(rounds_of(wall * np.where(hit, rng.uniform(1.2, 3, hit.shape), 1.0))).wall)
    assert max(map(abs, errors)) < 0.005


def test_more_rounds_of_a_biased_pair_of_processes_do_not_make_the_gate_surer(in_floats):
    rng = np.random.default_rng(8)
    alarm, naive, gates, count = 0, 0, 150, 200
    for _ in range(gates):
        seen = []
        for _ in range(LOOKS[0]):
            wall = visits(rng, count, 2, true_ratio=math.exp(rng.normal(0, 0.03)), noise=0.02)
            seen.append(launch_of(rounds_of(wall)))
            assert seen[-1].rounds == count
        found = decide("b", seen, Rule(1))
        alarm += found is not None and found.verdict is not SAME
        # The rounds scatter by about 2%: taken for independent, 800 of them would be this sure.
        naive += abs(statistics.fmean(one.wall for one in seen)) > 4 * 0.02 / math.sqrt(LOOKS[0] * count)
    assert alarm <= 2
    assert naive > 0.75 * gates


def test_a_launch_is_the_median_ratio_of_least_wall_times_and_the_ratio_of_mean_cpu_times():
    base, head = Visit((2.0, 1.0, 9.0), (1.0, 1.0, 4.0)), Visit((3.0, 8.0), (3.0, 5.0))
    odd = Visit((90.0,), (90.0,))
    found = launch_of([(base, head)] * 9 + [(base, odd)])
    assert found == Launch(pytest.approx(math.log(3)), pytest.approx(math.log(2)), 1.0, pytest.approx(3.0), 10, None)
    found = launch_of([(base, head)] * 10)
    assert found.mean == pytest.approx(math.log(5.5 / 4))


def test_a_launch_without_rounds_is_refused():
    with pytest.raises(ValueError, match="no rounds"):
        launch_of([])


def test_where_one_round_lacks_cpu_times_the_launch_has_none_and_its_wall_time_counts():
    full, bare = Visit((1.0, 2.0), (1.0, 1.0)), Visit((1.0, 2.0))
    found = launch_of([(full, full), (full, bare), (full, full)])
    assert (found.wall, found.cpu, found.rounds) == (0.0, None, 3)


def test_a_clock_that_stood_still_in_one_visit_does_no_harm_and_one_that_never_moved_is_none():
    full, still = Visit((1.0, 2.0), (1.0, 1.0)), Visit((1.0, 2.0), (0.0, 0.0))
    assert launch_of([(full, full), (still, still)]).cpu == 0.0
    assert launch_of([(still, still), (still, still)]).cpu is None
    assert launch_of([(full, full), (full, still)]).cpu == launch_of([(full, full), (still, full)]).cpu == 0.0


def test_where_one_launch_lacks_cpu_times_that_metric_alone_is_dropped():
    slow = [0.10, 0.11, 0.10, 0.09]
    assert decide("b", launches([0.0] * 4, slow), Rule(1)).verdict is SLOWER
    assert decide("b", launches([0.0] * 4, [*slow[:3], None]), Rule(1)).verdict is SAME
    assert decide("b", launches(slow, [*slow[:3], None]), Rule(1)).verdict is SLOWER


@pytest.mark.parametrize("every", [4, 20])
def test_a_cost_now_and_then_that_the_minimum_hides_is_found_by_the_cpu_time(every):
    rng = np.random.default_rng(9)
    seen = []
    for _ in range(LAST):
        times = visits(rng, 60, 8)
        costly = np.arange(480).reshape(60, 8) % every == every - 1
        times[1] *= np.where(costly, 1 + 0.1 * every, 1.0)
        seen.append(launch_of(rounds_of(times, times)))
    assert all(abs(one.wall) < 0.005 for one in seen)
    found = decide("b", seen[:6], Rule(10))
    assert found.verdict is SLOWER
    assert 5 < float(found.reason.removeprefix("CPU time +").removesuffix("%")) < 11  # of a rare cost, some is left out
    assert found.ratio == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize(("every", "share", "busy"), [(4, 0.1, False), (8, 0.1, False), (4, 0.3, True)])
def test_a_wait_now_and_then_that_only_the_mean_time_shows_is_found(every, share, busy):
    rng = np.random.default_rng(12)
    seen = []
    for _ in range(LAST):
        wall, cpu = visits(rng, 60, 16), visits(rng, 60, 16)
        if busy:
            wall = wall * np.where(rng.random(wall.shape) < 0.1, rng.uniform(2, 10, wall.shape), 1.0)
        wall[1] += 1e-3 * share * every * (np.arange(960).reshape(60, 16) % every == 0)
        seen.append(launch_of(rounds_of(wall, cpu)))
    assert all(abs(one.wall) < 0.005 and abs(one.cpu) < 0.005 for one in seen)
    found = next(found for look in LOOKS if (found := decide("b", seen[:look], Rule(10))))
    assert found.verdict is SLOWER and found.ratio == pytest.approx(1.0, abs=0.005)
    assert 50 * share < float(found.reason.removeprefix("mean time +").removesuffix("%")) < 120 * share


def test_the_mean_time_accuses_and_does_not_acquit():
    calm, slow, loud = [0.0] * 6, [0.10, 0.11, 0.10, 0.09, 0.10, 0.10], [0.3, -0.25, 0.25, -0.25, 0.3, -0.3]
    assert verdict_of(decide("b", launches(calm, calm, slow), Rule(1))) is SLOWER
    assert verdict_of(decide("b", launches(calm, calm, [-one for one in slow]), Rule(1))) is SAME
    assert verdict_of(decide("b", launches(calm, calm, loud), Rule(1))) is SAME
    assert verdict_of(decide("b", launches(calm, calm, [0.3, 0.0] * 3), Rule(1))) is None  # it may be a wait
    assert verdict_of(decide("b", launches([-one for one in slow], calm, slow), Rule(1))) is None
    leans = [0.12, 0.20, 0.31, 0.10]
    assert leaning(launches(calm[:4], calm[:4], leans), Rule(10)).startswith("probably slower (mean time +20.0%): ")
    assert leaning(launches(calm[:4], calm[:4], [-one for one in leans]), Rule(10)) == ""
    quiet, noisy = (give_up("b", launches(calm, calm, one), Rule(1), "") for one in (calm, loud))
    assert quiet.smallest_detectable == noisy.smallest_detectable


def test_faster_in_wall_time_and_slower_in_cpu_time_is_not_decided():
    slow = np.linspace(0.09, 0.11, LAST)
    assert gate(slow).verdict is SLOWER and gate(-slow).verdict is FASTER
    for wall, cpu in ((-slow, slow), (slow, -slow)):
        found = gate(wall, cpu)
        assert (found.verdict, found.reason, found.launches) == (INCONCLUSIVE, "no look left", LAST)


def test_the_same_takes_both_metrics_and_slower_one_of_them():
    calm, loud, slow = [0.0] * 4, [0.1, -0.1, 0.1, -0.1], [0.10, 0.11, 0.10, 0.09]
    for one, other, expected in ((calm, calm, SAME), (calm, loud, None), (calm, slow, SLOWER), (loud, slow, SLOWER)):
        for wall, cpu in ((one, other), (other, one)):
            assert verdict_of(decide("b", launches(wall, cpu), Rule(1))) is expected


# Few launches, equal ones, crazy ones


def test_without_launches_nothing_is_known_and_nothing_decided():
    assert decide("b", [], Rule(1)) is None
    assert give_up("b", [], Rule(1), "no time") == Judgement("b", INCONCLUSIVE, "no time")


@pytest.mark.parametrize(
    ("wall", "says"),
    [
        ([0.12, 0.20, 0.31, 0.10],
         "probably slower (wall time +20.0%): with unchanged code, that happens in 1 of 55 gates, "
         "and SLOWER needs 1 of 20,408"),
        ([-0.12, -0.20, -0.31, -0.10],
         "probably faster (wall time -16.7%): with unchanged code, that happens in 1 of 55 gates, "
         "and FASTER needs 1 of 20,408"),
        ([0.12, 0.40, 0.00, 0.10], ""),  # it varies too much
        ([0.12, 0.20, 0.31], ""),  # of so few, nothing is known
        ([0.10, 0.10, 0.10, 0.10], ""),  # that is a verdict
    ],
)  # fmt: skip
def test_undecided_launches_that_lean_to_one_side_say_so_and_what_a_verdict_takes(wall, says):
    assert leaning(launches(wall), Rule(10)) == says
    if says:
        above = (abs(statistics.fmean(wall)) - Rule(10).margin) / (statistics.stdev(wall) / 2)
        assert round(1 / stdtr(3, -above)) == 55 and round(1 / Rule(10).level(4)) == 20_408


def test_fewer_launches_than_a_verdict_takes_have_a_ratio_and_no_interval():
    one = launches([math.log(1.2)])
    assert decide("b", one, Rule(1)) is None
    assert give_up("b", one, Rule(1), "") == Judgement(
        "b", INCONCLUSIVE, "", pytest.approx(1.2), None, None, 1.0, pytest.approx(1.2), 1
    )
    two = launches([math.log(1.1), math.log(1.2)])
    assert decide("b", two, Rule(1)) is None
    found = give_up("b", two, Rule(1), "")
    assert found.ratio == pytest.approx(math.sqrt(1.1 * 1.2)) == found.head_s / found.base_s
    # Student's t at 99% is 31.8 for one degree of freedom: an interval from -50% to +100% says nothing.
    assert (found.low, found.high, found.smallest_detectable) == (None, None, None)


@pytest.mark.parametrize(
    ("ratio", "verdict", "looks"),
    [(1.0, SAME, 4), (1.02, SAME, 4), (1.10, SLOWER, 4), (1.05, SLOWER, 6), (0.90, FASTER, 4), (1.024, SAME, 4)],
)
def test_equal_launches_are_trusted_no_more_than_the_least_spread_allows(ratio, verdict, looks):
    found = gate([math.log(ratio)] * LAST, [math.log(ratio)] * LAST)
    assert (found.verdict, found.launches) == (verdict, looks)
    reach = float(stdtrit(looks - 1, 0.99)) * LEAST_SPREAD / math.sqrt(looks)
    assert (found.low, found.high) == (pytest.approx(ratio * math.exp(-reach)), pytest.approx(ratio * math.exp(reach)))


def test_slowdowns_below_the_minimum_effect_are_not_slower_however_certain():
    below, above = launches([0.0246] * LAST), launches([0.0248] * LAST)  # log 1.025 is 0.02469
    assert verdict_of(decide("b", below, Rule(1))) is SAME
    assert verdict_of(decide("b", above, Rule(1))) is SLOWER


@pytest.mark.parametrize("crazy", [math.log(1.5), math.log(10), -math.log(10)])
@pytest.mark.parametrize("metric", ["wall", "cpu", "both", "mean"])
def test_one_crazy_launch_among_calm_ones_accuses_nobody_and_leaves_nothing_open(in_floats, crazy, metric):
    rng = np.random.default_rng(10)
    for where in range(LAST):
        wall, cpu, mean = normal(rng, (3, LAST), SPREAD)
        if metric in ("wall", "both"):
            wall[where] += crazy
        if metric in ("cpu", "both"):
            cpu[where] += crazy
        if metric == "mean":
            mean[where] += crazy
        assert gate(wall, cpu, mean).verdict is SAME


# The rule


def test_the_rates_of_all_looks_metrics_and_benchmarks_add_up_to_alpha():
    for benchmarks in (1, 2, 10, 137):
        rates = [Rule(benchmarks).level(look, metric) for look in LOOKS for metric in SHARES]
        assert benchmarks * math.fsum(rates) == pytest.approx(ALPHA)
        assert min(rates) > 0
    assert Rule(0).level(4) == Rule(1).level(4)


def test_between_the_looks_nothing_is_decided():
    seen = launches([0.5] * 20)
    assert {n for n in range(21) if decide("b", seen[:n], Rule(1)) is not None} == set(LOOKS)
    assert [spent(seen[:n]) for n in (0, 15, 16, 20)] == [False, False, True, True]


@pytest.mark.parametrize("value", [0.0, 0.5, -0.5])
def test_one_launch_of_too_few_rounds_keeps_all_from_deciding(value):
    enough, short = launches([value] * 15, rounds=FEWEST_ROUNDS), launches([value], rounds=FEWEST_ROUNDS - 1)
    for look in LOOKS:
        assert decide("b", enough[: look - 1] + short, Rule(1)) is None
        assert decide("b", short + enough[: look - 1], Rule(1)) is None
    assert decide("b", enough[:4], Rule(1)) is not None


def test_the_minimum_effect_scales_all_thresholds():
    for factor in (0.2, 1.0, 4.0):
        rule = Rule(3, min_effect=factor * DEFAULT_MIN_EFFECT)
        found = [math.expm1(threshold) for threshold in (rule.margin, rule.effect, rule.target)]
        assert found == pytest.approx([0.01 * factor, 0.025 * factor, 0.05 * factor])
        assert rule.level(8) == Rule(3).level(8)


@pytest.mark.parametrize(
    ("min_effect", "ratio", "verdict"), [(0.025, 1.06, SLOWER), (0.1, 1.06, SAME), (0.1, 1.25, SLOWER)]
)
def test_with_a_larger_minimum_effect_it_takes_a_larger_slowdown(min_effect, ratio, verdict):
    noise = normal(np.random.default_rng(11), LAST, SPREAD)
    assert gate(math.log(ratio) + noise, rule=Rule(10, min_effect)).verdict is verdict


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.04])
def test_the_smallest_detectable_shift_is_the_least_that_would_have_been_slower(spread):
    rule = Rule(10)
    noise = np.tile([spread, -spread], LAST // 2)
    kept = LAST - 2 * trim(LAST)
    error = max(spread * math.sqrt(LAST / (kept * (kept - 1))), LEAST_SPREAD / math.sqrt(LAST))  # Yuen (1974)
    least = give_up("b", launches(noise, noise), rule, "").smallest_detectable
    by_hand = math.log(1.01) + float(stdtrit(kept - 1, 1 - rule.level(LAST))) * error
    assert math.log(least) == pytest.approx(max(math.log(1.025), by_hand))
    assert verdict_of(decide("b", launches(noise + math.log(least) + 1e-6), rule)) is SLOWER
    assert verdict_of(decide("b", launches(noise + math.log(least) - 1e-6), rule)) in (SAME, None)


def test_few_launches_foretell_what_all_of_them_would_show():
    noise = np.tile([0.01, -0.01], LAST // 2)
    few, all_of_them = (give_up("b", launches(noise[:n]), Rule(10), "").smallest_detectable for n in (4, LAST))
    assert few == pytest.approx(all_of_them, rel=0.005)


# What holds for any times

seconds = st.floats(min_value=1e-6, max_value=1e3)
logs = st.floats(min_value=-3, max_value=3) | st.floats(min_value=-0.1, max_value=0.1)
series = st.sampled_from(LOOKS).flatmap(
    lambda n: st.tuples(
        st.floats(min_value=-0.3, max_value=0.3),
        st.floats(min_value=-0.3, max_value=0.3),
        st.floats(min_value=0, max_value=1),
        st.lists(st.tuples(logs, logs), min_size=n, max_size=n),
    ).map(lambda drawn: [(drawn[0] + drawn[2] * w, drawn[1] + drawn[2] * c) for w, c in drawn[3]])
)
rules = st.builds(Rule, st.integers(0, 50), st.floats(min_value=0.001, max_value=0.5))


@st.composite
def launches_in_times(draw):
    """The rounds of a few launches; a head's step is its base's step times a factor."""
    steps = draw(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=3))
    factors = draw(st.lists(st.floats(min_value=0.5, max_value=2), min_size=4, max_size=4))
    return [
        [
            (Visit(tuple(w for w, _ in steps), tuple(c for _, c in steps)),
             Visit(tuple(f * w for w, _ in steps), tuple(f * c for _, c in steps)))
        ] * LEAST_ROUNDS
        for f in factors
    ]  # fmt: skip


@given(series, rules)
def test_swapping_the_sides_swaps_slower_and_faster_and_keeps_the_rest_undecided_or_the_same(values, rule):
    wall, cpu = zip(*values, strict=True)
    forth = launches(wall, cpu)
    back = [Launch(-one.wall, -one.cpu, one.head_s, one.base_s, one.rounds) for one in forth]
    there, here = verdict_of(decide("b", forth, rule)), verdict_of(decide("b", back, rule))
    mirror = {SLOWER: {FASTER}, FASTER: {SLOWER}, SAME: {SAME, None}, None: {SAME, None}}
    assert here in mirror[there] and there in mirror[here]
    ahead, behind = give_up("b", forth, rule, ""), give_up("b", back, rule, "")
    assert (behind.ratio, behind.base_s, behind.head_s) == (pytest.approx(1 / ahead.ratio), ahead.head_s, ahead.base_s)
    assume(ahead.high < 1e300 and behind.high < 1e300)
    assert (behind.low, behind.high) == (pytest.approx(1 / ahead.high), pytest.approx(1 / ahead.low))
    assert behind.smallest_detectable == pytest.approx(ahead.smallest_detectable)


@given(series, rules)
def test_a_head_that_is_faster_in_every_launch_is_never_slower_and_a_slower_one_never_faster(values, rule):
    wall, cpu = ([-abs(value) for value in metric] for metric in zip(*values, strict=True))
    assert verdict_of(decide("b", launches(wall, cpu), rule)) is not SLOWER
    slow = launches([-value for value in wall], [-value for value in cpu])
    assert verdict_of(decide("b", slow, rule)) is not FASTER


@given(series, rules)
def test_the_ratio_lies_within_its_interval_and_the_decision_agrees_with_it(values, rule):
    wall, cpu = zip(*values, strict=True)
    seen = launches(wall, cpu)
    found = decide("b", seen, rule) or give_up("b", seen, rule, "")
    assert 0 < found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(found.head_s / found.base_s)
    assert found.smallest_detectable >= (1 + rule.min_effect) * (1 - 1e-12)
    assert found.launches == len(seen)
    if found.verdict is SAME:
        assert found.high < math.exp(rule.target)
    if found.verdict is SLOWER and not found.reason:
        assert found.ratio > 1 + 0.4 * rule.min_effect


@given(launches_in_times(), st.floats(min_value=1e-3, max_value=1e3), rules)
def test_the_unit_of_time_changes_no_verdict_and_no_ratio(rounds, unit, rule):
    def scaled(visit):
        return Visit(tuple(unit * t for t in visit.wall_s), tuple(unit * t for t in visit.cpu_s))

    plain = [launch_of(one) for one in rounds]
    other = [launch_of([(scaled(base), scaled(head)) for base, head in one]) for one in rounds]
    assert verdict_of(decide("b", plain, rule)) is verdict_of(decide("b", other, rule))
    a, b = give_up("b", plain, rule, ""), give_up("b", other, rule, "")
    assert (a.ratio, a.base_s * unit, a.head_s * unit) == pytest.approx((b.ratio, b.base_s, b.head_s))


# All verdicts of a gate


def judged(*verdicts):
    return [Judgement(f"b{i}", one) for i, one in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        ([SAME, FASTER, Verdict.NEW], 0),
        ([SAME, INCONCLUSIVE, FASTER], 10),
        ([SAME, SLOWER], 1),
        ([INCONCLUSIVE, Verdict.MISSING], 1),
        ([INCONCLUSIVE, Verdict.INVALID, SAME], 1),
    ],
)
def test_a_failure_exits_with_1_and_otherwise_an_undecided_one_with_10(verdicts, code):
    assert exit_code(judged(*verdicts)) == exit_code(reversed(judged(*verdicts))) == code


def test_the_tally_counts_each_verdict():
    assert tally(judged(SAME, SLOWER, SAME)) == {SAME: 2, SLOWER: 1}
    assert tally([]) == {}


def test_the_record_of_a_judgement_has_every_field_by_name():
    found = Judgement("b", SLOWER, "CPU time +9.0%", 1.0, 0.9, 1.1, 0.5, 0.5, 6, 1.03).as_record()
    assert found == {
        "name": "b", "verdict": "SLOWER", "reason": "CPU time +9.0%", "ratio": 1.0, "low": 0.9, "high": 1.1,
        "base_s": 0.5, "head_s": 0.5, "launches": 6, "smallest_detectable": 1.03,
        "base_bytes": None, "head_bytes": None, "base_loss": None, "head_loss": None,
    }  # fmt: skip


def test_when_the_gate_looks_what_it_spends_there_and_what_it_leaves_out():
    """The simulations above hold for these numbers, and for no others."""
    assert LOOKS == (4, 6, 8, 12, 16)
    assert SHARES == {"wall time": 0.49, "CPU time": 0.49, "mean time": 0.02}
    spending = [Rule(1).level(look) / (0.49 * ALPHA) for look in LOOKS]
    assert spending == pytest.approx([0.1, 0.2, 0.2, 0.25, 0.25])
    assert [trim(count) for count in (1, 4, 8, 11, 12, 15, 16, 20)] == [0, 0, 0, 0, 1, 1, 2, 2]
    assert (LEAST_ROUNDS, FEWEST_ROUNDS) == (40, 12)
