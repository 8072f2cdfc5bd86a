"""Does data arrive faster than training takes it?"""

import pytest

from perf.harness.measurement.checks import steps
from perf.harness.measurement.checks.attempt import Attempt

BATCH_SIZE = 64
BAR = 1.2


@pytest.mark.check("supply", "stall", seconds=8)
def test_loader(check: Attempt) -> None:
    """`supply`: the samples per second of the fastest input pipeline, divided by those of the step, at batch 64 [1].
    The pipelines are a DataLoader without workers, with 1, 2, 4, … up to one for each core (at most 16), and data that
    is on the device already.

    The ratio must be at least 1.2. Below that, the device waits for its data, and training does not show how fast the
    device is.

    `stall`: the 99th percentile of the time that training waits for a batch of the fastest pipeline [s]. Only the spec
    judges it: the same wait is long for a step of a millisecond, and negligible for a step of a second.
    """
    work = check.plan.workload(check.device.name, BATCH_SIZE, None)
    sleeps = check.fault == "sleep"
    if check.variant == "stall":
        check.time(lambda: steps.stall(work, sleeps))
    else:
        check.share(
            lambda: steps.supply(work, sleeps), BAR, "the input pipeline must be 20% faster than the training step"
        )
