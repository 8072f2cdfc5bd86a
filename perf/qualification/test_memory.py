"""How fast is the device's own memory?"""

import pytest

from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import Attempt

# Healthy A100 and H100 reach 76% of the bandwidth in their datasheets, and an H200 90% of it, with a copy.
SHARE = 0.68


@pytest.mark.check("copy", "triad", seconds=4)
def test_memory(check: Attempt) -> None:
    """Bytes read and written in a second, over arrays of at least four times the last cache [B/s].

    Held against a share of the bandwidth in the maker's datasheet. A CPU's depends on the memory that is plugged in,
    which no table knows.
    """
    fault = faults.twice if check.fault == "slow" else None
    check.rate(lambda: probes.memory(check.device, check.variant, fault), "B/s", SHARE, check.bandwidth())
