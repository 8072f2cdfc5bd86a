"""Hardware error counters: the kernel's for the host's memory, NVML's for a GPU; here against recorded ones."""

import pytest

from perf.harness.devices import Device
from perf.harness.qualify import counters
from perf.harness.qualify.counters import NotCounted, new, read
from tests.fake_nvml import Nvml


def test_the_hosts_errors_are_those_of_all_memory_controllers(tmp_path, monkeypatch):
    for number, errors in enumerate((0, 2, 3)):
        (tmp_path / f"mc{number}").mkdir()
        (tmp_path / f"mc{number}/ue_count").write_text(f"{errors}\n")
    monkeypatch.setattr(counters, "EDAC", tmp_path)
    assert read(Device("cpu")) == {"uncorrected": 5}


def test_a_kernel_that_counts_none_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(counters, "EDAC", tmp_path)
    with pytest.raises(NotCounted, match="no EDAC driver"):
        read(Device("cpu"))


def test_a_gpus_errors_are_read_by_its_uuid(plug):
    plug(Nvml())
    assert read(Device("cuda:1")) == {
        "uncorrected": 7,
        "remap corrected": 3,
        "remap uncorrected": 1,
        "remap pending": 0,
        "remap failed": 1,
        "PCIe replays": 12,
    }


def test_a_gpu_without_ecc_has_the_other_counters(plug):
    plug(Nvml("ecc_errors", "rows"))
    assert read(Device("cuda")) == {"PCIe replays": 12}


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (None, "nvidia-ml-py is not installed"),
        (Nvml("driver"), "NVML: Driver Not Loaded"),
        (Nvml("ecc_errors", "rows", "replays"), "this device counts no errors"),
    ],
)
def test_why_nothing_is_counted_is_said(plug, module, says):
    plug(module)
    with pytest.raises(NotCounted, match=says):
        read(Device("cuda"))


def test_no_counters_are_known_of_another_accelerator():
    with pytest.raises(NotCounted, match="xpu is no NVIDIA GPU"):
        read(Device("xpu"))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"uncorrected": 5}, {"uncorrected": 5}, {}),  # of an earlier day
        ({"uncorrected": 5}, {"uncorrected": 6}, {"uncorrected": 1}),
        ({}, {"uncorrected": 2}, {"uncorrected": 2}),
        ({"uncorrected": 5}, {"uncorrected": 0}, {}),  # reset meanwhile
        ({"PCIe replays": 1}, {"PCIe replays": 4}, {"PCIe replays": 3}),
        ({"remap pending": 1}, {"remap pending": 1}, {"remap pending": 1}),  # until somebody restarts it
        ({"remap failed": 1}, {"remap failed": 1}, {"remap failed": 1}),
    ],
)
def test_only_what_is_new_counts_and_what_is_pending_or_failed(before, after, found):
    assert new(before, after) == found
