"""In which passes a case is, and what is kept of all of them."""

import pytest

from perf.harness.measurement.passes import numbers_of, of_all


def test_a_case_is_in_the_first_and_in_the_last_pass_and_evenly_between():
    assert numbers_of(5, 30.0, 3.0) == {1, 2, 3, 4, 5}
    assert numbers_of(5, 30.0, 7.0) == {1, 2, 4, 5}
    assert numbers_of(5, 30.0, 10.0) == numbers_of(5, 30.0, 60.0) == {1, 3, 5}
    assert numbers_of(3, 4.0, 1.0) == {1, 2, 3}
    assert numbers_of(2, 10.0, 1.0) == {1, 2}


def test_a_case_that_takes_far_longer_than_it_may_is_in_one_pass():
    assert numbers_of(5, 30.0, 60.1) == {1}


def info(**rest):
    return {"samples_per_iteration": 64, "cold_start_s": 1.0, "warmup_stable": True, "parameters": 7} | rest


def test_of_all_passes_a_record_keeps_the_worst_company_and_the_median_of_the_medians():
    infos = {1: info(crowding=0.1, warmup_calls=2), 3: info(crowding=0.4, cold_start_s=0.5, warmup_calls=3), 5: info()}
    found = of_all(infos, [[1.0, 1.0, 9.0], [2.0], [4.0, 4.0]])
    assert found["pass_rounds"] == {"1": 3, "3": 1, "5": 2}
    assert found["cold_starts_s"] == {"1": 1.0, "3": 0.5, "5": 1.0}
    assert found["samples_per_s"] == pytest.approx(32.0)
    assert (found["crowding"], found["warmup_calls"], found["parameters"]) == (0.4, 5, 7)
    assert found["marks"] == "CROWDED UNSTEADY"
