"""What a record keeps of a qualification: the `Check`s of each check and device, under `perf.checks`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from perf.harness.record.values import Scalar


class CheckVerdict(StrEnum):
    """Worst first. UNSUPPORTED: the check cannot run here, or has no bar to compare with; this is never a PASS."""

    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNSUPPORTED = "UNSUPPORTED"
    PASS = "PASS"


class Standing(StrEnum):
    """The verdict on the machine from all checks together, worst first."""

    NOT_QUALIFIED = "NOT QUALIFIED"
    INCONCLUSIVE = "INCONCLUSIVE"
    QUALIFIED = "QUALIFIED"


@dataclass(frozen=True)
class Check:
    """The verdict of one check on one device. `variant`, such as `fp32`, distinguishes several metrics of a check.

    `value` is in `unit`; its 95% interval is `low` to `high`. `bar` is the limit for the value, and `bar_source` says
    where the limit comes from. A missing number is None, a missing text is "". `injected` names the planted fault.
    `note` says what was measured. `details` are further results, such as the roofline of a training step. `crowding` is
    how many of the cores that the check needs were missing, because of other programs or a quota; None if unknown.
    """

    check: str
    device: str
    verdict: CheckVerdict
    variant: str = ""
    value: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    bar_source: str = ""
    reason: str = ""
    injected: str = ""
    note: str = ""
    crowding: float | None = None
    details: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.check} {self.variant}".rstrip()

    def as_record(self) -> dict[str, Any]:
        """The entry of `perf.checks` in the JSON."""
        return asdict(self)


class Qualification(msgspec.Struct, frozen=True):
    """The verdict on the machine, why, and what to do next."""

    standing: Standing = msgspec.field(name="verdict")
    reasons: tuple[str, ...]
    next_action: str

    def as_record(self) -> dict[str, Any]:
        """`perf.qualification` in the JSON."""
        record: dict[str, Any] = msgspec.to_builtins(self)
        return record
