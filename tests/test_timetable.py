"""Which cases are in which pass: a run ends when it said, and its widest intervals get the time that is left."""

import math
import random

import pytest

from perf.harness.measurement.timetable import Taken, Timetable
from perf.harness.statistics.intervals import summary


def run(timetable, cost, names="abc", width=lambda name, passes: None, crowded=lambda number: False):
    """The passes of each case, and how long all of them took; `cost(name, number)` is the time of a case in a pass."""
    made = {name: [] for name in names}
    taken, elapsed_s, due = {}, 0.0, set(names)
    while True:
        for name in sorted(due):
            if name in taken and not timetable.until_late_s(elapsed_s):
                continue
            wall_s = cost(name, timetable.number)
            elapsed_s += wall_s
            made[name].append(timetable.number)
            taken[name] = Taken(wall_s, len(made[name]), width(name, len(made[name])), crowded(timetable.number))
        if timetable.is_last:
            return made, elapsed_s
        due = timetable.next_pass(taken, elapsed_s)


def each(passes):
    return {name: passes for name in "abc"}


def test_short_cases_are_in_all_passes():
    made, _ = run(Timetable(5, long_s=30.0), lambda name, number: 1.0)
    assert made == each([1, 2, 3, 4, 5])


def test_long_cases_are_in_the_first_and_in_the_last_pass_and_evenly_between():
    costs = {"a": 3.0, "b": 7.0, "c": 10.0, "d": 60.0, "e": 60.1}
    made, _ = run(Timetable(5, long_s=30.0), lambda name, number: costs[name], names="abcde")
    assert made == {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 5], "c": [1, 3, 5], "d": [1, 3, 5], "e": [1]}


def test_two_passes_are_two():
    made, _ = run(Timetable(2, long_s=10.0), lambda name, number: 1.0)
    assert made == each([1, 2])


def test_where_time_is_short_the_longest_case_loses_passes_first():
    costs = {"a": 1.0, "b": 2.0, "c": 5.0}
    made, took_s = run(Timetable(5, long_s=100.0, limit_s=32.0), lambda name, number: costs[name])
    assert {name: len(passes) for name, passes in made.items()} == {"a": 5, "b": 5, "c": 3}
    assert took_s == 30.0


def test_a_large_network_is_in_three_passes_and_the_limit_says_how_long_that_takes():
    timetable = Timetable(5, long_s=100.0, limit_s=20.0)
    made, took_s = run(timetable, lambda name, number: 10.0)
    assert made == each([1, 2, 5])
    assert timetable.limit_s == took_s == 90.0


def test_a_first_pass_in_which_more_is_measured_takes_no_later_ones():
    timetable = Timetable(5, long_s=100.0, limit_s=28.0)
    made, took_s = run(timetable, lambda name, number: 3.0 if number == 1 else 1.0)
    assert (made, took_s) == (each([1, 2, 3, 4, 5]), 21.0)


def test_a_case_that_was_thought_to_be_longer_gets_its_passes_later():
    timetable = Timetable(5, long_s=100.0, limit_s=50.0, number=4)
    for passes, last in ((2, False), (3, False), (4, True)):
        assert timetable.next_pass({"a": Taken(1.0, passes)}, 10.0 + passes) == {"a"}
        assert timetable.is_last is last


def test_what_a_pass_takes_beside_its_cases_is_part_of_its_time():
    timetable = Timetable(5, long_s=100.0, limit_s=20.0, pass_s=4.0)
    assert timetable.next_pass({"a": Taken(1.0, 1)}, 5.0) == {"a"}
    assert timetable.limit_s == 20.0  # three of the four further passes fit, and that is enough
    assert timetable.next_pass({"a": Taken(1.0, 2)}, 10.0) == {"a"}
    late = Timetable(5, long_s=100.0, limit_s=10.0, pass_s=4.0)
    late.next_pass({"a": Taken(1.0, 1)}, 5.0)
    assert late.limit_s == 15.0  # two more


def test_no_extra_pass_is_begun_for_which_only_its_cases_would_have_time():
    def last(pass_s):
        timetable = Timetable(5, long_s=100.0, limit_s=10.0, target=0.02, pass_s=pass_s, number=4)
        timetable.next_pass({"a": Taken(1.0, 4, width=0.1)}, 7.0)
        return timetable.is_last

    assert not last(0.5)
    assert last(1.2)


def test_the_limit_rises_after_the_first_pass_only():
    timetable = Timetable(5, long_s=100.0, limit_s=12.0)
    run(timetable, lambda name, number: 1.0 if number == 1 else 10.0)
    assert timetable.limit_s == 12.0


def test_the_limit_rises_also_where_the_first_pass_has_used_it_up():
    timetable = Timetable(3, long_s=100.0, limit_s=0.2)
    run(timetable, lambda name, number: 0.1)
    assert timetable.limit_s == pytest.approx(0.9)


@pytest.mark.parametrize("slower", [2.0, 20.0])
def test_on_a_crowded_machine_there_are_fewer_passes_and_the_run_ends_in_time(slower):
    timetable = Timetable(3, long_s=4.0, limit_s=12.0)
    _, took_s = run(timetable, lambda name, number: slower, crowded=lambda number: True)
    assert timetable.limit_s == 12.0
    assert took_s <= max(12.0, 3 * slower)  # each case is measured once


def test_where_the_first_pass_took_most_of_the_time_a_crowded_machine_has_a_second_one_if_half_of_that_is_left():
    for limit_s, passes in ((4.4, [1]), (4.6, [1, 3]), (9.0, [1, 2, 3])):
        timetable = Timetable(3, long_s=4.0, limit_s=limit_s)
        made, _ = run(
            timetable, lambda name, number: 3.0 if number == 1 else 1.5, names="a", crowded=lambda number: True
        )
        assert (made, timetable.limit_s, timetable.crowded) == ({"a": passes}, limit_s, True)


@pytest.mark.parametrize(("limit_s", "has_more"), [(4.4, False), (4.6, True)])
def test_a_timetable_says_whether_there_is_a_further_pass_which_need_not_be_the_next(limit_s, has_more):
    timetable = Timetable(3, long_s=4.0, limit_s=limit_s)
    assert timetable.next_pass({"a": Taken(3.0, 1, None, crowded=True)}, 3.0) == set()
    assert timetable.has_more == has_more


def test_one_case_that_has_further_passes_is_enough_for_one():
    timetable = Timetable(3, long_s=4.0)
    assert timetable.next_pass({"a": Taken(1.0, 1), "b": Taken(9.0, 1)}, 10.0) == {"a"}
    assert timetable.has_more and not timetable.is_last


def test_a_case_that_lags_behind_gets_its_passes_after_those_that_were_planned():
    timetable = Timetable(3, long_s=30.0, number=2)
    assert timetable.next_pass({"a": Taken(1.0, 3), "b": Taken(1.0, 1)}, 4.0) == {"b"}
    assert not timetable.is_last
    assert timetable.next_pass({"a": Taken(1.0, 3), "b": Taken(1.0, 2)}, 5.0) == {"b"}
    assert timetable.is_last


def test_the_limit_rises_by_what_further_passes_take_beside_their_cases_too():
    """Two more passes of `a` alone; `b` is too long for another one."""
    timetable = Timetable(3, long_s=4.0, limit_s=10.0, pass_s=1.0)
    timetable.next_pass({"a": Taken(1.0, 1), "b": Taken(9.0, 1)}, 10.0)
    assert timetable.limit_s == 10.0 + 2 * 1.0 + 2 * 1.0


def test_a_case_that_has_all_its_passes_has_no_further_one_however_late_it_is():
    timetable = Timetable(4, long_s=30.0, limit_s=5.0, number=3)
    assert timetable.next_pass({"a": Taken(1.0, 4)}, 10.0) == set()
    assert timetable.is_last and not timetable.has_more


def test_a_machine_that_is_busy_from_the_middle_on_gets_fewer_passes():
    busy = 3  # in the third pass, each case takes nine times as long as it should
    timetable = Timetable(5, long_s=30.0, limit_s=15.0)
    made, took_s = run(
        timetable, lambda name, number: 9.0 if number >= busy else 1.0, crowded=lambda number: number >= busy
    )
    assert made == {"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 2]}  # after 24 s, it is too late for another
    assert took_s == 24.0


def narrows(name, passes):
    """`a` is narrow at once, `b` after seven passes, `c` never."""
    return 0.1 if name == "c" or (name == "b" and passes < 7) else 0.001


def test_time_that_is_left_goes_to_the_cases_with_wide_intervals_and_never_beyond_twice_the_passes():
    made, took_s = run(Timetable(5, long_s=30.0, limit_s=100.0, target=0.02), lambda name, number: 1.0, width=narrows)
    assert made == {"a": [1, 2, 3, 4, 10], "b": [1, 2, 3, 4, 5, 6, 7], "c": [1, 2, 3, 4, 5, 6, 7, 8, 9]}
    assert took_s == 21.0


def test_extra_passes_leave_time_for_the_last_one():
    made, took_s = run(Timetable(5, long_s=30.0, limit_s=17.0, target=0.02), lambda name, number: 1.0, width=narrows)
    assert made == {"a": [1, 2, 3, 4, 7], "b": [1, 2, 3, 4, 5, 6], "c": [1, 2, 3, 4, 5, 6]}
    assert took_s == 17.0


def test_the_widest_interval_comes_first_where_not_all_fit():
    width = {"a": 0.03, "b": 0.2, "c": 0.1}
    timetable = Timetable(5, long_s=30.0, limit_s=16.5, target=0.02)
    made, took_s = run(timetable, lambda name, number: 1.0, width=lambda name, passes: width[name])
    assert {name: len(passes) for name, passes in made.items()} == {"a": 5, "b": 6, "c": 5}
    assert took_s == 16.0


def test_a_case_without_an_interval_is_in_no_extra_pass():
    """It takes too long for a second pass."""
    costs = {"a": 1.0, "b": 1.0, "c": 7.0}
    made, _ = run(
        Timetable(5, long_s=3.0, limit_s=100.0, target=0.02), lambda name, number: costs[name],
        width=lambda name, passes: 0.1 if passes > 1 else None,
    )  # fmt: skip
    assert made["c"] == [1]
    assert made["a"] == [1, 3, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("target", "crowded"), [(None, False), (0.02, True)])
def test_there_are_no_extra_passes_without_a_target_or_beside_other_programs(target, crowded):
    made, _ = run(
        Timetable(5, long_s=30.0, limit_s=100.0, target=target),
        lambda name, number: 1.0, width=narrows, crowded=lambda number: crowded,
    )  # fmt: skip
    assert made == each([1, 2, 3, 4, 5])


def test_a_case_that_fails_is_in_no_further_pass():
    timetable = Timetable(3, long_s=30.0)
    assert timetable.next_pass({"a": Taken(1.0, 1)}, 1.0) == {"a"}
    assert timetable.next_pass({}, 2.0) == set()
    assert timetable.is_last


def test_a_run_is_crowded_where_most_of_its_time_was():
    quiet, busy = Taken(1.0, 1), Taken(1.1, 1, crowded=True)
    crowded = Timetable(3, long_s=30.0, limit_s=2.0)
    assert crowded.next_pass({"a": quiet, "b": busy}, 2.1) == set()
    quiet_mostly = Timetable(3, long_s=30.0, limit_s=2.0)
    assert quiet_mostly.next_pass({"a": quiet, "b": Taken(1.0, 1, crowded=True)}, 2.0) == {"a", "b"}


@pytest.mark.parametrize("spread", [0.005, 0.01, 0.02, 0.05])
def test_intervals_that_extra_passes_have_narrowed_contain_the_true_time(in_floats, spread):
    """A case has no more passes as soon as its interval is narrow, which may be by chance."""
    chance, runs, contained = random.Random(7), 400, 0
    for _ in range(runs):
        times = []

        def width(name, passes, times=times):
            times.append([math.exp(chance.gauss(0, spread))] * 2)
            return summary(times).spread if passes > 1 else None

        run(Timetable(5, long_s=30.0, limit_s=100.0, target=0.02), lambda name, number: 1.0, names="a", width=width)
        found = summary(times)
        assert found.spread is not None
        contained += abs(math.log(found.median)) <= math.log1p(found.spread)
    assert contained >= 0.93 * runs
