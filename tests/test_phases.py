"""Where the time of a step goes, on fake clocks."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from model import TrainingStep
from perf.harness.measurement.phases import PHASES, EventStopwatch, HostStopwatch
from tests.fake_device import AsyncDevice, measurement


class FakePipeline:
    """Batches, each of which costs the host a known time to get and to copy."""

    def __init__(self, device, wait_s, copy_s, batches=2):
        self.device, self.wait_s, self.copy_s, self.batches = device, wait_s, copy_s, batches

    def host_epoch(self, _number):
        for _ in range(self.batches):
            self.device.now += self.wait_s
            yield torch.ones(4, 1), torch.zeros(4, dtype=torch.int64)

    def to_device(self, batch):
        self.device.now += self.copy_s
        return batch


class SlowStep(TrainingStep):
    """A training step whose parts cost a known time on a fake clock."""

    def __init__(self, device):
        model = nn.Linear(1, 2)
        super().__init__(model, torch.optim.SGD(model.parameters(), lr=0.1), functional.cross_entropy)
        self.device = device

    def forward(self, images, labels):
        self.device.now += 0.3
        return super().forward(images, labels)

    def backward(self, loss):
        self.device.now += 0.5
        super().backward(loss)

    def update(self):
        self.device.now += 0.7
        super().update()


def events_of(device, monkeypatch):
    """Events on a fake `device`. Returns the list of the devices that are waited for."""

    class Event:
        def __init__(self, _device, enable_timing):
            assert enable_timing

        def record(self):
            self.at = max(device.now, device.free_at)

        def elapsed_time(self, later):
            return (later.at - self.at) * 1e3

    waits = []
    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda target: waits.append(target))
    return waits


@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_phase_gets_its_own_time_and_together_they_are_the_epoch(monkeypatch, asynchronous):
    device = AsyncDevice(now=100.0)
    events_of(device, monkeypatch)
    made, _ = measurement(device, asynchronous=asynchronous)
    share = made.phases(SlowStep(device), FakePipeline(device, wait_s=1.0, copy_s=0.1), torch.device("cpu"))
    expected = {"data_wait": 2.0, "copy": 0.2, "forward": 0.6, "backward": 1.0, "optimizer": 1.4, "other": 0.0}
    assert made.found["phases_s"] == pytest.approx(expected)
    assert made.found["phases_wall_s"] == pytest.approx(sum(expected.values()))
    assert (share, made.found["phases_batches"]) == (1, 2)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_phases_of_a_long_epoch_are_those_of_its_beginning(monkeypatch, asynchronous):
    """A step takes 1.5 s, and a batch 0.4 s: after two of ten, the three seconds are over."""
    device = AsyncDevice(now=100.0)
    events_of(device, monkeypatch)
    made, _ = measurement(device, asynchronous=asynchronous)
    step, ended = SlowStep(device), []
    step.end_epoch = lambda: ended.append(True)
    share = made.phases(step, FakePipeline(device, wait_s=0.3, copy_s=0.1, batches=10), torch.device("cpu"))
    expected = {"data_wait": 0.6, "copy": 0.2, "forward": 0.6, "backward": 1.0, "optimizer": 1.4, "other": 0.0}
    assert made.found["phases_s"] == pytest.approx(expected)
    assert made.found["phases_wall_s"] == pytest.approx(sum(expected.values()))
    assert (share, made.found["phases_batches"], ended) == (0.2, 2, [True])


def test_a_stopwatch_adds_up_laps_of_the_same_name():
    ticks = iter([0.0, 1.0, 3.0, 6.0])
    stopwatch = HostStopwatch(lambda: next(ticks))
    stopwatch.start()
    for name in ("copy", "forward", "copy"):
        stopwatch.lap(name)
    assert stopwatch.seconds() == dict.fromkeys(PHASES, 0.0) | {"copy": 4.0, "forward": 2.0}


def test_device_laps_are_read_from_events_after_one_wait(monkeypatch):
    device = AsyncDevice(enqueue_s=0.0)
    waits = events_of(device, monkeypatch)
    stopwatch = EventStopwatch(torch.device("cuda:0"))
    stopwatch.start()
    for name, work_s in (("copy", 0.1), ("forward", 0.2), ("copy", 0.3)):
        device.launch(work_s)
        stopwatch.lap(name)
    assert stopwatch.seconds() == pytest.approx(dict.fromkeys(PHASES, 0.0) | {"copy": 0.4, "forward": 0.2})
    assert waits == [torch.device("cuda:0")]
