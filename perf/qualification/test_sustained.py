"""Does the device keep its speed under load?"""

import pytest

from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.probes import Measured

QUICK_S, FULL_S = 30.0, 600.0
BAR = 0.97
# Of the time: the hardware of a healthy device does not slow itself, not once.
THROTTLED = 0.005


@pytest.mark.check(seconds=QUICK_S)
def test_sustained(check: Attempt) -> None:
    """The rate of one matrix product in the last third of 30 seconds (10 minutes with --perf-full), over that in the
    first third [1].

    At least 0.97: a device that is cooled and powered as it should be does not slow down by 3%. And where NVML says why
    clocks are low, for at most 0.5% of the time may the hardware have been too hot, or have had too little power. A
    power cap is a setting, and only told.
    """
    seconds = FULL_S if check.plan.settings.full else QUICK_S
    late = check.fault == "late"

    def measure() -> Measured:
        return probes.sustained(check.device, seconds, lambda percent: 2 if late and percent >= 50 else 1)

    check.share(measure, BAR, "healthy devices keep 97% of their first rate")
    check.throttled(measure, THROTTLED, faults.OVERHEATED if check.fault == "throttle" else ())
