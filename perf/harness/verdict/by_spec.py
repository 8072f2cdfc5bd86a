"""In: a spec, and a metric or the digest of a training. Out: the bar that the spec has for it, or why it has none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from perf.harness.record.check import Check, CheckVerdict, Want
from perf.harness.record.spec import LEAST, Reference, Spec
from perf.harness.record.values import Scalar
from perf.harness.statistics.intervals import exp, next_one
from perf.harness.verdict.checks import RATE_SLACK, SPREADS, SURE, TIME_SLACK, UNLIKE, WIDEST, Bar
from perf.harness.verdict.keys import reference_of

# A bar at so many times the median needs no number.
FAR = 10
PARTS = re.compile(r", (?![^()]*\))")  # of the key of a training; a name may have several in brackets
NO_DIGEST = "no digest of this training is known; give a reference with --perf-spec=FILE"


def spec_bar(reference: Reference, source: str) -> Bar:
    """A bar that allows results worse than good machines reached: by the slack of its kind, or by what they vary."""
    varies = exp(_spreads(reference) * reference.spread)
    if reference.unit == "s":
        want, side = Want.LESS, max(1 + TIME_SLACK, varies)
    else:
        want, side = Want.MORE, min(1 - RATE_SLACK, 1 / varies)
    said = f"{side:.0%} of the median of {reference.rests_on} in {source}"
    return Bar(side * reference.value, said, want, typical=reference.value)


def too_wide(reference: Reference) -> str:
    """How far away the bar of `reference` would be, if it would find nothing; empty if it would find something."""
    share = spec_bar(reference, "").value / reference.value
    if 1 / WIDEST <= share <= WIDEST:
        return ""
    bar = f", bar at {share:.0%} of the median" if share < FAR else ""
    return f"spread {reference.spread:.0%}{bar}"


def _spreads(reference: Reference) -> float:
    """How many standard deviations a good machine may be away, from how many values that deviation comes."""
    values = reference.machines if reference.machines >= LEAST else reference.runs
    return max(SPREADS, next_one(values, SURE)) if values > 1 else SPREADS


def bar_of(spec: Spec, check: str, variant: str, unit: str, key: Mapping[str, Scalar]) -> Bar | str:
    """The bar that `spec` has for a metric with this `key`, or why it has none."""
    reference = reference_of(spec, check, variant, key)
    if isinstance(reference, str):
        return reference
    if reference.unit != unit:
        return f"the unit in {spec.source} is {reference.unit}, not {unit}"
    return spec_bar(reference, spec.source)


def golden(check: Check, digest: str, key: str, spec: Spec | None) -> Check:
    """`check`, in which a training with this `key` came to `digest`, judged by the digest of the same training."""
    found = replace(check, details={"digest": digest, "digest_key": key})
    if spec is None or key not in spec.digests:
        return replace(found, verdict=CheckVerdict.UNJUDGED, reason=NO_DIGEST if spec is None else _unlike(spec, key))
    differs = digest != spec.digests[key]
    return replace(
        found,
        verdict=CheckVerdict.FAIL if differs else CheckVerdict.PASS,
        value=float(differs),
        unit="mismatches",
        bar=0,
        bar_source=f"the digest of the same training in {spec.source}",
        want=str(Want.LESS),
        reason=f"{digest}, not {spec.digests[key]}" if differs else "",
    )


def _unlike(spec: Spec, key: str) -> str:
    """Why no digest in `spec` judges the training `key`: the parts in which the most similar key differs."""
    here = PARTS.split(key)
    keys = [PARTS.split(known) for known in spec.digests]
    if not keys:
        return f"{spec.source} has no digest"
    there = max(keys, key=lambda known: len(set(known) & set(here)))
    left, right = ([part for part in one if part not in other] for one, other in ((there, here), (here, there)))
    return f"{UNLIKE} {spec.source}: {', '.join(left)} → {', '.join(right)}"
