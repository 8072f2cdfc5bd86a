"""How long does it take to start one operation?"""

import pytest

from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import Attempt


@pytest.mark.check(cpu=("p50", "p99"), accelerator=("p50", "p99", "queued", "graph"), seconds=2)
def test_launch(check: Attempt) -> None:
    """The time of an in-place addition on one element, waited for, the median and the 99th percentile; and of one of a
    hundred that are waited for at their end, launched one by one or by a CUDA graph [s].

    Held against the spec alone: it is the host's speed and its driver's, which no datasheet has.
    """
    if check.variant == "graph" and check.device.torch_device.type != "cuda":
        check.unsupported("only CUDA has graphs")
        return
    fault = faults.twice if check.fault == "slow" else None
    check.time(lambda: probes.launch(check.device, check.variant, fault))
