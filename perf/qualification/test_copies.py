"""How fast do bytes get to the device and back, and do they arrive as they were?"""

import pytest

from perf.harness.qualify import faults, probes
from perf.harness.qualify.attempt import Attempt
from perf.harness.qualify.probes import Measured


@pytest.mark.check(
    cpu=("in pageable",), accelerator=("in pinned", "out pinned", "in pageable", "out pageable"), seconds=4
)
def test_copies(check: Attempt) -> None:
    """Bytes copied in a second between the host's memory and the device's, each byte compared afterwards [B/s]; on
    the CPU, within its memory.

    The rate is held against the spec; of the bytes, none may differ.
    """
    direction, memory = check.variant.split()
    slow = faults.twice if check.fault == "slow" else None
    wrong = 0

    def measure() -> Measured:
        nonlocal wrong
        made, differ = probes.copy(check.device, direction, memory, slow, check.fault == "corrupt")
        wrong += differ
        return made

    check.rate(measure, "B/s")
    if wrong:
        check.fail("bytes arrive changed", wrong, "bytes")
