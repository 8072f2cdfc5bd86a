"""Samples in, a flat summary out; and which timed rounds a GPU was slowed in."""

import json
import math

import pytest

from perf.harness.machine.telemetry.reasons import SLOWING, Reason
from perf.harness.machine.telemetry.source import Sample
from perf.harness.machine.telemetry.summary import condense, rounds_with


def samples(*values, start=10.0):
    return [Sample(start + second, one) for second, one in enumerate(values)]


def masks(*bits):
    return samples(*({"reasons": mask} for mask in bits))


def shares(found):
    return {key: value for key, value in found.items() if key.startswith("throttled")}


def test_combined_bits_count_for_each_reason():
    found = condense(masks(0x4 | 0x40 | 0x8, 0x4, 0x0, 0x2))
    assert shares(found) == {
        "throttled_share": 0.25,
        "throttled_applications_clocks_setting_share": 0.25,
        "throttled_sw_power_cap_share": 0.5,
        "throttled_hw_slowdown_share": 0.25,
        "throttled_hw_thermal_slowdown_share": 0.25,
    }


def test_a_power_cap_and_the_settings_are_no_throttling():
    assert condense(masks(0x4, 0x2, 0x10, 0x100))["throttled_share"] == 0.0


@pytest.mark.parametrize("bit", [0x8, 0x20, 0x40, 0x80])
def test_heat_and_the_hardwares_own_slowdown_are(bit):
    assert condense(masks(bit | 0x4, 0x0))["throttled_share"] == 0.5


def test_a_bit_that_is_not_known_is_told_by_its_number():
    assert shares(condense(masks(0x200))) == {"throttled_share": 0.0, "throttled_0x200_share": 1.0}


def test_clocks_and_power_are_those_of_a_gpu_at_work():
    idle = {"reasons": 0x1, "sm_clock_hz": 345e6, "power_w": 70.0}
    busy = [{"reasons": 0x4, "sm_clock_hz": clock, "power_w": 600.0} for clock in (1.5e9, 1.7e9, 1.6e9)]
    found = condense(samples(idle, idle, *busy, idle, idle))
    assert (found["samples"], found["seconds"], found["busy_samples"]) == (7, 6.0, 3)
    assert [found[f"sm_clock_hz_{which}"] for which in ("median", "min", "max")] == [1.6e9, 1.5e9, 1.7e9]
    assert found["throttled_sw_power_cap_share"] == 1.0
    assert "throttled_gpu_idle_share" not in found


def test_a_gpu_that_is_slowed_while_it_idles_is_not_passed_over():
    assert condense(masks(0x1 | 0x8, 0x1))["throttled_share"] == 1.0


def test_a_gpu_that_was_never_at_work_has_no_clocks_and_no_shares():
    found = condense(samples({"reasons": 0x1, "sm_clock_hz": 345e6}))
    assert found == {"samples": 1, "seconds": 0.0}


def test_what_is_counted_is_what_is_new():
    values = [
        {"energy_j": 1000.0, "ecc_uncorrected": 7, "pcie_replays": 3, "remap_uncorrected": 1, "remap_pending": 0},
        {"energy_j": 1500.0, "ecc_uncorrected": 9, "pcie_replays": 3, "remap_uncorrected": 1, "remap_pending": 1},
        {"energy_j": 1900.0, "ecc_uncorrected": 1, "pcie_replays": 3, "remap_uncorrected": 1, "remap_pending": 0},
    ]  # at the last, the counter of errors was reset
    found = condense(samples(*values))
    assert (found["energy_j"], found["new_ecc_uncorrected"], found["new_pcie_replays"]) == (900.0, 2, 0)
    assert (found["new_remap_uncorrected"], found["remap_pending_max"]) == (0, 1)


def test_the_link_is_the_fastest_that_was_seen():
    links = [(1, 16), (5, 8), (4, 8), (2, 16)]
    found = condense(samples(*({"pcie_generation": g, "pcie_width": w, "pcie_width_limit": 16} for g, w in links)))
    assert (found["pcie_generation"], found["pcie_width"], found["pcie_width_limit"]) == (5, 8, 16)


def test_the_host_is_condensed_by_what_was_taken_from_us():
    values = [
        {"clock_hz": 2.0e9, "steal_s": 50.0, "withheld_s": 1.0, "memory_available_bytes": 2**33, "others_s": 100.0},
        {"clock_hz": 3.0e9, "steal_s": 50.5, "withheld_s": 1.0, "memory_available_bytes": 2**32, "load_average": 2.5},
        {"clock_hz": 2.5e9, "steal_s": 51.0, "withheld_s": 3.0, "memory_stalled_s": 4.0, "others_s": 101.0},
    ]
    assert condense(samples(*values)) == {
        "samples": 3,
        "seconds": 2.0,
        "clock_hz_median": 2.5e9,
        "clock_hz_min": 2.0e9,
        "clock_hz_max": 3.0e9,
        "steal_s": 1.0,
        "withheld_s": 2.0,
        "memory_stalled_s": 0,
        "memory_available_bytes_min": 2**32,
        "load_average_max": 2.5,
        "others_cores": 0.5,
    }


def test_other_processes_are_the_most_seen_and_their_numbers_stay_out_of_the_record():
    found = condense(samples({"other_processes": 1, "other_pids": (7,)}, {"other_processes": 0, "other_pids": ()}))
    assert found == {"samples": 2, "seconds": 1.0, "other_processes_max": 1}


def test_nothing_is_nothing_and_what_is_no_number_is_left_out():
    assert condense([]) == {}
    found = condense(samples({"power_w": math.nan}, {"power_w": math.inf}, {"power_w": 5.0}))
    assert found["power_w_median"] == found["power_w_max"] == 5.0
    json.dumps(found, allow_nan=False)


def rounds(*spans):
    return [(start, end) for start, end in spans]


def test_a_round_with_samples_in_it_is_judged_by_all_of_them():
    found = masks(0x0, 0x8, 0x0, 0x0, 0x0)  # at 10, 11, … 14 s
    assert rounds_with(SLOWING, rounds((9.5, 12.5), (12.5, 14.5)), found) == 1


def test_a_round_between_two_samples_is_judged_by_the_nearer():
    found = masks(0x0, 0x40)  # at 10 and 11 s
    assert rounds_with(SLOWING, rounds((10.1, 10.2), (10.6, 10.7), (10.9, 10.95)), found) == 2


def test_a_round_that_is_far_from_any_sample_is_not_marked():
    found = masks(0x8)  # at 10 s
    assert rounds_with(SLOWING, rounds((8.0, 8.9), (11.1, 12.0)), found) == 0
    assert rounds_with(SLOWING, rounds((8.0, 9.1), (10.9, 12.0)), found) == 2


def test_the_reasons_that_count_are_those_asked_for():
    found = masks(0x4, 0x4 | 0x20)
    spans = rounds((10.0, 10.1), (11.0, 11.1))
    assert rounds_with(SLOWING, spans, found) == 1
    assert rounds_with(Reason.SW_POWER_CAP, spans, found) == 2


def test_where_no_reasons_are_known_no_number_is_given():
    assert rounds_with(SLOWING, rounds((0.0, 1.0)), []) is None
    assert rounds_with(SLOWING, rounds((10.0, 11.0)), samples({"power_w": 1.0})) is None
    assert rounds_with(SLOWING, [], masks(0x8)) == 0
