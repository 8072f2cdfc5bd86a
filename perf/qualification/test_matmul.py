"""How many floating-point operations per second does a matrix product reach?"""

import pytest

from perf.harness.machine.identity import is_virtual
from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.verdict.limits import LEFT

# For two seconds, at their power limit, an H100 and an H200 reach 65% to 80% of their dense peaks, and GPUs of one
# model differ by 5 to 8% (perf/results).
SHARE = 0.6
# One CPU reached 57% of the peak at its measured clock, which falls when all units work. Another one, in a virtual
# machine with neighbours, reached 41% to 90% (perf/results/2026-11-28-qualification.md).
CPU_SHARE = 0.5


@pytest.mark.check(cpu=("fp32", "bf16"), accelerator=("fp32", "tf32", "bf16", "fp16"), seconds=6)
def test_matmul(check: Attempt) -> None:
    """The rate of matrix products of random numbers, in the fastest of twelve fixed shapes [FLOP/s].

    The bar is a share of the dense peak in the maker's datasheet. If the table lacks a GPU of an architecture before
    Hopper, the peak is computed from its multiprocessors and their highest clock. For a CPU, it is computed from
    cores, vector units and clock. Below it, but with what neighbours may leave, a virtual machine is INCONCLUSIVE.
    """
    fault = faults.twice if check.fault == "slow" else None
    peak = check.peak(check.variant)
    share = (peak.share if peak else None) or (SHARE if check.device.asynchronous else CPU_SHARE)
    left = LEFT if not check.device.asynchronous and is_virtual() else 1.0
    check.rate(lambda: probes.matmul(check.device, check.variant, fault), "FLOP/s", share, peak, left)
    check.clock(check.variant)
