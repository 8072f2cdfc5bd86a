"""Did the hardware count errors while it was tested?"""

import pytest

from perf.harness.qualify import counters
from perf.harness.qualify.attempt import Attempt

# What a healthy device has counted, and one with a memory error.
RECORDED = {"uncorrected": 0, "remap pending": 0, "remap failed": 0, "PCIe replays": 0}


@pytest.mark.check(seconds=0)
def test_errors(check: Attempt) -> None:
    """Uncorrected memory errors, and rows whose remapping is pending or has failed, since the run began [1].

    There must be none: NVML on a GPU, the kernel's EDAC counters for the memory of the host.
    """
    before = check.before
    if check.fault == "ecc":
        before, after = RECORDED, RECORDED | {"uncorrected": 1}
    else:
        try:
            after = counters.read(check.device)
        except counters.NotCounted as error:
            check.unsupported(str(error))
            return
    found = counters.new(dict(before or {}), after)
    fatal = sum(found.get(name, 0) for name in counters.FATAL)
    said = ", ".join(f"{name} {count}" for name, count in found.items())
    check.at_most(fatal, "errors", 0, "uncorrected, pending or failed, none is normal", said)
