"""In: a part of a record, which may hold anything. Out: its values, and texts of them: empty for what is not known."""

from __future__ import annotations

from collections.abc import Callable

from perf.harness.record.run import Section, finite
from perf.harness.report import quantities


def listed(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def named(name: str, value: object) -> str:
    return f"{name} {value}" if value else ""


def number(value: object, form: Callable[[float], str]) -> str:
    found = finite(value)
    return form(found) if found else ""


def how_many(value: object, one: str, several: str = "") -> str:
    """A number of things: `2 cores`. Empty for 0, or if `value` is no number."""
    return number(value, lambda count: quantities.counted(count, one, several))


def known(found: Section, key: str, form: Callable[[float], str]) -> str:
    """A number in the given `form`; empty if unknown. Unlike `number`, it shows 0."""
    value = finite(found.get(key))
    return "" if value is None else form(value)
