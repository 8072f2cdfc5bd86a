"""The protocol of a telemetry source: it answers with plain values, or says why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

# Name, with its unit, to value: numbers, flags, tuples of numbers. A value that the device does not know is left out.
Values = dict[str, Any]


class Unreadable(Exception):
    """This source cannot be read here: `str()` says in one line why, and what to do about it."""


class Source(Protocol):
    """One device, or the host."""

    def sample(self) -> Values:
        """What it says now. It may raise any error, because it asks a driver."""


@dataclass(frozen=True)
class Sample:
    """What a source said; `at` is the time of `time.perf_counter`, the clock of the timed rounds [s]."""

    at: float
    values: Values
