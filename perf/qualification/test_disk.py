"""How fast is the disk that has the data?"""

import pytest

from perf.harness.measurement.checks import faults, storage
from perf.harness.measurement.checks.attempt import Attempt


@pytest.mark.check(cpu=("read",), accelerator=(), seconds=4)
def test_disk(check: Attempt) -> None:
    """The bytes read in a second from a file in the folder of the data, past the system's memory [B/s].

    256 MiB of random bytes are written, read several times, and deleted. Only the spec judges it. The host of a virtual
    machine, and a disk of a network, may have memory of their own.
    """
    fault = faults.twice if check.fault == "slow" else None
    try:
        check.rate(lambda: storage.read_rate(check.plan.settings.data_root, fault), "B/s")
    except storage.Unread as reason:
        check.unsupported(str(reason))
