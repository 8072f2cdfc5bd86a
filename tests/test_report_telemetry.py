"""A line for each device that was watched, and the times of a device that had slowed itself; exact texts."""

import pytest

from perf.harness.report import header, render
from tests.report_runs import MACHINE, benchmark, run

AT_WORK = {
    "samples": 100, "seconds": 99.0, "busy_samples": 80, "sm_clock_hz_median": 1755e6, "sm_clock_hz_min": 1.2e9,
    "power_w_median": 412.4, "power_w_max": 690.0, "temperature_c_max": 61.0, "throttled_share": 0.0,
    "power_limit_w_min": 700.0, "power_limit_default_w": 700.0, "pcie_generation": 5, "pcie_width": 16,
    "pcie_generation_limit": 5, "pcie_width_limit": 16, "other_processes_max": 0, "new_ecc_uncorrected": 0,
}  # fmt: skip


def line(found, device="cuda", **perf):
    """What is said of one device, or nothing."""
    text = render([run(telemetry={device: found}, **perf)], width=1000)
    lines = [line for line in text.splitlines() if line.startswith("telemetry ")]
    return " ".join(lines).removeprefix("telemetry ")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "cuda: 1,755 MHz, 412 W, up to 61 °C, not throttled"),
        (
            {"throttled_share": 0.12, "throttled_hw_thermal_slowdown_share": 0.12, "throttled_sync_boost_share": 0.5},
            "cuda: 1,755 MHz, 412 W, up to 61 °C, throttled 12% of the time: HW thermal slowdown",
        ),
        (
            {"throttled_sw_power_cap_share": 0.4},
            "cuda: 1,755 MHz, 412 W, up to 61 °C, not throttled, at its power cap 40% of the time",
        ),
        (
            {"power_limit_w_min": 500.0, "pcie_width": 8, "pcie_generation": 4},
            "cuda: 1,755 MHz, 412 W, up to 61 °C, not throttled, limited to 500 W of 700 W, PCIe 4 ×8 of 5 ×16",
        ),
        (
            {"new_ecc_uncorrected": 2, "other_processes_max": 1},
            "cuda: 1,755 MHz, 412 W, up to 61 °C, not throttled, 2 new uncorrected memory errors, 1 other process",
        ),
    ],
)
def test_a_gpu_is_told_in_one_line(more, says):
    assert line(AT_WORK | more) == says


def test_several_reasons_are_all_named():
    found = {"throttled_share": 0.5, "throttled_hw_slowdown_share": 0.5, "throttled_sw_thermal_slowdown_share": 0.1}
    assert line(found) == "cuda: throttled 50% of the time: HW slowdown and SW thermal slowdown"


def test_why_there_is_nothing_is_said_except_of_a_device_that_is_not_there():
    missing = {"unsupported": "nvidia-ml-py is not installed; pip install nvidia-ml-py"}
    assert line(missing) == "cuda: none: nvidia-ml-py is not installed; pip install nvidia-ml-py"
    assert line({"unsupported": "no driver"}, devices=MACHINE["devices"]) == ""
    lost = {"samples": 3, "power_w_median": 70.0, "unsupported": "NVML: GPU is lost"}
    assert line(lost) == "cuda: 70.0 W; then NVML: GPU is lost"


def test_of_a_host_nothing_is_said_unless_something_was_taken_from_us():
    quiet = {"samples": 100, "seconds": 100.0, "clock_hz_median": 2.9e9, "steal_s": 0.9, "load_average_max": 2.0}
    assert line(quiet, "cpu") == ""
    taken = quiet | {"steal_s": 3.14, "withheld_s": 20.0, "memory_stalled_s": 1.5}
    assert line(taken, "cpu") == (
        "cpu: 2,900 MHz, 3.14 s stolen by the hypervisor, 20.0 s withheld by the quota, "
        "1.50 s waiting for memory, load up to 2.00"
    )
    assert line({"unsupported": "psutil is not installed"}, "cpu") == "cpu: none: psutil is not installed"


def test_a_record_without_telemetry_and_one_of_nonsense_say_nothing():
    assert line({}) == line({"throttled_share": "much", "sm_clock_hz_median": None, "power_w_median": True}) == ""
    for odd in (None, [], {"cuda": 3}, {"cuda": {"unsupported": None}}):
        assert "telemetry" not in "".join(header(run(telemetry=odd)))


def test_times_of_a_device_that_had_slowed_itself_are_named():
    rows = [
        benchmark("training_step", "cuda", batch=64, throttled_rounds=3),
        benchmark("training_step", "cuda", batch=512, throttled_rounds=7),
        benchmark("training_step", "cuda", batch=4096, throttled_rounds=0, power_capped_rounds=7),
        benchmark("training_step", batch=64),
    ]
    text = render([run(*rows)], width=1000)
    (found,) = [line for line in text.splitlines() if line.startswith("THROTTLED")]
    assert found.startswith(
        "THROTTLED on cuda: training step at batch 512, training step at batch 64 (43% of the rounds). "
        "The device slowed"
    )
    assert "THROTTLED" not in render([run(*rows[2:])])
