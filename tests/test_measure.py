"""The timed rounds, on fake devices and clocks: what is on the clock, how often things run, and in what order."""

import random
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from data import WORKERS
from perf.harness.machine import load
from perf.harness.machine.devices import Device
from perf.harness.measurement import rounds as measure
from perf.harness.measurement.bench import Bench
from perf.harness.measurement.effort import Effort
from perf.harness.measurement.rounds import Measurement, Pass
from perf.harness.workload.modes.precision import AutocastStep
from perf.test_input_pipeline import test_input_pipeline as measure_pipeline
from tests.fake_device import STANDARD, AsyncDevice, measurement


def test_the_energy_is_that_of_the_timed_rounds_and_of_all_their_calls():
    """200 W, and a counter that begins anywhere: not that of the warm-up."""
    device, made_calls = AsyncDevice(), []
    made, _ = measurement(device, replace(STANDARD, rounds=20), energy_j=lambda: 7.0 + 200 * device.now)

    def call():
        made_calls.append(device.now)
        device.launch(1e-3)

    made.run(call)
    timed = len(made_calls) - made.found["warmup_calls"]
    assert made.found["energy_calls"] == timed == 20 * 10 + 1  # the last one is for the result
    assert made.found["energy_j"] == pytest.approx(200 * timed * 1e-3, rel=0.01)
    assert made.found["energy_s"] == pytest.approx(timed * 1e-3, rel=0.01)


@pytest.mark.parametrize("readings", [(None, None), (5.0, 5.0), (5.0, None), (None, 5.0), (5.0, 4.0)])
def test_a_counter_of_energy_that_is_missing_or_stands_still_says_nothing(readings):
    device, reading = AsyncDevice(), iter(readings)
    made, _ = measurement(device, replace(STANDARD, rounds=3), energy_j=lambda: next(reading))
    made.run(lambda: device.launch(1e-3))
    assert not {"energy_j", "energy_s", "energy_calls"} & set(made.found)


def test_rounds_of_an_asynchronous_device_hold_several_calls_and_say_throughput():
    device = AsyncDevice(enqueue_s=1e-6)
    made, samples = measurement(device)
    made.run(lambda: device.launch(100e-6))
    assert made.found["timing"] == "throughput"
    assert samples == pytest.approx([100e-6] * len(samples), rel=0.02)
    assert device.longest_queue_s < 2 * measure.ROUND_S  # no queue of thousands of calls


def test_rounds_of_a_cpu_hold_one_call_and_say_latency():
    device = AsyncDevice()
    made, samples = measurement(device, asynchronous=False)
    made.run(lambda: device.launch(1e-3))
    assert made.found["timing"] == "latency"
    assert len(samples) == 499  # 0.5 s of rounds of 1 ms and 1 µs


def test_passes_run_exactly_one_warm_up_and_the_rounds_asked_for():
    events = []
    device = AsyncDevice()
    made, samples = measurement(device, replace(STANDARD, rounds=3), asynchronous=False)
    made.from_start(
        lambda: (events.append("pass"), device.launch(1.0)),
        restore=lambda: events.append("restore"),
        warm_call=lambda: events.append("warm"),
    )
    assert events == ["restore", "warm"] + ["restore", "pass"] * 3
    assert len(samples) == 3
    assert (made.calls, made.found["warmup_calls"]) == (4, 1)


def test_a_stream_is_never_paused_and_counts_its_calls():
    device = AsyncDevice()
    made, samples = measurement(device, replace(STANDARD, rounds=2), asynchronous=False)
    made.stream(lambda: device.launch(0.01), most_calls=10)
    assert samples == pytest.approx([0.01] * 2, rel=1e-3)
    assert made.calls == 30


@pytest.mark.parametrize(
    ("call_s", "most_calls", "turn", "warm", "in_a_round"),
    [
        (0.001, 128, 1, 125, 128),  # as many as the file allows
        (0.02, 128, 1, 7, 25),  # half a second
        (0.1, 128, 2, 4, 4),  # two turns
        (0.08, 128, 4, 8, 8),
        (0.04, 128, 8, 16, 16),
        (0.03, 128, 3, 6, 15),  # whole turns
        (3.0, 1, 1, 2, 2),
    ],
)
def test_a_round_of_a_stream_is_short_and_has_whole_turns(call_s, most_calls, turn, warm, in_a_round):
    """What several processes make comes in turns: a round with one batch more or less than they make is too slow."""
    device = AsyncDevice(enqueue_s=0.0)
    made, samples = measurement(device, replace(STANDARD, rounds=2), asynchronous=False)
    made.stream(lambda: device.launch(call_s), most_calls, turn)
    assert made.found["warmup_calls"] == warm
    assert [end - start for start, end in made.rounds] == pytest.approx([in_a_round * call_s] * 2)
    assert samples == pytest.approx([call_s] * 2)


def test_a_stream_has_rounds_of_one_length_in_all_passes():
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(device, replace(STANDARD, rounds=2), asynchronous=False)
    made._pass = Pass(2, 4, 0.5, 17)
    made.stream(lambda: device.launch(0.01), most_calls=128)
    assert [end - start for start, end in made.rounds] == pytest.approx([0.17] * 2)


def test_disabled_benchmarks_run_each_call_once_and_measure_nothing_beside():
    calls = []
    device = AsyncDevice()
    made, _ = measurement(device, enabled=False)
    made.run(lambda: calls.append("run"))
    made.from_start(lambda: calls.append("pass"), restore=lambda: None, warm_call=lambda: calls.append("warm"))
    made.stream(lambda: calls.append("stream"), most_calls=8)
    made.enqueue(lambda: calls.append("enqueue"))
    made.overhead({2: lambda: calls.append("overhead")})
    assert calls == ["run", "pass", "stream"]
    assert made.calls == 3
    assert made.found["enqueue_s"] is None


@pytest.mark.parametrize(
    ("others", "rounds", "asynchronous", "measured"),
    [(0.7, None, False, True), (0.8, None, False, False), (0.8, 500, False, True), (0.8, None, True, True)],
)
def test_beside_programs_that_have_the_cores_nothing_is_measured_aside(
    monkeypatch, has_cores, others, rounds, asynchronous, measured
):
    """On two cores with two threads. A user who names the rounds gets it all."""
    has_cores(2)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    device = AsyncDevice(enqueue_s=0.0)
    effort = replace(STANDARD, rounds=rounds)
    made, _ = measurement(device, effort, asynchronous=asynchronous, foreign_cpu_s=lambda: others * device.now)
    made.run(lambda: device.launch(1e-3))
    made.enqueue(lambda: device.launch(1e-3))
    made.overhead({size: lambda: device.launch(1e-3) for size in (2, 4, 8)})
    assert (made.found["enqueue_s"] is not None, made.found["overhead_s"] is not None) == (measured, measured)


@pytest.mark.parametrize(
    ("round_s", "rounds"),
    [(1e-9, 5000), (0.001, 4000), (0.9, 5), (6.0, 5), (10.0, 3), (29.0, 2), (30.0, 2), (31.0, 1), (1000.0, 1)],
)
def test_rounds_fill_the_time_but_a_long_case_takes_few(round_s, rounds):
    assert replace(STANDARD, case_s=4.0).rounds_for(round_s) == rounds


def test_rounds_asked_for_are_the_rounds_made():
    assert replace(STANDARD, rounds=7).rounds_for(1000.0) == 7


@pytest.mark.parametrize(
    ("case_s", "call_s", "calls"),
    [
        (0.5, 2**-10, 30 + 30),
        (0.5, 0.125, 4 + 4),
        (4.0, 0.125, 8 + 8),  # a second at most
        (0.0, 0.125, 2 + 2),  # 0.2 s at least
        (4.0, 2.0, 1 + 1),
    ],
)
def test_what_is_measured_aside_is_called_as_often_to_warm_up_as_on_the_clock(case_s, call_s, calls):
    device = AsyncDevice(enqueue_s=0.0, now=100.0)
    made, _ = measurement(device, replace(STANDARD, case_s=case_s))
    made.overhead({size: lambda: device.launch(call_s) for size in (2, 4, 8)})
    assert device.now - 100.0 == 3 * calls * call_s
    assert made.found["overhead_s"] == call_s


def test_the_time_for_warming_up_and_the_length_of_a_round_follow_from_the_effort():
    told, call_s = [], 2**-8
    device = AsyncDevice(enqueue_s=0.0, now=100.0)
    made, samples = measurement(device, replace(STANDARD, case_s=4.0), on_round=lambda *told_of: told.append(told_of))
    made.run(lambda: device.launch(call_s))
    assert made.found["warmup_calls"] == 1 + 32 * 8  # the first whole block after 4 s / 4
    assert (made.found["timing"], len(samples)) == ("throughput", 341)  # rounds of 3 calls: 10 ms and a bit
    assert told[0] == (0, 341, 341 * 3 * call_s)


@pytest.mark.parametrize(("call_s", "timing"), [(1.0, "latency"), (0.005, "throughput")])
def test_two_calls_to_a_round_are_throughput_and_one_is_latency(call_s, timing):
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(device, replace(STANDARD, rounds=2))
    made.run(lambda: device.launch(call_s))
    assert made.found["timing"] == timing


def test_progress_is_told_after_every_round_of_half_a_second():
    told = []
    device = AsyncDevice(enqueue_s=0.0, now=100.0)
    made, _ = measurement(device, replace(STANDARD, rounds=3), asynchronous=False, on_round=lambda *t: told.append(t))
    made.from_start(lambda: device.launch(0.5), lambda: None, lambda: device.launch(0.5))
    assert told == [(0, 3, 1.5), (1, 3, 1.0), (2, 3, 0.5), (3, 3, 0.0)]


def test_a_load_is_known_from_the_shortest_time_on(monkeypatch):
    monkeypatch.setattr(load, "SHORTEST_S", 0.25)
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(device, replace(STANDARD, rounds=1), asynchronous=False, foreign_cpu_s=lambda: device.now)
    made.from_start(lambda: device.launch(0.25), lambda: None, lambda: device.launch(0.25))
    assert made.found["others_cores"] == 1.0


def test_the_host_share_is_the_time_until_the_call_returns():
    device = AsyncDevice(enqueue_s=20e-6)
    made, _ = measurement(device)
    made.enqueue(lambda: device.launch(5e-3))
    made.overhead({size: lambda size=size: device.launch(1e-3 + size * 1e-4) for size in (2, 4, 8)})
    assert made.found["enqueue_s"] == pytest.approx(20e-6)
    assert made.found["overhead_s"] == pytest.approx(1.02e-3)


def test_what_a_quota_withholds_is_missing_as_what_others_use(has_cores, monkeypatch):
    """The quota withholds 0.9 of two cores: the times say how much of its time the container had."""
    has_cores(2)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(device, STANDARD, asynchronous=False, foreign_cpu_s=lambda: 0.0)
    made._company = load.Company(device.clock, lambda: 0.0, lambda: 0.9 * device.now)
    made.run(lambda: device.launch(1e-3))
    assert (made.found["others_cores"], made.found["withheld_cores"]) == (0.0, pytest.approx(0.9))
    assert made.load.missing_cores(2) == pytest.approx(0.9) and made._starved


def test_what_is_measured_aside_takes_about_two_seconds_for_each_size_at_most():
    device = AsyncDevice()
    made, _ = measurement(device)
    made.overhead({size: lambda: device.launch(0.4) for size in (2, 4, 8)})
    assert device.now < 9.0


def test_the_cold_start_covers_building_and_the_first_call():
    device = AsyncDevice(enqueue_s=0.0, now=100.0)
    made, _ = measurement(device)
    built = made.cold_start(lambda: device.launch(0.2) or "network", first=lambda _: device.launch(0.3))
    assert built == "network"
    assert made.found["cold_start_s"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rounds", "others"),
    [
        pytest.param(500, pytest.approx(0.7), id="half a second"),
        pytest.param(3, None, id="a moment, in which the kernel's clock has not moved"),
    ],
)
def test_what_other_programs_used_during_the_rounds_is_recorded_where_it_can_be_known(rounds, others):
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(
        device, replace(STANDARD, rounds=rounds), asynchronous=False, foreign_cpu_s=lambda: device.now * 0.7
    )
    made.run(lambda: device.launch(1e-3))
    assert made.found.get("others_cores") == others


def test_progress_is_told_between_rounds_and_at_most_twice_a_second():
    told = []
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(
        device, replace(STANDARD, case_s=2.0), asynchronous=False, on_round=lambda *told_of: told.append(told_of)
    )
    made.run(lambda: device.launch(1e-3))
    assert told[0] == (0, pytest.approx(2000, abs=1), pytest.approx(2.0, rel=0.01))
    assert 3 <= len(told) <= 6
    assert [left for _, _, left in told] == sorted((left for _, _, left in told), reverse=True)


@pytest.mark.parametrize("restore_s", [0.0, 5.0])
def test_when_each_round_began_and_ended_is_noted_outside_of_it(restore_s):
    device = AsyncDevice(enqueue_s=0.0)
    made, samples = measurement(device, replace(STANDARD, rounds=3), asynchronous=False)

    def restore():
        device.now += restore_s

    made.from_start(lambda: device.launch(2.0), restore, lambda: device.launch(2.0))
    assert samples == pytest.approx([2.0] * 3)
    assert [end - start for start, end in made.rounds] == pytest.approx(samples)
    assert made.rounds[1][0] - made.rounds[0][1] == pytest.approx(restore_s)


def test_rounds_without_a_set_up_follow_each_other_and_what_is_shown_is_in_none_of_them():
    device = AsyncDevice(enqueue_s=0.0)

    def show(*_told):
        device.now += 3.0

    made, samples = measurement(device, replace(STANDARD, rounds=4), asynchronous=False, on_round=show)
    made.stream(lambda: device.launch(1.0), 2)
    assert [end - start for start, end in made.rounds] == pytest.approx([2.0] * 4)
    assert samples == pytest.approx([1.0] * 4)
    assert [end for _, end in made.rounds[:-1]] == pytest.approx([start - 3.0 for start, _ in made.rounds[1:]])


def test_what_is_not_timed_has_no_rounds():
    made, _ = measurement(AsyncDevice(), enabled=False)
    made.run(lambda: None)
    assert made.rounds == []


def test_the_hosts_share_and_the_whole_of_the_same_calls():
    device = AsyncDevice(enqueue_s=1e-3)
    made, _ = measurement(device)
    made.enqueue(lambda: device.launch(4e-3))
    assert made.found["enqueue_s"] == pytest.approx(1e-3)
    assert made.found["done_s"] == pytest.approx(5e-3)


def test_the_cold_start_covers_what_waiting_for_a_new_device_takes():
    """The first wait makes the device's context."""
    device = AsyncDevice(enqueue_s=0.0)
    contexts = iter([1.0])

    def synchronize():
        device.now += next(contexts, 0.0)
        device.synchronize()

    found = {}
    made = Measurement(
        None, synchronize, STANDARD, asynchronous=True, enabled=True, keep=found.update, clock=device.clock,
        company=load.Company(device.clock, lambda: None, lambda: None),
    )  # fmt: skip
    made.cold_start(lambda: "network", first=lambda _: device.launch(0.9))
    assert found["cold_start_s"] == pytest.approx(1.0)


def in_a_later_pass(**found):
    device = AsyncDevice()
    made, samples = measurement(device, replace(STANDARD, rounds=2))
    made._pass = measure.Pass(2, 3, **found)
    return device, made, samples


@pytest.mark.parametrize(("call_s", "warmed"), [(measure.LONG_CALL_S, 0), (0.99 * measure.LONG_CALL_S, 1), (None, 1)])
def test_a_long_call_is_not_warmed_up_again_in_a_later_pass(call_s, warmed):
    device, made, samples = in_a_later_pass(call_s=call_s)
    warm = []
    made.from_start(lambda: device.launch(1.0), restore=lambda: None, warm_call=lambda: warm.append(device.launch(1.0)))
    assert (len(warm), len(samples)) == (warmed, 2)


def test_a_part_of_a_call_may_warm_up_and_says_how_many_rounds_fit():
    device = AsyncDevice(enqueue_s=0.0)
    made, samples = measurement(device, Effort(case_s=3.0, min_rounds=1, long_s=30.0), asynchronous=False)
    made.from_start(lambda: device.launch(1.0), restore=lambda: None, warm_call=lambda: device.launch(0.2) or 1 / 5)
    assert samples == pytest.approx([1.0] * 3)


def test_all_passes_have_as_many_calls_in_a_round():
    device, made, _ = in_a_later_pass(iterations=7)
    calls = []
    made.run(lambda: (calls.append(None), device.launch(1e-4)))
    timed = len(calls) - made.found["warmup_calls"]
    assert timed == 2 * 7 + 1  # pytest-benchmark calls once more


@pytest.fixture
def threads():
    """Sets the number of torch's threads, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def with_threads(threads, count, *, asynchronous=False, one=measure.ONLY, enabled=True):
    """What is found about a call of which half is shared by the threads: 1 s with one, 0.75 s with two."""
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(device, asynchronous=asynchronous)
    made._pass, made.enabled = one, enabled
    threads(count)
    made.one_thread(lambda: device.launch(0.5 + 0.5 / torch.get_num_threads()))
    assert torch.get_num_threads() == count
    return made.found


def test_a_call_is_tried_with_one_thread_and_with_all(threads):
    assert with_threads(threads, 2) == {"one_thread_s": 1.0, "all_threads_s": 0.75}


def test_a_call_is_tried_with_one_thread_where_that_can_say_something(threads):
    assert with_threads(threads, 1) == {}
    assert with_threads(threads, 2, asynchronous=True) == {}
    assert with_threads(threads, 2, one=measure.Pass(2, 3)) == {}
    assert with_threads(threads, 2, enabled=False) == {"one_thread_s": None, "all_threads_s": None}


def test_what_is_looked_at_once_is_not_looked_at_in_a_later_pass():
    _, made, _ = in_a_later_pass()
    made.enqueue(lambda: pytest.fail("called"))
    assert made.found == {}


def test_a_case_has_three_times_its_share_and_no_more_whatever_becomes_of_the_machine():
    """From the tenth round on, everything takes a hundred times as long."""
    device = AsyncDevice(enqueue_s=0.0)
    made, samples = measurement(device, Effort(case_s=1.0, min_rounds=5, long_s=30.0), asynchronous=False)
    made.from_start(
        lambda: device.launch(0.01 if len(samples) < 10 else 1.0),
        restore=lambda: None,
        warm_call=lambda: device.launch(0.01),
    )
    assert samples == pytest.approx([0.01] * 10 + [1.0] * 3)
    assert len(made.rounds) == 13
    assert made.calls == 1 + 13


def test_rounds_that_were_asked_for_are_made_however_long_they_take():
    device = AsyncDevice(enqueue_s=0.0)
    made, samples = measurement(device, Effort(case_s=1.0, min_rounds=5, long_s=30.0, rounds=9), asynchronous=False)
    made.from_start(lambda: device.launch(100.0), restore=lambda: None, warm_call=lambda: device.launch(0.01))
    assert len(samples) == 9


def test_setting_up_is_a_part_of_the_share():
    device = AsyncDevice(enqueue_s=0.0)
    made, samples = measurement(device, Effort(case_s=1.0, min_rounds=5, long_s=30.0), asynchronous=False)

    def restore():
        device.now += 1.0

    made.from_start(lambda: device.launch(0.01), restore=restore, warm_call=lambda: device.launch(0.01))
    assert len(samples) == 3


def test_what_others_used_is_known_from_the_cold_start_on():
    """The rounds of a smoke run's pass alone are too short for that."""
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(
        device, replace(STANDARD, rounds=3), asynchronous=False, foreign_cpu_s=lambda: device.now * 0.7
    )
    made.cold_start(lambda: device.launch(0.4), first=lambda _: None)
    made.run(lambda: device.launch(1e-3))
    assert made.found["others_cores"] == pytest.approx(0.7)


@pytest.mark.parametrize("cold", [True, False])
def test_the_load_is_that_of_a_whole_case_and_of_nothing_before_it(cold):
    """For half a second before the case, and for one in its cold start, others have two cores."""
    device = AsyncDevice(enqueue_s=0.0)
    made, _ = measurement(
        device, replace(STANDARD, rounds=100), asynchronous=False, foreign_cpu_s=lambda: 2 * min(device.now, 1.5)
    )
    device.launch(0.5)
    device.synchronize()
    if cold:
        made.cold_start(lambda: device.launch(1.0), first=lambda _: None)
    began = device.now - cold
    made.from_start(lambda: device.launch(0.01), restore=lambda: None, warm_call=lambda: device.launch(1.0))
    assert made.found["others_cores"] == pytest.approx(2.0 / (device.now - began) if cold else 0.0, rel=0.01)


@pytest.mark.parametrize(("jitter", "rounds"), [(0.001, 64), (0.5, 1000)])
def test_a_case_ends_when_its_median_is_known_well_enough(jitter, rounds):
    device, jitters = AsyncDevice(enqueue_s=0.0), random.Random(1)
    effort = Effort(case_s=1.0, min_rounds=5, long_s=30.0, precision=0.01)
    made, samples = measurement(device, effort, asynchronous=False)
    made.from_start(
        lambda: device.launch(0.001 * (1 + jitter * jitters.random() * (len(samples) // 100 % 2 + 1))),
        restore=lambda: None,
        warm_call=lambda: device.launch(0.001),
    )
    assert len(samples) == rounds


def test_the_share_of_a_case_is_its_time_or_that_of_its_least_rounds():
    """Of five rounds of one second, each then takes twice as long: 10 s are less than three times 5 s."""
    device = AsyncDevice(enqueue_s=0.0)
    made, samples = measurement(device, Effort(case_s=1.0, min_rounds=5, long_s=30.0), asynchronous=False)
    made.from_start(lambda: device.launch(2.0), restore=lambda: None, warm_call=lambda: device.launch(1.0))
    assert len(samples) == 5


def test_where_nobody_says_there_is_one_pass():
    assert (measure.ONLY.number, measure.ONLY.of, measure.ONLY.first) == (1, 1, True)


@pytest.mark.parametrize(("pipeline", "turn"), [("workers", WORKERS), ("dataloader", 1), ("resident", 1)])
def test_only_a_pipeline_with_workers_comes_in_turns(pipeline, turn):
    asked = []
    work = SimpleNamespace(
        pipeline=pipeline, batch_size=64, full_batches=lambda: nullcontext(SimpleNamespace(epoch=lambda number: [0]))
    )
    timed = SimpleNamespace(
        cold_start=lambda build, first: build(), stream=lambda call, most, turn: asked.append((most, turn))
    )
    measure_pipeline(SimpleNamespace(workload=work, measurement=timed, record_rate=asked.append))
    assert asked == [(128, turn), 64]


@pytest.mark.parametrize(
    ("precision", "waits", "measured"), [("fp32", False, True), ("fp32", True, False), ("fp16", False, False)]
)
def test_the_hosts_share_is_not_measured_of_a_call_that_waits_for_the_device(monkeypatch, precision, waits, measured):
    calls = []
    step = object.__new__(AutocastStep)
    step.__dict__["scaler"] = object() if precision == "fp16" else None
    bench = object.__new__(Bench)
    bench.measurement = SimpleNamespace(enqueue=calls.append)
    bench.workload = SimpleNamespace(device=Device("cuda"))
    monkeypatch.setattr("perf.harness.machine.devices.waits", lambda device, call: waits)
    bench.enqueue(SimpleNamespace(plain=step), "call")
    assert calls == ["call"] * measured
