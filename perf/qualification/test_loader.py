"""Does data arrive faster than the training step takes it?"""

import pytest

from perf.harness.qualify import steps
from perf.harness.qualify.attempt import Attempt

BATCH_SIZE = 64
BAR = 1.2


@pytest.mark.check(seconds=12)
def test_loader(check: Attempt) -> None:
    """Samples per second of the fastest input pipeline, over those of the training step, at batch 64 [1].

    At least 1.2: below, the device waits for its data, and is not what is measured.
    """
    work = check.suite.workload(check.device.name, BATCH_SIZE, None)
    check.share(lambda: steps.supply(work, sleeps=check.fault == "sleep"), BAR, "a loader must have a fifth to spare")
