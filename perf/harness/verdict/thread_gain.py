"""In: the times of training steps with one thread and with all threads. Out: where all threads are worth it."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.verdict.rows import Row

# The two medians are of 30 calls each, which differ by less than this for the same code on a quiet machine.
WORTH = 1.1
# Beside other programs, these few calls may meet a moment in which threads wait for each other: 944 ms were seen for a
# step that took 93 ms in all passes. A time so many times that of all rounds is not the step's.
DISTURBED = 2.0


def gain(row: Row) -> float | None:
    """How much faster the step is with all threads than with one; None if that was not measured."""
    one, every = row.benchmark.number("one_thread_s"), row.benchmark.number("all_threads_s")
    if not one or not every:
        return None
    usual = row.summary.median  # with all threads, too
    return one / (usual if every > DISTURBED * usual else every)


def worth(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows in which all threads are worth it, and those in which one thread is as fast."""
    known = [(row, faster) for row in rows if (faster := gain(row)) is not None]
    return [row for row, faster in known if faster >= WORTH], [row for row, faster in known if faster < WORTH]
