"""In: parts of a machine that should be alike: cores, NUMA nodes. Out: how far the slowest is behind the others."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import torch

from perf.harness.machine import cpu, effective_clock
from perf.harness.machine.devices import Device
from perf.harness.measurement.checks import probes
from perf.harness.measurement.checks.probes import Fault, Measured

T = TypeVar("T")

CPU = Device("cpu")
# Each part is measured LOOKS times, to find the slowest. That is then compared with a typical one anew, PAIRS times:
# the worst of many noisy rates is too low.
LOOKS, PAIRS = 3, 9
CORE_SHAPE, CORE_S = (192, 192, 192), 0.02
NODE_SHAPE, NODE_S = (1024, 1024, 1024), 0.2


class TooFew(Exception):
    """There is nothing to compare: `str()` says why."""


def slowest_core(cores: Sequence[int], slow: Fault | None = None) -> Measured:
    """The clock of the slowest physical core ÷ that of a typical core of its kind, pair by pair.

    `cores` are those that this process may run on. `slow` makes one of them slow. Where no clock can be measured, it is
    the rate of matrix products, which another virtual machine on the same core can lower. Raises TooFew.
    """
    groups = [group for group in cpu.alike(cpu.one_of_each_core(cores)) if len(group) > 1]
    if not groups:
        raise TooFew("this process may run on one core only" if cores else "this system binds no thread to a core")
    planted = groups[-1][-1]

    loop = effective_clock.turns()

    def rate(core: int) -> float:
        fault = slow if core == planted else None
        with on_cores([core]):
            if loop is None:
                return probes.product_once(CPU, "fp32", CORE_SHAPE, fault, CORE_S)
            return effective_clock.core_clock_hz(fault(loop) if fault else loop)

    found = min((_Slowest(rate, group) for group in groups), key=lambda one: one.share)
    alike = "" if len(groups) == 1 else " of its kind"
    return Measured(found.pairs(), f"the slowest{alike} of {sum(map(len, groups))} cores is core {found.part}")


def slowest_node(pattern: str, nodes: Mapping[str, Sequence[int]], slow: Fault | None = None) -> Measured:
    """The rate of `copy` or `matmul` on the slowest NUMA node ÷ that on a typical one, pair by pair.

    `nodes` are the cores of each node. Each node works in its own memory. `slow` makes the last node slow. Raises
    TooFew.
    """
    if len(nodes) < 2:
        raise TooFew("this machine has one NUMA node" if nodes else "this system does not say which NUMA nodes it has")
    *_, planted = nodes

    arrays: dict[str, list[torch.Tensor]] = {}

    def rate(node: str) -> float:
        fault = slow if node == planted else None
        with on_cores(cpu.one_of_each_core(nodes[node])):
            if pattern == "matmul":
                return probes.product_once(CPU, "fp32", NODE_SHAPE, fault, NODE_S)
            if node not in arrays:  # memory is that of the node whose core writes to it first
                count = max(probes.CPU_BYTES, probes.cpu_bytes() // len(nodes)) // 4
                arrays[node] = [torch.ones(count), torch.ones(count)]
            target, source = arrays[node]
            return probes.copy_once(target, source, fault, NODE_S)

    found = _Slowest(rate, list(nodes))
    return Measured(found.pairs(), f"the slowest of {len(nodes)} nodes is {found.part}")


class _Slowest(Generic[T]):
    """The slowest `part` of `parts` by `rate`, how much of a typical part's rate it has, and how to measure it anew."""

    def __init__(self, rate: Callable[[T], float], parts: Sequence[T]) -> None:
        looks = [[rate(part) for part in parts] for _ in range(LOOKS)]  # rounds, so that a busy second hits all alike
        ordered = sorted((statistics.median(rates), place) for place, rates in enumerate(zip(*looks, strict=True)))
        (slow, first), (typical, middle) = ordered[0], ordered[len(ordered) // 2]
        self.part, self._typical, self.share, self._rate = parts[first], parts[middle], slow / typical, rate

    def pairs(self) -> tuple[float, ...]:
        return tuple(self._rate(self.part) / self._rate(self._typical) for _ in range(PAIRS))


@contextlib.contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Run all threads of this process on `cores` only, and as many threads of torch."""
    threads = torch.get_num_threads()
    with cpu.bound_to(cores):
        torch.set_num_threads(len(cores))
        try:
            yield
        finally:
            torch.set_num_threads(threads)
