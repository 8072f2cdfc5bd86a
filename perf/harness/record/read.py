"""In: a JSON file of pytest-benchmark, ours or foreign, of hyperfine or pyperf. Out: a `Run`, or a RecordError.

We do not trust a file: the types below define the parts that we need, the rest is ignored, and a message that quotes
the file is one printable line.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from perf.harness.record import foreign
from perf.harness.record.check import Check, Qualification
from perf.harness.record.checksum import is_changed
from perf.harness.record.judgement import GateRun, Judgement
from perf.harness.record.run import (
    SCHEMA_VERSION,
    Baseline,
    Benchmark,
    Case,
    Info,
    RecordError,
    Run,
)
from perf.harness.record.values import Count, Scalar, Seconds

Wanted = TypeVar("Wanted")

# A run with every raw sample takes a few MB. Parsing needs about ten times the size of the file in memory.
SPEC = "stepwatch_spec"  # a key that only a spec has
MAX_BYTES = 512 * 2**20
CHANGED = "; the file was changed, so measure again, or use the original"
Some = dict[str, Any]
Flat = dict[str, Scalar]


class _Stats(msgspec.Struct, frozen=True):
    """`data` [s per call]: pytest-benchmark has already divided each round's time by `iterations`."""

    data: tuple[Seconds, ...] | None = None
    iterations: Count = 1
    rounds: Count | None = None
    median: Seconds | None = None
    q1: Seconds | None = None
    q3: Seconds | None = None
    min: Seconds | None = None
    max: Seconds | None = None
    mean: Seconds | None = None


class _Entry(msgspec.Struct, frozen=True):
    name: str
    stats: _Stats
    fullname: str | None = None
    group: Any = None
    extra_info: Some | None = None
    options: Any = None


class _Perf(msgspec.Struct, frozen=True):
    schema_version: Count
    complete: bool = True
    fingerprint: Flat = {}
    settings: Some = {}
    data: Some = {}
    environment: Some = {}
    devices: Some = {}
    cases: tuple[Case, ...] = ()
    unfit: tuple[str, ...] = ()
    baseline: Baseline | None = None
    gate: tuple[Judgement, ...] = ()
    gate_run: GateRun | None = None
    checks: tuple[Check, ...] = ()
    qualification: Qualification | None = None


class _Document(msgspec.Struct, frozen=True):
    benchmarks: tuple[_Entry, ...]
    datetime: str = ""
    machine_info: Some = {}
    commit_info: Any = None
    perf: _Perf = _Perf(SCHEMA_VERSION)


def load(path: Path) -> Run:
    """Read the record `path`. Raises RecordError, and no other error, if the file is not a usable record."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of the record file `path`. Raises RecordError if the file cannot be read, or cannot be a record."""
    source = str(path)
    try:
        if path.exists() and not path.is_file():
            # Reading a device may never end; reading a pipe may wait forever.
            raise RecordError(source, "", "a folder; name a file in it" if path.is_dir() else "not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise RecordError(source, "", f"larger than {MAX_BYTES // 2**20} MiB, which is too large to be read")
        return path.read_bytes().decode("utf-8-sig")  # Windows shells write a byte order mark first
    except UnicodeDecodeError as error:
        raise RecordError(source, f"byte {error.start}", "not UTF-8 text") from error
    except OSError as error:
        raise RecordError(source, "", f"cannot be read: {error.strerror or error}") from error
    except (ValueError, MemoryError) as error:  # ValueError: a NUL in the path
        raise RecordError(source, "", f"cannot be read: {error}") from error


def parse(text: str, source: str) -> Run:
    """Read the JSON `text`; `source` is its name in messages and in `Run.source`. Raises RecordError."""
    if text.lstrip().startswith(foreign.DATA_JS):
        raise _other_tool(source, "github-action-benchmark")
    root = decode(text, source)
    if (tool := foreign.tool_of(root)) is not None:
        root = foreign.translated(root, tool)
        if root is None:
            raise _other_tool(source, tool)
    if isinstance(root, dict) and SPEC in root:
        raise RecordError(source, "", "a spec, which judges runs: give it with --spec, or in a run with --perf-spec")
    if not isinstance(root, dict) or not isinstance(root.get("benchmarks"), list):
        raise RecordError(source, "", "no `benchmarks` list: not a pytest-benchmark file")
    if root.get("perf") == {}:
        del root["perf"]
    root["benchmarks"], untimed = foreign.usable(root["benchmarks"], foreign="perf" not in root)
    perf = root.get("perf", {})
    if isinstance(perf, dict):
        _check_version(perf.get("schema_version"), source)
    document = convert(root, _Document, source)
    mine, commit = document.perf, document.commit_info
    if (mine.qualification or mine.gate) and is_changed(root):
        raise RecordError(source, "", f"is not what the run wrote{CHANGED}")
    if mine.checks and not mine.qualification:
        raise RecordError(source, "perf.qualification", f"is missing{CHANGED}")
    if mine.qualification and (why := mine.qualification.contradiction(mine.checks, mine.complete)):
        reason = f"{mine.qualification.standing}, but {why}{CHANGED}"
        raise RecordError(source, "perf.qualification.verdict", reason)
    commit = commit if isinstance(commit, Mapping) else {}  # a foreign file need not have a commit
    commit_id = commit.get("id")
    return Run(
        source=source,
        datetime=document.datetime,
        benchmarks=tuple(_benchmark(entry, f"benchmarks[{i}]", source) for i, entry in enumerate(document.benchmarks)),
        cases=mine.cases,
        complete=mine.complete,
        fingerprint=mine.fingerprint,
        perf=perf,
        machine=document.machine_info,
        commit=commit_id if isinstance(commit_id, str) else "",
        dirty=commit.get("dirty") is True,
        unfit=mine.unfit,
        baseline=mine.baseline,
        judgements=mine.gate,
        gate=mine.gate_run,
        checks=mine.checks,
        qualification=mine.qualification,
        untimed=tuple(untimed),
    )


def keeps(path: Path) -> str:
    """What the file `path` keeps: "a run", "a spec", or "" if it has neither, or is not there."""
    with contextlib.suppress(RecordError):
        root = decode(read_text(path), str(path))
        if isinstance(root, dict):
            return "a spec" if SPEC in root else "a run" if "benchmarks" in root else ""
    return ""


def _other_tool(source: str, tool: str) -> RecordError:
    reason = f"a file of {tool}, whose times cannot be read here; give a file of pytest-benchmark, hyperfine or pyperf"
    return RecordError(source, "", reason)


def _check_version(version: object, source: str) -> None:
    if isinstance(version, int) and version > SCHEMA_VERSION:
        reason = f"{version} was made by a newer Stepwatch (this one reads {SCHEMA_VERSION}): update Stepwatch"
        raise RecordError(source, "perf.schema_version", reason)


def _benchmark(entry: _Entry, place: str, source: str) -> Benchmark:
    stats = msgspec.structs.asdict(entry.stats)
    seconds = stats.pop("data") or ()
    if not seconds and entry.stats.median is None:
        raise RecordError(source, f"{place}.stats", "neither `median` nor `data`")
    return Benchmark(
        name=entry.name,
        fullname=entry.name if entry.fullname is None else entry.fullname,
        group=entry.group if isinstance(entry.group, str) else None,
        seconds=seconds,
        iterations=entry.stats.iterations,
        stats={key: float(value) for key, value in stats.items() if value is not None},
        info=_info(entry.extra_info or {}),
        options=_scalars(entry.options),
    )


def _info(found: Mapping[str, Any]) -> Info:
    """The scalars and flat dictionaries of `extra_info`. The rest is dropped: a foreign test may store anything."""
    info: dict[str, Scalar | Mapping[str, Scalar]] = {}
    for key, entry in found.items():
        if isinstance(entry, Mapping):
            info[key] = _scalars(entry)
        elif _is_scalar(entry):
            info[key] = entry
    return info


def _scalars(values: object) -> Flat:
    return {name: one for name, one in values.items() if _is_scalar(one)} if isinstance(values, Mapping) else {}


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def decode(text: str, source: str) -> Any:
    """The JSON `text` as Python objects. Raises RecordError.

    Python writes NaN, infinities and lone surrogates into JSON, and reads them. Here, they become None and `?`.
    """
    if not text.strip():
        raise RecordError(source, "", "empty file")
    try:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(text)
        # Slower, but it reads what pytest-benchmark writes, and says where a text is no JSON.
        root = json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
        return msgspec.json.decode(json.dumps(root, ensure_ascii=False).encode(errors="replace"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise RecordError(source, place, f"not JSON: {error.msg}") from None
    except RecursionError:
        raise RecordError(source, "", "nested too deeply") from None
    except MemoryError:
        raise RecordError(source, "", "too large for this machine's memory") from None


def _finite(digits: str) -> float | None:
    return number if math.isfinite(number := float(digits)) else None


def _whole(digits: str) -> int | None:
    """A whole number; None if it has more digits than a float can hold, which is no measurement."""
    return int(digits) if len(digits) <= sys.float_info.max_10_exp else None


def convert(root: Any, wanted: type[Wanted], source: str) -> Wanted:
    """Convert `root` to the type `wanted`. Raises RecordError with the place, the expected type and the value found."""
    try:
        return msgspec.convert(root, wanted)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        keys, found = _follow(root, re.findall(r"\[\.\.\.\]|\w+", path))
        missing = re.fullmatch(r"Object missing required field `(.*)`", message)
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
        if missing:
            raise RecordError(source, f"{place}.{missing[1]}".removeprefix("."), "is missing") from None
        raise RecordError(source, place, _reason(message, found)) from None


def _follow(root: Any, steps: Sequence[str]) -> tuple[list[str | int], Any]:
    """The keys along `steps`, and the value at the end. msgspec writes `[...]` for the key of a dictionary."""
    keys: list[str | int] = []
    for step in steps:
        key: str | int = int(step) if isinstance(root, list) else _culprit(root) if step == "[...]" else step
        keys.append(key)
        root = root[key]
    return keys, root


def _culprit(mapping: Mapping[str, Any]) -> str:
    """The first key whose value is not a scalar; if there is none, not a time; if there is none, not a text."""
    for wanted in (Scalar, Seconds, str):
        for key, value in mapping.items():
            try:
                msgspec.convert(value, wanted)
            except msgspec.ValidationError:
                return key
    raise AssertionError("msgspec refused what it accepts")


# msgspec's name of each type, and plain words for the type.
WORDS = {
    "object": "an object",
    "array": "a list",
    "str": "a text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
}
BOUNDS = {">=": "of at least", ">": "above", "<=": "of at most", "<": "below"}


def _reason(message: str, found: object) -> str:
    """The `message` of msgspec in plain words; `found` is the value at the place of the error."""
    expected = re.match(r"Expected `([^`]*)`(?:(?: of length)? ([<>]=?) (\S+))?", message)
    if expected is None:
        wrong = "is unknown to this version of Stepwatch" if isinstance(found, str) else "is too large"
        return f"{_quote(found)} {wrong}"
    kinds = expected[1].split(" | ")
    words = "one value" if len(kinds) > 2 else WORDS.get(kinds[0], kinds[0])
    if expected[2]:
        words += f" {BOUNDS[expected[2]]} {float(expected[3]):g}"
    return f"expected {words}, found {_quote(found)}"


def _quote(value: object) -> str:
    """`value` as JSON, short enough for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"
