"""In: the records of base runs and of head. Out: judgements, and what a reader must know of the runs besides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import Benchmark, Case, Medians, Run, short_name
from perf.harness.record.values import Scalar
from perf.harness.statistics.intervals import summary
from perf.harness.verdict.acceptance import why_partial
from perf.harness.verdict.stored import judge_all, missing
from perf.harness.workload.benchmarks import timed

# As git shortens a commit, with room for a large repository.
SHORT_COMMIT = 10
# Of a fingerprint's field in a message.
MAX_VALUE = 60


class Incomparable(Exception):
    """Runs whose difference would be one of machines, versions or settings, or that have no times: `str()` says it."""


@dataclass(frozen=True)
class Base:
    """The stored runs that head is compared with, under `label`; `fingerprint` is empty where it is not known."""

    label: str
    runs: tuple[Medians, ...]
    fingerprint: Mapping[str, Scalar]
    commit: str
    smoke: bool

    @classmethod
    def of(cls, label: str, files: Sequence[Run]) -> Base:
        """Base from files, oldest first, one at least. Raises Incomparable."""
        for file in files:
            check_comparable(files[0], file)
        runs = [run for file in files for run in medians_of(file)]
        # The same run, given twice or in two baselines, is one sample.
        unique = {(run.datetime, tuple(sorted(run.seconds.items()))): run for run in runs}
        return cls(
            label,
            tuple(unique.values()),
            next((file.fingerprint for file in files if file.fingerprint), {}),
            files[-1].commit,
            any(file.smoke for file in files),
        )

    def seconds(self, names: Collection[str]) -> dict[str, list[float]]:
        """The medians of each benchmark over the runs, under those of head's `names` that mean the same one."""
        found: dict[str, list[float]] = {}
        for run in self.runs:
            for name, median in _renamed(run.seconds, names).items():
                found.setdefault(name, []).append(median)
        return found

    @property
    def git_ref(self) -> str:
        """The commit of the newest run, short, or `REF` where it is not known."""
        return self.commit[:SHORT_COMMIT] if re.fullmatch(r"[0-9a-f]{7,64}", self.commit) else "REF"


@dataclass(frozen=True)
class Compared:
    """`skipped` are head's cases that base has neither; `unselected` of base's head was not asked for."""

    judgements: tuple[Judgement, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[Case, ...] = ()
    unselected: int = 0

    @property
    def overlap(self) -> bool:
        return any(judgement.verdict not in (Verdict.NEW, Verdict.MISSING) for judgement in self.judgements)


def medians_of(run: Run) -> tuple[Medians, ...]:
    """The runs of a file: one, or those of an accepted baseline; without benchmarks whose times are no result."""
    if run.baseline is not None:
        return run.baseline.runs
    measured = (benchmark for benchmark in run.benchmarks if timed(benchmark.text("benchmark")))
    seconds = {benchmark.fullname: _median_s(benchmark) for benchmark in measured}
    return (Medians(run.file_name, run.datetime, run.commit, seconds),)


def _median_s(benchmark: Benchmark) -> float:
    return summary(benchmark.passes).median if benchmark.passes else benchmark.stats["median"]


def compare(bases: Sequence[Run], head: Run, min_effect: float) -> Compared:
    """Head against base files. Raises Incomparable."""
    base = Base.of("", bases)
    check_comparable(bases[0], head)
    head_s = medians_of(head)[-1].seconds
    base_s = base.seconds(head_s)
    judgements = judge_all(head_s, base_s, min_effect, smoke=base.smoke or head.smoke)
    unselected = 0
    if head.unfit and head.complete:
        kept = [judgement for judgement in judgements if judgement.verdict is not Verdict.MISSING]
        unselected, judgements = len(judgements) - len(kept), kept
    cases = {case.name: case for case in head.cases}
    return Compared(
        tuple(_explained(judgement, base_s, cases) for judgement in judgements),
        tuple(_notes(bases, head)),
        tuple(case for case in head.cases if case.outcome == "skipped" and case.name not in base_s),
        unselected,
    )


def check_comparable(base: Run, head: Run) -> None:
    """Raises Incomparable where one is a gate's, or where both have a fingerprint and these differ."""
    for run in (base, head):
        if "gate_run" in run.perf:
            raise Incomparable(
                f"{run.source} was kept by a gate, which has compared base and head already; "
                f"to read it: python -m perf report {run.source}"
            )
    if base.fingerprint and head.fingerprint and (fields := differences(base.fingerprint, head.fingerprint)):
        raise Incomparable(f"{base.source} → {head.source}: not comparable, for they differ in {', '.join(fields)}")


def differences(base: Mapping[str, Scalar], head: Mapping[str, Scalar]) -> list[str]:
    """`torch: 2.11.0 → 2.15.0` for each field in which two fingerprints differ."""
    return [
        f"{key}: {_shown(base, key)} → {_shown(head, key)}"
        for key in dict.fromkeys([*base, *head])
        if key not in base or key not in head or base[key] != head[key]
    ]


def _shown(fingerprint: Mapping[str, Scalar], key: str) -> str:
    if key not in fingerprint:
        return "not recorded"
    value = fingerprint[key]
    return "none" if value is None else str(value)[:MAX_VALUE]


def _explained(judgement: Judgement, base_s: Mapping[str, Sequence[float]], cases: Mapping[str, Case]) -> Judgement:
    """A MISSING one with what became of its case, where head says."""
    case = cases.get(judgement.name)
    if judgement.verdict is not Verdict.MISSING or case is None:
        return judgement
    reason = f"{case.outcome}: {case.reason}" if case.reason else case.outcome
    return missing(judgement.name, base_s[judgement.name], reason)


def _notes(bases: Sequence[Run], head: Run) -> list[str]:
    notes = [
        f"PARTIAL: {side} {run.source}: {reason}."
        for side, run in [*(("base", base) for base in bases), ("head", head)]
        if (reason := why_partial(run))
    ]
    unknown = [run.source for run in (*bases, head) if not run.fingerprint]
    if unknown:
        notes.append(f"No fingerprint in {', '.join(unknown)}: whether machine and settings are the same is not known.")
    return notes


def _renamed(seconds: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    """`seconds` under `names`, where a benchmark moved to another file or root and kept a name of its own."""
    moved = _by_short_name(set(names) - set(seconds))
    here = _by_short_name(set(seconds) - set(names))
    return {
        moved[own] if (own := short_name(name)) in moved and here.get(own) == name else name: median
        for name, median in seconds.items()
    }


def _by_short_name(names: Collection[str]) -> dict[str, str]:
    """Full names by own names, where only one has it."""
    found = Counter(map(short_name, names))
    return {own: name for name in names if found[own := short_name(name)] == 1}
