"""Devices: the true reason where one is absent, and the memory limit that turns a kill into an error."""

import contextlib
import types
import warnings

import psutil
import pytest
import torch

from perf.harness.machine import devices, memory
from perf.harness.machine.devices import Device


class FakeAccelerator:
    """`torch.accelerator` of a machine with `count` devices of one kind, recording what it is asked."""

    def __init__(self, kind, count):
        self.kind, self.count, self.calls = kind, count, []

    def current_accelerator(self, check_available=False):
        return torch.device(self.kind) if self.count else None

    def device_count(self):
        return self.count

    @contextlib.contextmanager
    def device_index(self, index):
        self.calls.append(f"{self.kind}:{index} becomes the current one")
        yield
        self.calls.append(f"{self.kind}:{index} was the current one")

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


@pytest.fixture
def machine(monkeypatch):
    def make(kind, count):
        fake = FakeAccelerator(kind, count)
        monkeypatch.setattr(torch, "accelerator", fake)
        monkeypatch.setattr(devices, "_why_not_working", lambda device: None)
        return fake

    return make


def test_the_cpu_is_always_there():
    assert devices.why_absent("cpu") is None
    assert not Device("cpu").asynchronous


def test_all_is_the_cpu_and_one_gpu_by_its_short_name(machine):
    machine("cuda", 1)
    assert devices.expand(["all"]) == (Device("cpu"), Device("cuda"))


def test_all_numbers_several_gpus(machine):
    machine("cuda", 2)
    assert [device.name for device in devices.expand(["cuda", "all"])] == ["cuda", "cpu", "cuda:0", "cuda:1"]


def test_each_gpu_is_meant_where_none_is_named(machine):
    machine("cuda", 3)
    assert [device.name for device in devices.each(devices.expand(["cpu", "cuda"]))] == [
        "cpu", "cuda:0", "cuda:1", "cuda:2",
    ]  # fmt: skip
    assert [device.name for device in devices.each(devices.expand(["cuda:1", "all"]))] == [
        "cuda:1", "cpu", "cuda:0", "cuda:2",
    ]  # fmt: skip
    machine("cuda", 1)
    assert [device.name for device in devices.each(devices.expand(["cpu", "cuda"]))] == ["cpu", "cuda"]


def test_an_absent_gpu_stays_one_absent_gpu(machine):
    machine(None, 0)
    (found,) = devices.each(devices.expand(["cuda"]))
    assert found.name == "cuda" and found.absent


def test_all_on_a_machine_without_an_accelerator_is_the_cpu(machine):
    machine("cuda", 0)
    assert devices.expand(["all"]) == (Device("cpu"),)


def test_a_gpu_number_too_high_says_how_many_there_are(machine):
    machine("cuda", 2)
    assert devices.why_absent("cuda:1") is None
    assert devices.why_absent("cuda:2") == "this machine has 2 cuda device(s), numbered from 0"


class Broken:
    """A tensor of a GPU that adds nothing, or adds wrongly."""

    def __init__(self, says):
        self.says = says

    def __add__(self, other):
        if isinstance(self.says, Exception):
            raise self.says
        return torch.tensor(self.says)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ([2.0, 2.0], None),
        ([2.0, 0.0], "cuda:0 does not compute: twice 1 + 1 is [2.0, 0.0] there"),
        (RuntimeError(), "cuda:0 does not compute: RuntimeError"),
        (
            RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with …"),
            "cuda:0 does not compute: CUDA error: no kernel image is available for execution on the device",
        ),
    ],
)
def test_a_gpu_is_there_only_if_it_computes(monkeypatch, says, reason):
    monkeypatch.setattr(torch, "accelerator", FakeAccelerator("cuda", 1))
    monkeypatch.setattr(torch, "ones", lambda count, device: Broken(says))
    devices._why_not_working.cache_clear()
    assert devices.why_absent("cuda") == reason
    devices._why_not_working.cache_clear()


def test_another_kind_of_accelerator_is_named(machine):
    machine("xpu", 1)
    assert devices.why_absent("mps") == "the accelerator of this machine is xpu"
    assert devices.why_absent("xpu") is None


def test_a_torch_without_cuda_is_the_reason(machine, monkeypatch):
    machine("cuda", 0)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert devices.why_absent("cuda") == f"torch {torch.__version__} is built without CUDA"


@pytest.mark.parametrize(
    ("torch_says", "visible", "reason"),
    [
        ("Found no NVIDIA driver on your system. Please check", None, "Found no NVIDIA driver on your system"),
        ("Found no NVIDIA driver on your system. Please check", "", "Found no NVIDIA driver on your system"),
        ("No CUDA GPUs are available", "", "hidden by CUDA_VISIBLE_DEVICES=''"),
        ("No CUDA GPUs are available", None, "No CUDA GPUs are available"),
        (None, None, "CUDA starts but finds no GPU"),
    ],
)
def test_the_reason_why_cuda_does_not_start(machine, monkeypatch, torch_says, visible, reason):
    def init():
        if torch_says:
            raise RuntimeError(torch_says)

    machine("cuda", 0)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.why_absent("cuda") == reason


def test_cuda_without_a_number_is_the_first_gpu():
    assert Device("cuda").torch_device == torch.device("cuda:0")
    assert Device("cuda:3").torch_device == torch.device("cuda:3")
    assert Device("cpu").torch_device == torch.device("cpu")


def test_an_accelerator_is_waited_for_by_its_own_index(machine):
    fake = machine("cuda", 2)
    devices.synchronizer(Device("cuda:1"))()
    assert fake.calls == [("synchronize", torch.device("cuda:1"))]


def test_a_case_runs_with_its_own_gpu_as_the_current_one(machine):
    fake = machine("cuda", 2)
    with devices.current(Device("cpu")):
        assert fake.calls == []
    with devices.current(Device("cuda:1")):
        assert fake.calls == ["cuda:1 becomes the current one"]
    assert fake.calls == ["cuda:1 becomes the current one", "cuda:1 was the current one"]


def test_memory_of_an_accelerator_is_given_back_and_its_peak_reset(machine):
    fake = machine("cuda", 1)
    memory.free(Device("cuda"))
    assert fake.calls == [("empty_cache",), ("reset_peak_memory_stats", torch.device("cuda:0"))]


def test_the_peak_of_the_cpu_sees_what_the_case_allocated():
    memory.free(Device("cpu"))
    before = memory.peak_bytes(Device("cpu"))
    if before is None:
        pytest.skip("this system keeps no peak in /proc")
    torch.ones(64 * 2**20, dtype=torch.uint8)
    after = memory.peak_bytes(Device("cpu"))
    assert 56 * 2**20 < after - before < 200 * 2**20


def test_an_allocation_beyond_the_memory_fails_instead_of_killing_the_process():
    if memory.why_unbounded(Device("cpu"), 1):
        pytest.skip("this system cannot limit the memory of a process")
    available = psutil.virtual_memory().available
    with memory.bounded_memory(Device("cpu")), pytest.raises(Exception) as failure:
        [torch.empty(available // 4, dtype=torch.uint8) for _ in range(8)]  # promised only: never written
    assert memory.is_out_of_memory(failure.value)
    torch.empty(available // 4, dtype=torch.uint8)  # the limit is gone


def test_only_an_allocation_failure_is_out_of_memory():
    assert memory.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert memory.is_out_of_memory(MemoryError())
    for said in (
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 17.00 GB, other allocations: 1.00 GB, max allowed: 18.13 GB)",
    ):
        assert memory.is_out_of_memory(RuntimeError(said)), said
    assert not memory.is_out_of_memory(RuntimeError("shapes differ"))
    assert not memory.is_out_of_memory(ValueError("can't allocate memory"))


def test_nvidia_smi_is_asked_once_whatever_the_number_of_gpus(monkeypatch):
    asked = []
    devices._nvidia_driver.cache_clear()

    def ask(*arguments, **rest):
        asked.append(arguments)
        return types.SimpleNamespace(stdout="570.86.15\n570.86.15\n")

    monkeypatch.setattr(devices.subprocess, "run", ask)
    assert [devices._nvidia_driver() for _ in range(8)] == ["570.86.15"] * 8
    assert len(asked) == 1
    devices._nvidia_driver.cache_clear()


@pytest.mark.parametrize(
    ("says", "waits"), [("called a synchronizing CUDA operation", True), ("other", False), (None, False)]
)
def test_a_call_that_waits_for_the_device_is_one_that_cuda_warns_of(monkeypatch, says, waits):
    modes = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])

    def set_mode(mode):
        warnings.warn("Synchronization debug mode does not yet detect all synchronizing operations", stacklevel=1)
        modes.append(mode)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)

    def call():
        assert modes[-1] == "warn"
        if says:
            warnings.warn(says, stacklevel=1)

    assert devices.waits(Device("cuda"), call) is waits
    assert modes == [0, "warn", 0]
    assert not devices.waits(Device("cpu"), lambda: pytest.fail("it is not asked"))


def test_an_nvidia_driver_that_does_not_answer_is_no_error(monkeypatch):
    monkeypatch.setattr(devices.subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError()))
    assert devices._nvidia_driver() is None


@pytest.mark.parametrize("modules", ["NVIDIA UNIX x86_64 Kernel Module", "NVIDIA UNIX Open Kernel Module for x86_64"])
def test_where_there_is_no_nvidia_smi_the_kernel_says_which_driver_it_has(monkeypatch, tmp_path, modules):
    devices._nvidia_driver.cache_clear()
    monkeypatch.setattr(devices.subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setattr(devices, "KERNEL_DRIVER", tmp_path / "version")
    (tmp_path / "version").write_text(f"NVRM version: {modules} 570.86.15  Release Build\nGCC version: gcc 12.3.0\n")
    assert devices._nvidia_driver() == "570.86.15"
    devices._nvidia_driver.cache_clear()
