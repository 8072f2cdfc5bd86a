"""How fast is the training step, how fast could it be, and what explains a slow one?"""

import pytest

from perf.harness.measurement.checks import steps
from perf.harness.measurement.checks.attempt import Attempt


@pytest.mark.check(each="batch_size", seconds=3)
def test_step(check: Attempt) -> None:
    """The samples per second of the training step at each batch size of the run [samples/s], with its roofline.

    Only the spec judges it. The reason for a FAIL names the component that failed on this device and explains it, or
    says `unexplained`. The note says where the time goes. The roofline compares the step with what this run measured
    on this device before.
    """
    work = check.plan.workload(check.device.name, int(check.variant.removeprefix("bs")), None)
    check.rate(lambda: steps.rate(work, sleeps=check.fault == "sleep"), "samples/s")
    assert check.result.value is not None
    check.roofline(steps.work_of(work), work.batch_size / check.result.value)
    if check.failed:
        check.explain(check.done)
