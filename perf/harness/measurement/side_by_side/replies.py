"""In: what a worker has answered. Out: the same, typed, because a worker runs the subject's code."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from perf.harness.measurement.side_by_side.link import SideError
from perf.harness.workload.cycle import MOST

# No step takes longer than a day.
Time = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
CpuTime = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Wanted = TypeVar("Wanted")


class Cases(msgspec.Struct, frozen=True):
    """What a side has: the axes of its cases by benchmark, and the files of its tree that it opened for this.

    `unable` are the benchmarks that its training cannot have, each with the reason.
    """

    python: str
    torch: str
    shapes: str
    data: str
    cases: dict[str, list[tuple[str, int | None, str | None, str, str, str | None]]]
    opened: list[str] = []
    unable: dict[str, str] = {}


class Loaded(msgspec.Struct, frozen=True):
    """The digests of the data, which may be the training's `own`, and of the source files by their path."""

    data: str
    sources: dict[str, str]
    own: bool = False
    opened: list[str] = []


class Ready(msgspec.Struct, frozen=True):
    """The time of a step [s], which is a cycle of `cycle` steps of a training that does not do the same in each."""

    step_s: Time
    cycle: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = 1


class Visited(msgspec.Struct, frozen=True):
    """The times of the steps but the first, or their mean [s per step], and the time of all of them together [s]."""

    wall_s: tuple[Time, ...]
    cpu_s: tuple[CpuTime, ...]
    total_s: Time


class Finished(msgspec.Struct, frozen=True):
    """What is wrong with the results, or nothing; the median time of the planted work [s]."""

    problem: str
    extra_s: float | None = None


def typed(reply: dict[str, Any], kind: type[Wanted]) -> Wanted:
    """`reply` as a `kind`. Raises SideError for what no worker answers."""
    try:
        return msgspec.convert(reply, kind)
    except msgspec.ValidationError as error:
        raise SideError(f"it answers what no worker does: {error}") from None
