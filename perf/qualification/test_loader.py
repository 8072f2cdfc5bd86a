"""Does data arrive faster than the training step takes it?"""

import pytest

from perf.harness.measurement.checks import steps
from perf.harness.measurement.checks.attempt import Attempt

BATCH_SIZE = 64
BAR = 1.2


@pytest.mark.check("supply", "stall", seconds=8)
def test_loader(check: Attempt) -> None:
    """`supply`: samples per second of the fastest input pipeline, over those of the training step, at batch 64 [1]. A
    DataLoader without workers, with 1, 2, 4, … up to one for each core, and data that is on the device already.

    At least 1.2: below, the device waits for its data, and is not what is measured.

    `stall`: the 99th percentile of the times that training waits for a batch of the fastest of them [s]. Held against
    the spec: what is long for a step of a millisecond is nothing for one of a second.
    """
    work = check.plan.workload(check.device.name, BATCH_SIZE, None)
    sleeps = check.fault == "sleep"
    if check.variant == "stall":
        check.time(lambda: steps.stall(work, sleeps))
    else:
        check.share(lambda: steps.supply(work, sleeps), BAR, "a loader must have a fifth to spare")
