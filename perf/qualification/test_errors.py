"""Did the hardware count errors while it was tested?"""

import pytest

from perf.harness.measurement.checks import counters
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.counters import NotCounted

# For more of them NVIDIA's DCGM warns (dcgm_gpu_hardware_limits.h).
MOST_REPEATED, MOST_CORRECTED = 8, 10


@pytest.mark.check(counters.UNCORRECTED, counters.CORRECTED, counters.PCIE, seconds=0)
def test_errors(check: Attempt) -> None:
    """The number of errors that the hardware has counted since the run began.

    `uncorrected` [errors]: memory errors and machine checks that could not be corrected, fatal errors of PCIe, Xid
    errors that no program causes, and rows whose remapping is pending or has failed. There must be none. `corrected`
    [errors]: a healthy memory corrects none within minutes. Up to ten are INCONCLUSIVE, more are a FAIL. `PCIe`
    [errors/min]: transfers that were repeated or corrected, on the worst device: at most eight a minute. A device that
    no longer answers when the run ends is a FAIL. What was counted before the run is a note.
    """
    if isinstance(check.errors, NotCounted):
        check.unsupported(str(check.errors))
        return
    try:
        found = check.errors.new(check.variant)
    except NotCounted as error:
        check.unsupported(str(error))
        return
    except counters.Lost as error:
        check.fail(f"its counters could be read when the run began, but now: {error}")
        return
    said = ", ".join(f"{name} {count}" for name, count in found.items())
    count, earlier = counters.count(found), check.errors.earlier(check.variant)
    if check.variant == counters.PCIE:
        worst = max(found.values(), default=0) / check.errors.minutes
        check.at_most(worst, "errors/min", MOST_REPEATED, "NVIDIA DCGM warns of more", said, earlier)
    elif check.variant == counters.CORRECTED and 0 < count <= MOST_CORRECTED:
        check.unclear(
            f"{said}: a healthy memory corrects none within minutes; run the checks again", count, "errors", 0
        )
    elif check.variant == counters.CORRECTED:
        check.at_most(count, "errors", 0, "a healthy memory corrects none within minutes", said, earlier)
    else:
        source = "a healthy device has no uncorrected error, no Xid error, and no pending or failed row"
        check.at_most(count, "errors", 0, source, said, earlier)
