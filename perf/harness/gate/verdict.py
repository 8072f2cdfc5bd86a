"""What the rules have in common: what counts as a change, how sure a verdict is, and what pytest exits with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from perf.harness.record.judgement import Judgement, Verdict

# The minimum effect is what a user calls a slowdown; these follow from it: 1% and 5% belong to 2.5%. What they find,
# and what they do not accuse, was simulated (tests/test_gate_paired.py) and measured (perf/results/).
MARGIN, TARGET = 0.4, 2.0
DEFAULT_MIN_EFFECT = 0.025
# Below, the launch-to-launch spread of fresh processes hides it; above, a stopwatch will do.
LEAST_EFFECT, MOST_EFFECT = 0.005, 0.5
# Over all benchmarks, metrics and looks of one gate, the chance to call unchanged code SLOWER.
ALPHA = 0.01

EXIT_OK, EXIT_FAILED, EXIT_INCONCLUSIVE = 0, 1, 10
FAILURES = frozenset({Verdict.SLOWER, Verdict.MISSING, Verdict.INVALID})


def effect(text: str) -> float:
    """A minimum effect as typed: `2.5%` is 0.025. Raises ValueError."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not text.strip().endswith("%") or not LEAST_EFFECT <= percent / 100 <= MOST_EFFECT:
        raise ValueError(f"{text!r} is not a share from {LEAST_EFFECT:.1%} to {MOST_EFFECT:.0%}, written like 2.5%")
    return percent / 100


def tally(judgements: Iterable[Judgement]) -> Counter[Verdict]:
    return Counter(judgement.verdict for judgement in judgements)


def exit_code(judgements: Iterable[Judgement]) -> int:
    """1 where one fails, else 10 where one is INCONCLUSIVE, else 0."""
    found = tally(judgements)
    if any(found[verdict] for verdict in FAILURES):
        return EXIT_FAILED
    return EXIT_INCONCLUSIVE if found[Verdict.INCONCLUSIVE] else EXIT_OK
