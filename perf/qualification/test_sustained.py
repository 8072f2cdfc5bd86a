"""Does the device keep its speed under load?"""

import pytest

from perf.harness.machine.identity import is_virtual
from perf.harness.measurement.checks import configuration, probes
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.probes import Measured
from perf.harness.verdict.limits import LEFT, NEIGHBOURS

QUICK_S, FULL_S, RATE_S = 30.0, 600.0, 5.0
BAR, SOURCE = 0.97, "healthy devices keep 97% of their first rate"
# A processor gives up its boost after a while: Intel's by a fifth, from PL2 to PL1 (datasheets of the makers).
CPU_BAR, CPU_SOURCE = 0.8, "a CPU may give up a fifth with its boost"
# A share of the time. The hardware of a healthy device never slows itself down.
THROTTLED = 0.005


@pytest.mark.check("", "rate", seconds=(QUICK_S + RATE_S) / 2, full=(FULL_S + RATE_S) / 2)
def test_sustained(check: Attempt) -> None:
    """The rate of one matrix product in the last third of the time, divided by its rate in the first third [1].

    The time is 30 seconds, or 10 minutes with --perf-full. The ratio must be at least 0.97: a device with proper
    cooling and power does not slow down by 3%. A CPU may give up its boost (0.8), and the CPU of a virtual machine may
    have to share its cores (0.6). NVML says why the clocks of a GPU are low. The hardware may slow itself
    down, because it is too hot or has too little power, for at most 0.5% of the time. A power cap is a setting, so it
    is only reported. Only the spec judges a GPU in a notebook, which slows down as it warms up.

    `rate` [FLOP/s] is that of the hot device, in the next five seconds. Only the spec judges it. It finds a device that
    is slow from the start, and keeps that.
    """
    late = check.fault == "late"
    if check.variant == "rate":
        check.rate(lambda: probes.hot_rate(check.device, RATE_S, lambda percent: 2 if late else 1), "FLOP/s")
        return
    seconds = FULL_S if check.plan.settings.full else QUICK_S

    def measure() -> Measured:
        return probes.sustained(check.device, seconds, lambda percent: 2 if late and percent >= 50 else 1)

    if configuration.LAPTOP in check.device_name:
        check.rate(measure, "")  # by the spec alone: a notebook lowers its clocks as it warms up
        return
    bar, source = BAR, SOURCE
    if not check.device.asynchronous:
        bar, source = (LEFT, NEIGHBOURS) if is_virtual() else (CPU_BAR, CPU_SOURCE)
    check.share(measure, bar, source)
    check.throttled(measure, THROTTLED)
