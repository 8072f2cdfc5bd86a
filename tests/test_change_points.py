"""Where values change for good: the same places as the definition gives, and no more of them than chance allows."""

import itertools
import math
import random

import numpy as np
import pytest

from perf.harness.statistics.change_points import LEAST, _divergences, change_points
from perf.harness.verdict.trend import CHANCE

# So likely, every divergence above 0 is a change: what is found depends on no permutation.
ALWAYS = 1.0


def mean_distance(pairs):
    return float(np.mean([abs(one - other) for one, other in pairs]))


def divergence(left, right):
    """The scaled energy distance, as Matteson and James define it (equations 5 to 7)."""
    between = 2 * mean_distance(itertools.product(left, right))
    within = sum(mean_distance(itertools.combinations(part, 2)) for part in (left, right))
    return len(left) * len(right) / (len(left) + len(right)) * (between - within)


def divergences(values):
    """The divergence of each place, and the place. What comes after it ends where that is largest."""
    return [
        (max(divergence(values[:place], values[place:end]) for end in range(place + LEAST, len(values) + 1)), place)
        for place in range(LEAST, len(values) - LEAST + 1)
    ]


def by_definition(values):
    """Split where the divergence is largest, again and again, until none is above 0."""
    ends = [0, len(values)]
    while True:
        parts = itertools.pairwise(ends)
        found = ((*one, begin) for begin, end in parts for one in divergences(values[begin:end]))
        most, place, begin = max(found, default=(0, 0, 0))
        if most <= 0:
            return ends[1:-1]
        ends = sorted([*ends, begin + place])


@pytest.mark.parametrize("count", [6, 7, 9, 12, 18, 25])
@pytest.mark.parametrize("seed", range(4))
def test_the_divergences_and_the_places_are_those_of_the_definition(count, seed):
    values = list(np.random.default_rng(seed).normal(size=count) + np.arange(count) // 4)
    distances = np.abs(np.subtract.outer(values, values))
    expected = [most for most, _ in divergences(values)]
    assert _divergences(distances[..., None])[:, 0] == pytest.approx(expected)
    assert change_points(values, ALWAYS) == by_definition(values)


def test_a_part_without_a_change_does_not_hide_another_that_has_one():
    """Behind six equal values, whose divergences are 0, come some of which a few are below 0."""
    values = [50.0] * 6 + list(np.random.default_rng(1).normal(size=12))
    assert min(divergences(values[6:]))[0] < 0
    assert change_points(values, ALWAYS) == by_definition(values) != [6]


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([], []),
        ([1], []),
        ([1, 2], []),
        ([0, 1, 0, 1], []),
        ([1, 1, 9, 9, 9], []),  # too few before it
        ([1, 1, 1, 9, 9], []),  # too few after it
        ([1, 1, 1, 9, 9, 9], [3]),
        ([5] * 30, []),
        ([1] * 10 + [5] * 10 + [1] * 10, [10, 20]),
        ([50] * 3 + [1] * 10 + [9] * 10, [3, 13]),  # the first part is too short to be split once more
    ],
)
def test_a_change_has_three_values_on_each_side(values, places):
    assert change_points(values, 0.3) == places
    if not places:
        assert change_points(values, ALWAYS) == []


def test_the_permutations_are_within_each_part_and_also_in_the_shortest():
    """Two of the 20 ways to order its six values differ as much, and another part has nothing that differs."""
    assert change_points([0] * 3 + [3] * 3 + [100] * 10, 0.05) == [6]
    assert change_points([0] * 3 + [3] * 3 + [100] * 10, 0.3) == [3, 6]


class Orders:
    """Permutations that are known: the values as they are in each of the `reaching`, and else alternately."""

    def __init__(self, reaching):
        self.reaching, self.drawn = reaching, 0

    def permuted(self, rows, axis):
        assert axis == 1
        mixed = rows.reshape(len(rows), 2, -1).transpose(0, 2, 1).reshape(rows.shape)
        numbers = self.drawn + np.arange(len(rows))
        self.drawn += len(rows)
        return np.where(np.isin(numbers, self.reaching)[:, None], rows, mixed)


@pytest.mark.parametrize(
    ("reaching", "found", "drawn"),
    [
        ([], True, 599),
        ([0, 1], True, 599),
        ([0, 300, 599], True, 599),  # the last one is not drawn any more
        ([0, 300, 598], False, 599),
        ([0, 1, 2], False, 128),
    ],
)
def test_a_change_is_one_if_at_most_two_of_599_permutations_differ_as_much(monkeypatch, reaching, found, drawn):
    orders = Orders(reaching)
    monkeypatch.setattr("numpy.random.default_rng", lambda seed: orders)
    assert change_points([1] * 6 + [9] * 6, 0.005) == ([6] if found else [])
    assert orders.drawn == drawn


def noise(source, count, spread=0.01, drift=0.0, steps=()):
    """Logs of times: normal, with a drift for each run and jumps of (place, size)."""
    return [
        source.gauss(0, spread) + drift * at + sum(size for place, size in steps if at >= place) for at in range(count)
    ]


def test_a_step_is_found_where_it_is():
    for seed in range(20):
        values = noise(random.Random(seed), 40, steps=[(25, 0.05)])
        (found,) = change_points(values, 0.001)
        assert abs(found - 25) <= 1


def test_two_steps_that_undo_each_other_are_both_found():
    values = noise(random.Random(1), 60, 0.005, steps=[(20, 0.05), (40, -0.05)])
    assert [abs(found - wanted) <= 1 for found, wanted in zip(change_points(values, 0.001), (20, 40), strict=True)]


@pytest.mark.parametrize("spread", [0.01, 0.02])
def test_a_drift_of_one_percent_for_each_of_30_runs_is_always_found(spread):
    """It is below 2.5% from each run to the next."""
    for seed in range(50):
        assert change_points(noise(random.Random(seed), 30, spread, drift=math.log(1.01)), CHANCE / 17)


def test_the_same_values_give_the_same_changes():
    values = noise(random.Random(5), 40, 0.03, steps=[(20, 0.06)])
    assert change_points(values, 0.01) == change_points(values, 0.01)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "two kinds"])
def test_200_histories_without_a_change_show_no_more_than_the_stated_rate(kind):
    source = np.random.default_rng(7)
    draw = {
        "normal": lambda: source.normal(0, 0.02, 30),
        "heavy tails": lambda: 0.02 * source.standard_t(2, 30),
        "two kinds": lambda: source.choice([0.0, 0.5], 30) + source.normal(0, 0.01, 30),
    }[kind]
    found = sum(bool(change_points(list(draw()), CHANCE, seed)) for seed in range(200))
    # 3 standard errors above the rate: with fewer, the test would fail by chance.
    assert found <= 200 * CHANCE + 3 * math.sqrt(200 * CHANCE)


@pytest.mark.parametrize("chance", [0.05, 0.3])
def test_values_without_a_change_have_one_as_often_as_is_allowed(chance):
    source = np.random.default_rng(1)
    runs = 200
    found = sum(bool(change_points(list(source.normal(size=10)), chance, seed)) for seed in range(runs))
    spread = math.sqrt(chance * (1 - chance) / runs)
    assert abs(found / runs - chance) < 4 * spread
