"""How fast is the device's own memory?"""

import pytest

from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import Attempt

# With a copy, a healthy A100 or H100 reaches 76% of the bandwidth in its datasheet, and an H200 90%.
SHARE = 0.68


@pytest.mark.check("copy", "triad", seconds=3)
def test_memory(check: Attempt) -> None:
    """The bytes read and written in a second, in arrays at least four times as large as the last-level cache [B/s].

    The bar is a share of the bandwidth in the maker's datasheet. Only the spec judges a CPU: its bandwidth depends on
    the installed memory modules.
    """
    fault = faults.twice if check.fault == "slow" else None
    check.rate(lambda: probes.memory(check.device, check.variant, fault), "B/s", SHARE, check.bandwidth())
