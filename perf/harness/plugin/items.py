"""Tells for a pytest item whether it is a case of a benchmark, with its axes, or an ordinary test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from perf.harness.plugin import preflight
from perf.harness.plugin.way import WAY
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import BY_NAME


def kind(item: pytest.Item) -> str | None:
    """The name of the benchmark that `item` is a case of, such as `training_step`; None for an ordinary test."""
    if not isinstance(item, pytest.Function) or "device" not in item.fixturenames:
        return None
    name = name_of(item.originalname or item.name)
    return name if name in BY_NAME else None


def name_of(function: str) -> str:
    """The name of a benchmark: `training_step` for the function `test_training_step`."""
    return function.removeprefix("test_")


def parametrize(metafunc: pytest.Metafunc, axes_of: Callable[[str], Sequence[Axes]]) -> None:
    """Make the cases of a benchmark. Raises pytest.UsageError if a test takes `bench`, but is not defined."""
    if "device" not in metafunc.fixturenames:
        return
    name = name_of(metafunc.function.__name__)
    if name in BY_NAME:
        metafunc.parametrize(Axes._fields, [pytest.param(*axes, id=axes.id) for axes in axes_of(name)])
    elif "bench" in metafunc.fixturenames:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: no benchmark {name!r} is defined; add its definition to "
            "perf/harness/workload/benchmarks.py"
        )


def params(item: pytest.Item) -> dict[str, Any]:
    """The axes of a case, by name."""
    assert isinstance(item, pytest.Function)
    return item.callspec.params


def is_part(config: pytest.Config, cases: Iterable[pytest.Item]) -> bool:
    """Whether the user selected only a part of `perf/`; `cases` are the selected cases."""
    files = {path.resolve() for path in preflight.PERF.glob("test_*.py") if config.stash[WAY].collects(path)}
    chosen = {case.path.resolve() for case in cases}
    return any("::" in str(argument) for argument in config.args) or bool(files - chosen)
