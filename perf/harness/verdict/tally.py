"""What all rules share: what counts as a change, how certain a verdict is, and the exit codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perf.harness.record.check import Standing
from perf.harness.record.judgement import Judgement, Verdict

# The minimum effect is the smallest change that a user calls a slowdown. These two are multiples of the minimum effect:
# 2.5% gives a margin of 1% and a target of 5%. How many slowdowns they find, and how few false alarms they give, was
# simulated (tests/test_gate_paired.py) and measured (perf/results/).
MARGIN, TARGET = 0.4, 2.0
DEFAULT_MIN_EFFECT = 0.025
# The chance that one gate calls unchanged code SLOWER, over all its benchmarks, metrics and looks.
ALPHA = 0.01

EXIT_OK, EXIT_FAILED, EXIT_INCONCLUSIVE = 0, 1, 10
FAILURES = frozenset({Verdict.SLOWER, Verdict.HEAVIER, Verdict.MISSING, Verdict.INVALID})
UNDECIDED = frozenset({Verdict.INCONCLUSIVE, Verdict.NOT_JUDGED})


def standing_exit(standings: Iterable[Standing]) -> int:
    """The exit code of the worst of these verdicts on machines: 0 if all are QUALIFIED, 1 if one is NOT QUALIFIED."""
    worst = min(standings, key=list(Standing).index)
    if worst is Standing.QUALIFIED:
        return EXIT_OK
    return EXIT_FAILED if worst is Standing.NOT_QUALIFIED else EXIT_INCONCLUSIVE


def tally(judgements: Iterable[Judgement]) -> Counter[Verdict]:
    return Counter(judgement.verdict for judgement in judgements)


def exit_code(judgements: Iterable[Judgement]) -> int:
    """1 if any judgement is in FAILURES, else 10 if any is in UNDECIDED, else 0."""
    found = tally(judgements)
    if any(found[verdict] for verdict in FAILURES):
        return EXIT_FAILED
    return EXIT_INCONCLUSIVE if any(found[verdict] for verdict in UNDECIDED) else EXIT_OK
