"""In: the record of a qualification, and a spec that may have been made later. Out: the qualification by that spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perf.harness.record.check import Check, CheckVerdict
from perf.harness.record.run import RecordError, Run
from perf.harness.record.spec import Spec
from perf.harness.verdict.checks import (
    Bar,
    Measurement,
    Want,
    bar_of,
    digest_source,
    judge,
    qualification,
    strictest,
    unlike,
)
from perf.harness.verdict.keys import DEPENDS_ON, key_of, model_of
from perf.harness.verdict.required import unjudged


def rejudged(run: Run, spec: Spec) -> Run:
    """`run`, judged by `spec`, too. What failed stays a FAIL. Raises RecordError if `run` is no qualification.

    A value that the spec alone finds too slow was measured only once, so it is INCONCLUSIVE.
    """
    if run.qualification is None:
        raise RecordError(run.source, "", "not a qualification, so that no spec can judge it")
    checks = tuple(_by_spec(check, spec, run.perf) for check in run.checks)
    before = run.qualification
    models = {
        device: model_of(device, run.perf)
        for device, facts in run.perf.get("devices", {}).items()
        if "absent" not in facts
    }
    found = qualification(
        checks,
        lacking=before.lacking,
        unjudged=unjudged(checks, models) if run.complete else (),
        selection=before.selection,
        notes=before.notes,
        complete=run.complete,
    )
    return replace(run, checks=checks, qualification=found)


def _by_spec(check: Check, spec: Spec, perf: Mapping[str, Any]) -> Check:
    if check.verdict is CheckVerdict.FAIL:
        return check
    if (digest := check.details.get("digest")) is not None:
        return _golden(check, str(digest), spec)
    if check.value is None or not check.unit or check.low is None or check.check not in DEPENDS_ON:
        return check
    found = bar_of(spec, check.check, check.variant, check.unit, key_of(check.check, check.device, perf))
    if isinstance(found, str):
        return replace(check, reason=found) if check.verdict is CheckVerdict.UNJUDGED else check
    own = [] if check.bar is None else [Bar(check.bar, check.bar_source, found.want)]
    bar = strictest([*own, found])
    assert bar is not None
    first = Measurement(check.value, check.low, check.high, check.crowding)
    again = None if check.again is None else Measurement(check.again, check.again_low, check.again_high, check.crowding)
    judged = judge(first, bar, again)
    if check.verdict is CheckVerdict.INCONCLUSIVE and judged.verdict is CheckVerdict.PASS:
        return check  # for a reason that the spec does not know
    return replace(
        check, verdict=judged.verdict, reason=judged.reason, bar=bar.value, bar_source=bar.source, want=str(bar.want)
    )


def _golden(check: Check, digest: str, spec: Spec) -> Check:
    key = str(check.details.get("digest_key"))
    if key not in spec.digests:
        return replace(check, verdict=CheckVerdict.UNJUDGED, reason=unlike(spec, key))
    differs = digest != spec.digests[key]
    return replace(
        check,
        verdict=CheckVerdict.FAIL if differs else CheckVerdict.PASS,
        value=float(differs),
        unit="mismatches",
        bar=0,
        bar_source=digest_source(spec),
        want=str(Want.LESS),
        reason=f"{digest}, not {spec.digests[key]}" if differs else "",
    )
