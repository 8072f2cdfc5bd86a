"""In: the record of a qualification, and a spec that may have been made later. Out: the qualification by that spec."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from msgspec import structs

from perf.harness.record.check import Check, CheckVerdict, Qualification, Standing
from perf.harness.record.run import RecordError, Run
from perf.harness.record.spec import Spec
from perf.harness.verdict.by_spec import bar_of, golden
from perf.harness.verdict.checks import NO_BAR, OTHERS, Bar, MetricValue, judge_check, strictest
from perf.harness.verdict.keys import DEPENDS_ON, key_of, model_of
from perf.harness.verdict.machine import MEASURED_ONCE, explained, qualification_of
from perf.harness.verdict.required import unjudged


def rejudged(run: Run, spec: Spec) -> Run:
    """`run`, judged by `spec`, too. What failed stays a FAIL. Raises RecordError if `run` is no qualification.

    A value that the spec alone finds too slow was measured only once, so it is INCONCLUSIVE.
    """
    if run.qualification is None:
        raise RecordError(run.source, "", "not a qualification, so that no spec can judge it")
    judged = [_by_spec(check, spec, run.perf) for check in run.checks]
    checks = tuple(explained(one, judged) if _is_slow_step(one) else one for one in judged)
    before = run.qualification
    found = qualification_of(
        checks,
        lacking=before.lacking,
        unjudged=unjudged_of(replace(run, checks=checks)),
        selection=before.selection,
        notes=before.notes,
        complete=run.complete,
    )
    by_this = MEASURED_ONCE.replace("FILE", shlex.quote(spec.source))
    found = structs.replace(found, next_action=found.next_action.replace(MEASURED_ONCE, by_this))
    return replace(run, checks=checks, qualification=found)


def _is_slow_step(check: Check) -> bool:
    """Whether this is a training step that is too slow, and not one that crashed."""
    return check.check == "step" and check.verdict is CheckVerdict.FAIL and check.value is not None


def lacking_today(run: Run) -> list[str]:
    """Why a stored QUALIFIED, which may be of an older version, would be less by the rules of this one; else empty."""
    qualified = run.qualification is not None and run.qualification.standing is Standing.QUALIFIED
    return unjudged_of(run) if qualified else []


def today(run: Run) -> Qualification | None:
    """The verdict on the machine, where a stored QUALIFIED that is less by the rules of this version is PARTLY."""
    found = run.qualification
    return structs.replace(found, standing=Standing.PARTLY) if found is not None and lacking_today(run) else found


def unjudged_of(run: Run) -> list[str]:
    """One sentence for each device of the machine of which not all that is required today was judged."""
    devices = run.perf.get("devices")
    present = [
        device
        for device, facts in (devices.items() if isinstance(devices, Mapping) else ())
        if not (isinstance(facts, Mapping) and "absent" in facts)
    ]
    return unjudged(run.checks, {device: model_of(device, run.perf) for device in present})


def _by_spec(check: Check, spec: Spec, perf: Mapping[str, Any]) -> Check:
    if check.verdict is CheckVerdict.FAIL:
        return check
    if (digest := check.details.get("digest")) is not None:
        return golden(check, str(digest), str(check.details.get("digest_key")), spec)
    if check.check not in DEPENDS_ON:
        return check
    if check.value is None and check.verdict is CheckVerdict.UNJUDGED:
        return replace(check, reason=check.reason.replace(NO_BAR, "the record has no value"))
    if check.value is None or not check.unit or check.low is None:
        return check
    found = bar_of(spec, check.check, check.variant, check.unit, key_of(check.check, check.device, perf))
    if isinstance(found, str):
        return replace(check, reason=found) if check.verdict is CheckVerdict.UNJUDGED else check
    # A bar that left something open is not asked again: the record does not have all that it knew.
    own = (
        []
        if check.bar is None or check.verdict is CheckVerdict.INCONCLUSIVE
        else [Bar(check.bar, check.bar_source, found.want)]
    )
    bar = strictest([*own, found])
    assert bar is not None
    first = MetricValue(check.value, check.low, check.high, check.crowding)
    judged = judge_check(first, bar, *(MetricValue(*other, check.crowding) for other in check.others))
    disturbed = any(part in check.reason for part in OTHERS)  # the record has the crowding of one measurement only
    if check.verdict is CheckVerdict.INCONCLUSIVE and (disturbed or judged.verdict is CheckVerdict.PASS):
        return check  # for a reason that the spec does not know
    return replace(
        check, verdict=judged.verdict, reason=judged.reason, bar=bar.value, bar_source=bar.source, want=str(bar.want)
    )
