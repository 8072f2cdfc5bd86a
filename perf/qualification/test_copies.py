"""How fast do bytes get to the device and back, and do they arrive unchanged?"""

import contextlib

import pytest

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.source import Unreadable
from perf.harness.measurement.checks import configuration, faults, probes
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.checks.probes import Measured
from perf.harness.verdict.limits import Limit

# A healthy A100 reaches 82% of its link, and a healthy H100 84%.
SHARE = 0.75


@pytest.mark.check(
    cpu=("in pageable",), accelerator=("in pinned", "out pinned", "in pageable", "out pageable"), seconds=6
)
def test_copies(check: Attempt) -> None:
    """The bytes copied in a second between the memories of host and device, or within the memory of the CPU [B/s].

    With pinned memory, the bar is three quarters of the bandwidth of the PCIe link, if NVML says which link was
    negotiated. The spec judges all rates. Every byte is compared afterwards, and none may differ.
    """
    direction, memory = check.variant.split()
    if memory == "pinned" and (reason := probes.why_not_pinned(check.device)):
        check.unsupported(reason)
        return
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
