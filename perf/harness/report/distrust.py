"""In: rows. Out: sentences that say which times not to trust, for each device, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from perf.harness.record.run import finite
from perf.harness.report import quantities
from perf.harness.report.phrases import called, several_networks
from perf.harness.verdict.fastest import grouped
from perf.harness.verdict.marks import UNSTEADY, Mark
from perf.harness.verdict.rows import Row

MEETING = "Threads that wait for each other often do that: try --perf-threads=1."
# The cases that a warning names; each row has its marks, too.
MOST_NAMED = 5
CHOOSING = "Each process may find the device at another clock, or choose other algorithms for the same operations."


def distrusted(rows: Sequence[Row]) -> list[str]:
    """A warning for each mark and each device that has it: first crowded times, at last unsteady ones."""
    return [
        *(
            f"{begin} Do not trust these times: other programs used the same cores. Measure again while nothing else "
            f"runs{_with_fewer(row)}."
            for row, begin in _marked(
                rows, Mark.CROWDED, lambda row: row.benchmark.number("others_cores") or 0.0, _others
            )
        ),
        *(
            f"{begin} The device slowed itself down, because of heat or its power supply. With good cooling and power "
            "it is faster."
            for _, begin in _marked(rows, Mark.THROTTLED, lambda row: row.throttled or 0.0, _rounds)
        ),
        *(
            f"{begin} They are fast in some processes, and slow in others.{_why_slow(row)}"
            for row, begin in _marked(rows, Mark.BIMODAL, _slower, lambda slower: f" ({quantities.times(slower)})")
        ),
        *(
            f"{begin} Do not trust these times: the {'passes' if row.summary.passes > 1 else 'rounds'} differ by more "
            f"than {quantities.percent(UNSTEADY)}. Measure again while nothing else runs."
            for row, begin in _marked(rows, Mark.UNSTEADY, lambda row: row.summary.spread or 0.0, lambda spread: "")
        ),
    ]


def _marked(
    rows: Sequence[Row], mark: Mark, badness: Callable[[Row], float], words: Callable[[float], str]
) -> Iterator[tuple[Row, str]]:
    """For each device, its worst row and a text, worst case first: `CROWDED on cpu: training step at batch 64.`"""
    several = several_networks(rows)
    worst_first = sorted((row for row in rows if mark in row.marks), key=badness, reverse=True)
    for group in grouped(worst_first, lambda row: row.label):
        cases = [called(row, several) + words(badness(row)) for row in group[:MOST_NAMED]]
        more = [f"and {len(group) - MOST_NAMED} more"] if len(group) > MOST_NAMED else []
        yield group[0], f"{mark} on {group[0].label}: {', '.join([*cases, *more])}."


def _others(cores: float) -> str:
    return f" (others: {cores:.1f} cores)" if cores else ""


def _with_fewer(row: Row) -> str:
    """How many threads would have had a core each beside the other programs of a CPU's row, if that is known."""
    environment = row.run.perf.get("environment", {})
    cores, threads = (finite(environment.get(key)) for key in ("cpu_cores", "threads"))
    others = row.benchmark.number("others_cores")
    if row.device != "cpu" or others is None or cores is None or threads is None:
        return ""
    free = int(cores - others)
    return f", or with --perf-threads={free}, as many cores as were free" if 1 <= free < threads else ""


def _why_slow(row: Row) -> str:
    if row.device != "cpu":
        return f" {CHOOSING}"
    one = finite(row.run.perf.get("environment", {}).get("threads")) == 1
    return "" if one else f" {MEETING}"


def _rounds(share: float) -> str:
    return f" ({quantities.percent(share)} of the rounds)" if share < 1 else ""


def _slower(row: Row) -> float:
    return row.kinds.slow / row.kinds.fast if row.kinds else 1.0
