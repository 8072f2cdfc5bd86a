"""In: a pytest-benchmark JSON file (5.x), ours or anybody's. Out: a `Run`, or a RecordError and nothing else.

A file is data from a stranger: only the fields that are needed are looked at, each is checked, and a message
that quotes one is a single printable line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from perf.harness.record.check import Check, CheckVerdict, Qualification, Standing
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import (
    SCHEMA_VERSION,
    Baseline,
    Benchmark,
    Case,
    Info,
    Medians,
    RecordError,
    Run,
    Scalar,
    finite,
)

Word = TypeVar("Word", bound=StrEnum)

# A run with every raw sample takes a few MB; parsing takes about ten times the file in memory.
MAX_BYTES = 512 * 2**20
# Seeds and hashes have up to 39 digits (128 bits); converting a longer number may take minutes.
MAX_DIGITS = 39
# Shorter than a cycle of light across an atom, longer than three centuries: not a measured time [s].
MIN_SECONDS, MAX_SECONDS = 1e-18, 1e10
# What of `stats` is a time; `iqr`, `stddev` and `total` may be 0 or any other number.
SIDES = ("base_s", "head_s")
RATIOS = ("ratio", "low", "high", "smallest_detectable")
TIMES = ("min", "max", "mean", "median", "q1", "q3")


class _Invalid(Exception):
    """What is wrong, and where; `parse` adds the file."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason


def load(path: Path) -> Run:
    """Reads `path`; raises RecordError, and nothing else, where it is no usable record."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of the record file `path`. Raises RecordError where it cannot be one."""
    source = str(path)
    try:
        if path.exists() and not path.is_file():
            # A device may never end, a pipe may never begin.
            raise RecordError(source, "", "a folder" if path.is_dir() else "not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise RecordError(source, "", f"larger than {MAX_BYTES // 2**20} MiB: not a benchmark file")
        return path.read_bytes().decode("utf-8-sig")  # Windows shells write the mark in front
    except UnicodeDecodeError as error:
        raise RecordError(source, f"byte {error.start}", "not UTF-8 text") from error
    except OSError as error:
        raise RecordError(source, "", f"cannot be read: {error.strerror or error}") from error
    except (ValueError, MemoryError) as error:  # ValueError: a NUL in the path
        raise RecordError(source, "", f"cannot be read: {error}") from error


def parse(text: str, source: str) -> Run:
    """Reads the JSON `text`; `source` names it in messages and in `Run.source`. Raises RecordError."""
    try:
        return _run(_decode(text), source)
    except _Invalid as error:
        raise RecordError(source, error.place, error.reason) from None


def _decode(text: str) -> object:
    if not text.strip():
        raise _Invalid("", "empty file")
    try:
        return json.loads(text, parse_constant=_constant, parse_float=_float, parse_int=_int)
    except json.JSONDecodeError as error:
        raise _Invalid(f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from error
    except RecursionError as error:
        raise _Invalid("", "nested too deeply") from error
    except MemoryError as error:
        raise _Invalid("", "too large for this machine's memory") from error


def _constant(token: str) -> NoReturn:
    raise _Invalid("", f"{token} is not JSON, and not a measurement")


def _float(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise _Invalid("", f"the number {_quote(token)} is too large")
    return value


def _int(token: str) -> int:
    if len(token) > MAX_DIGITS + 1:
        raise _Invalid("", f"the number {_quote(token)} is too large")
    return int(token)


def _run(root: object, source: str) -> Run:
    if not isinstance(root, dict) or not isinstance(root.get("benchmarks"), list):
        raise _Invalid("", "no `benchmarks` list: not a pytest-benchmark file")
    perf = _mapping(root.get("perf", {}), "perf")
    if perf:
        _check_version(perf)
    for key in ("settings", "data", "environment", "devices"):
        _mapping(perf.get(key, {}), f"perf.{key}")
    complete = perf.get("complete", True)
    if not isinstance(complete, bool):
        raise _Invalid("perf.complete", f"expected true or false, found {_quote(complete)}")
    return Run(
        source=source,
        datetime=_text(root.get("datetime", ""), "datetime"),
        benchmarks=tuple(_benchmark(item, f"benchmarks[{i}]") for i, item in enumerate(root["benchmarks"])),
        cases=_cases(perf.get("cases", [])),
        complete=complete,
        fingerprint=_flat(perf.get("fingerprint", {}), "perf.fingerprint"),
        perf=perf,
        machine=_mapping(root.get("machine_info", {}), "machine_info"),
        commit=_commit(root.get("commit_info")),
        unfit=tuple(
            _text(reason, f"perf.unfit[{i}]") for i, reason in enumerate(_list(perf.get("unfit", []), "perf.unfit"))
        ),
        baseline=_baseline(perf["baseline"]) if "baseline" in perf else None,
        judgements=tuple(
            _judgement(item, f"perf.gate[{i}]") for i, item in enumerate(_list(perf.get("gate", []), "perf.gate"))
        ),
        checks=tuple(
            _check(item, f"perf.checks[{i}]") for i, item in enumerate(_list(perf.get("checks", []), "perf.checks"))
        ),
        qualification=_qualification(perf["qualification"]) if "qualification" in perf else None,
    )


def _commit(info: object) -> str:
    """The id in `commit_info`, which a foreign file need not have."""
    commit = info.get("id") if isinstance(info, Mapping) else None
    return commit if isinstance(commit, str) else ""


def _judgement(item: object, place: str) -> Judgement:
    fields = _mapping(item, place)
    times = {key: None if fields.get(key) is None else _seconds(fields[key], f"{place}.{key}") for key in SIDES}
    ratios = {key: None if fields.get(key) is None else _ratio(fields[key], f"{place}.{key}") for key in RATIOS}
    launches = fields.get("launches", 0)
    return Judgement(
        name=_text(fields.get("name"), f"{place}.name"),
        verdict=_member(Verdict, fields.get("verdict"), f"{place}.verdict"),
        reason=_text(fields.get("reason", ""), f"{place}.reason"),
        launches=launches if launches == 0 else _count(launches, f"{place}.launches"),
        **times,
        **ratios,
    )


def _check(item: object, place: str) -> Check:
    fields = _mapping(item, place)

    def text(key: str) -> str:
        return _text(fields.get(key, ""), f"{place}.{key}")

    def number(key: str) -> float | None:
        return None if fields.get(key) is None else _number(fields[key], f"{place}.{key}")

    return Check(
        check=_text(fields.get("check"), f"{place}.check"),
        device=_text(fields.get("device"), f"{place}.device"),
        verdict=_member(CheckVerdict, fields.get("verdict"), f"{place}.verdict"),
        variant=text("variant"),
        value=number("value"),
        unit=text("unit"),
        low=number("low"),
        high=number("high"),
        bar=number("bar"),
        bar_source=text("bar_source"),
        reason=text("reason"),
        injected=text("injected"),
        note=text("note"),
        crowding=number("crowding"),
        details=_flat(fields.get("details", {}), f"{place}.details"),
    )


def _qualification(value: object) -> Qualification:
    fields = _mapping(value, "perf.qualification")
    reasons = _list(fields.get("reasons"), "perf.qualification.reasons")
    return Qualification(
        standing=_member(Standing, fields.get("verdict"), "perf.qualification.verdict"),
        reasons=tuple(_text(reason, f"perf.qualification.reasons[{i}]") for i, reason in enumerate(reasons)),
        next_action=_text(fields.get("next_action"), "perf.qualification.next_action"),
    )


def _member(kind: type[Word], value: object, place: str) -> Word:
    text = _text(value, place)
    if text not in list(kind):
        raise _Invalid(place, f"{_quote(text)} is none of {', '.join(kind)}")
    return kind(text)


def _number(value: object, place: str) -> float:
    number = finite(value)
    if number is None:
        raise _Invalid(place, f"expected a number, found {_quote(value)}")
    return number


def _ratio(value: object, place: str) -> float:
    number = finite(value)
    if number is None or number < 0:
        raise _Invalid(place, f"expected a ratio of times, found {_quote(value)}")
    return number


def _baseline(value: object) -> Baseline:
    fields = _mapping(value, "perf.baseline")
    if fields.get("runs") == []:
        raise _Invalid("perf.baseline.runs", "expected one run at least, found none")
    return Baseline(
        name=_text(fields.get("name"), "perf.baseline.name"),
        accepted=_text(fields.get("accepted"), "perf.baseline.accepted"),
        runs=tuple(
            _medians(item, f"perf.baseline.runs[{i}]")
            for i, item in enumerate(_list(fields.get("runs"), "perf.baseline.runs"))
        ),
    )


def _medians(item: object, place: str) -> Medians:
    fields = _mapping(item, place)
    medians = _mapping(fields.get("medians"), f"{place}.medians")
    return Medians(
        source=_text(fields.get("source"), f"{place}.source"),
        datetime=_text(fields.get("datetime"), f"{place}.datetime"),
        commit=_text(fields.get("commit"), f"{place}.commit"),
        seconds={name: _seconds(median, f"{place}.medians.{_quote(name)}") for name, median in medians.items()},
    )


def _check_version(perf: Mapping[str, Any]) -> None:
    version = _count(perf.get("schema_version"), "perf.schema_version")
    if version > SCHEMA_VERSION:
        raise _Invalid(
            "perf.schema_version",
            f"{version} was made by a newer Stepwatch (this one reads {SCHEMA_VERSION}): update Stepwatch",
        )


def _benchmark(item: object, place: str) -> Benchmark:
    fields = _mapping(item, place)
    name = _text(fields.get("name"), f"{place}.name")
    stats = _mapping(fields.get("stats"), f"{place}.stats")
    for key in TIMES:
        if key in stats:
            _seconds(stats[key], f"{place}.stats.{key}")
    seconds = _samples(stats.get("data"), f"{place}.stats.data")
    if not seconds and "median" not in stats:
        raise _Invalid(f"{place}.stats", "neither `median` nor `data`")
    group = fields.get("group")
    return Benchmark(
        name=name,
        fullname=_text(fields.get("fullname", name), f"{place}.fullname"),
        group=group if isinstance(group, str) else None,
        seconds=seconds,
        iterations=_count(stats.get("iterations", 1), f"{place}.stats.iterations"),
        stats={key: number for key, value in stats.items() if (number := finite(value)) is not None},
        info=_info(fields.get("extra_info"), f"{place}.extra_info"),
    )


def _samples(data: object, place: str) -> tuple[float, ...]:
    """`stats.data`: pytest-benchmark has divided each round's time by `iterations` already [s per call]."""
    if data is None:
        return ()
    return tuple(_seconds(value, f"{place}[{i}]") for i, value in enumerate(_list(data, place)))


def _info(value: object, place: str) -> Info:
    """The scalars and flat dictionaries of `extra_info`; a foreign test may have put anything else there."""
    info: dict[str, Scalar | Mapping[str, Scalar]] = {}
    for key, entry in _mapping({} if value is None else value, place).items():
        if isinstance(entry, Mapping):
            info[key] = {name: inner for name, inner in entry.items() if _is_scalar(inner)}
        elif _is_scalar(entry):
            info[key] = entry
    return info


def _cases(value: object) -> tuple[Case, ...]:
    cases = []
    for i, item in enumerate(_list(value, "perf.cases")):
        place = f"perf.cases[{i}]"
        fields = _mapping(item, place)
        reason = fields.get("reason")
        cases.append(
            Case(
                name=_text(fields.get("name"), f"{place}.name"),
                outcome=_text(fields.get("outcome"), f"{place}.outcome"),
                reason="" if reason is None else _text(reason, f"{place}.reason"),
            )
        )
    return tuple(cases)


def _flat(value: object, place: str) -> Mapping[str, Scalar]:
    found = _mapping(value, place)
    for key, entry in found.items():
        if not _is_scalar(entry):
            raise _Invalid(f"{place}.{_quote(key)}", f"expected one value, found {_quote(entry)}")
    return found


def _mapping(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Invalid(place, f"expected an object, found {_quote(value)}")
    return value


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise _Invalid(place, f"expected a list, found {_quote(value)}")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _Invalid(place, f"expected a text, found {_quote(value)}")
    return value


def _seconds(value: object, place: str) -> float:
    number = finite(value)
    if number is None or not MIN_SECONDS <= number <= MAX_SECONDS:
        raise _Invalid(place, f"expected a time above 0 [s], found {_quote(value)}")
    return number


def _count(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _Invalid(place, f"expected a whole number above 0, found {_quote(value)}")
    return value


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _quote(value: object) -> str:
    """`value` as JSON has it, short enough for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value) if isinstance(value, bool | int | float) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
