"""What the rules have in common: what counts as a change, how sure a verdict is, and what pytest exits with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perf.harness.record.judgement import Judgement, Verdict

# The minimum effect is what a user calls a slowdown; these follow from it: 1% and 5% belong to 2.5%. What they find,
# and what they do not accuse, was simulated (tests/test_gate_paired.py) and measured (perf/results/).
MARGIN, TARGET = 0.4, 2.0
DEFAULT_MIN_EFFECT = 0.025
# Over all benchmarks, metrics and looks of one gate, the chance to call unchanged code SLOWER.
ALPHA = 0.01

EXIT_OK, EXIT_FAILED, EXIT_INCONCLUSIVE = 0, 1, 10
FAILURES = frozenset({Verdict.SLOWER, Verdict.MISSING, Verdict.INVALID})


def tally(judgements: Iterable[Judgement]) -> Counter[Verdict]:
    return Counter(judgement.verdict for judgement in judgements)


def exit_code(judgements: Iterable[Judgement]) -> int:
    """1 where one fails, else 10 where one is INCONCLUSIVE, else 0."""
    found = tally(judgements)
    if any(found[verdict] for verdict in FAILURES):
        return EXIT_FAILED
    return EXIT_INCONCLUSIVE if found[Verdict.INCONCLUSIVE] else EXIT_OK
