"""In: the JSON of another program. Out: the name of its tool, or its times in the form of a pytest-benchmark file.

Formats: hyperfine's `--export-json` (its manual), pyperf's API docs ("JSON format"), asv's developer docs, Google
Benchmark's user guide, and the README files of pytest-codspeed and github-action-benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from perf.harness.record.values import Count, Seconds

DATA_JS = "window.BENCHMARK_DATA"
OPTIONAL = ("min", "max", "mean", "q1", "q3")
CREATORS = ("pytest-codspeed", "codspeed")


def tool_of(root: object) -> str | None:
    """The tool that wrote `root`; None if it may be a pytest-benchmark file, or is of an unknown tool."""
    if isinstance(root, list):
        return "github-action-benchmark" if root and all(_has(one, "name", "unit", "value") for one in root) else None
    if not isinstance(root, dict):
        return None
    benchmarks, results = root.get("benchmarks"), root.get("results")
    creator = root.get("creator")
    found = {
        "github-action-benchmark": _has(root, "lastUpdate", "entries"),
        "pytest-codspeed": isinstance(creator, dict) and creator.get("name") in CREATORS,
        "Google Benchmark": _has(root, "context") and (_each(benchmarks, "real_time") or _each(benchmarks, "cpu_time")),
        "asv": _has(root, "commit_hash", "results") or _has(root, "commit_hash", "env_name"),
        "hyperfine": _each(results, "command"),
        "pyperf": _each(benchmarks, "runs"),
    }
    return next((tool for tool, is_it in found.items() if is_it), None)


def _has(value: object, *keys: str) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)


def _each(values: object, key: str) -> bool:
    return isinstance(values, list) and bool(values) and all(_has(one, key) for one in values)


def translated(root: Mapping[str, Any], tool: str) -> dict[str, Any] | None:
    """The times of `root` as a pytest-benchmark document; None if times of this `tool` cannot be read."""
    if tool == "hyperfine":
        return {"benchmarks": [_entry(one["command"], one.get("times"), one) for one in root["results"]]}
    if tool != "pyperf":
        return None
    common = _some(root.get("metadata"))
    every = [common | _some(one.get("metadata")) for one in root["benchmarks"]]
    if any(facts.get("unit", "second") != "second" for facts in every):
        return None
    runs = root["benchmarks"][0]["runs"]
    first = every[0] | _some(_some(runs[0] if isinstance(runs, list) and runs else None).get("metadata"))
    return {
        "benchmarks": [
            _entry(facts.get("name", "unnamed"), _values(one["runs"]), {})
            for facts, one in zip(every, root["benchmarks"], strict=True)
        ],
        "machine_info": {
            "node": first.get("hostname"),
            "python_version": first.get("python_version"),
            "cpu": {"brand_raw": first.get("cpu_model_name"), "count": first.get("cpu_count")},
        },
        "datetime": str(first.get("date", "")),
    }


def _some(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _entry(name: object, times: object, stats: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: stats.get(key) for key in ("median", *OPTIONAL)}
    return {"name": name, "stats": {**known, "data": times, "rounds": len(times) if isinstance(times, list) else None}}


def _values(runs: object) -> list[Any]:
    """All times of a pyperf benchmark; the runs that calibrate have none."""
    listed = [_some(run).get("values") for run in runs] if isinstance(runs, list) else []
    return [value for values in listed if isinstance(values, list) for value in values]


def usable(entries: Sequence[Any], foreign: bool) -> tuple[list[Any], list[str]]:
    """The benchmarks with usable times, without the fields that are not needed and cannot be read; the others' names.

    A foreign test may keep anything in `extra_info`, also under Stepwatch's names, so that nothing of it counts.
    """
    kept, without = [], []
    for entry in entries:
        stats = entry.get("stats") if isinstance(entry, dict) else None
        if not isinstance(stats, dict):
            kept.append(entry)  # the reader says what is wrong with it
            continue
        stats = {key: value for key, value in stats.items() if key not in OPTIONAL or _is(value, Seconds)}
        if foreign:
            stats = {key: value for key, value in stats.items() if key not in _WANTED or _is(value, _WANTED[key])}
            entry = {key: value for key, value in entry.items() if key != "extra_info"}
            if isinstance(entry.get("name"), str) and not (stats.get("data") or "median" in stats):
                without.append(entry["name"])
                continue
        kept.append({**entry, "stats": stats})
    return kept, without


# What the reader wants of a benchmark's `stats`.
_WANTED: dict[str, Any] = {"data": tuple[Seconds, ...], "median": Seconds, "rounds": Count, "iterations": Count}


def _is(value: object, wanted: Any) -> bool:
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return False
    return True
