"""The facts that decide a CPU's speed, from a pretended system, and where the system says nothing."""

import os
from types import SimpleNamespace

import pytest
import torch

from perf.harness.machine import cpu, identity

MAPS = """\
7f0000000000-7f0000001000 r-xp 00000000 fe:00 1 /usr/lib/x86_64-linux-gnu/libc.so.6
7f0000002000-7f0000003000 r-xp 00000000 fe:00 2 {allocator}
7f0000004000-7f0000005000 r-xp 00000000 fe:00 3 /env/torch/lib/libgomp-24e2ab19.so.1.0.0
7f0000006000-7f0000007000 r-xp 00000000 fe:00 4 /opt/intel/libiomp5.so
"""


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Two sockets of two cores with two threads each: 0 and 4 are one core, 1 and 5 another; 0, 1, 4, 5 are node 0."""
    for name in ("CPUS", "NODES", "HUGE_PAGES", "STATUS", "MAPS"):
        monkeypatch.setattr(cpu, name, tmp_path / name.lower())
    for name in [name for name in os.environ if name.startswith(cpu.OPENMP_SETTINGS + cpu.ALLOCATOR_SETTINGS)]:
        monkeypatch.delenv(name)
    for core in range(8):
        folder = tmp_path / "cpus" / f"cpu{core}"
        (folder / "topology").mkdir(parents=True)
        (folder / "cpufreq").mkdir()
        (folder / "topology/core_cpus_list").write_text(f"{core % 4},{core % 4 + 4}\n")
        (folder / "cpufreq/scaling_governor").write_text("performance\n" if core else "powersave\n")
    for node, cores in enumerate(("0-1,4-5", "2-3,6-7")):
        (tmp_path / "nodes" / f"node{node}").mkdir(parents=True)
        (tmp_path / "nodes" / f"node{node}" / "cpulist").write_text(cores + "\n")
    (tmp_path / "huge_pages").write_text("always [madvise] never\n")
    (tmp_path / "status").write_text("Name:\tpython\nMems_allowed_list:\t0-1\n")
    (tmp_path / "maps").write_text(MAPS.format(allocator="/usr/lib/libssl.so.3"))
    return tmp_path


def test_every_fact_is_read(system, monkeypatch):
    monkeypatch.setenv("OMP_PROC_BIND", "TRUE")
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # a fact of its own: threads
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")  # products take three times as long
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    assert cpu.set_up([0, 1, 4]) == {
        "physical_cores": 2,
        "numa_nodes": "node0",
        "numa_memory": "0-1",
        "governor": "performance powersave",
        "transparent_huge_pages": "madvise",
        "allocator": "glibc 2.36",
        "allocator_settings": "MALLOC_ARENA_MAX=2",
        "openmp": "libgomp libiomp5",
        "openmp_settings": "KMP_BLOCKTIME=0 MKL_CBWR=COMPATIBLE NVIDIA_TF32_OVERRIDE=0 "
        "OMP_PROC_BIND=TRUE ONEDNN_MAX_CPU_ISA=SSE41",
        "denormals": "kept",
    }


@pytest.mark.parametrize(("cores", "physical"), [([0], 1), ([0, 4], 1), ([0, 1, 2, 3], 4), (range(8), 4)])
def test_two_threads_of_a_core_are_one_physical_core(system, cores, physical):
    assert cpu.physical_cores(cores) == physical


def test_the_nodes_are_those_of_our_cores(system):
    assert cpu.set_up([6])["numa_nodes"] == "node1"
    assert cpu.set_up(range(8))["numa_nodes"] == "node0 node1"


@pytest.mark.parametrize("library", ["libtcmalloc_minimal.so.4", "libjemalloc.so.2", "libmimalloc.so"])
def test_an_allocator_that_was_loaded_first_is_named(system, library):
    (system / "maps").write_text(MAPS.format(allocator=f"/usr/lib/{library}"))
    assert cpu.allocator() == library.removeprefix("lib").partition(".")[0].partition("_")[0]


def test_flushed_denormals_are_seen(system):
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        assert cpu.set_up([])["denormals"] == "flushed"
    finally:
        torch.set_flush_denormal(False)


def test_a_system_that_says_nothing_leaves_the_facts_open(tmp_path, monkeypatch):
    for name in ("CPUS", "NODES", "HUGE_PAGES", "STATUS", "MAPS"):
        monkeypatch.setattr(cpu, name, tmp_path / "none")
    monkeypatch.setattr("psutil.cpu_count", lambda logical: None)
    found = cpu.set_up([0, 1])
    assert [found[name] for name in ("physical_cores", "allocator")] == [None, None]
    for name in ("numa_nodes", "numa_memory", "governor", "transparent_huge_pages", "openmp"):
        assert found[name] == "", name


def test_all_of_them_are_in_the_record_and_decide_whether_two_runs_can_be_compared():
    facts = identity.environment()
    names = set(cpu.set_up([]))
    assert names <= set(facts)
    base = identity.fingerprint(facts, "simple_nn", "digits", "smoke")
    for name in names:
        other = identity.fingerprint(facts | {name: "another"}, "simple_nn", "digits", "smoke")
        assert identity.fingerprint_id(base) != identity.fingerprint_id(other), name


def test_the_last_level_caches_of_all_sockets_are_added(tmp_path, monkeypatch):
    """Two sockets of two complexes with 32 MiB each; every core of a complex lists the same cache."""
    monkeypatch.setattr(cpu, "CPUS", tmp_path)
    assert cpu.last_level_bytes() is None
    for core in range(8):
        first = core - core % 2
        for index, level, kind, size, shared in (
            (0, 1, "Data", "48K", f"{core}"),
            (1, 1, "Instruction", "32K", f"{core}"),
            (2, 2, "Unified", "1024K", f"{core}"),
            (3, 3, "Unified", "32768K", f"{first}-{first + 1}"),
        ):
            cache = tmp_path / f"cpu{core}/cache/index{index}"
            cache.mkdir(parents=True)
            for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
                (cache / name).write_text(f"{text}\n")
    assert cpu.last_level_bytes() == 4 * 32 * 2**20


def test_the_clock_now_and_the_highest_are_those_of_the_fastest_core(monkeypatch):
    cores = [SimpleNamespace(current=2400.0, max=3700.0), SimpleNamespace(current=2600.0, max=3500.0)]
    monkeypatch.setattr("psutil.cpu_freq", lambda percpu: cores)
    assert (identity.clock_hz(), identity.highest_clock_hz()) == (2.6e9, 3.7e9)
    monkeypatch.setattr("psutil.cpu_freq", lambda percpu: [SimpleNamespace(current=2600.0, max=0.0)])
    assert identity.highest_clock_hz() == 2.6e9  # a virtual machine says no highest clock
    for nothing in (None, []):
        monkeypatch.setattr("psutil.cpu_freq", lambda percpu, nothing=nothing: nothing)
        assert (identity.clock_hz(), identity.highest_clock_hz()) == (None, None)


def test_the_kind_of_a_cpu_is_its_maker_family_and_model(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "CPUINFO", tmp_path / "cpuinfo")
    assert identity.cpu_kind() is None
    text = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n"
    (tmp_path / "cpuinfo").write_text(text)
    assert identity.cpu_kind() == ("AuthenticAMD", 26, 2)
    assert identity.environment()["cpu_kind"] == "AuthenticAMD, family 26, model 2"
    (tmp_path / "cpuinfo").write_text("processor : 0\nCPU implementer : 0x41\n")
    assert identity.cpu_kind() is None
    assert identity.environment()["cpu_kind"] is None


@pytest.mark.parametrize(
    ("text", "virtual"),
    [("flags\t\t: fpu vme hypervisor lahf_lm\n", True), ("flags\t\t: fpu vme lahf_lm\n", False),
     ("model name : hypervisor\nFeatures : fp asimd\n", False), (None, False)],
)  # fmt: skip
def test_a_virtual_machine_is_one_whose_processor_says_so(tmp_path, monkeypatch, text, virtual):
    monkeypatch.setattr(identity, "CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert identity.is_virtual() == virtual
