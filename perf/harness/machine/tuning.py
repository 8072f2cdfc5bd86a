"""In: the cores of this process. Out: how PyTorch's tuning guide would run a training on them.

https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html, the parts for CPUs and for servers: one thread on
each physical core of one NUMA node, an allocator that keeps its memory, and no spinning where cores are shared.
"""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Sequence
from dataclasses import dataclass

from perf.harness.machine import cpu
from perf.harness.machine.cgroup import quota_cores

# In the order of the guide. The C library's own allocator gives memory back at once, and asks for it again.
LIBRARIES = ("tcmalloc", "tcmalloc_minimal", "jemalloc")
PRELOAD = "LD_PRELOAD"


@dataclass(frozen=True)
class Tuning:
    """`cores` are one of each physical core of a NUMA node; empty where a process cannot be bound to cores.

    `preload` is the file name of an allocator to load instead of the C library's; None if there is none, or if `before`
    is loaded already. `shared`: a quota gives this process less time than its cores have.
    """

    threads: int
    cores: tuple[int, ...]
    node: str
    preload: str | None
    before: str | None
    shared: bool

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of a process that is run in this way."""
        found = {"OMP_WAIT_POLICY": "PASSIVE"} if self.shared else {}
        if self.preload:
            found[PRELOAD] = " ".join(filter(None, [self.preload, os.environ.get(PRELOAD)]))
        return found

    def __str__(self) -> str:
        where = f" on cores {','.join(map(str, self.cores))}" if self.cores else ""
        allocator = self.preload or self.before
        parts = [
            f"{self.threads} thread{'s' if self.threads > 1 else ''}{where}{f' of {self.node}' if self.node else ''}",
            f"allocator {allocator}"
            if allocator
            else f"the C library's allocator, as neither {' nor '.join(LIBRARIES)} is installed",
            "waiting threads sleep, as a quota shares the cores" if self.shared else "",
        ]
        return ", ".join(filter(None, parts))


def tuning(cores: Sequence[int]) -> Tuning:
    """The tuning for a process that may run on `cores`; they are empty if the system cannot bind processes to cores."""
    nodes = cpu.nodes(cores) or {"": list(cores)}
    name, mine = max(nodes.items(), key=lambda node: len(cpu.one_of_each_core(node[1])))
    chosen = cpu.one_of_each_core(mine)
    physical, quota = len(chosen) or cpu.physical_cores(cores) or os.cpu_count() or 1, quota_cores()
    shared = quota is not None and quota < physical
    before = cpu.replaced_allocator()
    return Tuning(
        threads=max(1, int(quota)) if shared and quota else physical,
        cores=tuple(chosen),
        node=name if len(nodes) > 1 else "",
        preload=None if before else _installed(),
        before=before,
        shared=shared,
    )


def _installed() -> str | None:
    """The file name of the first of LIBRARIES that the loader of programs knows."""
    return next(filter(None, map(ctypes.util.find_library, LIBRARIES)), None)
