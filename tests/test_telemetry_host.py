"""What the host is doing, from a fake psutil and from files as the kernel writes them."""

import types

import pytest

from perf.harness.machine import cgroup, load
from perf.harness.machine.telemetry import host
from perf.harness.machine.telemetry.host import Host


def refused():
    raise NotImplementedError


def says(monkeypatch, **replaced):
    """Let psutil say this, and a function that is None be missing from it."""
    facts = {
        "available_bytes": lambda: 2**33,
        "getloadavg": lambda: (1.5, 1.0, 0.5),
        "cpu_times": lambda: types.SimpleNamespace(steal=12.5),
        "cpu_freq": lambda: types.SimpleNamespace(current=2900.0),
    } | replaced
    known = {name: function for name, function in facts.items() if function}
    monkeypatch.setattr(host, "psutil", types.SimpleNamespace(**known))
    monkeypatch.setattr(host.memory, "available_bytes", known.get("available_bytes", refused))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The kernel's files, of a container with a quota of 1.5 cores."""
    texts = {
        (cgroup, "OF_PROCESS"): "0::/",
        (host, "MEMORY_PRESSURE"): "some avg10=0.00 avg60=0.00 avg300=0.00 total=750000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    }
    for (module, name), text in texts.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(module, name, tmp_path / name)
    (tmp_path / "cpu.stat").write_text("usage_usec 5\nthrottled_usec 2500000\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(load, "foreign_cpu_s", lambda: 77.0)
    return tmp_path


def test_a_sample_is_in_seconds_bytes_and_hertz(files, monkeypatch):
    says(monkeypatch)
    assert Host().sample() == {
        "others_s": 77.0,
        "withheld_s": 2.5,
        "quota_cores": 1.5,
        "memory_stalled_s": 0.75,
        "load_average": 1.5,
        "memory_available_bytes": 2**33,
        "steal_s": 12.5,
        "clock_hz": 2.9e9,
    }


def test_what_the_system_does_not_say_is_left_out(files, monkeypatch):
    for path in files.iterdir():
        path.unlink()
    monkeypatch.setattr(load, "foreign_cpu_s", lambda: None)
    bare = {"cpu_freq": lambda: None, "cpu_times": lambda: types.SimpleNamespace(user=1.0), "getloadavg": refused}
    says(monkeypatch, **bare)
    assert Host().sample() == {"memory_available_bytes": 2**33}
    says(monkeypatch, **bare, available_bytes=None)
    assert Host().sample() == {}
    says(monkeypatch, cpu_freq=lambda: types.SimpleNamespace(current=0.0))
    assert "clock_hz" not in Host().sample()


def test_no_quota_is_none(files, monkeypatch):
    says(monkeypatch)
    (files / "cpu.max").write_text("max 100000\n")
    assert "quota_cores" not in Host().sample()


def test_the_real_psutil_answers_with_plain_numbers():
    sample = Host().sample()
    assert sample["memory_available_bytes"] > 0
    assert all(isinstance(value, int | float) for value in sample.values())
