"""What a check says of what it measured: bars from limits and specs, the second measurement, the load meanwhile."""

import types
from dataclasses import replace

import pytest
import torch

from perf.harness.machine import load
from perf.harness.machine.devices import Device
from perf.harness.machine.load import SHORTEST_S
from perf.harness.machine.telemetry.source import Sample
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.counters import NotCounted
from perf.harness.measurement.checks.probes import Measured
from perf.harness.options import resolve
from perf.harness.record.check import Check, CheckVerdict
from perf.harness.record.spec import Reference, Spec
from perf.harness.verdict.checks import Allowed
from perf.harness.verdict.keys import key_of
from perf.harness.verdict.limits import Limit
from perf.harness.verdict.roofline import Work
from perf.harness.workload.plan import Plan

LIMIT = Limit(200.0, "datasheet")
PASS = CheckVerdict.PASS


@pytest.fixture
def machine(monkeypatch, has_cores):
    """A machine of one core on a clock that only measurements and waits advance; others take `others` cores of it."""
    machine = types.SimpleNamespace(now=0.0, others=0.0, withheld=None, waits=[])
    has_cores(1)
    monkeypatch.setattr(load, "foreign_cpu_s", lambda: None if machine.others is None else machine.others * machine.now)
    monkeypatch.setattr(
        load, "withheld_s", lambda: None if machine.withheld is None else machine.withheld * machine.now
    )

    def wait(seconds):
        machine.waits.append(seconds)
        machine.now += seconds

    def measured(*rates, seconds=1.0, calls=0):
        """A probe that finds these rates, one after the other, each in `seconds`."""
        found = iter(rates)

        def probe():
            machine.now += seconds
            return Measured((next(found),) * 20, "note", calls)

        return probe

    machine.wait, machine.measured = wait, measured
    return machine


@pytest.fixture
def measured(machine):
    return machine.measured


@pytest.fixture
def attempt(digits_root, machine):
    """An attempt at `matmul fp32` on the CPU."""

    def make(spec=(), fault="", check="matmul", **other):
        plan = Plan.of(resolve({"device": "cpu", "data": "digits"}, {}, "", digits_root))
        key = key_of(check, "cpu", plan.as_record())
        references = tuple(Reference(check, "fp32", unit, value, 0.0, 5, 4, key | other) for value, unit in spec)
        spec = Spec("spec.json", references) if references else None
        clock = {"clock": lambda: machine.now, "wait": machine.wait}
        return Attempt(check, Device("cpu"), "fp32", plan, fault, NotCounted("nothing is"), spec=spec, **clock)

    return make


def test_a_rate_is_held_against_a_share_of_the_limit(attempt, measured):
    one = attempt()
    one.rate(measured(150.0), "FLOP/s", 0.65, LIMIT)
    assert one.result == Check(
        "matmul",
        "cpu",
        CheckVerdict.PASS,
        "fp32",
        150.0,
        "FLOP/s",
        150.0,
        150.0,
        130.0,
        "65% of datasheet",
        note="note",
        crowding=0.0,
        want="at least",
    )


def test_a_rate_below_it_is_measured_again_and_then_fails(attempt, measured):
    one = attempt()
    one.rate(measured(100.0, 101.0), "FLOP/s", 0.65, LIMIT)
    assert one.failed
    assert (one.result.value, one.result.again, one.result.again_low, one.result.again_high) == (
        100.0,
        101.0,
        101.0,
        101.0,
    )
    assert one.result.reason == "below the bar, and again when measured a second time"


@pytest.mark.parametrize(
    ("rates", "verdict", "kept"),
    [
        ((100.0, 150.0, 160.0), CheckVerdict.PASS, (150.0, 100.0, 160.0)),
        ((100.0, 150.0, 101.0), CheckVerdict.INCONCLUSIVE, (101.0, 100.0, 150.0)),
    ],
)
def test_a_rate_that_recovers_is_measured_a_third_time(attempt, measured, rates, verdict, kept):
    one = attempt()
    one.rate(measured(*rates), "FLOP/s", 0.65, LIMIT)
    assert one.result.verdict is verdict
    assert (one.result.value, one.result.again, one.result.third) == kept
    assert (one.result.low, one.result.again_low, one.result.third_low) == kept
    assert (one.result.high, one.result.again_high, one.result.third_high) == kept


def test_a_spec_can_be_stricter_than_the_limit(attempt, measured):
    one = attempt(spec=[(180.0, "FLOP/s")])
    one.rate(measured(150.0, 150.0), "FLOP/s", 0.65, LIMIT)
    assert one.failed
    assert one.result.bar == pytest.approx(0.92 * 180.0)
    assert one.result.bar_source == "92% of the median of 4 machines in spec.json"


def test_a_spec_in_another_unit_is_of_another_metric(attempt, measured):
    one = attempt(spec=[(180.0, "B/s")])
    one.rate(measured(150.0), "FLOP/s", 0.65, LIMIT)
    assert one.result.bar == 130.0


def test_a_time_leaves_more_room_and_counts_the_other_way(attempt, measured):
    one = attempt(spec=[(100.0, "s")])
    one.time(measured(120.0))
    assert (one.result.verdict, one.result.bar) == (CheckVerdict.PASS, 125.0)
    one = attempt(spec=[(100.0, "s")])
    one.time(measured(130.0, 130.0))
    assert one.failed


def test_without_limit_and_spec_nothing_is_judged(attempt, measured):
    one = attempt()
    one.rate(measured(150.0), "FLOP/s")
    assert one.result.verdict is CheckVerdict.UNJUDGED
    assert one.result.reason == "no bar is known; give a reference with --perf-spec=FILE"


def test_a_spec_in_another_unit_says_so(attempt, measured):
    one = attempt(spec=[(100.0, "s")])
    one.rate(measured(150.0), "FLOP/s")
    assert one.result.verdict is CheckVerdict.UNJUDGED
    assert one.result.reason == "the unit in spec.json is s, not FLOP/s"


def test_a_spec_of_another_set_up_does_not_judge_and_says_what_differs(attempt, measured):
    said = f"not comparable with spec.json: threads: 999 → {torch.get_num_threads()}"
    one = attempt(spec=[(180.0, "FLOP/s")], threads=999)
    one.rate(measured(100.0), "FLOP/s")
    assert (one.result.verdict, one.result.reason) == (CheckVerdict.UNJUDGED, said)
    one = attempt(spec=[(180.0, "FLOP/s")], threads=999)
    one.rate(measured(150.0), "FLOP/s", 0.65, LIMIT)  # judged by the limit alone
    assert (one.result.verdict, one.result.bar_source) == (PASS, f"65% of datasheet; {said}")


def test_how_many_cores_were_missing_is_kept(attempt, machine, measured):
    machine.others, machine.withheld = 0.5, 0.25
    one = attempt()
    one.rate(measured(150.0), "FLOP/s")
    assert one.result.crowding == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("others", "withheld", "says"),
    [
        (0.5, None, "other programs or a quota took 0.5 cores (allowed: 0.1)"),
        (0.0, 0.5, "other programs or a quota took 0.5 cores (allowed: 0.1)"),
        (None, None, "this system does not say whether other programs ran"),
    ],
)
@pytest.mark.parametrize("seconds", [0.01, 1.0])
def test_a_slow_result_is_a_failure_only_on_a_machine_that_is_known_to_be_free(
    attempt, machine, measured, others, withheld, says, seconds
):
    one = attempt()
    one.rate(measured(100.0, 100.0, seconds=seconds), "FLOP/s", 0.65, LIMIT)
    assert one.failed
    machine.others, machine.withheld = others, withheld
    one = attempt()
    one.rate(measured(100.0, 100.0, seconds=seconds), "FLOP/s", 0.65, LIMIT)
    assert one.result.verdict is CheckVerdict.INCONCLUSIVE
    assert one.result.reason == f"below the bar, but {says}"


def test_the_load_beside_a_short_measurement_is_looked_at_until_the_kernel_can_count_it(attempt, machine, measured):
    one = attempt()
    one.rate(measured(150.0, seconds=0.1), "FLOP/s")
    assert machine.waits == [pytest.approx(SHORTEST_S - 0.1)]
    one.rate(measured(150.0, seconds=SHORTEST_S), "FLOP/s")
    assert len(machine.waits) == 1


@pytest.mark.parametrize(("physical", "cores"), [(2, 2), (8, 4), (None, 4)])
def test_the_peak_of_a_cpu_counts_physical_cores_at_its_clock_and_is_exceeded_only_in_error(
    attempt, measured, monkeypatch, physical, cores
):
    one = attempt()
    facts = {**one.plan.environment, "threads": 4, "physical_cores": physical, "cpu_capability": "AVX2"}
    one.plan = replace(one.plan, environment=facts)
    for name, value in (("clock_hz", 2e9), ("highest_clock_hz", 3e9), ("cpu_kind", ("AuthenticAMD", 25, 1))):
        monkeypatch.setattr(f"perf.harness.measurement.checks.attempt.{name}", lambda value=value: value)
    monkeypatch.setattr("perf.harness.measurement.checks.attempt.effective_clock_hz", lambda threads: None)
    peak = one.peak("fp32")
    assert (peak.value, peak.ceiling) == (cores * 32 * 2e9, cores * 32 * 3e9)
    one.rate(measured(1.2 * peak.value), "FLOP/s", 0.5, peak)
    assert one.result.verdict is PASS  # its clock has risen
    one.rate(measured(1.6 * peak.value), "FLOP/s", 0.5, peak)
    assert one.result.verdict is CheckVerdict.INCONCLUSIVE
    assert one.result.reason == "107% of the physical limit: the measurement, the limit or the clock is wrong"


def test_the_peak_of_a_cpu_is_that_at_the_clock_that_was_measured_not_at_the_one_that_is_reported(attempt, monkeypatch):
    one = attempt()
    facts = {**one.plan.environment, "threads": 4, "physical_cores": 4, "cpu_capability": "AVX2"}
    one.plan = replace(one.plan, environment=facts)
    for name, value in (("clock_hz", 2e9), ("highest_clock_hz", None), ("cpu_kind", ("AuthenticAMD", 25, 1))):
        monkeypatch.setattr(f"perf.harness.measurement.checks.attempt.{name}", lambda value=value: value)
    clocks = {4: 3.0e9, 1: 3.5e9}  # one core alone may run faster
    monkeypatch.setattr("perf.harness.measurement.checks.attempt.effective_clock_hz", clocks.get)
    peak = one.peak("fp32")
    assert (peak.value, peak.ceiling) == (4 * 32 * 3.0e9, 4 * 32 * 3.5e9)
    assert peak.source == "4 cores × 32 FLOP (AVX2) × 3.00 GHz as measured, 2.00 GHz as reported"


def test_a_device_on_which_others_compute_is_not_called_slow(attempt, measured):
    one = attempt()
    one._between = Watched({"other_processes": 0}, {"other_processes": 2}).between
    one.rate(measured(100.0, 100.0), "FLOP/s", 0.65, LIMIT)
    assert one.result.verdict is CheckVerdict.INCONCLUSIVE
    assert one.result.reason == "below the bar, but 2 other processes computed on the device"


@pytest.mark.parametrize(("allowed", "verdict"), [(0.2, "INCONCLUSIVE"), (0.6, "FAIL")])
def test_others_may_take_of_a_measurement_what_this_run_allows(attempt, machine, measured, allowed, verdict):
    machine.others = 0.5
    one = attempt()
    one.allowed = Allowed(allowed, "a test")
    one.rate(measured(100.0, 100.0), "FLOP/s", 0.65, LIMIT)
    assert (one.result.verdict, one.result.crowding) == (verdict, 0.5)


def test_what_is_exact_fails_at_once(attempt):
    one = attempt()
    one.at_most(1, "mismatches", 0, "none")
    assert one.failed
    one.at_most(0, "mismatches", 0, "none")
    assert one.result.verdict is CheckVerdict.PASS


def test_a_slow_step_says_what_explains_it(attempt, measured):
    one = attempt(check="step")
    one.rate(measured(100.0, 100.0), "samples/s", 0.65, LIMIT)
    one.explain([Check("memory", "cpu", CheckVerdict.FAIL, "copy")])
    assert one.result.reason.endswith("a second time; explained by memory copy")


def test_a_planted_fault_is_named_from_the_beginning(attempt):
    assert attempt(fault="slow").result.injected == "matmul:slow"
    assert attempt().result.injected == ""


@pytest.mark.parametrize(
    ("device", "allowed", "convolution", "dtype"),
    [("cuda", True, 51, "tf32"), ("cuda", True, 50, "fp32"), ("cuda", False, 100, "fp32"), ("cpu", True, 100, "fp32")],
)
def test_a_step_of_convolutions_is_held_against_what_they_run_in(
    attempt, monkeypatch, device, allowed, convolution, dtype
):
    one = attempt(check="step")
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", allowed)
    one.device, one.device_name = Device(device), "NVIDIA H200"
    one.done = [
        Check("matmul", device, PASS, "fp32", 1e3), Check("matmul", device, PASS, "tf32", 1e4),
        Check("memory", device, PASS, "copy", 10.0),
        Check("launch", device, PASS, "p50" if device == "cpu" else "queued", 1e-3),
    ]  # fmt: skip
    one.roofline(Work(100, convolution, 20, 5), 4.0)
    found = one.result.details
    assert found["peak_source"] == f"matmul {dtype} of this run"
    assert (found["share_of_possible"], found["bound_by"], found["launch_s"]) == (0.5, "memory", 1e-3)


def test_a_device_that_was_not_measured_is_held_against_its_datasheet(attempt):
    one = attempt(check="step")
    one.device, one.device_name = Device("cuda"), "NVIDIA H200"
    one.roofline(Work(100, 0, 20, 5), 4.0)
    found = one.result.details
    assert (found["peak_flop_per_s"], found["memory_bytes_per_s"], found["launch_s"]) == (67e12, 4.8e12, None)
    assert found["memory_source"] == "NVIDIA H200 datasheet, SXM, 2024"


class Watched:
    """A sampler that saw `values` in the middle of each measurement, one after the other."""

    def __init__(self, *values):
        self._values = values
        self._spans = []

    def between(self, start, end):
        if (start, end) not in self._spans:
            self._spans.append((start, end))
        return [Sample((start + end) / 2, self._values[self._spans.index((start, end))])]


HOT, COLD = {"reasons": 0x44, "energy_j": 5.0}, {"reasons": 0x04, "energy_j": 5.0}  # both at their power cap


@pytest.mark.parametrize(
    ("seen", "verdict", "says"),
    [
        ((HOT, HOT), CheckVerdict.FAIL, "slowed itself down for 100.0% of the time (hw_thermal_slowdown), and again"),
        ((HOT, COLD), CheckVerdict.INCONCLUSIVE,
         "slowed itself down for 100.0% of the time (hw_thermal_slowdown), and not"),
        ((COLD, HOT), PASS, ""),
        (({}, {}), PASS, ""),
    ],
)  # fmt: skip
def test_a_device_that_slowed_itself_down_fails_when_it_does_so_again(attempt, seen, verdict, says, measured):
    one = attempt(check="sustained")
    one._between = Watched(*seen).between
    probe = measured(1.0, 1.0)
    one.share(probe, 0.97, "healthy")
    one.throttled(probe, 0.005)
    assert one.result.verdict is verdict
    assert one.result.reason.startswith(says)
    if verdict is not PASS:  # both measurements are kept
        assert (one.result.value, one.result.again) == (1.0, float(seen[1] is HOT))
    if seen[0]:
        assert one.result.details["throttled_sw_power_cap_share"] == 1.0  # told, and no failure by itself


def test_a_share_is_a_ratio_that_a_busy_machine_says_nothing_of(attempt, machine, measured):
    machine.others = 1.0
    one = attempt(check="loader")
    one.share(measured(5.0), 1.2, "healthy")
    assert one.result.verdict is CheckVerdict.INCONCLUSIVE
    assert one.result.reason.startswith("within the bar, but other programs or a quota took")


@pytest.mark.parametrize(("left", "verdict"), [(0.6, CheckVerdict.INCONCLUSIVE), (1.0, CheckVerdict.FAIL)])
def test_what_another_virtual_machine_may_have_taken_is_no_fail(attempt, measured, left, verdict):
    rate, share = attempt(check="matmul"), attempt(check="numa")
    rate.rate(measured(40.0, 40.0), "FLOP/s", 0.5, Limit(100.0, "2 cores"), left)
    share.share(measured(0.7, 0.7), 0.9, "alike", left)
    assert [one.result.verdict for one in (rate, share)] == [verdict] * 2


def test_a_rate_that_was_measured_twice_already_is_not_measured_a_third_time(attempt, measured):
    one = attempt(check="sustained")
    one._between = Watched(HOT, HOT).between
    probe = measured(0.5, 0.5)
    one.share(probe, 0.97, "healthy")
    one.throttled(probe, 0.005)
    assert one.failed and "hw_thermal" in one.result.reason


def test_the_energy_of_a_call_is_what_the_device_used_over_their_number(attempt, measured):
    one = attempt(check="sustained")
    one._between = lambda start, end: [Sample(start, {"energy_j": 5.0}), Sample(end, {"energy_j": 25.0})]
    one.share(measured(1.0, calls=40), 0.97, "healthy")
    one.throttled(measured(), 0.005)
    assert one.result.details["j_per_call"] == 0.5


GPU = {"multiprocessors": 132, "capability": "9.0", "highest_clock_hz": 1.98e9}


def gpu(attempt, facts, clock_hz=None):
    """An attempt on a GPU that ran with that clock."""
    one = attempt()
    one.device = Device("cuda")
    one.device_name = "NVIDIA Something new"
    one.result = Check("matmul", "cuda", CheckVerdict.INCONCLUSIVE, "bf16")
    one.plan.device_facts["cuda"] = facts
    one._between = Watched({"sm_clock_hz": clock_hz} if clock_hz else {}).between
    return one


def test_the_rate_is_also_said_as_a_share_of_the_peak_at_the_clock_that_it_ran_with(attempt, measured):
    one = gpu(attempt, GPU, 1.5e9)
    one.device_name = "NVIDIA H100 80GB HBM3"
    one.rate(measured(0.9 * 132 * 4096 * 1.5e9), "FLOP/s")
    one.clock("bf16")
    assert one.result.details == {"sm_clock_hz": 1.5e9, "share_at_clock": pytest.approx(0.9)}
    assert one.result.note == "note, 90% of the peak at the clock that it ran with, 1,500 MHz"


@pytest.mark.parametrize(("facts", "clock_hz"), [({}, 1.5e9), (GPU, None), (GPU | {"capability": "99.0"}, 1.5e9)])
def test_where_clock_or_architecture_are_not_known_nothing_is_said_of_it(attempt, facts, clock_hz, measured):
    one = gpu(attempt, facts, clock_hz)
    one.rate(measured(1e14), "FLOP/s")
    before = one.result
    one.clock("bf16")
    assert one.result == before


def test_the_peak_of_a_gpu_that_the_table_lacks_is_computed_from_its_highest_clock(attempt):
    older = GPU | {"capability": "8.0"}
    assert gpu(attempt, older).peak("bf16").value == 132 * 2048 * 1.98e9
    assert gpu(attempt, {}).peak("bf16") is None
    assert gpu(attempt, older | {"highest_clock_hz": None}).peak("bf16") is None


@pytest.mark.parametrize(
    ("highest_hz", "rate", "says"),
    [(3.024e9, 190e12, ""), (3.024e9, 200e12, "101% of the physical limit"),
     (2.1e9, 167e12, "101% of the physical limit"), (None, 400e12, "")],
)  # fmt: skip
def test_a_gpu_that_may_exceed_its_datasheet_does_not_exceed_its_highest_clock(
    attempt, measured, highest_hz, rate, says
):
    """The datasheet of this one has 165.2 TFLOP/s at 2.52 GHz."""
    one = gpu(attempt, GPU)
    one.device_name = "NVIDIA GeForce RTX 4090"
    one._between = lambda start, end: [Sample(end, {"sm_clock_limit_hz": highest_hz} if highest_hz else {})]
    one.rate(measured(rate), "FLOP/s", 0.45, one.peak("bf16"))
    assert one.result.reason[: len(says)] == says and bool(one.result.reason) == bool(says)
    assert one.result.verdict is (CheckVerdict.INCONCLUSIVE if says else PASS)


def test_from_hopper_on_and_of_amd_no_peak_is_computed_for_a_gpu_that_the_table_lacks(attempt, monkeypatch):
    """An H20 is called 9.0, as an H100 is, and has a seventh of its units; an MI250 is called 9.0, too."""
    assert gpu(attempt, GPU).peak("bf16") is None
    for capability in ("10.0", None, "?"):
        assert gpu(attempt, GPU | {"capability": capability}).peak("bf16") is None
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert gpu(attempt, GPU | {"capability": "8.0"}).peak("bf16") is None


@pytest.mark.parametrize("say", ["fail", "unclear"])
def test_what_is_said_in_the_place_of_a_rate_has_neither_its_bar_nor_its_interval(attempt, say, measured):
    one = attempt()
    one.rate(measured(150.0), "FLOP/s", 0.65, LIMIT)
    getattr(one, say)("bytes arrive changed", 3, "bytes")
    found = one.result
    assert (found.value, found.unit, found.low, found.high, found.bar, found.bar_source) == (
        3,
        "bytes",
        None,
        None,
        None,
        "",
    )
    assert found.note == "note"


def test_a_device_that_is_too_slow_stays_a_failure_where_it_slowed_itself_only_once(attempt, measured):
    one = attempt(check="sustained")
    one._between = Watched(HOT, COLD).between
    probe = measured(0.5, 0.5)
    one.share(probe, 0.97, "healthy")
    one.throttled(probe, 0.005)
    assert one.failed and one.result.bar == 0.97


def test_all_that_is_kept_of_three_measurements_is_of_the_one_that_counts(attempt, machine, monkeypatch):
    """A GPU's first measurement is slow, at a low clock, beside another program."""
    one = gpu(attempt, GPU)
    one.device_name = "NVIDIA H100 80GB HBM3"
    one._between = Watched({"sm_clock_hz": 1e8}, {"sm_clock_hz": 1.5e9}, {"sm_clock_hz": 1.7e9}).between
    looks = iter(((0.2, 1e12, "first"), (0.0, 6e14, "second"), (0.0, 7e14, "third")))

    def probe():
        machine.others, rate, note = next(looks)
        machine.now += 1.0
        return Measured((rate,) * 20, note, details={"rate": rate})

    monkeypatch.setattr(load, "foreign_cpu_s", lambda: machine.others * machine.now)
    one.rate(probe, "FLOP/s", 0.6, Limit(9e14, "datasheet"))
    assert (one.result.verdict, one.result.value, one.result.note) == (PASS, 6e14, "second")
    assert (one.result.details, one.result.crowding) == ({"rate": 6e14}, 0.0)
    one.clock("bf16")
    assert one.result.details["sm_clock_hz"] == 1.5e9


def test_a_verdict_of_the_hardware_keeps_no_rate_of_three_measurements(attempt, measured):
    one = attempt(check="sustained")
    one._between = Watched(HOT, HOT, HOT).between
    probe = measured(0.5, 1.0, 1.1)
    one.share(probe, 0.97, "healthy")
    assert (one.result.value, one.result.again, one.result.third) == (1.0, 0.5, 1.1)
    one.throttled(probe, 0.005)
    assert one.failed and one.result.unit == "of the time"
    assert one.result.others == [(1.0, None, None)]  # that of the second measurement, and no rate
    assert (one.result.third_low, one.result.third_high) == (None, None)
