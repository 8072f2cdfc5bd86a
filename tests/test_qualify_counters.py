"""Hardware error counters: the kernel's for the host's memory, NVML's for a GPU; here against recorded ones."""

import pytest

from perf.harness.machine.devices import Device
from perf.harness.measurement.checks import counters, faults
from perf.harness.measurement.checks.counters import ErrorCounters, NotCounted, fatal, new
from tests.fake_nvml import Nvml


def edac(folder, *errors):
    for number, count in enumerate(errors):
        (folder / f"mc{number}").mkdir(exist_ok=True)
        (folder / f"mc{number}/ue_count").write_text(f"{count}\n")


def test_the_hosts_errors_are_those_of_all_memory_controllers(tmp_path, monkeypatch):
    monkeypatch.setattr(counters, "EDAC", tmp_path)
    edac(tmp_path, 0, 2, 3)
    since = ErrorCounters(Device("cpu"))
    assert since.new() == {}
    edac(tmp_path, 1, 2, 5)
    assert since.new() == {"uncorrected": 3}


def test_a_kernel_that_counts_none_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(counters, "EDAC", tmp_path)
    with pytest.raises(NotCounted, match="no EDAC driver"):
        ErrorCounters(Device("cpu"))


def test_a_gpus_errors_are_those_since_then_by_its_uuid(plug):
    nvml = Nvml()
    plug(nvml)
    since = ErrorCounters(Device("cuda:1"))
    assert since.new() == {"remap failed": 1}
    nvml.errors += 2
    nvml.xids = [79, 13, 79]
    found = since.new()
    assert found == {"uncorrected": 2, "remap failed": 1, "Xid 79": 2, "Xid 13": 1}
    assert fatal(found) == 5  # not the one that is a program's
    assert since.new() == found


@pytest.mark.parametrize("lacks", [("ecc_errors", "rows"), ("ecc_errors", "rows", "events")])
def test_a_gpu_without_ecc_or_events_has_the_other_counters(plug, lacks):
    nvml = Nvml(*lacks)
    plug(nvml)
    since = ErrorCounters(Device("cuda"))
    nvml.nvmlDeviceGetPcieReplayCounter = lambda handle: 15
    assert since.new() == {"PCIe replays": 3}
    assert fatal(since.new()) == 0


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
        ErrorCounters(Device("cuda"))


def test_a_gpu_that_is_lost_meanwhile_says_so(plug):
    nvml = Nvml()
    plug(nvml)
    since = ErrorCounters(Device("cuda"))
    nvml.lacks = ("everything",)
    with pytest.raises(NotCounted, match="NVML: Not Supported"):
        since.new()


def test_no_sinceare_known_of_another_accelerator():
    with pytest.raises(NotCounted, match="xpu is no NVIDIA GPU"):
        ErrorCounters(Device("xpu"))


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


@pytest.mark.parametrize(("kind", "error"), [("ecc", "uncorrected"), ("xid", "Xid 79")])
@pytest.mark.parametrize("device", ["cuda", "cpu", "xpu"])
def test_a_planted_error_is_one_more_in_the_second_reading_of_any_device(
    plug, tmp_path, monkeypatch, kind, error, device
):
    """The CPU and the XPU count nothing here: there, a healthy device's counters are added to."""
    plug(Nvml("rows"))
    monkeypatch.setattr(counters, "EDAC", tmp_path)
    since = ErrorCounters(Device(device), lambda read: faults.miscounting(read, kind))
    assert since.new() == {error: 1}
    assert since.new() == {error: 1}
    assert fatal(since.new()) == 1
