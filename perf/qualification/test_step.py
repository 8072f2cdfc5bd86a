"""How fast is the training step, and what explains a slow one?"""

import pytest

from perf.harness.qualify import steps
from perf.harness.qualify.attempt import Attempt

BATCH_SIZE = 512


@pytest.mark.check(seconds=6)
def test_step(check: Attempt) -> None:
    """Samples per second of the training step at batch 512, and where its time goes.

    Held against the spec. One that is too slow is explained by the component that failed on this device, or by none:
    that is the verdict `unexplained`.
    """
    work = check.suite.workload(check.device.name, BATCH_SIZE, None)
    check.rate(lambda: steps.rate(work, sleeps=check.fault == "sleep"), "samples/s")
    if check.failed:
        check.explain(check.suite.checks)
