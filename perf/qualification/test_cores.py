"""Is any core slower than the others?"""

import pytest

from perf.harness.machine.affinity import cores
from perf.harness.measurement.checks import faults, parts
from perf.harness.measurement.checks.attempt import Attempt

# The highest clocks of the cores of one CPU differ by up to a tenth (Intel Turbo Boost Max 3.0, AMD's preferred cores).
BAR = 0.85


@pytest.mark.check(cpu=("",), accelerator=(), seconds=2)
def test_cores(check: Attempt) -> None:
    """The clock of the slowest physical core, divided by that of a typical core of its kind [1].

    Each core runs a loop whose clock cycles are known, in turns with the others. Then the slowest and the one in the
    middle are compared anew. Where no such loop can run, matrix products tell.
    """
    slow = faults.twice if check.fault == "slow" else None
    try:
        check.share(lambda: parts.slowest_core(cores(), slow), BAR, "the cores of one CPU differ by at most a tenth")
    except parts.TooFew as reason:
        check.unsupported(str(reason))
