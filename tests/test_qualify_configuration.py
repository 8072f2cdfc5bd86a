"""How a GPU is set up, on a fake NVML: what is wrong with it, each thing alone; and what its link carries."""

import sys
import types

import pytest

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.source import Unreadable
from perf.harness.measurement.checks import configuration, probes
from perf.harness.verdict.limits import Limit
from perf.qualification import test_matmul, test_numa, test_sustained
from tests.fake_nvml import Nvml

WELL = {
    "power_limit_w": 700.0, "power_limit_default_w": 700.0, "pcie_generation": 5, "pcie_generation_limit": 5,
    "pcie_width": 16, "pcie_width_limit": 16, "ecc": True,
}  # fmt: skip


def test_nothing_is_wrong_with_a_gpu_that_is_set_up_well_nor_with_one_that_says_nothing():
    assert configuration.problems(WELL, "NVIDIA H200") == []
    assert configuration.problems({}, "NVIDIA H200") == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"power_limit_w": 500.0}, "its power is limited to 500 W; the default is 700 W (nvidia-smi -pl)"),
        (
            {"pcie_generation": 3},
            "it has PCIe generation 3 under load, but 5 is possible: reseat the GPU and check the slot",
        ),
        ({"ecc": False}, "ECC is off, so memory errors are neither corrected nor counted (nvidia-smi -e 1)"),
    ],
)
def test_each_thing_that_is_wrong_is_said(wrong, says):
    assert configuration.problems(WELL | wrong, "NVIDIA H200") == [says]


def test_a_gpu_that_is_sold_without_ecc_needs_none():
    assert configuration.problems(WELL | {"ecc": False}, "NVIDIA GeForce RTX 4090") == []
    assert configuration.problems(WELL | {"ecc": False, "ecc_default": 0}, "NVIDIA RTX 6000 Ada Generation") == []
    assert len(configuration.problems(WELL | {"ecc": False, "ecc_default": 1}, "NVIDIA H200")) == 1


def test_fewer_lanes_are_a_doubt_and_no_fault_and_in_a_notebook_not_even_that():
    fewer = WELL | {"pcie_width": 8}
    assert configuration.problems(fewer, "NVIDIA H200") == []
    assert configuration.doubt(fewer, "NVIDIA H200") == (
        "it has 8 PCIe lanes under load, and says that 16 are possible: check that the slot has so many"
    )
    assert configuration.doubt(fewer, "NVIDIA GeForce RTX 4090 Laptop GPU") == ""
    assert configuration.doubt(WELL, "NVIDIA H200") == configuration.doubt({}, "NVIDIA H200") == ""


def test_more_power_than_the_default_is_not_wrong():
    assert configuration.problems(WELL | {"power_limit_w": 750.0}, "NVIDIA H200") == []


def test_the_link_is_what_was_negotiated():
    assert configuration.link(WELL).value == 16 * 3.938e9
    assert configuration.link({"pcie_width": 16}) is None


def test_the_link_is_looked_at_while_bytes_are_copied(monkeypatch):
    seen = []
    empty = configuration.probes.torch.empty
    monkeypatch.setattr(probes, "LINK_BYTES", 8)
    monkeypatch.setattr(
        "torch.empty", lambda *shape, dtype, **rest: seen.append("pinned" if rest else "") or empty(*shape, dtype=dtype)
    )
    monkeypatch.setattr(probes, "synchronizer", lambda device: lambda: seen.append("waited"))
    assert probes.under_copies(Device("cpu"), lambda: seen.append("looked") or 3) == [3] * probes.LINK_LOOKS
    assert seen == ["pinned", *["looked", "waited"] * probes.LINK_LOOKS]


def test_a_link_that_wakes_up_late_is_seen_awake(monkeypatch):
    """It sleeps at the first look, and again at the last; it never has the speed of one with the lanes of another."""
    looks = [{**WELL, "pcie_generation": 1}, WELL, {**WELL, "pcie_generation": 1, "power_limit_w": 600.0}]
    monkeypatch.setattr(configuration, "open_gpu", lambda device: types.SimpleNamespace(sample=None))
    monkeypatch.setattr(probes, "under_copies", lambda device, look: looks)
    assert configuration.at_work(Device("cuda")) == {**WELL, "power_limit_w": 600.0}
    monkeypatch.setattr(probes, "under_copies", lambda device, look: [{"ecc": True}])
    assert configuration.at_work(Device("cuda")) == {"ecc": True}


def test_where_nvml_is_not_there_it_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Nvml("driver"))
    with pytest.raises(Unreadable, match="Driver Not Loaded"):
        configuration.at_work(Device("cuda"))


@pytest.mark.parametrize(
    ("name", "device", "virtual", "asked"),
    [
        ("NVIDIA H200", "cuda", True, [("share", 0.97), ("throttled", 0.005)]),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "cuda", False, [("rate", "")]),
        ("AMD EPYC", "cpu", False, [("share", 0.8), ("throttled", 0.005)]),
        ("AMD EPYC", "cpu", True, [("share", 0.6), ("throttled", 0.005)]),
    ],
)
def test_a_notebook_slows_down_as_it_warms_up_and_a_cpu_gives_up_its_boost(monkeypatch, name, device, virtual, asked):
    done = []
    settings = types.SimpleNamespace(full=False)
    judges = {
        kind: lambda *arguments, kind=kind: done.append((kind, arguments[1])) for kind in ("rate", "share", "throttled")
    }
    check = types.SimpleNamespace(
        device_name=name, device=Device(device), fault="", variant="", plan=types.SimpleNamespace(settings=settings),
        **judges,
    )  # fmt: skip
    monkeypatch.setattr(test_sustained, "is_virtual", lambda: virtual)
    test_sustained.test_sustained(check)
    assert done == asked


@pytest.mark.parametrize(
    ("device", "virtual", "share", "left"),
    [("cpu", False, 0.5, 1.0), ("cpu", True, 0.5, 0.6), ("cuda", True, 0.6, 1.0)],
)
def test_a_virtual_machine_may_have_to_share_its_cores(monkeypatch, device, virtual, share, left):
    done, limit = [], Limit(1e12, "2 cores")
    check = types.SimpleNamespace(
        device=Device(device), fault="", variant="fp32", peak=lambda dtype: limit,
        rate=lambda measure, *judged: done.append(judged), clock=lambda dtype: None,
    )  # fmt: skip
    monkeypatch.setattr(test_matmul, "is_virtual", lambda: virtual)
    test_matmul.test_matmul(check)
    assert done == [("FLOP/s", share, limit, left)]


@pytest.mark.parametrize(("virtual", "left"), [(False, 1.0), (True, 0.6)])
def test_the_nodes_of_a_virtual_machine_may_not_be_its_own(monkeypatch, virtual, left):
    done = []
    check = types.SimpleNamespace(fault="", variant="copy", share=lambda measure, *judged: done.append(judged))
    monkeypatch.setattr(test_numa, "is_virtual", lambda: virtual)
    test_numa.test_numa(check)
    assert done == [(0.9, "the nodes of one machine are built alike", left)]
