"""In: both sides. Out: which cases each of them has, as a worker of it says, or why it cannot say."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perf.harness.measurement.side_by_side.link import Link, SideError
from perf.harness.measurement.side_by_side.pair import LOAD_S
from perf.harness.measurement.side_by_side.replies import Cases, typed
from perf.harness.measurement.side_by_side.repository import RefError, untracked
from perf.harness.measurement.side_by_side.sides import HEAD_VARIABLE, Side
from perf.harness.record.run import some_of
from perf.harness.workload.axes import Axes

# The errors of a worker that say that the side has no such model, and nothing else.
UNKNOWN = "UnknownModel: "


@dataclass(frozen=True)
class Listed:
    """The cases of one side by benchmark. If it cannot say what it has, `error` says why.

    `unknown` says whether that is because it has no such model; `strange`, because it opens files of the other side.
    """

    cases: Mapping[str, Sequence[Axes]] = field(default_factory=dict)
    facts: Cases | None = None
    error: str = ""
    unknown: bool = False
    strange: bool = False


def listed(sides: Mapping[str, Side], kinds: Collection[str]) -> dict[str, Listed]:
    """What each side has of the benchmarks `kinds`."""
    found: dict[str, Listed] = {}
    links: dict[str, Link] = {}
    with contextlib.ExitStack() as held:
        for name, side in sides.items():
            try:
                links[name] = held.enter_context(contextlib.closing(side.launch()))
                links[name].request("cases", kinds=list(kinds))
            except SideError as error:
                found[name] = Listed(error=str(error))
        for name, link in links.items():
            try:
                facts = typed(link.reply(LOAD_S), Cases)
                found[name] = Listed({kind: [Axes(*one) for one in axes] for kind, axes in facts.cases.items()}, facts)
            except SideError as error:
                unknown = error.what.startswith(UNKNOWN)
                found[name] = Listed(error=str(error), unknown=unknown, strange=error.strange)
    return found


def lacking(base: Side, head: Side, opened: Sequence[str]) -> str:
    """Which of the files that head `opened` are in no commit and not in base, and what to do; empty if none are."""
    try:
        own = set(untracked(head.subject.root))
    except RefError:
        return ""
    names = [name for name in opened if name in own and not (base.subject.root / name).exists()]
    if not names:
        return ""
    first = Path(names[0]).parts[0]
    return (
        f"head reads {some_of(names)}, which no commit has: make base ready with a command, as "
        f"--perf-against-setup='ln -s \"${HEAD_VARIABLE}/{first}\" .', which runs in base's folder"
    )
