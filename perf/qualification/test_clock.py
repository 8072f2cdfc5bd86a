"""Can the machine's clocks be trusted?"""

import time

import pytest

from perf.harness.measurement.checks import timing
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.timing import MOST_PPM, Reading

AGAIN_S = 2.0
FASTER = 0.01  # by what share a planted clock is faster
LIMIT = "a time is wrong by at most 0.1%"


@pytest.mark.check(cpu=("source", "drift"), accelerator=("drift",), seconds=1)
def test_clock(check: Attempt) -> None:
    """Whether the clock that measures is a good one.

    `source`: the number of wrong settings, which must be none: a kernel that finds the processor's counter unreliable
    takes a slow clock. `drift`: by how much the clocks of the machine differ [ppm]. On a CPU, the time of day and the
    clock without corrections are held against the clock that measures, since the run began; on an accelerator, its own
    clock against the host's, and if they differ, in looks ten times as long.
    """
    if check.variant == "source":
        source_of(check)
    elif check.device.asynchronous:
        device_of(check)
    else:
        host_of(check)


def source_of(check: Attempt) -> None:
    found = "hpet" if check.fault == "source" else timing.source()
    if not found:
        check.unsupported("this system does not say which clock it uses")
        return
    slow = found in timing.SLOW_SOURCES
    check.at_most(int(slow), "settings", 0, "a fast and steady clock", slow * f"the kernel uses {found}", found)


def host_of(check: Attempt) -> None:
    def now() -> Reading:
        faster = FASTER if check.fault == "drift" else 0.0
        return Reading.now(faster * (time.perf_counter() - check.began.monotonic))

    drift = now().drift_ppm(check.began)
    if drift <= MOST_PPM:
        check.at_most(drift, "ppm", MOST_PPM, LIMIT)
        return
    before = now()
    time.sleep(AGAIN_S)
    again = now().drift_ppm(before)
    if again <= MOST_PPM:
        check.unclear("a clock was set while the checks ran, but is steady now", drift, "ppm", MOST_PPM, again=again)
    else:
        reason = "the clocks of this machine run at different speeds"
        check.at_most(drift, "ppm", MOST_PPM, LIMIT, reason, again=again)


def device_of(check: Attempt) -> None:
    plant, first = 1 + FASTER * (check.fault == "drift"), None
    try:
        drift = timing.device_drift_ppm(check.device, plant)
        if drift > MOST_PPM:
            first, drift = drift, timing.device_drift_ppm(check.device, plant, timing.LONG_S)
    except (RuntimeError, NotImplementedError) as error:
        check.unsupported(f"torch reads no clock of {check.device.name}: {error}")
        return
    reason = "its clock and that of the host run at different speeds" if drift > MOST_PPM else ""
    check.at_most(drift, "ppm", MOST_PPM, LIMIT, reason, again=first)
