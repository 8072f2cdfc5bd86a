"""How long does it take to start one operation?"""

import pytest

from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import Attempt


@pytest.mark.check(cpu=("p50", "p99"), accelerator=("p50", "p99", "queued", "graph"), seconds=1)
def test_launch(check: Attempt) -> None:
    """The time from the call of an in-place addition of one element until the addition is done [s].

    `p50` and `p99`: with a wait after each addition. `queued` and `graph`: the time of a hundred additions with one
    wait at the end, divided by 100; they are started one by one, or by a CUDA graph. Only the spec judges the time: it
    depends on the host and the driver, and no datasheet has their speed.
    """
    if check.variant == "graph" and check.device.torch_device.type != "cuda":
        check.unsupported("CUDA graphs need a CUDA device")
        return
    fault = faults.twice if check.fault == "slow" else None
    check.time(lambda: probes.operation_start(check.device, check.variant, fault))
