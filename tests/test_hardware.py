"""Which machine this is: what can be read without root, why the rest is not known, what anonymous records leave out."""

import platform
import types

import pytest

from perf.harness.machine import cgroup, cpu, hardware, identity
from perf.harness.machine.devices import Device
from perf.harness.machine.hardware import PRIVATE, ROOT_ONLY
from tests.conftest import records
from tests.fake_nvml import UUID, Nvml

pytest_plugins = ["pytester", "tests.qualifications"]
FILES = {
    "dmi/sys_vendor": "Dell Inc.",
    "dmi/product_name": "PowerEdge XE9680",
    "dmi/product_serial": "7XKQ9Z3",
    "dmi/board_vendor": "Dell Inc.",
    "dmi/board_name": "0VNTK0",
    "dmi/board_serial": ".7XKQ9Z3.CN.",
    "dmi/bios_version": "2.1.5",
    "dmi/bios_date": "03/06/2024",
    "cpuinfo": "processor : 0\nmodel name : CPU 1\nmicrocode\t: 0x2b0005c0\nflags : fpu",
    "meminfo": "MemTotal: 1 kB\nHugePages_Total:       4\n",
    "cmdline": "BOOT_IMAGE=/vmlinuz root=UUID=1234 iommu=pt",
    "cpus/cpu0/topology/physical_package_id": "0",
    "cpus/cpu1/topology/physical_package_id": "1",
    "smt": "1",
    "edac/mc0/dimm0/size": "65536",
    "edac/mc0/dimm0/dimm_mem_type": "Registered-DDR5",
    "edac/mc1/dimm0/size": "65536",
    "edac/mc1/dimm0/dimm_mem_type": "Registered-DDR5",
    "net/eth0/device/vendor": "0x15b3",
    "net/lo/address": "00:00",
    "dockerenv": "",
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A server of two sockets, as files; each test may remove some of them."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    for name, place in {
        "DMI": "dmi", "CPUINFO": "cpuinfo", "MEMINFO": "meminfo", "COMMAND_LINE": "cmdline", "SMT": "smt",
        "MODULES": "edac", "NETWORK": "net",
    }.items():  # fmt: skip
        monkeypatch.setattr(hardware, name, tmp_path / place)
    monkeypatch.setattr(cgroup, "quota_cores", lambda: 1.5)
    monkeypatch.setattr(cgroup, "memory_limit_bytes", lambda: None)
    monkeypatch.setattr(cpu, "CPUS", tmp_path / "cpus")
    monkeypatch.setattr(hardware, "CONTAINERS", {tmp_path / "dockerenv": "docker"})
    monkeypatch.setattr(hardware, "OF_SYSTEMD", tmp_path / "of_systemd")
    monkeypatch.delenv(hardware.IN_KUBERNETES, raising=False)
    return tmp_path


def test_a_machine_is_identified_down_to_its_firmware(machine):
    found = hardware.host([0, 1]).known
    assert (found["vendor"], found["product"], found["serial"]) == ("Dell Inc.", "PowerEdge XE9680", "7XKQ9Z3")
    assert (found["board"], found["board serial"], found["BIOS"], found["BIOS date"]) == (
        "0VNTK0", ".7XKQ9Z3.CN.", "2.1.5", "03/06/2024",
    )  # fmt: skip
    assert (found["microcode"], found["sockets"], found["SMT"]) == ("0x2b0005c0", 2, "on")
    assert (found["reserved huge pages"], found["kernel"]) == ("4", platform.release())
    assert found["kernel command line"] == "BOOT_IMAGE=/vmlinuz root=UUID=1234 iommu=pt"
    assert found["memory modules"] == "2 × 65536 MiB Registered-DDR5"
    assert (found["network"], found["container"]) == ("eth0", "docker")
    assert (found["cgroup CPU limit [cores]"], found["cgroup memory limit [bytes]"]) == (1.5, "none")


@pytest.mark.parametrize(
    ("files", "pod", "kind"),
    [(["dockerenv"], False, "docker"), (["dockerenv"], True, "kubernetes docker"), ([], True, "kubernetes"),
     (["of_systemd"], False, "lxc")],
)  # fmt: skip
def test_a_container_is_known_by_what_it_has(machine, monkeypatch, files, pod, kind):
    (machine / "dockerenv").unlink()
    for name in files:
        (machine / name).write_text("lxc\n")
    if pod:
        monkeypatch.setenv(hardware.IN_KUBERNETES, "10.0.0.1")
    assert hardware.host([0, 1]).known["container"] == kind


def test_what_cannot_be_read_has_its_reason(machine, monkeypatch):
    read = type(machine).read_text

    def no_root(path, *arguments, **named):
        if path.name == "product_serial":
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **named)

    monkeypatch.setattr(type(machine), "read_text", no_root)
    (machine / "dmi/board_serial").unlink()
    (machine / "smt").unlink()
    (machine / "cpuinfo").write_text("processor : 0\n")
    (machine / "edac/mc0/dimm0/size").unlink()
    (machine / "edac/mc1/dimm0/size").unlink()
    (machine / "dockerenv").unlink()
    found = hardware.host([0, 1])
    assert found.unknown["serial"] == ROOT_ONLY and "SMT" in found.unknown
    assert found.unknown["board serial"] == f"this system has no {machine / 'dmi/board_serial'}"
    assert found.unknown["microcode"] == f"{machine / 'cpuinfo'} does not say"
    assert found.unknown["memory modules"].startswith("no EDAC driver lists them")
    assert found.unknown["container"] == "none is known"
    assert not found.known.keys() & found.unknown.keys()


def test_a_gpu_is_identified_by_nvml(gpu, plug):
    plug(Nvml("serial"))
    found = hardware.gpu(Device("cuda"))
    assert found.known == {
        "name": "NVIDIA H200", "UUID": f"GPU-{UUID}", "VBIOS": "96.00.A5.00.01", "InfoROM": "G520.0200.00.05",
        "PCI address": "00000000:1B:00.0", "power limit [W]": 650.0,
    }  # fmt: skip
    assert found.unknown == {"serial": "NVML does not say"}


def test_without_nvml_a_gpu_says_why_it_is_not_known(gpu, plug):
    plug(Nvml("driver"))
    assert hardware.gpu(Device("cuda")).unknown == {"GPU": "NVML: Driver Not Loaded"}


@pytest.mark.parametrize(
    ("folder", "found"),
    [("data/set", "nfs4"), ("data", "nfs4"), ("database", "ext4 on Samsung SSD 990"), ("raid/x", "xfs on WD Red"),
     ("tmp/x", "overlay"), ("..", None)],
)  # fmt: skip
def test_the_disk_of_a_folder_is_that_of_the_nearest_file_system_over_it(monkeypatch, tmp_path, folder, found):
    for place, model in (("nvme0n1", "Samsung SSD 990"), ("sda", "WD Red")):
        for made in (f"{place}/device", f"{place}/{place}1"):
            (tmp_path / "sys" / made).mkdir(parents=True)
        (tmp_path / "sys" / place / "device" / "model").write_text(f"{model}   \n")
    (tmp_path / "sys" / "dm-0" / "slaves").mkdir(parents=True)
    (tmp_path / "sys" / "dm-0" / "slaves" / "sda1").symlink_to(tmp_path / "sys" / "sda" / "sda1")
    blocks = {"nvme": tmp_path / "sys/nvme0n1/nvme0n11", "dm": tmp_path / "sys/dm-0"}
    mounted = [
        ("nvme", "", "ext4"),
        ("server:/export", "data", "nfs4"),
        ("dm", "raid", "xfs"),
        ("none", "tmp", "overlay"),
    ]
    known = [types.SimpleNamespace(device=a, mountpoint=str(tmp_path / b), fstype=c) for a, b, c in mounted]
    monkeypatch.setattr(identity.psutil, "disk_partitions", lambda all: known)
    monkeypatch.setattr(identity, "_block", blocks.get)
    assert identity.disk.__wrapped__(tmp_path / folder) == found


def test_a_folder_of_this_machine_has_a_file_system(tmp_path):
    assert identity.disk(tmp_path)


def test_a_qualification_keeps_what_machine_it_was_and_an_anonymous_one_does_not(qualify, pytester, machine, gpu, plug):
    plug(Nvml())
    qualify(check="numerics", device="cpu,cuda")
    qualify("--perf-anonymous", check="numerics", device="cpu,cuda")
    named, anonymous = records(pytester)
    assert set(named["hardware"]) == set(anonymous["hardware"]) == {"host", "cuda"}
    assert named["host_name"] == platform.node() and named["hardware"]["host"]["known"]["serial"] == "7XKQ9Z3"
    assert anonymous["host_name"] == ""
    for facts in anonymous["hardware"].values():
        assert not (facts["known"].keys() | facts["unknown"].keys()) & set(PRIVATE)
    (kept,) = (pytester.path / "kept").rglob("qualify_cpu-cuda_*.json")
    text = kept.read_text()
    for secret in ("7XKQ9Z3", UUID, "1653023000042", "1B:00.0", "root=UUID"):
        assert secret not in text
    assert f'"{platform.node()}"' not in text
    assert anonymous["hardware"]["host"]["known"]["BIOS"] == "2.1.5"
