"""How long does it take to start one operation?"""

import pytest

from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import Attempt


@pytest.mark.check(cpu=("p50", "p99"), accelerator=("p50", "p99", "queued", "graph"), seconds=2)
def test_launch(check: Attempt) -> None:
    """The time from the call of an in-place addition of one element until it is done [s].

    `p50` and `p99`: with a wait after each addition. `queued` and `graph`: the share of one addition in a hundred with
    one wait at their end, started one by one or by a CUDA graph. Only the spec judges it: it is the speed of the host
    and the driver, which no datasheet has.
    """
    if check.variant == "graph" and check.device.torch_device.type != "cuda":
        check.unsupported("only CUDA has graphs")
        return
    fault = faults.twice if check.fault == "slow" else None
    check.time(lambda: probes.operation_start(check.device, check.variant, fault))
