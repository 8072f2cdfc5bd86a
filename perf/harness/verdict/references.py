"""In: qualifications of good machines. Out: the references that other machines are compared with."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from perf.harness.record.check import Check, CheckVerdict
from perf.harness.record.run import RecordError, Run
from perf.harness.record.spec import Reference, Spec
from perf.harness.statistics.intervals import log_deviation
from perf.harness.verdict.checks import BUSY_CORES


def references_of(runs: Sequence[Run]) -> Spec:
    """Make references from `runs`: the median of each metric over the runs, without the metrics that `left_out` names.

    Raises RecordError if a run cannot be a reference, if two runs train to different bits, or if neither a metric nor a
    digest is left.
    """
    found: dict[tuple[str, str, str, str], list[float]] = {}
    digests: dict[str, str] = {}
    for run in runs:
        if reason := why_no_reference(run):
            raise RecordError(run.source, "", f"cannot serve as a reference: {reason}")
        for check in run.checks:
            if _is_metric(check) and not _doubtful(check):
                key = (check.check, check.variant, device_name(run, check.device), check.unit)
                found.setdefault(key, []).append(float(check.value or 0.0))
            if (digest := check.details.get("digest")) is not None:
                of = str(check.details.get("digest_key"))
                if digests.setdefault(of, str(digest)) != digest:
                    raise RecordError(run.source, "", f"trains to other bits than the runs before it: {of}")
    if not found and not digests:
        raise RecordError(", ".join(run.source for run in runs), "", "no metric that a machine could be held against")
    return Spec("", tuple(_reference(key, values) for key, values in found.items()), digests)


def _reference(key: tuple[str, str, str, str], values: Sequence[float]) -> Reference:
    spread = log_deviation(values) if len(values) > 1 else None
    return Reference(*key, statistics.median(values), spread, len(values))


def why_no_reference(run: Run) -> str | None:
    """Why `run` cannot be a reference for other machines; None if it can."""
    if run.qualification is None:
        return "not a run of pytest perf/ --perf-profile=qualify"
    if any(check.injected for check in run.checks):
        return "a fault was planted in it"
    for check in run.checks:
        if check.verdict is CheckVerdict.FAIL:
            return f"{check.name} on {check.device} is FAIL"
        if check.check == "preconditions" and check.verdict is CheckVerdict.INCONCLUSIVE:
            return f"{check.reason}; measure again when nothing else runs"
    return None


def left_out(run: Run) -> list[str]:
    """The metrics of `run` that cannot be references, each with the reason of its check.

    They are INCONCLUSIVE, or other programs used some of the cores.
    """
    return [
        f"{check.name} on {check.device}: {check.reason or 'other programs used some of its cores'}"
        for check in run.checks
        if _doubtful(check)
    ]


def _is_metric(check: Check) -> bool:
    """Whether `check` has a unit, a value above 0 and an interval. Counts and ratios without a unit have fixed bars."""
    return bool(check.unit) and check.value is not None and check.value > 0 and check.low is not None


def _doubtful(check: Check) -> bool:
    crowded = check.crowding is not None and check.crowding > BUSY_CORES
    return _is_metric(check) and (crowded or check.verdict is CheckVerdict.INCONCLUSIVE)


def device_name(run: Run, device: str) -> str:
    """The model of a device of `run`: `NVIDIA H200`; for `cpu`, the model of the CPU."""
    if device == "cpu":
        return str(run.perf.get("environment", {}).get("cpu_model"))
    facts = run.perf.get("devices", {}).get(device, {})
    return str(facts.get("name")) if isinstance(facts, dict) else device
