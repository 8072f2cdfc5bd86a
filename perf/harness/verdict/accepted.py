"""In: judgements, and what commits accept. Out: the same judgements, those ACCEPTED that a commit accepts.

A slowdown may be intended. Whoever makes it says so in a commit, where its reviewers see it:
`Perf-Accept: training_step[*]: twice the layers`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import short_name
from perf.harness.verdict.weights import with_change

ACCEPTABLE = frozenset({Verdict.SLOWER, Verdict.HEAVIER, Verdict.MISSING})


@dataclass(frozen=True)
class Acceptance:
    """What one commit accepts: `cases` are names of benchmarks with commas between them; `*` stands for anything."""

    commit: str
    cases: str
    reason: str

    @classmethod
    def of(cls, commit: str, text: str) -> Acceptance:
        """Parse `<cases>: <reason>`. Raises ValueError."""
        cases, colon, reason = text.partition(": ")
        if not colon or not cases.strip() or not reason.strip():
            raise ValueError(f"{text!r} in commit {commit} is not of the form <cases>: <reason>")
        return cls(commit, cases.strip(), reason.strip())

    def covers(self, name: str) -> bool:
        """Whether this accepts the benchmark with this full or short name."""
        patterns = [".*".join(map(re.escape, case.strip().split("*"))) for case in self.cases.split(",")]
        return any(re.fullmatch(pattern, one) for pattern in patterns for one in (name, short_name(name)))


def with_acceptance(judgement: Judgement, given: Acceptance, *, frozen: bool) -> Judgement:
    """`judgement`, ACCEPTED if it would fail for a reason that a commit may accept, and `given` covers it.

    `frozen` says whether it is INVALID because head does not train what base trains.
    """
    acceptable = judgement.verdict in ACCEPTABLE or (judgement.verdict is Verdict.INVALID and frozen)
    if not acceptable or not given.covers(judgement.name):
        return judgement
    was = with_change(judgement)
    return replace(judgement, verdict=Verdict.ACCEPTED, reason=f"{was}; accepted in {given.commit}: {given.reason}")
