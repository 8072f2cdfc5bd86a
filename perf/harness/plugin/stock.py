"""The private parts of pytest-benchmark that the suite needs, in one place, with a version check."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_benchmark
from pytest_benchmark.stats import Metadata

# The source of these versions was read: `session.benchmarks`, `.disabled`, `.storage`, `FileStorage.get`, and
# `fixture.skipped`.
OLDEST, NEXT_MAJOR = (5, 2), (6, 0)
# A user who gives one of these wants to see pytest-benchmark's own table.
DISPLAY_OPTIONS = (
    "--benchmark-sort", "--benchmark-group-by", "--benchmark-columns", "--benchmark-name", "--benchmark-time-unit",
    "--benchmark-histogram", "--benchmark-verbose", "--benchmark-cprofile", "--benchmark-compare",
)  # fmt: skip

# The options for which there are others here, or none.
ROUNDS, WARM = "chooses rounds itself: --perf-rounds=N", "warms up until the times are steady"
OURS = {
    "--benchmark-min-rounds": ROUNDS, "--benchmark-max-time": ROUNDS, "--benchmark-min-time": ROUNDS,
    "--benchmark-calibration-precision": ROUNDS, "--benchmark-warmup": WARM, "--benchmark-warmup-iterations": WARM,
    "--benchmark-timer": "measures wall time with a clock that waits for the device",
}  # fmt: skip
# What pytest-benchmark imports for --benchmark-histogram, after everything was measured.
DRAW = ("pygal", "pygaljs")
NO_PLUGINS = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
CONSTANTS = pytest.StashKey[tuple[dict[str, Any], dict[str, Any]]]()


def check_version() -> None:
    """Raises pytest.UsageError if this module does not know the installed version of pytest-benchmark."""
    found = pytest_benchmark.__version__
    version = tuple(int(part) for part in found.split(".")[:2])
    if not OLDEST <= version < NEXT_MAJOR:
        raise pytest.UsageError(
            f"pytest-benchmark {found} is not supported; install one from 5.2 up to 6: "
            "pip install 'pytest-benchmark>=5.2,<6'"
        )


def check_active(config: pytest.Config) -> None:
    """Raises pytest.UsageError if pytest-benchmark is switched off."""
    if not config.pluginmanager.hasplugin("benchmark"):
        off, on = "-p no:benchmark", ""
        if os.environ.get(NO_PLUGINS):
            off, on = NO_PLUGINS, "; unset it, or add -p pytest_benchmark.plugin"
        raise pytest.UsageError(f"Stepwatch measures through pytest-benchmark, which is switched off ({off}){on}")


def check_chosen(config: pytest.Config) -> None:
    """Refuse the options that choose rounds and clock, which are Stepwatch's. Raises pytest.UsageError."""
    for argument in map(str, typed(config)):
        if (instead := OURS.get(argument.split("=")[0])) is not None:
            raise pytest.UsageError(f"{argument}: has no effect on Stepwatch, which {instead}; leave it out")
    if config.option.benchmark_histogram and not all(map(importlib.util.find_spec, DRAW)):
        raise pytest.UsageError(f"--benchmark-histogram: needs other packages: pip install {' '.join(DRAW)}")


def typed(config: pytest.Config) -> list[str]:
    """The arguments as typed: in `addopts`, in PYTEST_ADDOPTS, and on the command line."""
    added = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    return [*config.getini("addopts"), *added, *config.invocation_params.args]


def wants_own_table(config: pytest.Config) -> bool:
    return any(argument.split("=")[0] in DISPLAY_OPTIONS for argument in map(str, typed(config)))


def take_checks(config: pytest.Config) -> list[Any]:
    """The checks of --benchmark-compare-fail. They are taken from pytest-benchmark, which then checks nothing."""
    checks = list(config.option.benchmark_compare_fail or ())
    config.option.benchmark_compare_fail = []
    return checks


def take_json(config: pytest.Config) -> Path | None:
    """The file of --benchmark-json. It is taken from pytest-benchmark, which would warn that it measured nothing."""
    target, config.option.benchmark_json = config.option.benchmark_json, None
    if target is None or isinstance(target, Path):
        return target
    target.close()  # version 5.2 has opened the file
    return Path(target.name)


def failure(check: Any, current: Any, base: Mapping[str, float], shown: Callable[[float], str]) -> str:
    """Why the benchmark `current` fails `check`, in one line with `{base}` in it; "" if it passes."""
    name, limit = check.field, check.threshold
    share = "Percentage" in type(check).__name__
    option = f"(--benchmark-compare-fail={name}:{limit:g}{'%' * share})"
    if name not in base:
        return f"{name} is not known of {{base}} {option}"
    if not check.fails(current, base):
        return ""
    above = check.compute(current, base)
    more = f"{above:.0f}%" if share else shown(above)
    return f"{name} {shown(current[name])} is {more} above {shown(base[name])} of {{base}} {option}"


def storage_folder(config: pytest.Config) -> Path | None:
    """The folder in which pytest-benchmark keeps its files, or None if they go to a server."""
    storage = session_of(config).storage
    return Path(storage.get("x")).parent if hasattr(storage, "get") else None


def session_of(config: pytest.Config) -> Any:
    return config._benchmarksession  # type: ignore[attr-defined]


def disabled(config: pytest.Config) -> bool:
    """Whether each benchmark runs once, as a test, and nothing is timed."""
    return bool(session_of(config).disabled)


def benchmarks(config: pytest.Config) -> list[Any]:
    """The measured benchmarks of this run: pytest-benchmark's own list, not a copy."""
    measured: list[Any] = session_of(config).benchmarks
    return measured


def put(
    item: pytest.Item, seconds: list[float], iterations: int, info: dict[str, Any], options: dict[str, Any]
) -> None:
    """Add the benchmark of `item`, measured by another process, to this run. It replaces an earlier result."""
    assert isinstance(item, pytest.Function)
    mark = item.get_closest_marker("benchmark")
    fixture = SimpleNamespace(
        name=item.name, fullname=item.nodeid, group=mark and mark.kwargs.get("group"), extra_info=info,
        param=item.callspec.id, params=dict(item.callspec.params), cprofile_stats=None, has_error=False,
    )  # fmt: skip
    made: Any = Metadata(fixture, iterations=iterations, options=options)  # type: ignore[no-untyped-call, unused-ignore]
    for one in seconds:
        made.stats.update(one)
    known = benchmarks(item.config)
    place = next((place for place, one in enumerate(known) if one.fullname == item.nodeid), len(known))
    known[place : place + 1] = [made]


def drop(config: pytest.Config, keep: Callable[[str], bool]) -> None:
    """Remove the benchmarks whose full name `keep` rejects: they failed after timing, or were interrupted."""
    kept = benchmarks(config)
    kept[:] = [bench for bench in kept if keep(bench.fullname)]


def document(config: pytest.Config) -> dict[str, Any]:
    """The pytest-benchmark JSON of everything measured so far, raw samples included."""
    session = session_of(config)
    machine, commit_info = _constants(config)
    made: dict[str, Any] = config.hook.pytest_benchmark_generate_json(
        config=config,
        benchmarks=session.benchmarks,
        include_data=True,
        machine_info=machine,
        commit_info=commit_info,
    )
    config.hook.pytest_benchmark_update_json(config=config, benchmarks=session.benchmarks, output_json=made)
    return made


def commit(config: pytest.Config) -> dict[str, Any]:
    """What pytest-benchmark knows of the commit that is measured: `id`, `dirty` and more."""
    return _constants(config)[1]


def _constants(config: pytest.Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """The machine and the commit. Git and the machine are asked once in a run, not after each benchmark."""
    if CONSTANTS not in config.stash:
        found = config.hook.pytest_benchmark_generate_commit_info(config=config)
        config.hook.pytest_benchmark_update_commit_info(config=config, commit_info=found)
        config.stash[CONSTANTS] = (session_of(config).get_machine_info(), found)
    return config.stash[CONSTANTS]
