"""What a record keeps of a qualification: one `Check` of each check and device, under `perf.checks`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from perf.harness.record.values import Scalar


class CheckVerdict(StrEnum):
    """Worst first. UNSUPPORTED: it cannot be measured here, or there is nothing to judge it by; never a PASS."""

    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNSUPPORTED = "UNSUPPORTED"
    PASS = "PASS"


class Standing(StrEnum):
    """What all the checks together say of the machine."""

    NOT_QUALIFIED = "NOT QUALIFIED"
    INCONCLUSIVE = "INCONCLUSIVE"
    QUALIFIED = "QUALIFIED"


@dataclass(frozen=True)
class Check:
    """The verdict of one check on one device; `variant` tells several metrics of a check apart: `fp32`, say.

    `value` is in `unit`, with its 95% interval `low` to `high`; `bar` is what it was held against, which
    `bar_source` derives. Each is None, or "", where there is none. `injected` names the planted fault.
    `note` says of what it was measured. `details` are what else was measured: of a training step, its roofline.
    `crowding` is how many of the cores that it needs other programs had meanwhile, None where nobody looked.
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
