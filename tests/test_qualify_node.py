"""The disk that has the data, and the machine's clocks."""

import errno
import os
import types

import pytest
import torch

from perf.harness.machine.devices import Device
from perf.harness.measurement.checks import faults, storage, timing
from perf.harness.measurement.checks.timing import MOST_PPM, Reading
from perf.qualification import test_clock

MIB = 2**20


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A file of 2 MiB; each read is kept, and takes a second. Nothing of it is in memory."""
    monkeypatch.setattr(storage, "FILE_BYTES", 2 * MIB)
    monkeypatch.setattr(storage, "CHUNK_BYTES", MIB)
    reads, now, in_memory = [], [0.0], set()

    def preadv(file, buffers, start, flags=0):
        if flags:
            assert not in_memory
            raise BlockingIOError
        reads.append((start, os.pread(file, MIB, start)))
        now[0] += 0.0 if start in in_memory else 1.0  # what is in memory comes at once
        in_memory.add(start)
        return MIB

    monkeypatch.setattr(storage.os, "posix_fadvise", lambda file, start, size, advice: in_memory.clear())

    monkeypatch.setattr(storage.os, "preadv", preadv)
    monkeypatch.setattr(storage, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    return types.SimpleNamespace(folder=tmp_path / "new/data", reads=reads, preadv=preadv)


def test_a_file_of_random_bytes_is_read_whole_and_deleted(disk):
    found = storage.read_rate(disk.folder)
    assert found.values == (2 * MIB / 2.0,) * storage.READ_LEAST
    assert found.note == f"2 MiB in {disk.folder}"
    assert [start for start, _ in disk.reads] == [0, MIB] * storage.READ_LEAST
    assert len({chunk for _, chunk in disk.reads}) == 2  # no file system makes less of it
    assert list(disk.folder.iterdir()) == []


def test_a_disk_that_is_read_twice_is_half_as_fast(disk):
    assert storage.read_rate(disk.folder, faults.twice).values == (MIB / 2.0,) * storage.READ_LEAST


def test_what_comes_from_memory_is_no_rate_of_the_disk(disk, monkeypatch):
    monkeypatch.setattr(storage.os, "preadv", lambda *arguments: MIB)
    with pytest.raises(storage.Unread, match=r"keeps the files of .*/data in its memory"):
        storage.read_rate(disk.folder)


@pytest.mark.parametrize("lacks", ["posix_fadvise", "RWF_NOWAIT"])
def test_another_system_cannot_read_past_its_memory(disk, monkeypatch, lacks):
    monkeypatch.delattr(storage.os, lacks)
    with pytest.raises(storage.Unread, match="this system cannot"):
        storage.read_rate(disk.folder)


def test_a_folder_that_takes_no_file_says_why(disk, monkeypatch):
    disk.folder.parent.mkdir()
    disk.folder.write_text("a file")
    with pytest.raises(storage.Unread, match=r"no file can be written to .*/data, or read from it: File exists"):
        storage.read_rate(disk.folder)


def test_a_file_system_that_does_not_say_what_is_in_memory(disk, monkeypatch):
    def unknown(file, buffers, start, flags=0):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(storage.os, "preadv", unknown)
    with pytest.raises(storage.Unread, match="does not say what it keeps in memory"):
        storage.read_rate(disk.folder)


@pytest.mark.parametrize(
    ("day", "raw", "ppm"),
    [(100.0, 100.0, 0.0), (100.05, 100.0, 500.0), (99.9, 100.0, 1000.0), (100.0, 99.0, 10_000.0), (0.0, None, 1e6)],
)
def test_the_drift_is_that_of_the_clock_that_differs_most(day, raw, ppm):
    before = Reading(10.0, 1e9, None if raw is None else 5.0)
    after = Reading(110.0, 1e9 + day, None if raw is None else 5.0 + raw)
    assert after.drift_ppm(before) == pytest.approx(ppm, abs=0.01)


def test_a_reading_has_the_clocks_of_this_system():
    first = Reading.now()
    second = Reading.now(plant=5.0)
    assert second.monotonic >= first.monotonic and second.day >= first.day + 4.0
    assert (first.raw is None) == (not hasattr(timing.time, "CLOCK_MONOTONIC_RAW"))


class Judged(types.SimpleNamespace):
    """What a check says: the last call."""

    def at_most(self, value, unit, bar, source, reason="", note="", again=None):
        self.said, self.again = ("PASS" if value <= bar else "FAIL", value, reason), again

    def unclear(self, reason, value, unit, bar, *, again):
        self.said, self.again = ("INCONCLUSIVE", value, reason), again

    def unsupported(self, reason):
        self.said = ("UNSUPPORTED", None, reason)


@pytest.fixture
def day(monkeypatch):
    """The time of day, which moves with the clock that measures until a test sets it."""
    world = types.SimpleNamespace(now=0.0, ahead=0.0, faster=0.0)

    def sleep(seconds):
        world.now += seconds
        world.ahead += world.faster * seconds

    clocks = types.SimpleNamespace(
        perf_counter=lambda: world.now, time=lambda: 1e9 + world.now + world.ahead, sleep=sleep
    )
    monkeypatch.setattr(timing, "time", clocks)
    monkeypatch.setattr(test_clock, "time", clocks)
    return world


@pytest.mark.parametrize(
    ("ahead", "faster", "verdict"),
    [(0.0, 0.0, "PASS"), (0.05, 0.0, "PASS"), (-3600.0, 0.0, "INCONCLUSIVE"), (1.0, 0.01, "FAIL")],
)
def test_a_clock_that_was_set_is_no_fault_and_one_that_runs_faster_is(day, ahead, faster, verdict):
    """Both measurements of one that differs are kept."""
    check = Judged(variant="drift", device=Device("cpu"), fault="", began=Reading.now())
    day.now, day.ahead, day.faster = 100.0, ahead, faster
    test_clock.test_clock(check)
    assert check.said[0] == verdict
    assert (check.said[1] > MOST_PPM) == (verdict != "PASS")
    assert check.again == (None if verdict == "PASS" else pytest.approx(1e6 * faster, abs=0.01))


def test_a_planted_clock_is_one_per_cent_faster(day):
    check = Judged(variant="drift", device=Device("cpu"), fault="drift", began=Reading.now())
    day.now = 100.0
    test_clock.test_clock(check)
    assert check.said[:2] == ("FAIL", pytest.approx(10_000, rel=1e-3))


@pytest.mark.parametrize(
    ("text", "fault", "verdict"),
    [("tsc", "", "PASS"), ("kvm-clock", "", "PASS"), ("arch_sys_counter", "", "PASS"), ("hpet", "", "FAIL"),
     ("acpi_pm", "", "FAIL"), (None, "", "UNSUPPORTED"), ("tsc", "source", "FAIL")],
)  # fmt: skip
def test_a_kernel_that_had_to_take_a_slow_clock_fails(tmp_path, monkeypatch, text, fault, verdict):
    monkeypatch.setattr(timing, "SOURCE", tmp_path / "current")
    if text is not None:
        (tmp_path / "current").write_text(f"{text}\n")
    check = Judged(variant="source", device=Device("cpu"), fault=fault)
    test_clock.test_clock(check)
    assert check.said[0] == verdict


class Event:
    """An event of a device whose clock is `faster`."""

    faster = 1.0
    late_s = 0.0

    def __init__(self, device, enable_timing):
        assert enable_timing

    def record(self):
        self.at = timing.time.perf_counter()

    def elapsed_time(self, other):
        return 1e3 * (self.faster * (other.at - self.at) + self.late_s)


@pytest.mark.parametrize(
    ("faster", "late_s", "fault", "verdict"),
    [(1.0, 0.0, "", "PASS"), (1.0005, 0.0, "", "PASS"), (0.99, 0.0, "", "FAIL"), (1.0, 0.0, "drift", "FAIL"),
     (1.0, 0.0004, "", "PASS"), (1.002, 0.0004, "", "FAIL")],
)  # fmt: skip
def test_the_clock_of_a_device_is_held_against_the_hosts(day, monkeypatch, faster, late_s, fault, verdict):
    """A second event that is recorded later than the first is no fault of the clock."""
    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: None)
    monkeypatch.setattr(Event, "faster", faster)
    monkeypatch.setattr(Event, "late_s", late_s)
    check = Judged(variant="drift", device=Device("cuda"), fault=fault)
    test_clock.test_clock(check)
    assert check.said[0] == verdict


def test_a_device_without_events_that_tell_a_time_is_not_judged(monkeypatch):
    def none(device, enable_timing):
        raise NotImplementedError("no timing")

    monkeypatch.setattr(torch, "Event", none)
    check = Judged(variant="drift", device=Device("xpu"), fault="")
    test_clock.test_clock(check)
    assert check.said == ("UNSUPPORTED", None, "torch reads no clock of xpu: no timing")
