"""In: qualifications of good machines. Out: the references that other machines are compared with; what was left out."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perf.harness.record.check import Check, CheckVerdict, Standing
from perf.harness.record.run import RecordError, Run, section
from perf.harness.record.spec import LEAST, Reference, Spec
from perf.harness.record.values import Scalar
from perf.harness.statistics.intervals import MAD_TO_SD, log_deviation, next_one, robust_spread
from perf.harness.verdict.by_spec import too_wide
from perf.harness.verdict.checks import BUSY_CORES, SURE
from perf.harness.verdict.keys import key_of, keys_apart

# A machine whose median is this many robust standard deviations from that of all is not one of them (Iglewicz and
# Hoaglin 1993). Where there are few machines, it must be further away, in proportion to `next_one`. Good machines may
# differ by SAME_KIND all the same: of three that agree, any fourth would be far away.
FAR, SAME_KIND, MANY = 3.5, 0.02, statistics.NormalDist().inv_cdf(SURE)
# Fewer values do not give a robust standard deviation: it would be so small, by chance, that 4% of good machines fail.
ROBUST = 16
# What tells machines apart, and what firmware says where nobody has set it.
SERIALS = ("board serial", "serial", "UUID")
UNSET = re.compile(r"(?i)0*(123456789)?0*|\D*|to be filled.*|.*default.*|.*serial.*|not .*|none|(.)\2*")
# Two files with the same values are one run, whatever their hosts, if there are so many values, or more.
COPIED = 3
FINDS_NOTHING = (
    "the values differ so much that a bar would find nothing; measure while nothing else runs, and more often"
)


@dataclass(frozen=True)
class MadeSpec:
    """A spec from the runs `used`; the files that were `skipped` and the metrics `left_out`, each with the reason."""

    spec: Spec
    used: Sequence[Run]
    skipped: Sequence[str]
    left_out: Sequence[str]


@dataclass
class _Metric:
    """The values of one metric by machine; `runs` counts them."""

    key: Mapping[str, Scalar]
    by_machine: dict[str, list[float]] = field(default_factory=dict)


def references_of(runs: Sequence[Run], *, strict: bool = False) -> MadeSpec:
    """Make references from whole, conclusive runs of quiet machines: the median of each metric over the machines.

    Other runs are skipped or, if `strict`, refused. Machines that stand apart are left out of a metric, and so is a
    metric with fewer than LEAST machines (or runs, if there are fewer machines). Raises RecordError if a run is
    refused, or if nothing is left.
    """
    used: list[Run] = []
    skipped, left_out = [], []
    found: dict[tuple[str, ...], _Metric] = {}
    digests: dict[str, dict[str, str]] = {}  # by what was trained, and by run
    for run in runs:
        if reason := why_no_reference(run):
            if strict:
                raise RecordError(run.source, "", f"cannot serve as a reference: {reason}")
            skipped.append(f"{run.source}: {reason}")
            continue
        if copied := next((one for one in used if _is_copy(run, one)), None):
            skipped.append(f"{run.source}: a copy of {copied.source}")
            continue
        used.append(run)
        allowed = _allowed(run)
        for check in run.checks:
            if _doubtful(check, allowed):
                reason = check.reason or "other programs used some of its cores"
                left_out.append(f"{run.source}: {check.name} on {check.device}: {reason}")
            elif _is_metric(check):
                key = key_of(check.check, check.device, run.perf)
                of = (check.check, check.variant, check.unit, *map(str, key.items()))
                metric = found.setdefault(of, _Metric(key))
                metric.by_machine.setdefault(machine_of(run), []).append(float(check.value or 0.0))
            if (digest := check.details.get("digest")) is not None:
                digests.setdefault(str(check.details.get("digest_key")), {})[run.source] = str(digest)
    references: list[Reference] = []
    without: dict[str, list[str]] = {}  # metrics that have no bar, by reason
    for of, metric in found.items():
        alike = [one.key for other, one in found.items() if other[:3] == of[:3]]
        differs = keys_apart(alike)[alike.index(metric.key)]
        name = f"{of[0]} {of[1]}".rstrip() + (f" ({differs})" if differs else "")
        kept, outliers = _kept(metric)
        left_out += [f"{name}: {outlier}" for outlier in outliers]
        match _reference(of, metric.key, kept):
            case _NoBar(reason, detail):
                without.setdefault(reason, []).append(f"{name}{detail}")
            case reference:
                references.append(reference)
    left_out += [f"{', '.join(names)}: {reason}" for reason, names in without.items()]
    golden: dict[str, str] = {}
    for training, by_run in digests.items():
        digest, said = _most(training, by_run)
        golden |= {} if digest is None else {training: digest}
        left_out += said
    if not references and not golden:
        why = "; ".join([*skipped, *left_out]) or "none of them has a metric that a machine could be held against"
        raise RecordError(", ".join(run.source for run in runs), "", f"no reference can be made: {why}")
    return MadeSpec(Spec("", tuple(references), golden), used, skipped, left_out)


@dataclass(frozen=True)
class _NoBar:
    """Why a metric has no bar; the `detail` is the metric's own, the `reason` may be that of several."""

    reason: str
    detail: str = ""


def _kept(metric: _Metric) -> tuple[dict[str, list[float]], list[str]]:
    """The values of `metric` by machine, without machines that stand apart; these in words."""
    medians = {machine: statistics.median(values) for machine, values in metric.by_machine.items()}
    outliers = _far(medians)
    said = [
        f"{machine} stands apart: {medians[machine] / statistics.median(medians.values()):.0%} of the median"
        for machine in outliers
    ]
    return {machine: values for machine, values in metric.by_machine.items() if machine not in outliers}, said


def _reference(of: Sequence[str], key: Mapping[str, Scalar], kept: Mapping[str, list[float]]) -> Reference | _NoBar:
    """The reference of a metric from its values by machine."""
    check, variant, unit = of[:3]
    medians = {machine: statistics.median(values) for machine, values in kept.items()}
    values = [value for one in kept.values() for value in one]
    samples = list(medians.values()) if len(kept) >= LEAST else values
    if len(samples) < LEAST:
        few = f"{len(values)} run{'s' * (len(values) != 1)} of {len(kept)} machine{'s' * (len(kept) != 1)}"
        return _NoBar(f"rests on {few}, and a bar needs {LEAST}")
    spread = (robust_spread if len(samples) >= ROBUST else log_deviation)(samples)
    found = Reference(check, variant, unit, statistics.median(samples), spread, len(values), len(kept), key)
    if wide := too_wide(found):
        far = max(kept, key=lambda machine: abs(math.log(medians[machine] / found.value)))
        furthest = f"; the furthest: {far}, {medians[far] / found.value:.0%}" if len(kept) > 1 else ""
        return _NoBar(FINDS_NOTHING, f" ({wide}{furthest})")
    return found


def _far(medians: Mapping[str, float]) -> list[str]:
    """The machines that stand apart from the others, which must be more than half, and at least LEAST."""
    if len(medians) <= LEAST:
        return []
    middle = statistics.median(medians.values())
    apart = {machine: abs(value / middle - 1) for machine, value in medians.items()}
    usual = max(MAD_TO_SD * statistics.median(apart.values()), SAME_KIND)
    far = FAR * next_one(len(medians), SURE) / MANY
    return [machine for machine, distance in apart.items() if distance > far * usual]


def _most(training: str, by_run: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """The digest to which more than half of the runs train; those that train to another one are named."""
    (digest, count), *_ = Counter(by_run.values()).most_common()
    if 2 * count <= len(by_run):
        return None, [f"replay golden: these runs train to different bits: {', '.join(by_run)} ({training})"]
    others = [source for source, one in by_run.items() if one != digest]
    return digest, [f"replay golden: {source} trains to other bits than {count} others" for source in others]


def _is_copy(run: Run, other: Run) -> bool:
    """Whether these are two files of one run: no two machines measure several values to the last bit."""
    if [(one.name, one.device, one.value) for one in run.checks] != [
        (one.name, one.device, one.value) for one in other.checks
    ]:
        return False
    if machine_of(run) != machine_of(other):
        return sum(map(_is_metric, run.checks)) >= COPIED
    return run.datetime != "" and run.datetime == other.datetime


def machine_of(run: Run) -> str:
    """What tells the machine of `run` from others: a serial number, else the name of its host.

    Containers of one machine have several names, and clones of a virtual machine have one. Runs without any count as
    one machine.
    """
    for part in section(run.perf, "hardware").values():
        known = section(part, "known")
        for name in SERIALS:
            if not UNSET.fullmatch(found := str(known.get(name) or "")):
                return f"{name} {found}"
    return str(run.perf.get("host_name") or "a machine without a name")


def why_no_reference(run: Run) -> str | None:
    """Why `run` cannot be a reference for other machines; None if it can."""
    if run.qualification is None:
        return "not a run of pytest perf/ --perf-profile=qualify"
    if any(check.injected for check in run.checks):
        return "a fault was planted in it"
    if not run.complete:
        return "the run did not finish"
    for check in run.checks:
        if check.verdict is CheckVerdict.FAIL:
            return f"{check.name} on {check.device} is FAIL"
    if run.qualification.standing in (Standing.INCONCLUSIVE, Standing.NOT_QUALIFIED):
        return f"it is {run.qualification.standing}: {'; '.join(run.qualification.reasons[:1])}"
    loads = [check for check in run.checks if check.check == "preconditions" and check.variant.startswith("load")]
    if not any(check.verdict is CheckVerdict.PASS for check in loads):
        return "it does not say whether other programs ran"
    return None


def _is_metric(check: Check) -> bool:
    """Whether `check` has a unit, a value above 0 and an interval. Counts and ratios without a unit have fixed bars."""
    return bool(check.unit) and check.value is not None and check.value > 0 and check.low is not None


def _allowed(run: Run) -> float:
    """How many cores others were allowed to take in `run`."""
    bars = [check.bar for check in run.checks if check.check == "preconditions" and check.variant.startswith("load")]
    return min((bar for bar in bars if bar is not None), default=BUSY_CORES)


def _doubtful(check: Check, allowed: float) -> bool:
    crowded = check.crowding is not None and check.crowding > allowed
    return _is_metric(check) and (crowded or check.verdict is CheckVerdict.INCONCLUSIVE)
