"""In: the cases of runs. Out: how many were measured, and why the others were not, in one line per run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from perf.harness.record.run import Case, Run, short_name, some_of
from perf.harness.report.layout import Notes, shorten
from perf.harness.verdict.speedups import letters

OUTCOMES = (
    "measured",
    "ran-once",
    "skipped",
    "out-of-memory",
    "not-run",
    "slower",
    "inconclusive",
    "missing",
    "failed",
)
# The number of these is shown even if it is 0, because a missing number could mean anything.
ALWAYS = ("measured", "skipped")
# pytest calls these failed. If none of them occurred, the line says `failed 0`.
FAILURES = ("failed", "out-of-memory", "slower", "missing")
# A line has up to this many reasons or names, and the number of the others.
LISTED = 3
MAX_REASON = 200


def case_counts(runs: Sequence[Run]) -> list[Notes]:
    """The number of cases with each outcome: one line for each run that has cases."""
    lines = [
        (f"{letter}: " if letter else "") + _tally(run.cases)
        for run, letter in zip(runs, letters(len(runs)), strict=True)
        if run.cases
    ]
    return [Notes(lines)] if lines else []


def _tally(cases: Sequence[Case]) -> str:
    known = Counter(case.outcome for case in cases)
    always = ALWAYS if any(known[name] for name in FAILURES) else (*ALWAYS, FAILURES[0])
    outcomes = [name for name in OUTCOMES if known[name] or name in always]
    outcomes += sorted(set(known) - set(OUTCOMES))
    return " · ".join(outcome(name, [case for case in cases if case.outcome == name]) for name in outcomes)


def outcome(name: str, cases: Sequence[Case]) -> str:
    """The number of `cases` with the outcome `name`, and their reasons or names: `skipped 12 (no CUDA)`."""
    text = f"{shorten(name.replace('-', ' '), MAX_REASON)} {len(cases)}"
    details: list[str] = []
    if name == "skipped":
        details = _reasons(cases)
    elif name not in ("measured", "ran-once"):
        details = [shorten(case.name.split("::")[-1], MAX_REASON) for case in cases]
    if len(details) > LISTED + 1:  # "and 1 more" is no shorter than most names
        details = [*details[:LISTED], f"and {len(details) - LISTED} more"]
    return f"{text} ({'; '.join(details)})" if details else text


def by_reason(cases: Sequence[Case]) -> list[str]:
    """Each reason with the names of its cases, the most frequent first: `no CUDA: epoch[cuda], inference[cuda]`."""
    found: dict[str, list[str]] = {}
    for case in cases:
        found.setdefault(shorten(case.reason, MAX_REASON) or "no reason", []).append(
            shorten(short_name(case.name), MAX_REASON)
        )
    return [f"{reason}: {some_of(found[reason])}" for reason in sorted(found, key=lambda one: -len(found[one]))]


def _reasons(cases: Sequence[Case]) -> list[str]:
    """Each reason once, the most frequent first. If there are several reasons, each has the number of its cases."""
    found = Counter(shorten(case.reason, MAX_REASON) for case in cases if case.reason)
    return [*found] if len(found) == 1 else [f"{number}: {reason}" for reason, number in found.most_common()]
