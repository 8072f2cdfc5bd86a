"""Did the hardware count errors while it was tested?"""

import pytest

from perf.harness.measurement.checks import counters
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.counters import NotCounted


@pytest.mark.check(seconds=0)
def test_errors(check: Attempt) -> None:
    """The number of errors that the hardware of a healthy device does not have [errors].

    These count: uncorrected memory errors and Xid errors that no program causes, both since the run began, and rows
    whose remapping is pending or has failed. There must be none. NVML counts the errors of a GPU, and the kernel's EDAC
    those of the host's memory. A device that no longer answers when the run ends is a FAIL.
    """
    if isinstance(check.errors, NotCounted):
        check.unsupported(str(check.errors))
        return
    try:
        found = check.errors.new()
    except NotCounted as error:
        check.fail(f"its counters could be read when the run began, but now: {error}")
        return
    said = ", ".join(f"{name} {count}" for name, count in found.items())
    source = "a healthy device has no uncorrected error, no Xid error, and no pending or failed row"
    check.at_most(counters.fatal(found), "errors", 0, source, said)
