"""What a record keeps of a qualification: the `Check`s of each check and device, under `perf.checks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from perf.harness.record.values import Scalar


class CheckVerdict(StrEnum):
    """Worst first. UNJUDGED: it was measured, but there is no bar. UNSUPPORTED: it cannot be measured here.

    Neither is a PASS. Before 2026-11-27, records had UNSUPPORTED for both.
    """

    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNJUDGED = "UNJUDGED"
    UNSUPPORTED = "UNSUPPORTED"
    PASS = "PASS"


class Want(StrEnum):
    """Which side of its bar a metric should be on."""

    MORE = "at least"
    LESS = "at most"

    def missed(self, value: float, bar: float) -> bool:
        """Whether `value` is on the wrong side of `bar`."""
        return value < bar if self is Want.MORE else value > bar


# The ends of an interval are computed in another way than the value: so far apart may equal numbers be.
ROUNDED = 1e-9
JUDGED = (CheckVerdict.FAIL, CheckVerdict.INCONCLUSIVE, CheckVerdict.PASS)


class Standing(StrEnum):
    """The verdict on the machine from all checks together, worst first.

    PARTLY QUALIFIED: nothing failed, but not all that such devices need was judged.
    """

    NOT_QUALIFIED = "NOT QUALIFIED"
    INCONCLUSIVE = "INCONCLUSIVE"
    PARTLY = "PARTLY QUALIFIED"
    QUALIFIED = "QUALIFIED"


@dataclass(frozen=True)
class Check:
    """The verdict of one check on one device. `variant`, such as `fp32`, distinguishes several metrics of a check.

    `value` is in `unit`; its 95% interval is `low` to `high`. `bar` is the limit for the value: `want` says whether the
    value must be `at least` or `at most` that, and `bar_source` where it comes from. A value on the wrong side of the
    bar is measured a second time: `again`, from `again_low` to `again_high`. If that is on the right side, a third
    measurement decides; then `value` is the middle of the three, and `again` and `third` are the others. A missing
    number is None, a missing text is "". `injected` names the planted fault. `note` says what was measured. `details`
    are further results, such as the roofline of a training step. `crowding` is how many of the cores that the check
    needs were missing, because of other programs or a quota; None if unknown.
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
    want: str = ""
    again: float | None = None
    again_low: float | None = None
    again_high: float | None = None
    third: float | None = None
    third_low: float | None = None
    third_high: float | None = None

    @property
    def name(self) -> str:
        return f"{self.check} {self.variant}".rstrip()

    @property
    def said(self) -> str:
        """The verdict, marked if a fault was planted: `FAIL (INJECTED matmul:slow)`."""
        return f"{self.verdict} (INJECTED {self.injected})" if self.injected else str(self.verdict)

    @property
    def beyond(self) -> bool:
        """Whether the value is on the wrong side of its bar; False if one of them is unknown."""
        if self.value is None or self.bar is None or self.want not in list(Want):
            return False
        return Want(self.want).missed(self.value, self.bar)

    @property
    def within(self) -> bool:
        """Whether the value is in its interval, as far as these are known."""
        if self.value is None:
            return True
        slack = ROUNDED * abs(self.value)
        return (self.low is None or self.low <= self.value + slack) and (
            self.high is None or self.value - slack <= self.high
        )

    @property
    def others(self) -> list[tuple[float, float | None, float | None]]:
        """The measurements that do not count, up to two: value, and the ends of its interval."""
        found = ((self.again, self.again_low, self.again_high), (self.third, self.third_low, self.third_high))
        return [(value, low, high) for value, low, high in found if value is not None]

    def as_record(self) -> dict[str, Any]:
        """The entry of `perf.checks` in the JSON."""
        return asdict(self)


class Qualification(msgspec.Struct, frozen=True):
    """The verdict on the machine, why, and what to do next.

    Some `reasons` are not about a check. They also stand in `lacking` (the machine has too little), `selection` (what
    the user left out) and `notes` (what else was not checked).
    """

    standing: Standing = msgspec.field(name="verdict")
    reasons: tuple[str, ...]
    next_action: str
    lacking: tuple[str, ...] = ()
    selection: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """`perf.qualification` in the JSON."""
        record: dict[str, Any] = msgspec.to_builtins(self)
        return record

    def said(self, checks: Sequence[Check]) -> str:
        """The verdict, marked if a fault was planted in one of the `checks`: such a run says nothing of a machine."""
        return f"{self.standing} (INJECTED)" if any(check.injected for check in checks) else str(self.standing)

    def contradiction(self, checks: Sequence[Check], complete: bool) -> str:
        """Why the verdict cannot be that of a run with these `checks`; "" if it can."""
        good = self.standing in (Standing.QUALIFIED, Standing.PARTLY)
        seen = set()
        for check in checks:
            if (check.name, check.device) in seen:
                return f"{check.name} on {check.device} stands twice"
            seen.add((check.name, check.device))
            if check.verdict is CheckVerdict.PASS and check.beyond:
                return f"{check.name} on {check.device} is PASS with a value beyond its bar"
            if check.verdict is CheckVerdict.PASS and check.bar is not None and check.value is None:
                return f"{check.name} on {check.device} is PASS with a bar and no value"
            if check.value is not None and check.verdict is CheckVerdict.PASS and check.value < 0:
                return f"{check.name} on {check.device} is PASS with a value below 0"
            if not check.within:
                return f"the value of {check.name} on {check.device} is outside its own interval"
            failed = check.verdict is CheckVerdict.FAIL
            if (failed and self.standing is not Standing.NOT_QUALIFIED) or (
                good and (check.injected or check.verdict is CheckVerdict.INCONCLUSIVE)
            ):
                return f"{check.name} on {check.device} is {check.said}"
        if good and not complete:
            return "the run did not finish"
        return "no check was judged" if good and not any(check.verdict in JUDGED for check in checks) else ""
