"""In: a run, or its cases. Out: why later runs must not be compared with this run, or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perf.harness.record.run import PARTIAL, Case, Run

# A run in which a case has one of these outcomes cannot be compared. A skipped case does no harm, because there was
# nothing to measure.
SPOILING = ("failed", "slower", "inconclusive", "missing", "out-of-memory", "not-run")


def spoiled(cases: Iterable[Case]) -> list[str]:
    """The outcomes that prevent a run with these cases from being a baseline, with their numbers: `2 failed`."""
    found = Counter(case.outcome for case in cases)
    return [f"{found[outcome]} {outcome.replace('-', ' ')}" for outcome in SPOILING if found[outcome]]


def why_partial(run: Run) -> str | None:
    """Why `run` is not a whole run in which every case went well; None if it is."""
    reasons = [*([] if run.complete else ["it did not finish"]), *run.unfit, *spoiled(run.cases)]
    if not reasons and run.file_name.startswith(PARTIAL):
        reasons.append("it was kept as partial")
    return ", ".join(reasons) or None


def why_unacceptable(run: Run) -> str | None:
    """Why `run` cannot be accepted as a baseline; None if it can."""
    if not run.fingerprint:
        return "it has no fingerprint, so its machine is unknown"
    if run.gate:
        return "a gate compared base with head; accept a run that measured"
    if run.qualification:
        return "a qualification judged the machine; accept a run that measured"
    if run.smoke:
        return "a smoke run is too short for a verdict"
    if partial := why_partial(run):
        return f"not a whole run: {partial}"
    return None if run.benchmarks else "nothing was measured"
