"""How many floating-point operations per second does a matrix product reach?"""

import pytest

from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import Attempt

# Healthy A100, H100 and H200 reach 74% to 87% of their dense peak, and GPUs of one model differ by 5 to 8%.
SHARE = 0.65
# A CPU's limit rests on the clock that it reports, which most raise when they are busy.
CPU_SHARE = 0.5


@pytest.mark.check(cpu=("fp32", "bf16"), accelerator=("fp32", "tf32", "bf16", "fp16"), seconds=6)
def test_matmul(check: Attempt) -> None:
    """The rate of the fastest of twelve fixed shapes of random numbers [FLOP/s].

    Held against a share of the dense peak in the maker's datasheet; one that the table lacks is computed from the
    number of multiprocessors and their highest clock, a CPU's from its cores, vector units and clock.
    """
    fault = faults.twice if check.fault == "slow" else None
    share = SHARE if check.device.asynchronous else CPU_SHARE
    check.rate(lambda: probes.matmul(check.device, check.variant, fault), "FLOP/s", share, check.peak(check.variant))
    check.clock(check.variant)
