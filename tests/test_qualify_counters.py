"""Hardware error counters: the kernel's for the host's memory, NVML's for a GPU; here against recorded ones."""

import contextlib
import sqlite3

import pytest

from perf.harness.machine.devices import Device
from perf.harness.measurement.checks import counters, faults
from perf.harness.measurement.checks.counters import (
    CORRECTED,
    PCIE,
    UNCORRECTED,
    ErrorCounters,
    Lost,
    NotCounted,
    count,
    new,
)
from perf.qualification import test_errors
from tests.fake_nvml import Nvml


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A kernel that counts nothing yet: the folders of EDAC and of the PCIe devices."""
    monkeypatch.setattr(counters, "EDAC", tmp_path / "edac")
    monkeypatch.setattr(counters, "PCI", tmp_path / "pci")
    monkeypatch.setattr(counters, "RASDAEMON", tmp_path / "ras.db")
    return tmp_path


def edac(system, file, *errors):
    for number, counted in enumerate(errors):
        (system / f"edac/mc{number}").mkdir(parents=True, exist_ok=True)
        (system / f"edac/mc{number}/{file}").write_text(f"{counted}\n")


def aer(system, device, file, total, counted):
    (system / f"pci/{device}").mkdir(parents=True, exist_ok=True)
    text = f"RxErr 0\nBadTLP {counted}\nTOTAL_ERR_{total} {counted}\n"
    (system / f"pci/{device}/aer_dev_{file}").write_text(text)


def machine_checks(system, *status):
    with contextlib.closing(sqlite3.connect(system / "ras.db")) as kept:
        kept.execute("CREATE TABLE IF NOT EXISTS mce_record (id INTEGER PRIMARY KEY, status INTEGER, error_msg TEXT)")
        kept.executemany("INSERT INTO mce_record (status) VALUES (?)", [(one,) for one in status])
        kept.commit()


def test_the_hosts_errors_are_those_of_all_memory_controllers(system):
    edac(system, "ue_count", 0, 2, 3)
    edac(system, "ce_count", 0, 0, 9)
    since = ErrorCounters(Device("cpu"))
    assert since.new(UNCORRECTED) == since.new(CORRECTED) == {}
    edac(system, "ue_count", 1, 2, 5)
    edac(system, "ce_count", 4, 0, 9)
    assert since.new(UNCORRECTED) == {"uncorrected": 3}
    assert since.new(CORRECTED) == {"corrected": 4}
    assert since.earlier(UNCORRECTED) == "counted before this run: uncorrected 5"
    assert since.earlier(CORRECTED) == "counted before this run: corrected 9"
    assert since.earlier(PCIE) == ""


def test_errors_of_pcie_are_told_by_device_and_by_what_became_of_them(system):
    for device in ("0000:01:00.0", "0000:02:00.0"):
        for file, total in (("correctable", "COR"), ("nonfatal", "NONFATAL"), ("fatal", "FATAL")):
            aer(system, device, file, total, 5)
    since = ErrorCounters(Device("cpu"))
    assert since.new(PCIE) == since.new(UNCORRECTED) == {}
    aer(system, "0000:02:00.0", "correctable", "COR", 25)
    aer(system, "0000:01:00.0", "fatal", "FATAL", 6)
    assert since.new(PCIE) == {"PCIe corrected of 0000:02:00.0": 20}
    assert since.new(UNCORRECTED) == {"PCIe fatal of 0000:01:00.0": 1}


def test_machine_checks_that_rasdaemon_keeps_count_by_the_bit_of_their_status(system):
    machine_checks(system, 1 << 62, 5)  # earlier ones
    since = ErrorCounters(Device("cpu"))
    machine_checks(system, 1 << 61, 7, 9)
    assert since.new(UNCORRECTED) == {"uncorrected machine checks": 1}
    assert since.new(CORRECTED) == {"corrected machine checks": 2}


@pytest.mark.parametrize("kept", [b"", b"no database", None])
def test_what_rasdaemon_keeps_may_be_unreadable(system, kept):
    if kept is not None:
        (system / "ras.db").write_bytes(kept)
    edac(system, "ue_count", 0)
    assert ErrorCounters(Device("cpu")).new(UNCORRECTED) == {}


@pytest.mark.parametrize(
    ("kind", "says"), [(UNCORRECTED, "no EDAC driver"), (CORRECTED, "no EDAC driver"), (PCIE, "counts no PCIe errors")]
)
def test_a_kernel_that_counts_none_says_so(system, kind, says):
    with pytest.raises(NotCounted, match=says):
        ErrorCounters(Device("cpu")).new(kind)


def test_a_gpus_errors_are_those_since_then_by_its_uuid(plug):
    nvml = Nvml()
    plug(nvml)
    since = ErrorCounters(Device("cuda:1"))
    assert since.new(UNCORRECTED) == {"remap failed": 1}
    nvml.errors += 2
    nvml.corrected += 30
    nvml.xids = [79, 13, 79]
    found = since.new(UNCORRECTED)
    assert found == {"uncorrected": 2, "remap failed": 1, "Xid 79": 2, "Xid 13": 1}
    assert count(found) == 5  # not the one that is a program's
    assert since.new(UNCORRECTED) == found
    assert since.new(CORRECTED) == {"corrected": 30}


@pytest.mark.parametrize("lacks", [("ecc_errors", "rows"), ("ecc_errors", "rows", "events")])
def test_a_gpu_without_ecc_or_events_has_the_other_counters(plug, lacks):
    nvml = Nvml(*lacks)
    plug(nvml)
    since = ErrorCounters(Device("cuda"))
    nvml.nvmlDeviceGetPcieReplayCounter = lambda handle: 15
    assert since.new(PCIE) == {"PCIe replays": 3}
    with pytest.raises(NotCounted, match="this device counts none"):
        since.new(CORRECTED)


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
    with pytest.raises(Lost, match="NVML: Not Supported"):
        since.new(UNCORRECTED)


def test_none_are_known_of_another_accelerator():
    with pytest.raises(NotCounted, match="xpu is no NVIDIA GPU"):
        ErrorCounters(Device("xpu"))


def test_a_rate_is_one_of_at_least_a_minute(system):
    now = [100.0]
    since = ErrorCounters(Device("cpu"), clock=lambda: now[0])
    for seconds, minutes in ((2, 1.0), (60, 1.0), (150, 2.5)):
        now[0] = 100.0 + seconds
        assert since.minutes == minutes


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


@pytest.mark.parametrize(
    ("fault", "kind", "found"),
    [("ecc", UNCORRECTED, {"uncorrected": 1}), ("xid", UNCORRECTED, {"Xid 79": 1}),
     ("corrected", CORRECTED, {"corrected": 1000}), ("replays", PCIE, {"PCIe replays": 1000})],
)  # fmt: skip
@pytest.mark.parametrize("device", ["cuda", "cpu", "xpu"])
def test_a_planted_error_is_there_from_the_second_reading_on_on_any_device(plug, system, fault, kind, found, device):
    """The CPU and the XPU count nothing here: there, a healthy device's counters are added to."""
    plug(Nvml("rows"))
    since = ErrorCounters(Device(device), lambda read: faults.miscounting(read, fault))
    assert since.new(kind) == found
    assert since.new(kind) == found


class Judged:
    """What a check says of errors: the last call."""

    def __init__(self, variant, found, minutes=1.0):
        self.variant, self.errors, self.said = variant, self, None
        self.new, self.minutes = lambda kind: found, minutes
        self.earlier = lambda kind: f"before: {kind}"

    def at_most(self, value, unit, bar, source, reason, note):
        self.said = ("PASS" if value <= bar else "FAIL", value, reason)
        assert note == f"before: {self.variant}"

    def unclear(self, reason, value, unit, bar):
        self.said = ("INCONCLUSIVE", value, reason.partition(":")[0])


@pytest.mark.parametrize(
    ("kind", "found", "minutes", "said"),
    [
        (UNCORRECTED, {}, 1.0, ("PASS", 0, "")),
        (UNCORRECTED, {"Xid 13": 3}, 1.0, ("PASS", 0, "Xid 13 3")),
        (UNCORRECTED, {"remap pending": 1, "Xid 13": 3}, 1.0, ("FAIL", 1, "remap pending 1, Xid 13 3")),
        (CORRECTED, {}, 1.0, ("PASS", 0, "")),
        (CORRECTED, {"corrected": 1}, 1.0, ("INCONCLUSIVE", 1, "corrected 1")),
        (CORRECTED, {"corrected": 9, "remap corrected": 1}, 1.0,
         ("INCONCLUSIVE", 10, "corrected 9, remap corrected 1")),
        (CORRECTED, {"corrected": 11}, 1.0, ("FAIL", 11, "corrected 11")),
        (PCIE, {}, 1.0, ("PASS", 0, "")),
        (PCIE, {"PCIe corrected of a": 16, "PCIe corrected of b": 9}, 2.0,
         ("PASS", 8.0, "PCIe corrected of a 16, PCIe corrected of b 9")),
        (PCIE, {"PCIe replays": 17}, 2.0, ("FAIL", 8.5, "PCIe replays 17")),
    ],
)  # fmt: skip
def test_a_few_corrected_errors_are_no_verdict_and_pcie_may_repeat_eight_transfers_a_minute(kind, found, minutes, said):
    check = Judged(kind, found, minutes)
    test_errors.test_errors(check)
    assert check.said == said
