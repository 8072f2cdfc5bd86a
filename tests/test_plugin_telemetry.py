"""Telemetry, as users meet it: when it runs and when it does not, that it ends, and what is said where it is not."""

import sys
import threading

import pytest

from perf.harness.machine.telemetry.host import Host
from perf.harness.machine.telemetry.sampler import Sampler
from perf.harness.machine.telemetry.source import Unreadable
from perf.harness.workload.workload import Trainee
from tests.conftest import PERF, STEP, kept, read

pytest_plugins = ["pytester"]


def running():
    return [thread for thread in threading.enumerate() if thread.name == "stepwatch-telemetry"]


@pytest.fixture
def during(monkeypatch):
    """How many sampling threads there were in each of the cases."""
    seen = []
    original = Trainee.mean_loss

    def spy(self, batches):
        seen.append(len(running()))
        return original(self, batches)

    monkeypatch.setattr(Trainee, "mean_loss", spy)
    return seen


def test_it_runs_beside_the_cases_and_ends_with_the_run(perf, pytester, during):
    assert perf(STEP, "--perf-device=cpu").ret == 0
    assert set(during) == {1}
    assert running() == []
    telemetry = read(kept(pytester)[0])["perf"]["telemetry"]
    assert set(telemetry) == {"cpu"}
    assert telemetry["cpu"]["samples"] >= 2 and telemetry["cpu"]["memory_available_bytes_min"] > 0


def test_every_write_of_the_record_has_what_is_known_so_far(perf, pytester, monkeypatch):
    seen = []
    monkeypatch.setattr(Sampler, "stop", lambda self: seen.append(read(kept(pytester)[0])["perf"]["telemetry"]))
    monkeypatch.setattr(Sampler, "start", Sampler.ask)  # no thread, which this would leave running
    perf(STEP, "--perf-device=cpu")
    assert seen[0]["cpu"]["samples"] == 1


@pytest.mark.parametrize("argument", ["--collect-only", "--benchmark-disable"])
def test_where_nothing_is_measured_nothing_is_sampled(perf, monkeypatch, argument):
    monkeypatch.setattr("perf.harness.plugin.state.sampler_of", lambda *devices, **rest: pytest.fail("it was begun"))
    assert perf(STEP, "--perf-device=cpu", argument).ret == 0


def test_it_ends_with_a_run_that_is_interrupted_whose_record_has_it(perf, pytester, monkeypatch):
    original = Trainee.mean_loss

    def interrupted(self, batches):
        if len(batches[0][0]) == 512:
            raise KeyboardInterrupt
        return original(self, batches)

    monkeypatch.setattr(Trainee, "mean_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        perf(STEP, "--perf-device=cpu", "--perf-batch-size=64,512")
    assert running() == []
    (path,) = kept(pytester)
    assert read(path)["perf"]["telemetry"]["cpu"]["samples"] >= 2
    assert read(path)["perf"]["complete"] is False


def test_it_ends_with_a_run_that_pytest_itself_breaks_off(perf, monkeypatch):
    def fail(config):
        assert running()
        raise pytest.UsageError("the disk is full")

    monkeypatch.setattr("perf.harness.plugin.measure.Measure._write", fail)
    assert perf(STEP, "--perf-device=cpu").ret != 0
    assert running() == []


def test_where_nothing_can_be_read_the_run_is_the_same_and_says_so(perf, pytester, monkeypatch):
    def sample(self):
        raise Unreadable("it says nothing")

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(Host, "sample", sample)
    result = perf(PERF, "--perf-device=cpu")
    assert result.ret == 0
    result.assert_outcomes(passed=5, skipped=2)
    result.stdout.fnmatch_lines(["telemetry cpu: none: it says nothing"])
    document = read(kept(pytester)[0])
    assert document["perf"]["telemetry"] == {"cpu": {"unsupported": "it says nothing"}}
    assert not any("throttled_rounds" in benchmark["extra_info"] for benchmark in document["benchmarks"])


def test_a_source_that_breaks_in_the_middle_does_not_break_the_run(perf, pytester, monkeypatch):
    class Broken:
        def sample(self):
            raise OSError("no such file")

    monkeypatch.setattr("perf.harness.machine.telemetry.sampler.Host", Broken)
    result = perf(STEP, "--perf-device=cpu")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["telemetry cpu: none: OSError: no such file"])
