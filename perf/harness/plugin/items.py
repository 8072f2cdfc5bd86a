"""What pytest's items are to the suite: a case of a benchmark, with its axes, or an ordinary test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from perf.harness.plugin import preflight


def kind(item: pytest.Item) -> str | None:
    """The benchmark that `item` is a case of, `training_step` say; None for an ordinary test."""
    if item.get_closest_marker("axes") is None or not isinstance(item, pytest.Function):
        return None
    return (item.originalname or item.name).removeprefix("test_")


def params(item: pytest.Item) -> dict[str, Any]:
    """The axes of a case, by name."""
    assert isinstance(item, pytest.Function)
    return item.callspec.params


def is_part(config: pytest.Config, cases: Iterable[pytest.Item]) -> bool:
    """Whether the user named a part of `perf/`, of which these are the cases."""
    files = {path.resolve() for path in preflight.PERF.glob("test_*.py")}
    return any("::" in str(argument) for argument in config.args) or bool(files - {case.path for case in cases})
