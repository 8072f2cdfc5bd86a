"""What is sampled: something that answers with plain values, or says why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

# Name, with its unit, to value: numbers, flags, tuples of numbers. What a device does not know is not in it.
Values = dict[str, Any]


class Unsupported(Exception):
    """This source cannot be read here: `str()` says why, and what to do about it, in one line."""


class Source(Protocol):
    """One device, or the host."""

    def sample(self) -> Values:
        """What it says now. May raise anything: a driver is behind it."""


@dataclass(frozen=True)
class Sample:
    """What a source said; `at` is by the clock of the timed rounds, `time.perf_counter` [s]."""

    at: float
    values: Values
