"""How fast is the training step, how fast could it be, and what explains a slow one?"""

import pytest

from perf.harness.measurement.checks import steps
from perf.harness.measurement.checks.attempt import Attempt


@pytest.mark.check(each="batch_size", seconds=5)
def test_step(check: Attempt) -> None:
    """Samples per second of the training step at each of the run's batch sizes, where its time goes, and its roofline.

    Held against the spec. One that is too slow is explained by the component that failed on this device, or by none:
    that is the verdict `unexplained`. The roofline holds it against what this run measured of this device before.
    """
    work = check.plan.workload(check.device.name, int(check.variant.removeprefix("bs")), None)
    check.rate(lambda: steps.rate(work, sleeps=check.fault == "sleep"), "samples/s")
    assert check.result.value is not None
    check.roofline(steps.work_of(work), work.batch_size / check.result.value)
    if check.failed:
        check.explain(check.done)
