"""A record in memory: a `Run` with its `Benchmark`s and `Case`s. The schema of the file is `perf/schema.json`."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from perf.harness.record.check import Check, Qualification
from perf.harness.record.judgement import GateRun, Judgement
from perf.harness.record.values import Scalar, Seconds

SCHEMA_VERSION = 1
# The file name of a run begins with this while the run goes on, and if it failed, was killed or ran only a part.
PARTIAL = "partial_"
# A message names so many things of one kind.
NAMED = 3

Info = Mapping[str, Scalar | Mapping[str, Scalar]]
Section = Mapping[str, Any]


class RecordError(Exception):
    """A record that cannot be used: `str()` is one line with the file, the place in the file, and the reason.

    `why` is the same without the file.
    """

    def __init__(self, source: str, place: str, reason: str) -> None:
        self.why = one_line(f"{place}: {reason}" if place else reason)
        super().__init__(f"{one_line(source)}: {self.why}")


def one_line(text: str) -> str:
    """`text` without line breaks or control characters, because messages quote the contents of files."""
    return "".join(c if c.isprintable() else "�" for c in text.replace("\n", " "))


def short_name(full_name: str) -> str:
    """Shorten `perf/test_epoch.py::test_epoch[cpu]` to `epoch[cpu]`."""
    path, bracket, parameters = full_name.partition("[")
    return path.rsplit("::", 1)[-1].removeprefix("test_") + bracket + parameters


def unique(names: Iterable[str]) -> list[str]:
    """`names` in their order; a name that was there before gets a number: `a`, `b`, `a#2`."""
    found: Counter[str] = Counter()
    made = []
    for name in names:
        found[name] += 1
        made.append(name if found[name] == 1 else f"{name}#{found[name]}")
    return made


def told_apart(names: Sequence[str], full_names: Sequence[str]) -> list[str]:
    """`names`; where two are equal, the full names instead; where these are equal, too, with numbers."""
    found = Counter(names)
    return unique(full if found[name] > 1 else name for name, full in zip(names, full_names, strict=True))


def some_of(names: Sequence[str]) -> str:
    """The first of `names`, and how many there are besides: `a, b, c and 2 more`."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def by_pass(seconds: Sequence[float], pass_rounds: Mapping[str, float]) -> tuple[tuple[float, ...], ...]:
    """Split `seconds` into passes. One pass if `pass_rounds` does not add up, none if there are no `seconds`."""
    counts = [int(count) for count in pass_rounds.values() if count >= 1]
    if sum(counts) != len(seconds):
        return (tuple(seconds),) if seconds else ()
    ends = list(itertools.accumulate(counts))
    return tuple(tuple(seconds[end - count : end]) for count, end in zip(counts, ends, strict=True))


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of one run.

    `seconds` holds the raw samples, each the mean of `iterations` calls [s per call]. A foreign file may have only
    `stats`; then `seconds` is empty. `info` is pytest-benchmark's `extra_info`. With the key `benchmark`, `info` is
    ours; otherwise it may hold anything. `options` says how pytest-benchmark measured: `timer`, `disable_gc`, ….
    """

    name: str
    fullname: str
    group: str | None
    seconds: tuple[float, ...]
    iterations: int
    stats: Mapping[str, float]
    info: Info = field(default_factory=dict)
    options: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def passes(self) -> tuple[tuple[float, ...], ...]:
        """`seconds`, split into the passes that measured them."""
        return by_pass(self.seconds, self.numbers("pass_rounds"))

    @property
    def ours(self) -> bool:
        return isinstance(self.info.get("benchmark"), str)

    def text(self, key: str) -> str | None:
        """`info[key]` if it is a string, otherwise None, because a foreign file may hold anything under our names."""
        value = self.info.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> float | None:
        """`info[key]` if it is a finite number, otherwise None."""
        return finite(self.info.get(key))

    def texts(self, key: str) -> dict[str, str]:
        """The strings in the dictionary `info[key]`; {} if there is no such dictionary."""
        value = self.info.get(key)
        return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, Mapping) else {}

    def numbers(self, key: str) -> dict[str, float]:
        """The finite numbers in the dictionary `info[key]`; {} if there is no such dictionary."""
        value = self.info.get(key)
        if not isinstance(value, Mapping):
            return {}
        return {k: n for k, v in value.items() if (n := finite(v)) is not None}


@dataclass(frozen=True)
class Case:
    """The outcome of one case: measured, skipped, failed, out-of-memory or not-run.

    A run that is compared has more outcomes: slower, inconclusive (if that counts as a failure), and missing (stored
    runs have the case, this run does not). With `--benchmark-disable`, which leaves no record, the outcome is ran-once.
    """

    name: str
    outcome: str
    reason: str = ""


# The outcomes of the cases whose times are in the record.
TIMED = ("measured", "slower", "inconclusive")


class Medians(msgspec.Struct, frozen=True):
    """The part of one run that a comparison needs: the median of each benchmark [s], by full name."""

    source: str
    datetime: str
    commit: str
    seconds: Mapping[str, Seconds] = msgspec.field(name="medians")


class Baseline(msgspec.Struct, frozen=True):
    """One or more runs that were accepted under `name`; `accepted` is the time of acceptance in ISO 8601."""

    name: str
    accepted: str
    runs: Annotated[tuple[Medians, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Run:
    """One run of the suite, or a foreign pytest-benchmark file (`perf` is then empty).

    `complete` is False if the run was killed or interrupted, or is still going on. `unfit` says why the run measured
    only a part of the cases. For an accepted baseline, this is the newest of its runs, and `baseline` has all of them.
    `dirty`: there were changes that `commit` does not have.
    `untimed` are the benchmarks of a foreign file without a usable time: it is 0, for example.
    """

    source: str
    datetime: str
    benchmarks: tuple[Benchmark, ...]
    cases: tuple[Case, ...] = ()
    complete: bool = True
    fingerprint: Mapping[str, Scalar] = field(default_factory=dict)
    perf: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    commit: str = ""
    dirty: bool = False
    unfit: tuple[str, ...] = ()
    baseline: Baseline | None = None
    judgements: tuple[Judgement, ...] = ()
    gate: GateRun | None = None
    checks: tuple[Check, ...] = ()
    qualification: Qualification | None = None
    untimed: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        return re.split(r"[/\\]", self.source)[-1]

    @property
    def host(self) -> str:
        """The name of the machine; "" if the record does not say it."""
        return str(self.perf.get("host_name") or self.machine.get("node") or "")

    @property
    def smoke(self) -> bool:
        return self.perf.get("profile") == "smoke"


def section(values: Section, key: str) -> Section:
    """`values[key]` if it is a dictionary, else an empty dictionary, because a foreign file may hold anything there."""
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def finite(value: object) -> float | None:
    """`value` as a float if it is a finite number and no bool, otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
