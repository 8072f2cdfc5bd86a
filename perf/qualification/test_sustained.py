"""Does the device keep its speed under load?"""

import pytest

from perf.harness.qualify import probes
from perf.harness.qualify.attempt import Attempt

QUICK_S, FULL_S = 30.0, 600.0
BAR = 0.97


@pytest.mark.check(seconds=QUICK_S)
def test_sustained(check: Attempt) -> None:
    """The rate of one matrix product in the last third of 30 seconds (10 minutes with --perf-full), over that in the
    first third [1].

    At least 0.97: a device that is cooled and powered as it should be does not slow down by 3%.
    """
    seconds = FULL_S if check.suite.settings.full else QUICK_S
    late = check.fault == "late"
    check.share(
        lambda: probes.sustained(check.device, seconds, lambda percent: 2 if late and percent >= 50 else 1),
        BAR,
        "healthy devices keep 97% of their first rate",
    )
