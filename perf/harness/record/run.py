"""What a record holds in memory: a `Run` of `Benchmark`s and `Case`s. The schema of the file is `perf/schema.json`."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from perf.harness.record.check import Check, Qualification
from perf.harness.record.judgement import Judgement
from perf.harness.record.values import Scalar, Seconds

SCHEMA_VERSION = 1
# What the file of a run begins with that is going on, or was not finished.
PARTIAL = "partial_"

Info = Mapping[str, Scalar | Mapping[str, Scalar]]


class RecordError(Exception):
    """A record that cannot be used: `str()` is one line naming the file, the place in it, and the reason."""

    def __init__(self, source: str, place: str, reason: str) -> None:
        super().__init__(one_line(f"{source}: {place}: {reason}" if place else f"{source}: {reason}"))


def one_line(text: str) -> str:
    """`text` without line breaks or control characters: file contents are quoted in messages."""
    return "".join(c if c.isprintable() else "�" for c in text.replace("\n", " "))


def short_name(full_name: str) -> str:
    """`epoch[cpu]` of `perf/test_epoch.py::test_epoch[cpu]`."""
    path, bracket, parameters = full_name.partition("[")
    return path.rsplit("::", 1)[-1].removeprefix("test_") + bracket + parameters


def by_pass(seconds: Sequence[float], pass_rounds: Mapping[str, float]) -> tuple[tuple[float, ...], ...]:
    """`seconds` by the pass that took them; one pass where `pass_rounds` does not add up, none where there are none."""
    counts = [int(count) for count in pass_rounds.values() if count >= 1]
    if sum(counts) != len(seconds):
        return (tuple(seconds),) if seconds else ()
    ends = list(itertools.accumulate(counts))
    return tuple(tuple(seconds[end - count : end]) for count, end in zip(counts, ends, strict=True))


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of one run.

    `seconds` holds the raw samples, each the mean of `iterations` calls [s per call]; it may be empty in a
    foreign file, where only `stats` exists. `info` is pytest-benchmark's `extra_info`: ours when it has the key
    `benchmark`, anything otherwise.
    """

    name: str
    fullname: str
    group: str | None
    seconds: tuple[float, ...]
    iterations: int
    stats: Mapping[str, float]
    info: Info = field(default_factory=dict)

    @property
    def passes(self) -> tuple[tuple[float, ...], ...]:
        """`seconds` by the pass that took them."""
        return by_pass(self.seconds, self.numbers("pass_rounds"))

    @property
    def ours(self) -> bool:
        return isinstance(self.info.get("benchmark"), str)

    def text(self, key: str) -> str | None:
        """`info[key]` where it is a string, else None: a foreign file may hold anything under our names."""
        value = self.info.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> float | None:
        """`info[key]` where it is a finite number, else None."""
        return finite(self.info.get(key))

    def numbers(self, key: str) -> dict[str, float]:
        """`info[key]` where it is a flat dictionary of numbers, else {}."""
        value = self.info.get(key)
        if not isinstance(value, Mapping):
            return {}
        return {k: n for k, v in value.items() if (n := finite(v)) is not None}


@dataclass(frozen=True)
class Case:
    """What became of one case: `outcome` is measured, skipped, failed, out-of-memory or not-run.

    Of a run that is compared: slower, inconclusive (where that fails), or missing: stored runs have it, and this one
    has not. With `--benchmark-disable`, which leaves no record, it is ran-once.
    """

    name: str
    outcome: str
    reason: str = ""


# Case outcomes that leave their times in the record.
TIMED = ("measured", "slower", "inconclusive")


class Medians(msgspec.Struct, frozen=True):
    """One run as a comparison needs it: the median of each benchmark by full name [s]."""

    source: str
    datetime: str
    commit: str
    seconds: Mapping[str, Seconds] = msgspec.field(name="medians")


class Baseline(msgspec.Struct, frozen=True):
    """Runs that were accepted under a name, one at least; `accepted` is when, as ISO 8601 has it."""

    name: str
    accepted: str
    runs: Annotated[tuple[Medians, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Run:
    """One run of the suite, or a foreign pytest-benchmark file (`perf` is then empty).

    `complete` is False where the run was killed, interrupted, or is still going on; `unfit` says why it measured
    only a part of the cases. An accepted baseline is its newest run, with all of them in `baseline`.
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
    unfit: tuple[str, ...] = ()
    baseline: Baseline | None = None
    judgements: tuple[Judgement, ...] = ()
    checks: tuple[Check, ...] = ()
    qualification: Qualification | None = None

    @property
    def file_name(self) -> str:
        return re.split(r"[/\\]", self.source)[-1]

    @property
    def smoke(self) -> bool:
        return self.perf.get("profile") == "smoke"


def finite(value: object) -> float | None:
    """`value` as a float where it is a finite number (no bool), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
