"""Did the hardware count errors while it was tested?"""

import pytest

from perf.harness.measurement.checks import counters
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.counters import NotCounted

# What a healthy device has counted, and what one has that is not, by the fault that is planted.
RECORDED = {"uncorrected": 0, "remap pending": 0, "remap failed": 0, "PCIe replays": 0}
PLANTED = {"ecc": RECORDED | {"uncorrected": 1}, "xid": RECORDED | {"Xid 79": 1}}


@pytest.mark.check(seconds=0)
def test_errors(check: Attempt) -> None:
    """Uncorrected memory errors, rows whose remapping is pending or has failed, and Xid errors that no program causes,
    since the run began [1].

    There must be none: NVML on a GPU, the kernel's EDAC counters for the memory of the host. A device that no longer
    answers when the run ends fails.
    """
    if check.fault:
        found = counters.new(RECORDED, PLANTED[check.fault])
    elif isinstance(check.errors, NotCounted):
        check.unsupported(str(check.errors))
        return
    else:
        try:
            found = check.errors.new()
        except NotCounted as error:
            check.fail(f"its counters could be read when the run began, and now: {error}")
            return
    said = ", ".join(f"{name} {count}" for name, count in found.items())
    source = "uncorrected, pending or failed, or an Xid: none is normal"
    check.at_most(counters.fatal(found), "errors", 0, source, said)
