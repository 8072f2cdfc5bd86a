"""Does data arrive faster than training takes it?"""

import pytest

from perf.harness.measurement.checks import steps
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.record.run import finite

BATCH_SIZE = 64
BAR = 1.2


@pytest.mark.check("supply", "resident", "stall", seconds=8)
def test_loader(check: Attempt) -> None:
    """`supply`: the samples per second of the fastest real input pipeline at batch 64 [samples/s]: a DataLoader with no
    workers, or with 1, 2, 4, … up to one for each core (at most 16). Only the spec judges it: whether it is enough
    depends on the network. The note has the share of the training step's rate that each of them supplies.

    `resident`: the samples per second from data that is on the device already, divided by those of the step [1]. It
    must be at least 1.2. Below that, the device waits even for its own memory, and training does not show its speed.

    `stall`: the 99th percentile of the time that training waits for a batch of the fastest real pipeline [s]. Only the
    spec judges it: the same wait is long for a step of a millisecond, and negligible for a step of a second.
    """
    work = check.plan.workload(check.device.name, BATCH_SIZE, None)
    sleeps = check.fault == "sleep"
    if check.variant == "stall":
        supplied = [one for one in check.done if (one.name, one.device) == ("loader supply", check.device.name)]
        workers = finite(supplied[0].details.get("workers")) if supplied else None
        check.time(lambda: steps.stall(work, sleeps, None if workers is None else int(workers)))
    elif check.variant == "supply":
        check.rate(lambda: steps.supply(work, sleeps), "samples/s")
    else:
        check.share(
            lambda: steps.resident(work, sleeps),
            BAR,
            "resident data must come 20% faster than the training step takes it",
        )
