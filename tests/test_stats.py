"""Medians, spreads and ratios: planted effects, null data, and n = 0, 1, 2."""

import math
import random
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from perf.harness.statistics import intervals as stats
from perf.harness.statistics.intervals import (
    Ratio,
    Summary,
    median_and_spread,
    scatter,
    summary,
)

positive = st.floats(min_value=1e-12, max_value=1e6)
samples = st.lists(positive, min_size=1, max_size=60)


def ratio(reference, samples):
    """Of two runs of one pass each."""
    return stats.ratio([reference], [samples])


def white(rng, n):
    return [math.exp(0.05 * rng.gauss(0, 1)) for _ in range(n)]


def skewed(rng, n):
    return [1 + rng.expovariate(10) for _ in range(n)]


def interrupted(rng, n):
    """A tenth of the samples are hit by something that takes as long as they do."""
    return [1 + 0.02 * rng.random() + (rng.expovariate(1) if rng.random() < 0.1 else 0) for _ in range(n)]


def drifting(rng, n, memory=0.9):
    """AR(1): each sample keeps 90% of the deviation of the one before."""
    deviation, out = rng.gauss(0, 1) / math.sqrt(1 - memory**2), []
    for _ in range(n):
        out.append(math.exp(0.03 * deviation))
        deviation = memory * deviation + rng.gauss(0, 1)
    return out


def coverage(noise, n, m, runs, seed=0):
    """How often the interval of two runs of the same thing contains 1."""
    rng = random.Random(seed)
    return sum(not ratio(noise(rng, n), noise(rng, m)).excludes_one for _ in range(runs)) / runs


@pytest.mark.parametrize(("low", "high", "excludes"), [(0.9, 1.0, False), (1.0, 1.1, False), (1.01, 1.1, True)])
def test_an_interval_that_ends_at_one_does_not_exclude_it(low, high, excludes):
    assert Ratio((low * high) ** 0.5, low, high).excludes_one is excludes


def test_the_summary_is_median_relative_half_interquartile_range_and_rounds():
    assert median_and_spread([1.0, 2.0, 3.0, 4.0, 5.0]) == Summary(median=3.0, spread=1.0 / 3.0, rounds=5)
    assert median_and_spread([5.0, 1.0, 4.0, 2.0, 3.0]).spread == pytest.approx(1 / 3)


def test_one_sample_has_no_spread_and_two_have_one():
    assert median_and_spread([2.0]) == Summary(2.0, None, 1)
    assert median_and_spread([1.0, 3.0]) == Summary(2.0, 0.25, 2)


@pytest.mark.parametrize("bad", [[], [0.0], [1.0, -1.0], [math.nan], [1.0, math.inf]])
def test_no_samples_and_values_that_are_no_times_are_refused(bad):
    with pytest.raises(ValueError, match=r"no samples|finite and above 0"):
        median_and_spread(bad)
    for pair in ((bad, [1.0, 2.0]), ([1.0, 2.0], bad)):
        with pytest.raises(ValueError, match=r"no samples|finite and above 0"):
            ratio(*pair)


def test_one_sample_on_either_side_gives_a_ratio_without_an_interval():
    for pair in (([6.0], [2.0]), ([6.0], [2.0, 2.0]), ([6.0, 6.0], [2.0])):
        found = ratio(*pair)
        assert found == Ratio(pytest.approx(3.0), None, None)
        assert not found.excludes_one


def test_two_samples_on_each_side_give_an_interval_too_wide_to_decide_by():
    found = ratio([1.9, 2.1], [0.9, 1.1])
    assert found.point == pytest.approx(2.0)
    assert found.low < 1 < found.high


def test_identical_samples_give_an_interval_of_no_width():
    assert ratio([2.0] * 5, [2.0] * 9) == Ratio(1.0, 1.0, 1.0)
    found = ratio([3.0] * 5, [2.0] * 5)
    assert found.low == found.point == found.high == pytest.approx(1.5)
    assert found.excludes_one


def test_the_interval_of_three_against_three_is_welchs_widened_for_medians():
    a, b = [1.0, 1.1, 1.2], [2.0, 2.1, 2.3]
    variances = [statistics.variance(map(math.log, side)) / 3 * math.pi / 2 for side in (a, b)]
    freedom = sum(variances) ** 2 / sum(v**2 / 2 for v in variances)
    assert 3.6 < freedom < 3.9  # Student's t at 97.5% is 2.88 for 3.7 (SciPy's scipy.stats.t.ppf)
    found = ratio(a, b)
    assert found.point == pytest.approx(1.1 / 2.1)
    assert math.log(found.high / found.point) == pytest.approx(2.88 * math.sqrt(sum(variances)), rel=0.03)


def test_blocks_are_consecutive_even_and_complete():
    for n in (1, 2, 9, 10, 11, 25, 1000):
        blocks = stats._blocks(list(range(n)))
        assert [x for block in blocks for x in block] == list(range(n))
        assert len(blocks) == min(n, 10)
        assert {len(block) for block in blocks} <= {n // len(blocks), n // len(blocks) + 1}


@pytest.mark.parametrize("noise", [white, skewed, interrupted])
@pytest.mark.parametrize(("n", "m", "runs"), [(3, 3, 1500), (3, 40, 1000), (20, 20, 1000), (200, 200, 400)])
def test_of_independent_samples_95_percent_of_the_intervals_hold_the_truth(in_floats, noise, n, m, runs):
    # The simulation itself errs by 0.7% (1000 runs) to 1.1% (400 runs).
    assert coverage(noise, n, m, runs) >= 0.93 - (0.01 if runs < 1000 else 0)


def test_of_drifting_samples_nearly_as_many_intervals_hold_the_truth(in_floats):
    assert coverage(drifting, 600, 600, 200) >= 0.88


def test_without_blocks_the_intervals_of_drifting_samples_are_far_too_narrow(in_floats, monkeypatch):
    monkeypatch.setattr(stats, "BLOCKS", 600)
    assert coverage(drifting, 600, 600, 60) < 0.6


@pytest.mark.parametrize("noise", [white, skewed, interrupted])
def test_the_interval_of_a_median_holds_the_true_one(in_floats, noise):
    rng = random.Random(3)
    truth = statistics.median(noise(rng, 200_000))
    held = 0
    for _ in range(400):
        median, low, high = stats.median_interval(noise(rng, 100))
        assert low <= median <= high
        held += low <= truth <= high
    assert held / 400 >= 0.92


def test_the_interval_of_one_sample_is_not_known():
    assert stats.median_interval([0.1]) == (0.1, None, None)


@pytest.mark.parametrize(("noise", "effect", "n"), [(white, 1.05, 200), (interrupted, 1.05, 60), (drifting, 1.2, 2000)])
def test_a_planted_slowdown_is_found(in_floats, noise, effect, n):
    rng = random.Random(5)
    found = [ratio([effect * x for x in noise(rng, n)], noise(rng, n)) for _ in range(30)]
    assert sum(r.excludes_one and r.point > 1 for r in found) >= 29
    assert statistics.median(r.point for r in found) == pytest.approx(effect, rel=0.03)


@given(samples, samples)
def test_the_ratio_the_other_way_round_is_the_inverse(a, b):
    forth, back = ratio(a, b), ratio(b, a)
    assert forth.point == pytest.approx(1 / back.point)
    assert (forth.low is None) == (back.low is None) == (min(len(a), len(b)) < 2)
    if forth.low is not None and forth.high < 1e300:
        assert forth.low == pytest.approx(1 / back.high)
        assert forth.high == pytest.approx(1 / back.low)


@given(samples, samples, st.floats(min_value=1e-3, max_value=1e3))
def test_a_ratio_does_not_depend_on_the_unit(a, b, unit):
    plain, scaled = ratio(a, b), ratio([unit * x for x in a], [unit * x for x in b])
    assert plain.point == pytest.approx(scaled.point)
    assume(plain.low is not None and plain.high < 1e200)
    assert (plain.low, plain.high) == (pytest.approx(scaled.low, rel=1e-6), pytest.approx(scaled.high, rel=1e-6))


@given(st.lists(st.floats(min_value=5e-324, max_value=1e300), min_size=1, max_size=12))
def test_the_most_extreme_times_give_finite_numbers_in_order(a):
    for found in (ratio(a, [1.0, 2.0]), ratio([1.0, 2.0], a)):
        assert 0 < found.point < math.inf
        if found.low is not None:
            assert 0 < found.low <= found.point <= found.high < math.inf


@given(samples)
def test_the_spread_is_none_or_a_finite_number_from_0_on(a):
    summary = median_and_spread(a)
    assert min(a) <= summary.median <= max(a)
    assert (summary.spread is None) == (len(a) == 1)
    assert summary.spread is None or 0 <= summary.spread < math.inf


@pytest.mark.parametrize(("in_a_block", "widened"), [(10, 1.0), (5, 1.0), (4, math.pi / 2)])
def test_the_interval_of_a_median_is_students_of_its_ten_blocks(in_a_block, widened):
    logs = [0.01 * block for block in range(10)]
    samples = [math.exp(log) for log in logs for _ in range(in_a_block)]
    error = math.sqrt(widened * statistics.variance(logs) / 10)
    median, low, high = stats.median_interval(samples)
    assert median == statistics.median(samples)
    assert (median / low, high / median) == pytest.approx([math.exp(2.262157 * error)] * 2)  # t(97.5%, 9)


def launched(rng, time):
    """Each process has a speed of its own."""
    return math.exp(0.05 * rng.gauss(0, 1))


def of_two_kinds(rng, time):
    """One process in four is 1.7 times as slow as the others."""
    return (1.7 if rng.random() < 0.25 else 1.0) * math.exp(0.02 * rng.gauss(0, 1))


def half_and_half(rng, time):
    return (1.7 if rng.random() < 0.5 else 1.0) * math.exp(0.02 * rng.gauss(0, 1))


def heavy_tailed(rng, time):
    """Student's t with 2 degrees of freedom, or nearly."""
    return math.exp(0.03 * rng.gauss(0, 1) / math.sqrt(rng.expovariate(1)))


def once_crazy(rng, time):
    """One process in twenty takes ten times as long."""
    return (10.0 if rng.random() < 0.05 else 1.0) * math.exp(0.02 * rng.gauss(0, 1))


def warming(rng, time):
    """The clock falls and rises by a tenth in the course of a run."""
    return math.exp(0.1 * math.sin(2 * math.pi * time) + 0.02 * rng.gauss(0, 1))


KINDS = (launched, of_two_kinds, half_and_half, heavy_tailed, once_crazy, warming)


def made_of_passes(rng, process, count):
    begin = rng.random()
    speeds = [process(rng, begin + number / count) for number in range(count)]
    return [[speed * (1 + abs(0.02 * rng.gauss(0, 1))) for _ in range(20)] for speed in speeds]


@pytest.mark.parametrize("process", KINDS)
@pytest.mark.parametrize("count", [3, 5, 10])
def test_of_two_runs_of_several_passes_nine_intervals_in_ten_hold_the_truth(in_floats, process, count):
    rng = random.Random(count)
    runs = [(made_of_passes(rng, process, count), made_of_passes(rng, process, count)) for _ in range(200)]
    assert sum(not stats.ratio(one, other).excludes_one for one, other in runs) >= 180


@pytest.mark.parametrize("process", [launched, of_two_kinds])
def test_rounds_instead_of_passes_would_say_far_too_much(in_floats, process):
    """The fault that passes are there against, planted: the same runs, taken for one long pass."""
    rng = random.Random(0)
    runs = [(made_of_passes(rng, process, 1), made_of_passes(rng, process, 1)) for _ in range(200)]
    assert sum(not stats.ratio(one, other).excludes_one for one, other in runs) < 100


@pytest.mark.parametrize("count", [3, 5, 10])
def test_a_slowdown_by_a_half_is_found_between_passes(in_floats, count):
    rng, found = random.Random(1), 0
    for _ in range(50):
        base, head = made_of_passes(rng, launched, count), made_of_passes(rng, launched, count)
        found += stats.ratio(base, [[1.5 * one for one in samples] for samples in head]).excludes_one
    assert found >= 45


def test_the_time_of_several_passes_is_the_median_of_their_medians():
    found = summary([[1.0, 1.0, 1.0], [2.0, 2.0], [4.0]])
    assert (found.median, found.rounds, found.passes) == (pytest.approx(2.0), 6, 3)
    logs = [0.0, math.log(2), math.log(4)]
    margin = 4.302653 * math.sqrt(math.pi / 2 * statistics.variance(logs) / 3)
    assert found.spread == pytest.approx(math.sinh(margin))


def test_the_median_of_two_passes_is_their_mean_and_no_less_sure():
    margin = 12.706205 * math.sqrt(statistics.variance([0.0, 0.01]) / 2)
    assert summary([[1.0], [math.exp(0.01)]]).spread == pytest.approx(math.sinh(margin))


def half_width(slow_passes, count):
    """Half the interval, as a logarithm in units of Student's t, of passes of which some take twice as long."""
    medians = [6.0] * slow_passes + [3.0] * (count - slow_passes)
    freedom = stats.quantile(0.975, count - 1)
    return math.asinh(summary([[one] for one in medians]).spread) / freedom


@pytest.mark.parametrize("slow_passes", [2, 3])
def test_where_several_passes_are_of_another_kind_half_the_gap_is_the_least_error(slow_passes):
    assert half_width(slow_passes, 5) == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("slow_passes", [1, 4])
def test_one_pass_of_another_kind_is_an_outlier(slow_passes):
    logs = [math.log(2)] * slow_passes + [0.0] * (5 - slow_passes)
    assert half_width(slow_passes, 5) == pytest.approx(math.sqrt(math.pi / 2 * statistics.variance(logs) / 5))


def test_one_pass_says_that_it_is_one():
    assert median_and_spread([1.0, 2.0]).passes == 1


def test_passes_that_are_alike_by_chance_are_no_surer_than_each_of_them():
    noisy = [1.0, 1.2, 0.8, 1.1, 0.9, 1.0, 1.2, 0.8, 1.1, 0.9, 1.0]
    assert summary([noisy, noisy, noisy]).spread > 0.02
    assert summary([[1.0] * 9] * 3).spread == 0.0


def test_one_pass_is_what_it_was():
    times = [1.0, 2.0, 4.0]
    assert summary([times]) == median_and_spread(times)
    assert stats.ratio([times], [times]) == ratio(times, times)
    assert scatter([times]) == median_and_spread(times).spread


def test_the_scatter_of_passes_is_how_much_their_medians_differ():
    assert scatter([[1.0, 9.0, 1.0], [1.0], [1.0]]) == 0.0
    assert scatter([[1.0], [math.e]]) == pytest.approx(math.sqrt(0.5))


passes = st.lists(samples, min_size=1, max_size=8)


@given(passes, passes)
def test_the_ratio_of_passes_the_other_way_round_is_the_inverse(a, b):
    one, other = stats.ratio(a, b), stats.ratio(b, a)
    assert one.point * other.point == pytest.approx(1.0)
    if one.low is not None and other.high is not None:
        assert one.low * other.high == pytest.approx(1.0)


@given(passes)
def test_the_spread_of_passes_is_none_or_a_number_from_0_on(a):
    spread = summary(a).spread
    assert spread is None or spread >= 0


@pytest.mark.parametrize(
    ("found", "of", "share"), [(0, 80, 0.0368), (0, 300, 0.0099), (1, 80, 0.0579), (80, 80, 1.0), (79, 80, 0.99936)]
)
def test_the_largest_share_that_a_count_leaves_possible(found, of, share):
    """With none found, it is the share that shows none in 5% of all cases: 0.95 ** (1 / of) from the other side."""
    assert stats.at_most(found, of) == pytest.approx(share, abs=5e-5)
    if not found:
        assert (1 - stats.at_most(0, of)) ** of == pytest.approx(0.05)


@pytest.mark.parametrize(("found", "of"), [(0, 0), (-1, 5), (6, 5)])
def test_a_count_that_is_none_has_no_share(found, of):
    with pytest.raises(ValueError, match=f"{found} of {of}"):
        stats.at_most(found, of)


def test_the_robust_spread_is_the_standard_deviation_of_what_is_normal_and_ignores_the_rest():
    quantiles = [statistics.NormalDist(0.0, 0.06).inv_cdf((number + 0.5) / 999) for number in range(999)]
    samples = [0.01 * math.exp(value) for value in quantiles]
    assert stats.robust_spread(samples) == pytest.approx(0.06, rel=0.01)
    assert stats.robust_spread([*samples, *[1e9] * 99]) == pytest.approx(0.06, rel=0.15)


def test_the_next_of_few_values_may_be_further_away():
    """Student's t of Hahn and Meeker (1991) at 99%: 31.821, 6.965, 2.821 with one, two, nine degrees of freedom."""
    assert stats.next_one(2, 0.99) == pytest.approx(31.821 * math.sqrt(1.5), rel=1e-3)
    assert stats.next_one(3, 0.99) == pytest.approx(6.965 * math.sqrt(4 / 3), rel=1e-3)
    assert stats.next_one(10, 0.99) == pytest.approx(2.821 * math.sqrt(1.1), rel=1e-3)
    with pytest.raises(ValueError, match="no standard deviation"):
        stats.next_one(1, 0.99)
