"""In: nothing. Out: the facts of the system and of this process that decide how fast a CPU computes.

A fact is None or "" if the system does not report it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import torch

from perf.harness.record import Scalar

# Linux files; see the kernel documentation: admin-guide/abi (sysfs), filesystems/proc, admin-guide/mm/transhuge.
CPUS = Path("/sys/devices/system/cpu")
NODES = Path("/sys/devices/system/node")
KINDS, TASKS = Path("/sys/devices"), Path("/proc/self/task")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
STATUS, MAPS = Path("/proc/self/status"), Path("/proc/self/maps")
# Libraries that replace the C library's malloc, usually through LD_PRELOAD.
ALLOCATORS = ("tcmalloc", "jemalloc", "mimalloc")
OPENMP = r"/(lib(?:gomp|iomp5|omp))\b[^/\n]*\.so"
# Environment variables that OpenMP, the libraries of matrix products and CUDA read. They are one fact, so that records
# keep their fingerprint where none is set. The number of threads is a separate fact.
OPENMP_SETTINGS = (
    "OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_", "CUBLAS_", "CUDA_LAUNCH_BLOCKING",
    "CUDA_DEVICE_MAX_CONNECTIONS", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING",
)  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
ALLOCATOR_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "TCMALLOC_", "MIMALLOC_")


def set_up(cores: Sequence[int]) -> dict[str, Scalar]:
    """The facts by name. `cores` are the cores that this process may run on; they are empty if unknown."""
    return {
        "physical_cores": physical_cores(cores),
        "numa_nodes": _joined(nodes(cores)),
        "numa_memory": _found(STATUS, r"^Mems_allowed_list:\s*(\S+)$"),
        "governor": _joined(text_of(CPUS / f"cpu{core}" / "cpufreq/scaling_governor") for core in cores),
        "transparent_huge_pages": _found(HUGE_PAGES, r"\[(\w+)\]"),
        "allocator": allocator(),
        "allocator_settings": _settings(ALLOCATOR_SETTINGS),
        "openmp": _joined(re.findall(OPENMP, text_of(MAPS))),
        "openmp_settings": _settings(OPENMP_SETTINGS),
        "denormals": "kept" if float(torch.tensor(1e-39) * 0.5) else "flushed",
    }


def physical_cores(cores: Sequence[int]) -> int | None:
    """How many physical cores the logical `cores` are: two threads of one core share its arithmetic units.

    If the system does not say, the number of physical cores of the machine, or None.
    """
    siblings = {text_of(CPUS / f"cpu{core}" / "topology/core_cpus_list") for core in cores}
    return len(siblings) if siblings and "" not in siblings else psutil.cpu_count(logical=False)


def online() -> list[int]:
    """The numbers of the logical cores that are switched on; empty if the system does not say."""
    return sorted(_listed(text_of(CPUS / "online")))


def last_level_bytes() -> int | None:
    """The size of all last-level caches of the machine together [bytes]; None if the system does not say."""
    found: dict[tuple[int, str], int] = {}  # by level, and by the cores that share the cache
    for index in CPUS.glob("cpu[0-9]*/cache/index[0-9]*"):
        level, size = text_of(index / "level"), re.fullmatch(r"(\d+)K", text_of(index / "size"))
        if level.isdecimal() and size and text_of(index / "type") != "Instruction":
            found[int(level), text_of(index / "shared_cpu_list")] = 1024 * int(size[1])
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last) or None


def one_of_each_core(cores: Sequence[int]) -> list[int]:
    """The first of the logical `cores` of each physical core; all of them if the system does not say."""
    first: dict[str, int] = {}
    for core in sorted(cores):
        first.setdefault(text_of(CPUS / f"cpu{core}" / "topology/core_cpus_list") or str(core), core)
    return sorted(first.values())


def nodes(cores: Sequence[int]) -> dict[str, list[int]]:
    """Which of the `cores` each NUMA node has, without nodes that have none; {} if the system does not say."""
    found = {node.name: sorted(_cpus(node) & set(cores)) for node in sorted(NODES.glob("node[0-9]*"))}
    return {name: mine for name, mine in found.items() if mine}


def alike(cores: Sequence[int]) -> list[list[int]]:
    """The `cores` by kind: large and small ones (Intel's `cpu_core` and `cpu_atom`), or those of one capacity (Arm)."""
    named = {core: kind.parent.name for kind in KINDS.glob("cpu_*/cpus") for core in _listed(text_of(kind))}
    kinds: dict[tuple[str, str], list[int]] = {}
    for core in cores:
        kinds.setdefault((named.get(core, ""), text_of(CPUS / f"cpu{core}" / "cpu_capacity")), []).append(core)
    return list(kinds.values())


@contextlib.contextmanager
def bound_to(cores: Iterable[int]) -> Iterator[None]:
    """Let all threads of this process run on `cores` only; afterwards each on those it had before."""
    before = {thread: os.sched_getaffinity(thread) for thread in _threads()}
    bind(cores)
    try:
        yield
    finally:
        usual = before[os.getpid()]  # a thread that was started meanwhile
        _bind({thread: before.get(thread, usual) for thread in _threads()})


def bind(cores: Iterable[int]) -> None:
    """Let all threads of this process run on `cores` only: autograd has one for each GPU, OpenMP one for each core."""
    wanted = set(cores)
    _bind({thread: wanted for thread in _threads()})


def _threads() -> list[int]:
    return [int(thread.name) for thread in TASKS.iterdir()]


def _bind(wanted: Mapping[int, set[int]]) -> None:
    for thread, cores in wanted.items():
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(thread, cores)


def allocator() -> str | None:
    """The memory allocator of this process, and of those that it starts; None if the system does not say."""
    own = " ".join(platform.libc_ver()).strip() or None
    return (replaced_allocator() or own) if text_of(MAPS) else None


def replaced_allocator() -> str | None:
    """The allocator that replaces the C library's, here or in the processes that this one starts (LD_PRELOAD)."""
    return loaded_allocator() or _allocator_in(os.environ.get("LD_PRELOAD", ""))


def loaded_allocator() -> str | None:
    """The allocator that this process has loaded instead of the C library's; None if there is none."""
    return _allocator_in(text_of(MAPS))


def _allocator_in(files: str) -> str | None:
    found = (name for name in ALLOCATORS if f"lib{name}" in files)  # thousands of lines: the pattern alone takes long
    return next((name for name in found if re.search(rf"\blib{name}[^/\n]*\.so", files)), None)


def _cpus(node: Path) -> set[int]:
    """The cores of a NUMA node."""
    return _listed(text_of(node / "cpulist"))


def _listed(text: str) -> set[int]:
    """The cores in a list of the kernel, such as `0-3,8`."""
    ends = re.findall(r"(\d+)(?:-(\d+))?", text)
    return {core for first, last in ends for core in range(int(first), int(last or first) + 1)}


def _settings(prefixes: Sequence[str]) -> str:
    found = sorted((name, value) for name, value in os.environ.items() if name.startswith(tuple(prefixes)))
    return " ".join(f"{name}={value}" for name, value in found if name not in THREADS)


def _joined(texts: Iterable[str]) -> str:
    """The distinct texts, sorted: `powersave` if all cores have it, `performance powersave` if cores differ."""
    return " ".join(sorted({text for text in texts if text}))


def text_of(path: Path) -> str:
    """The text of a small file of the kernel; "" if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _found(path: Path, pattern: str) -> str:
    found = re.search(pattern, text_of(path), re.MULTILINE)
    return found[1] if found else ""
