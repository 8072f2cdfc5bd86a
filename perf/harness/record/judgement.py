"""What a record keeps of a comparison: one `Judgement` of each benchmark, under `perf.gate`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from perf.harness.record.values import CountOrZero, Positive, Seconds


class Verdict(StrEnum):
    SLOWER = "SLOWER"
    INVALID = "INVALID"
    MISSING = "MISSING"
    INCONCLUSIVE = "INCONCLUSIVE"
    NEW = "NEW"
    FASTER = "FASTER"
    SAME = "SAME"


@dataclass(frozen=True)
class Judgement:
    """The verdict on one benchmark.

    `ratio` is head ÷ base in time, above 1 where head is slower, with its 98% interval `low` to `high`; `base_s` and
    `head_s` are the times of one step [s]. `smallest_detectable` is the smallest ratio that would be SLOWER with
    this spread and as many launches as a gate may make (of stored runs: with these). Each is None where it is not
    known. `launches` is how many pairs of fresh processes, or how many stored runs, it rests on.
    """

    name: str
    verdict: Verdict
    reason: str = ""
    ratio: Positive | None = None
    low: Positive | None = None
    high: Positive | None = None
    base_s: Seconds | None = None
    head_s: Seconds | None = None
    launches: CountOrZero = 0
    smallest_detectable: Positive | None = None

    def as_record(self) -> dict[str, Any]:
        """The entry of `perf.gate` in the JSON."""
        return asdict(self)
