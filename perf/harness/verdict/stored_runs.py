"""In: the records of the base runs and of the head run. Out: judgements, and notes on the runs for the reader."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import Benchmark, Case, Medians, Run, short_name, some_of, unique
from perf.harness.record.values import Scalar
from perf.harness.statistics.intervals import summary
from perf.harness.verdict.acceptance import why_partial
from perf.harness.verdict.stored import judge_all, missing_judgement
from perf.harness.workload.benchmarks import timed

# The length of a short commit, as git writes it, with room for a large repository.
SHORT_COMMIT = 10
# A message shows at most this many characters of a field of a fingerprint.
MAX_VALUE = 60
# pytest-benchmark's options that change what a time means.
TIMING = ("timer", "disable_gc")


class Incomparable(Exception):
    """The runs cannot be compared: machines, versions or settings differ, or a run has no times. `str()` says why."""


@dataclass(frozen=True)
class Base:
    """The stored runs that head is compared with. `label` names them. `fingerprint` is empty if it is unknown.

    `selection`: they are runs of the same part of `perf/` as head.
    """

    label: str
    runs: tuple[Medians, ...]
    fingerprint: Mapping[str, Scalar]
    commit: str
    smoke: bool
    selection: bool = False

    @classmethod
    def of(cls, label: str, files: Sequence[Run], selection: bool = False) -> Base:
        """Make a Base from one or more files, oldest first. Raises Incomparable if the files cannot be compared."""
        for file in files:
            check_comparable(files[0], file)
        runs = [run for file in files for run in medians_of(file)]
        # A run that is given twice, or that is in two baselines, is one sample.
        unique = {(run.datetime, tuple(sorted(run.seconds.items()))): run for run in runs}
        return cls(
            label,
            tuple(unique.values()),
            next((file.fingerprint for file in files if file.fingerprint), {}),
            files[-1].commit,
            any(file.smoke for file in files),
            selection,
        )

    def seconds(self, names: Collection[str]) -> dict[str, list[float]]:
        """The medians of each benchmark, one for each run that has it.

        If a benchmark moved to another file, the key is its new name, from head's `names`.
        """
        found: dict[str, list[float]] = {}
        for run in self.runs:
            for name, median in _renamed(run.seconds, names).items():
                found.setdefault(name, []).append(median)
        return found

    @property
    def git_ref(self) -> str:
        """The short commit of the newest run, or `REF` if the commit is unknown."""
        return self.commit[:SHORT_COMMIT] if re.fullmatch(r"[0-9a-f]{7,64}", self.commit) else "REF"


@dataclass(frozen=True)
class ComparedRuns:
    """The result of a comparison. `skipped` are the cases that head skipped and that base does not have either.

    `unselected` is the number of base's benchmarks that head was not asked to measure.
    """

    judgements: tuple[Judgement, ...]
    notes: tuple[str, ...]
    skipped: tuple[Case, ...]
    unselected: int

    @property
    def overlap(self) -> bool:
        return any(judgement.verdict not in (Verdict.NEW, Verdict.MISSING) for judgement in self.judgements)


def medians_of(run: Run) -> tuple[Medians, ...]:
    """The runs in a file: one, or those of an accepted baseline. Benchmarks that do not measure time are left out."""
    if run.baseline is not None:
        return run.baseline.runs
    seconds = {name: _median_s(benchmark) for name, benchmark in _timed(run).items()}
    return (Medians(run.file_name, run.datetime, run.commit, seconds),)


def _timed(run: Run) -> dict[str, Benchmark]:
    """The benchmarks of `run` that measure time, by full name. A name that a foreign file has twice gets a number."""
    measured = [benchmark for benchmark in run.benchmarks if timed(benchmark.text("benchmark"))]
    return dict(zip(unique(benchmark.fullname for benchmark in measured), measured, strict=True))


def _median_s(benchmark: Benchmark) -> float:
    return summary(benchmark.passes).median if benchmark.passes else benchmark.stats["median"]


def compare(bases: Sequence[Run], head: Run, min_effect: float) -> ComparedRuns:
    """Compare head with the base files. Raises Incomparable."""
    base = Base.of("", bases)
    check_comparable(bases[0], head)
    head_s = medians_of(head)[-1].seconds
    base_s = base.seconds(head_s)
    judgements = judge_all(head_s, base_s, min_effect, smoke=base.smoke or head.smoke)
    cases = {case.name: case for case in head.cases}
    unselected = 0
    if head.unfit and head.complete:  # a case that was selected, and failed, is MISSING all the same
        kept = [one for one in judgements if one.verdict is not Verdict.MISSING or one.name in cases]
        unselected, judgements = len(judgements) - len(kept), kept
    differing = _other_options(bases, head)
    judgements = [
        replace(one, verdict=Verdict.INCONCLUSIVE, reason=differing[one.name], low=None, high=None)
        if one.name in differing and one.ratio
        else one
        for one in judgements
    ]
    return ComparedRuns(
        tuple(_explained(judgement, base_s, cases) for judgement in judgements),
        tuple(_notes(bases, head)),
        tuple(case for case in head.cases if case.outcome == "skipped" and case.name not in base_s),
        unselected,
    )


def check_comparable(base: Run, head: Run) -> None:
    """Raise Incomparable if a gate made one of the runs, or if the machines or the settings of the two differ.

    If a run has no fingerprint, pytest-benchmark's own facts on the machine are compared.
    """
    for run in (base, head):
        if run.gate is not None:
            raise Incomparable(
                f"{run.source} was kept by a gate, which has compared base and head already; "
                "the command `report` prints what it found"
            )
    if base.fingerprint and head.fingerprint:
        fields = changed_fields(base.fingerprint, head.fingerprint)
    else:
        fields = changed_fields(*_known_of_both(machine_facts(base), machine_facts(head)))
    if fields:
        raise Incomparable(
            f"{base.source} → {head.source}: cannot be compared, because they differ in {', '.join(fields)}; "
            "the command `report` shows both"
        )


def machine_facts(run: Run) -> dict[str, Scalar]:
    """The facts on the machine that pytest-benchmark keeps, and that decide the speed."""
    cpu = run.machine.get("cpu")
    facts = cpu if isinstance(cpu, Mapping) else {}
    python = str(run.machine.get("python_version") or "").split(".")
    return {
        "cpu": facts.get("brand_raw"),
        "cores": facts.get("count"),
        "machine": run.machine.get("machine"),
        "system": run.machine.get("system"),
        "implementation": run.machine.get("python_implementation"),
        "python": ".".join(python[:2]),
    }


def _known_of_both(*facts: Mapping[str, Scalar]) -> list[dict[str, Scalar]]:
    """`facts` without what is unknown in one of them."""
    known = [key for key in facts[0] if all(one.get(key) for one in facts)]
    return [{key: one[key] for key in known} for one in facts]


def _other_options(bases: Sequence[Run], head: Run) -> dict[str, str]:
    """Which benchmarks were not measured in the same way in all runs, and how they differ."""
    found: dict[str, str] = {}
    now = _timed(head)
    for base in bases:
        for name, then in _timed(base).items():
            if name not in now:
                continue
            options = ({key: str(one.options.get(key, "")) for key in TIMING} for one in (then, now[name]))
            if fields := changed_fields(*_known_of_both(*options)):
                found[name] = f"measured in another way: {', '.join(fields)}"
    return found


def changed_fields(base: Mapping[str, Scalar], head: Mapping[str, Scalar]) -> list[str]:
    """One text for each field in which two fingerprints differ: `torch: 2.11.0 → 2.15.0`."""
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
    """Add to a MISSING judgement what happened to its case, if head says so. Return any other judgement unchanged."""
    case = cases.get(judgement.name)
    if judgement.verdict is not Verdict.MISSING or case is None:
        return judgement
    reason = f"{case.outcome}: {case.reason}" if case.reason else case.outcome
    if case.outcome == "measured":
        reason = "it was measured, but its result is not in the file"
    return missing_judgement(judgement.name, base_s[judgement.name], reason)


def _notes(bases: Sequence[Run], head: Run) -> list[str]:
    partial: dict[tuple[str, str], list[str]] = {}
    for side, run in [*(("base", base) for base in bases), ("head", head)]:
        if reason := why_partial(run):
            kind = "PARTIAL" if why_partial(replace(run, unfit=())) else "A part was selected"
            partial.setdefault((f"{kind}: {side}", reason), []).append(run.source)
    notes = [f"{begin} {some_of(sources)}: {reason}." for (begin, reason), sources in partial.items()]
    for run in (*bases, head):
        if twice := [name for name, count in Counter(one.fullname for one in run.benchmarks).items() if count > 1]:
            notes.append(f"{run.source} has a name more than once; #2 is the second: {some_of(twice)}.")
    unknown = [run.source for run in (*bases, head) if not run.fingerprint]
    if unknown:
        known = "of machine and settings, only what pytest-benchmark keeps was compared"
        notes.append(f"No fingerprint in {some_of(unknown)}: {known}.")
    return [*notes, *several_hosts([*bases, head])]


def several_hosts(runs: Sequence[Run]) -> list[str]:
    """A note, if the machines of `runs` have different names: machines of the same kind may differ in speed, too."""
    names = dict.fromkeys(run.host for run in runs if run.host and run.baseline is None)
    if len(names) < 2:
        return []
    return [f"Measured on {len(names)} machines ({some_of(list(names))}): a difference may be one between them."]


def _renamed(seconds: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    """`seconds`, with the name from `names` for each benchmark that moved to another file or root.

    A moved benchmark is found by its short name, if only one benchmark on each side has that short name.
    """
    moved = _by_short_name(set(names) - set(seconds))
    here = _by_short_name(set(seconds) - set(names))
    return {
        moved[own] if (own := short_name(name)) in moved and here.get(own) == name else name: median
        for name, median in seconds.items()
    }


def _by_short_name(names: Collection[str]) -> dict[str, str]:
    """The full name for each short name that only one of `names` has."""
    found = Counter(map(short_name, names))
    return {own: name for name in names if found[own := short_name(name)] == 1}
