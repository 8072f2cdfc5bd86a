"""Hardware error counters: the kernel's for the host's memory, NVML's for a GPU; here against recorded ones."""

import sys
import types
import uuid

import pytest
import torch

from perf.harness.devices import Device
from perf.harness.qualify import counters
from perf.harness.qualify.counters import NotCounted, new, read

GPU = "5a1ae6d4-5c86-4c5f-8e5a-9d1d9c1e0001"


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


class NVMLError(Exception):
    pass


class Nvml(types.ModuleType):
    """As nvidia-ml-py, of one GPU; what is in `lacks` is not supported."""

    NVMLError = NVMLError

    def __init__(self, *lacks):
        super().__init__("pynvml")
        self.lacks = lacks

    def nvmlInit(self):
        if "driver" in self.lacks:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, wanted):
        assert wanted == f"GPU-{GPU}"
        return "handle"

    def nvmlDeviceGetTotalEccErrors(self, handle, kind, counter):
        assert (handle, kind, counter) == ("handle", 1, 0)  # uncorrected, since the driver was loaded
        if "ecc" in self.lacks:
            raise NVMLError("Not Supported")
        return 7

    def nvmlDeviceGetRemappedRows(self, handle):
        if "rows" in self.lacks:
            raise NVMLError("Not Supported")
        return [3, 1, 0, True]

    def nvmlDeviceGetPcieReplayCounter(self, handle):
        if "replays" in self.lacks:
            raise NVMLError("Not Supported")
        return 12


@pytest.fixture
def gpu(monkeypatch):
    properties = types.SimpleNamespace(uuid=uuid.UUID(GPU))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    def plug(module):
        monkeypatch.setitem(sys.modules, "pynvml", module)

    return plug


def test_a_gpus_errors_are_read_by_its_uuid(gpu):
    gpu(Nvml())
    assert read(Device("cuda:1")) == {
        "uncorrected": 7,
        "remap corrected": 3,
        "remap uncorrected": 1,
        "remap pending": 0,
        "remap failed": 1,
        "PCIe replays": 12,
    }


def test_a_gpu_without_ecc_has_the_other_counters(gpu):
    gpu(Nvml("ecc", "rows"))
    assert read(Device("cuda")) == {"PCIe replays": 12}


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (None, "nvidia-ml-py is not installed"),
        (Nvml("driver"), "NVML: Driver Not Loaded"),
        (Nvml("ecc", "rows", "replays"), "this device counts no errors"),
    ],
)
def test_why_nothing_is_counted_is_said(gpu, module, says):
    gpu(module)
    with pytest.raises(NotCounted, match=says):
        read(Device("cuda"))


def test_no_counters_are_known_of_another_accelerator():
    with pytest.raises(NotCounted, match="no counters are known of xpu"):
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
