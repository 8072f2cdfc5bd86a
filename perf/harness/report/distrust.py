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
            for row, begin in _marked([row for row in rows if not _by_quota(row)], Mark.CROWDED, _used, _others)
        ),
        *(
            f"{begin} Do not trust these times: the container may use the cores for a part of the time only. Raise its "
            f"quota{_within_quota(row)}."
            for row, begin in _marked([row for row in rows if _by_quota(row)], Mark.CROWDED, _withheld, _by_the_quota)
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
            f"{begin} Do not trust these times: {differ} by more than "
            f"{quantities.percent(UNSTEADY)}. Measure again while nothing else runs."
            for differ, some in _by_what_differs(rows)
            for _, begin in _marked(some, Mark.UNSTEADY, lambda row: row.summary.spread or 0.0, lambda spread: "")
        ),
    ]


def _by_what_differs(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of several passes, and those of one, whose rounds are all that can differ."""
    yield "the passes differ", [row for row in rows if row.summary.passes > 1]
    yield "the rounds differ", [row for row in rows if row.summary.passes <= 1]


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


def _used(row: Row) -> float:
    return row.benchmark.number("others_cores") or 0.0


def _withheld(row: Row) -> float:
    return row.benchmark.number("withheld_cores") or 0.0


def _by_quota(row: Row) -> bool:
    """Whether most of the cores that a row lacked were withheld by a quota, not used by other programs."""
    return 2 * _withheld(row) > (row.benchmark.number("crowding") or 0.0)


def _by_the_quota(cores: float) -> str:
    return f" (withheld: {cores:.1f} cores)"


def _within_quota(row: Row) -> str:
    """How many threads the quota lets run at one time, if these are fewer than a CPU's row had."""
    environment = row.run.perf.get("environment", {})
    quota, threads = (finite(environment.get(key)) or 1 for key in ("quota_cores", "threads"))
    most = max(1, int(quota))
    return f", or measure with fewer threads: --perf-threads={most}" if row.device == "cpu" and most < threads else ""


def _others(cores: float) -> str:
    return f" (others: {cores:.1f} cores)" if cores else ""


def _with_fewer(row: Row) -> str:
    """How many threads would have had a core each beside the other programs of a CPU's row, or that one is best."""
    environment = row.run.perf.get("environment", {})
    cores, threads = (finite(environment.get(key)) for key in ("cpu_cores", "threads"))
    others = row.benchmark.number("others_cores")
    if row.device != "cpu" or others is None or cores is None or threads is None:
        return ""
    free = int(cores - others)
    if free < 1 < threads:
        return ", or with --perf-threads=1: several threads wait for each other beside other programs"
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
