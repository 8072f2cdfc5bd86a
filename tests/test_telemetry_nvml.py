"""What NVML says of a GPU, of a fake one: each answer by itself, in our units, and why there is none."""

import os
import sys

import pytest
import torch

from perf.harness.machine import load
from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.reasons import HARDWARE, SLOWING, THERMAL, Reason, names
from perf.harness.machine.telemetry.source import Unreadable
from tests.fake_nvml import OTHER_PID, Nvml

CUDA = Device("cuda:1")


def test_a_sample_is_what_the_gpu_answers_in_our_units(plug):
    nvml = Nvml()
    nvml.reasons = 0x4 | 0x40
    plug(nvml)
    assert open_gpu(CUDA).sample() == {
        "sm_clock_hz": 1755e6,
        "sm_clock_limit_hz": 1980e6,
        "memory_clock_hz": 2619e6,
        "power_w": 412.0,
        "power_limit_w": 650.0,
        "power_limit_default_w": 700.0,
        "temperature_c": 61.0,
        "energy_j": 5.0,
        "reasons": 0x44,
        "pcie_generation": 4,
        "pcie_generation_limit": 5,
        "pcie_width": 8,
        "pcie_width_limit": 16,
        "pcie_replays": 12,
        "ecc": True,
        "ecc_default": 1,
        "mig": False,
        "ecc_corrected": 40,
        "ecc_uncorrected": 7,
        "remap_corrected": 3,
        "remap_uncorrected": 1,
        "remap_pending": 0,
        "remap_failed": 1,
        "other_processes": 0,
        "other_pids": (),
    }


@pytest.mark.parametrize(
    ("lacks", "absent"),
    [
        ("clocks", {"sm_clock_hz", "sm_clock_limit_hz", "memory_clock_hz"}),
        ("power", {"power_w"}),
        ("limits", {"power_limit_w", "power_limit_default_w"}),
        ("temperature", {"temperature_c"}),
        ("energy", {"energy_j"}),
        ("reasons", {"reasons"}),
        ("link", {"pcie_generation", "pcie_generation_limit", "pcie_width", "pcie_width_limit"}),
        ("mig", {"mig"}),
        ("ecc", {"ecc"}),
        ("ecc_default", {"ecc_default"}),
        ("rows", {"remap_corrected", "remap_uncorrected", "remap_pending", "remap_failed"}),
        ("processes", {"other_processes", "other_pids"}),
    ],
)
def test_what_a_gpu_does_not_answer_is_left_out_and_nothing_else(plug, lacks, absent):
    plug(Nvml())
    whole = open_gpu(CUDA).sample()
    plug(Nvml(lacks))
    assert whole.keys() - open_gpu(CUDA).sample().keys() == absent


def test_the_reasons_are_read_by_their_older_name_where_there_is_no_newer(plug, monkeypatch):
    plug(Nvml())
    monkeypatch.delattr(Nvml, "nvmlDeviceGetCurrentClocksEventReasons")
    assert "reasons" not in open_gpu(CUDA).sample()
    older = "nvmlDeviceGetCurrentClocksThrottleReasons"
    monkeypatch.setattr(Nvml, older, lambda self, handle: 0x8, raising=False)
    assert open_gpu(CUDA).sample()["reasons"] == 0x8


def test_a_gpu_that_has_gone_says_what_nvml_says(plug):
    nvml = Nvml()
    plug(nvml)
    gpu = open_gpu(CUDA)
    nvml.lacks = ("everything",)
    with pytest.raises(Unreadable, match=r"^NVML: Not Supported$"):
        gpu.sample()


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (None, "^nvidia-ml-py is not installed; pip install nvidia-ml-py$"),
        (Nvml("driver"), "^NVML: Driver Not Loaded$"),
    ],
)
def test_why_there_is_nothing_is_one_sentence(plug, module, says):
    plug(module)
    with pytest.raises(Unreadable, match=says):
        open_gpu(CUDA)


def test_a_device_is_found_by_its_uuid_and_another_one_is_not_taken_for_it(plug):
    facts = plug(Nvml())
    facts.uuid = "5a1ae6d4-0000-0000-0000-9d1d9c1e0001"
    with pytest.raises(Unreadable, match="NVML: Not Found"):
        open_gpu(CUDA)


@pytest.mark.parametrize("name", ["cpu", "xpu", "mps"])
def test_another_device_is_no_nvidia_gpu(plug, name):
    plug(Nvml())
    with pytest.raises(Unreadable, match=f"{name} is no NVIDIA GPU"):
        open_gpu(Device(name))


def test_amds_gpus_are_called_cuda_too_and_are_not_asked(plug, monkeypatch):
    plug(Nvml())
    monkeypatch.setattr(torch.version, "hip", "6.2")
    with pytest.raises(Unreadable, match="no NVIDIA GPU"):
        open_gpu(CUDA)


def test_a_part_of_a_gpu_is_not_told_from_the_whole(plug):
    nvml = Nvml()
    nvml.mig = 1
    facts = plug(nvml)
    with pytest.raises(Unreadable, match=r"cuda:1 is a part of a GPU \(MIG\)"):
        open_gpu(CUDA)
    nvml.mig = 0
    facts.name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    with pytest.raises(Unreadable, match="MIG"):
        open_gpu(CUDA)


@pytest.mark.parametrize(
    ("pids", "on_it", "found"),
    [
        ([], True, {"other_processes": 0, "other_pids": ()}),
        (["ours"], True, {"other_processes": 0, "other_pids": ()}),
        (["ours", "child", 300], True, {"other_processes": 1, "other_pids": (300,)}),
        ([400, 300], False, {"other_processes": 2, "other_pids": (300, 400)}),
        # Ours is not among them although we are on the GPU: it goes by another number.
        ([400, 300], True, {"other_processes": 1}),
        ([300], True, {"other_processes": 0}),
    ],
)
def test_other_processes_are_those_that_are_not_ours(plug, monkeypatch, pids, on_it, found):
    nvml = Nvml()
    plug(nvml)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: on_it)
    monkeypatch.setattr(load, "descendants", lambda: [OTHER_PID])
    nvml.pids = [{"ours": os.getpid(), "child": OTHER_PID}.get(pid, pid) for pid in pids]
    sample = open_gpu(CUDA).sample()
    assert {key: value for key, value in sample.items() if key.startswith("other_")} == found


def test_each_bit_of_a_mask_is_a_reason_by_itself():
    assert names(0) == []
    assert names(0x8 | 0x40) == ["hw_slowdown", "hw_thermal_slowdown"]
    assert names(0x4 | 0x200) == ["sw_power_cap", "0x200"]


def test_what_slows_is_heat_and_the_hardwares_own_and_no_setting():
    assert HARDWARE == 0x8 | 0x40 | 0x80
    assert THERMAL == 0x20 | 0x40
    assert SLOWING == 0x8 | 0x20 | 0x40 | 0x80
    assert not SLOWING & (
        Reason.GPU_IDLE
        | Reason.APPLICATIONS_CLOCKS_SETTING
        | Reason.SW_POWER_CAP
        | Reason.SYNC_BOOST
        | Reason.DISPLAY_CLOCK_SETTING
    )


def test_the_bits_are_those_of_nvidia_ml_py():
    pynvml = pytest.importorskip("pynvml")
    for reason in Reason:
        name = "".join(word.capitalize() for word in str(reason.name).split("_"))
        assert getattr(pynvml, f"nvmlClocksEventReason{name}") == reason, name


def test_the_real_module_without_a_driver_says_so(monkeypatch):
    pynvml = pytest.importorskip("pynvml")
    if torch.cuda.is_available():
        pytest.skip("there is a driver")
    assert sys.modules["pynvml"] is pynvml
    with pytest.raises(Unreadable, match=r"^NVML: "):
        open_gpu(CUDA)
