"""What is kept of all passes of a case."""

import pytest

from perf.harness.measurement.passes import of_all


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


def test_of_all_passes_the_energy_is_that_of_those_that_counted_it():
    infos = {1: info(energy_j=3.0, energy_s=1.0, energy_calls=10), 2: info(), 3: info(energy_j=5.0, energy_s=1.5,
             energy_calls=20)}  # fmt: skip
    found = of_all(infos, [[1.0], [1.0], [1.0]])
    assert (found["energy_j"], found["energy_s"], found["energy_calls"]) == (8.0, 2.5, 30)


def test_of_all_passes_a_record_says_whether_one_used_what_another_compiled():
    infos = {1: info(reuses_compilation=False), 2: info(reuses_compilation=True)}
    assert of_all(infos, [[1.0], [1.0]])["reuses_compilation"]
