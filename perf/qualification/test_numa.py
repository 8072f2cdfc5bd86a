"""Are all NUMA nodes equally fast?"""

import pytest

from perf.harness.machine import cpu
from perf.harness.machine.affinity import cores
from perf.harness.machine.identity import is_virtual
from perf.harness.measurement.checks import faults, parts
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.verdict.limits import LEFT

BAR, ALIKE = 0.9, "the nodes of one machine are built alike"


@pytest.mark.check(cpu=("copy", "matmul"), accelerator=(), seconds=1)
def test_numa(check: Attempt) -> None:
    """The rate on the slowest NUMA node, in its own memory, divided by that on a typical node [1].

    A node with fewer memory modules, or with a memory channel that failed, has a lower bandwidth than the others.
    In a virtual machine, another one may use the cores of a node: what that explains is INCONCLUSIVE.
    """
    nodes = cpu.nodes(cores())
    slow = faults.twice if check.fault == "slow" else None
    if slow and len(nodes) == 1:
        ((name, all_of_it),) = nodes.items()
        half = len(all_of_it) // 2
        nodes = {f"{name}, first half": all_of_it[:half], f"{name}, second half": all_of_it[half:]} if half else nodes
    left = LEFT if is_virtual() else 1.0
    try:
        check.share(lambda: parts.slowest_node(check.variant, nodes, slow), BAR, ALIKE, left)
    except parts.TooFew as reason:
        check.unsupported(str(reason))
