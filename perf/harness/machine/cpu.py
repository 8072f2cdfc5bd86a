"""In: nothing. Out: the facts of the system and of this process that decide how fast a CPU computes.

A fact is None or "" if the system does not report it.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil
import torch

from perf.harness.machine.load import quota_cores
from perf.harness.record import Scalar

# Linux files; see the kernel documentation: admin-guide/abi (sysfs), filesystems/proc, admin-guide/mm/transhuge.
CPUS = Path("/sys/devices/system/cpu")
NODES = Path("/sys/devices/system/node")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
STATUS, MAPS = Path("/proc/self/status"), Path("/proc/self/maps")
# Libraries that replace the C library's malloc, usually through LD_PRELOAD.
ALLOCATORS = ("tcmalloc", "jemalloc", "mimalloc")
OPENMP = r"/(lib(?:gomp|iomp5|omp))\b[^/\n]*\.so"
# Environment variables that OpenMP and the allocators read. The number of threads is a separate fact.
OPENMP_SETTINGS, THREADS = ("OMP_", "GOMP_", "KMP_"), "OMP_NUM_THREADS"
ALLOCATOR_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "TCMALLOC_", "MIMALLOC_")


def set_up(cores: Sequence[int]) -> dict[str, Scalar]:
    """The facts by name. `cores` are the cores that this process may run on; they are empty if unknown."""
    return {
        "physical_cores": physical_cores(cores),
        "quota_cores": quota_cores(),
        "numa_nodes": _joined(node.name for node in NODES.glob("node[0-9]*") if _cpus(node) & set(cores)),
        "numa_memory": _found(STATUS, r"^Mems_allowed_list:\s*(\S+)$"),
        "governor": _joined(_text(CPUS / f"cpu{core}" / "cpufreq/scaling_governor") for core in cores),
        "transparent_huge_pages": _found(HUGE_PAGES, r"\[(\w+)\]"),
        "allocator": allocator(),
        "allocator_settings": _settings(ALLOCATOR_SETTINGS),
        "openmp": _joined(re.findall(OPENMP, _text(MAPS))),
        "openmp_settings": _settings(OPENMP_SETTINGS),
        "denormals": "kept" if float(torch.tensor(1e-39) * 0.5) else "flushed",
    }


def physical_cores(cores: Sequence[int]) -> int | None:
    """How many physical cores the logical `cores` are: two threads of one core share its arithmetic units.

    If the system does not say, the number of physical cores of the machine, or None.
    """
    siblings = {_text(CPUS / f"cpu{core}" / "topology/core_cpus_list") for core in cores}
    return len(siblings) if siblings and "" not in siblings else psutil.cpu_count(logical=False)


def allocator() -> str | None:
    """The memory allocator of this process; None if the system does not list the libraries of the process."""
    maps = _text(MAPS)
    replaced = next((name for name in ALLOCATORS if re.search(rf"/lib{name}[^/\n]*\.so", maps)), None)
    return (replaced or " ".join(platform.libc_ver()).strip() or None) if maps else None


def _cpus(node: Path) -> set[int]:
    """The cores of a NUMA node. The kernel lists them as `0-3,8`."""
    ends = re.findall(r"(\d+)(?:-(\d+))?", _text(node / "cpulist"))
    return {core for first, last in ends for core in range(int(first), int(last or first) + 1)}


def _settings(prefixes: Sequence[str]) -> str:
    found = sorted((name, value) for name, value in os.environ.items() if name.startswith(tuple(prefixes)))
    return " ".join(f"{name}={value}" for name, value in found if name != THREADS)


def _joined(texts: Iterable[str]) -> str:
    """The distinct texts, sorted: `powersave` if all cores have it, `performance powersave` if cores differ."""
    return " ".join(sorted({text for text in texts if text}))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _found(path: Path, pattern: str) -> str:
    found = re.search(pattern, _text(path), re.MULTILINE)
    return found[1] if found else ""
