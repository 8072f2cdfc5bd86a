"""The sampler: when it asks, what it keeps, and that nothing that a source does ends the run; on a fake clock."""

import threading

import pytest

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry import sampler as module
from perf.harness.machine.telemetry.sampler import Sampler, as_record, sampler_of
from perf.harness.machine.telemetry.source import Unreadable
from tests.fake_nvml import Nvml


class Time:
    """A clock and its `wait`: each takes as long as it is asked to, and at `end` it says stop."""

    def __init__(self, end):
        self.now, self.end = 100.0, 100.0 + end
        self.spent = 0.0

    def clock(self):
        return self.now

    def cost(self):
        return self.spent

    def wait(self, seconds):
        self.now += seconds
        return self.now > self.end


class Source:
    """Counts how often it was asked; costs `cost_s` of CPU time, and fails at the sample of that number."""

    def __init__(self, time, cost_s=0.0, fails_at=None):
        self.time, self.cost_s, self.fails_at = time, cost_s, fails_at
        self.asked = 0

    def sample(self):
        self.asked += 1
        self.time.spent += self.cost_s
        if self.asked == self.fails_at:
            raise RuntimeError("the driver has crashed")
        return {"number": self.asked}


def run(time, sources):
    """A whole run, in the thread that calls."""
    sampler = Sampler(sources, clock=time.clock, cost=time.cost, wait=time.wait)
    sampler.ask()
    sampler._run()
    return sampler


def test_each_source_is_asked_once_a_second():
    time = Time(end=5)
    sampler = run(time, {"cpu": Source(time), "cuda": Source(time)})
    for name in ("cpu", "cuda"):
        assert [sample.at for sample in sampler.samples(name)] == [100.0, 101.0, 102.0, 103.0, 104.0, 105.0]
        assert [sample.values["number"] for sample in sampler.samples(name)] == [1, 2, 3, 4, 5, 6]


def test_what_lies_between_two_times_is_found_and_nothing_is_known_of_a_stranger():
    time = Time(end=5)
    sampler = run(time, {"cpu": Source(time)})
    assert [sample.at for sample in sampler.between("cpu", 101.0, 103.5)] == [101.0, 102.0, 103.0]
    assert sampler.between("cpu", 101.1, 101.9) == sampler.between("cuda", 0.0, 1e9) == []


def test_a_source_that_raises_is_not_asked_again_and_the_others_are():
    time = Time(end=5)
    broken, whole = Source(time, fails_at=3), Source(time)
    sampler = run(time, {"cuda": broken, "cpu": whole})
    assert (broken.asked, whole.asked) == (3, 6)
    assert sampler.reasons == {"cuda": "RuntimeError: the driver has crashed"}
    assert len(sampler.samples("cuda")) == 2  # what it said before is kept
    record = as_record(sampler)
    assert record["cuda"]["unsupported"] == "RuntimeError: the driver has crashed" and record["cuda"]["samples"] == 2
    assert "unsupported" not in record["cpu"]


def test_a_source_that_costs_more_than_a_hundredth_of_a_core_is_asked_less_often():
    time = Time(end=9)
    sampler = run(time, {"slow": Source(time, cost_s=0.03), "quick": Source(time, cost_s=0.009)})
    assert [sample.at for sample in sampler.samples("slow")] == [100.0, 103.0, 106.0, 109.0]
    assert len(sampler.samples("quick")) == 10


def test_a_long_run_keeps_its_beginning_and_its_newest_samples(monkeypatch):
    monkeypatch.setattr(module, "MOST_SAMPLES", 10)
    time = Time(end=1000)
    kept = [sample.at for sample in run(time, {"cpu": Source(time)}).samples("cpu")]
    assert len(kept) <= 10
    assert kept[0] == 100.0 and kept[-4:] == [1097.0, 1098.0, 1099.0, 1100.0]
    assert kept == sorted(kept)


class Signal:
    """A source that says when it was asked."""

    def __init__(self):
        self.asked = threading.Semaphore(0)

    def sample(self):
        self.asked.release()
        return {"thread": threading.current_thread().name}


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "stepwatch-telemetry"]


def test_the_thread_samples_beside_the_caller_and_ends():
    source = Signal()
    sampler = Sampler({"cpu": source}, interval_s=0.001)
    sampler.start()
    assert threads() and threads()[0].daemon
    for _ in range(5):
        assert source.asked.acquire(timeout=60)
    sampler.stop()
    assert threads() == []
    names = [sample.values["thread"] for sample in sampler.samples("cpu")]
    assert names[0] == names[-1] == threading.current_thread().name  # at the beginning, and at the end
    assert "stepwatch-telemetry" in names
    sampler.stop()  # a second time, nothing happens
    assert len(sampler.samples("cpu")) == len(names)


def test_a_thread_whose_source_raises_goes_on_and_ends():
    whole = Signal()

    class Broken:
        def sample(self):
            raise Unreadable("NVML: GPU is lost")

    sampler = Sampler({"cuda": Broken(), "cpu": whole}, interval_s=0.001)
    sampler.start()
    for _ in range(5):
        assert whole.asked.acquire(timeout=60)
    sampler.stop()
    assert threads() == []
    assert sampler.reasons == {"cuda": "NVML: GPU is lost"}


def test_a_run_that_has_never_begun_can_be_ended():
    Sampler({"cpu": Signal()}).stop()


def test_a_device_without_telemetry_has_its_reason_in_the_record(plug):
    plug(None)
    sampler = sampler_of([Device("cpu"), Device("cuda"), Device("cuda:1", absent="no such GPU"), Device("xpu")])
    sampler.ask()
    record = as_record(sampler)
    assert record["cpu"]["samples"] == 1
    del record["cpu"]
    assert record == {
        "cuda": {"unsupported": "nvidia-ml-py is not installed; pip install nvidia-ml-py"},
        "cuda:1": {"unsupported": "no such GPU"},
        "xpu": {"unsupported": "xpu is no NVIDIA GPU"},
    }


def test_the_host_is_sampled_whatever_is_measured(plug):
    plug(Nvml())
    sampler = sampler_of([Device("cuda")])
    sampler.ask()
    assert set(as_record(sampler)) == {"cpu", "cuda"}


@pytest.mark.parametrize("error", [MemoryError(), ValueError("odd")])
def test_the_reason_names_the_error_even_where_it_says_nothing(error):
    class Broken:
        def sample(self):
            raise error

    sampler = Sampler({"cpu": Broken()})
    sampler.ask()
    assert sampler.reasons["cpu"] == {"": "MemoryError", "odd": "ValueError: odd"}[str(error)]
