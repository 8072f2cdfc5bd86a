"""What else uses this machine: other programs, the hypervisor, the container's quota."""

from __future__ import annotations

import time
from dataclasses import dataclass

from perf.harness import environment


@dataclass(frozen=True)
class Load:
    """`others_cores`: how many cores others kept busy, on average; `withheld`: cores that the quota withheld. None
    where the system does not say."""

    others_cores: float | None
    withheld_cores: float | None


def look(seconds: float) -> Load:
    """What others do while this process waits `seconds`."""
    others, withheld = environment.foreign_cpu_s(), environment.withheld_s()
    time.sleep(seconds)
    return Load(_rate(others, environment.foreign_cpu_s(), seconds), _rate(withheld, environment.withheld_s(), seconds))


def _rate(before: float | None, after: float | None, seconds: float) -> float | None:
    return None if before is None or after is None else max(0.0, after - before) / seconds
