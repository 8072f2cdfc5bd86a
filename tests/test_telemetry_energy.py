"""Energy: what a device's own counter says, and nothing where it does not."""

import pytest

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry import energy
from tests import fake_nvml

CPU, GPU = Device("cpu"), Device("cuda")


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """Writes the counters of a CPU with two packages, a part of one of them, and the whole platform."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    names = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:0": "core", "intel-rapl:2": "psys"}
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(name + "\n")
        (tmp_path / folder / "max_energy_range_uj").write_text("999999\n")

    def write(**counters):
        for place, value in counters.items():
            (tmp_path / f"intel-rapl:{place[1:].replace('_', ':')}" / "energy_uj").write_text(f"{value}\n")

    write(p0=100, p1=200, p0_0=0, p2=0)
    return write


def test_the_packages_of_a_cpu_are_added_and_nothing_is_counted_twice(packages):
    count = energy.counter(CPU)
    before = count()
    packages(p0=300_100, p1=200_200, p0_0=250_000, p2=900_000)
    assert count() - before == pytest.approx(0.5)


def test_a_counter_that_begins_again_goes_on(packages):
    packages(p0=900_000)
    count = energy.counter(CPU)
    before = count()
    packages(p0=100_000)
    assert count() - before == pytest.approx(0.2)
    packages(p0=0)
    assert count() - before == pytest.approx(1.1)


def test_a_counter_that_may_not_be_read_is_unknown(packages, tmp_path, monkeypatch):
    packages(p1="?")
    assert energy.counter(CPU)() is None
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert energy.counter(CPU)() is None
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "nothing")
    assert energy.counter(CPU)() is None


def test_a_gpu_says_what_nvml_counts(plug):
    plug(fake_nvml.Nvml())
    assert energy.counter(GPU)() == 5.0
    plug(fake_nvml.Nvml("energy"))
    assert energy.counter(GPU)() is None
    plug(None)
    assert energy.counter(GPU)() is None
