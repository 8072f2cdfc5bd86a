"""How fast do bytes get to the device and back, and do they arrive as they were?"""

import contextlib

import pytest

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.source import Unreadable
from perf.harness.measurement.checks import configuration, faults, probes
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.probes import Measured
from perf.harness.verdict.limits import Limit

# Healthy A100 and H100 reach 82% and 84% of their links.
SHARE = 0.75


@pytest.mark.check(
    cpu=("in pageable",), accelerator=("in pinned", "out pinned", "in pageable", "out pageable"), seconds=4
)
def test_copies(check: Attempt) -> None:
    """Bytes copied in a second between the host's memory and the device's, each byte compared afterwards [B/s]; on
    the CPU, within its memory.

    The rate in pinned memory is held against three quarters of what the PCIe link carries that was negotiated, where
    NVML says which; all rates against the spec; of the bytes, none may differ.
    """
    direction, memory = check.variant.split()
    slow = faults.twice if check.fault == "slow" else None
    wrong = 0

    def measure() -> Measured:
        nonlocal wrong
        made, differ = probes.copy(check.device, direction, memory, slow, check.fault == "corrupt")
        wrong += differ
        return made

    check.rate(measure, "B/s", SHARE, link_of(check.device) if memory == "pinned" else None)
    if wrong:
        check.fail("bytes arrive changed", wrong, "bytes")


def link_of(device: Device) -> Limit | None:
    with contextlib.suppress(Unreadable):
        return configuration.link(configuration.at_work(device))
    return None
