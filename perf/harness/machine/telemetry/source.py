"""The protocol of a telemetry source: the source returns plain values, or says why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

# From names with units to numbers, flags or tuples of numbers. A value that the device does not know is left out.
Values = dict[str, Any]


class Unreadable(Exception):
    """This source cannot be read here: `str()` is one line that says why, and what to do if something helps."""


class Source(Protocol):
    """One device, or the host."""

    def sample(self) -> Values:
        """The values now. This may raise any error, because the source asks a driver."""


@dataclass(frozen=True)
class Sample:
    """The values of a source at the time `at` [s of `time.perf_counter`, the clock of the timed rounds]."""

    at: float
    values: Values
