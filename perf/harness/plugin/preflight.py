"""Makes the plan of a run, and refuses wrong options, when pytest starts, before anything is collected or measured."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import data
from data import DataError
from model import RecipeError
from perf.harness.machine import affinity, devices
from perf.harness.measurement import thread_count
from perf.harness.options import AUTO_THREADS, GATE, OPTIONS, Settings, SettingsError, resolve
from perf.harness.plugin import project, stock, tuned_cpu
from perf.harness.plugin.step_times import step_times
from perf.harness.report.quantities import counted
from perf.harness.workload.plan import Plan

PERF = Path(__file__).resolve().parents[2]
CHECKS = PERF / "qualification"
ALWAYS = "preconditions"  # this check runs in every qualification, whatever is selected
DATA_ROOT = Path(data.__file__).resolve().parent
# Threads of a gate. Two threads that share their cores with other programs wait for each other. The noise is then 8.9%,
# which hides all differences.
GATE_THREADS = 1
# Options of other plugins: their names in pytest, the values that switch them off, and what they do.
OTHERS = {
    "--forked": ("forked", False, "runs each test in a process of its own"),
    "--isolate": ("isolate", False, "runs each test in a process of its own"),
    "--reruns": ("reruns", 0, "runs a test again until it passes"),
    "--count": ("count", 1, "runs each test several times"),
    "--parallel-threads": ("parallel_threads", 1, "runs each test in several threads"),
    "--workers": ("workers", 1, "runs tests at the same time"),
}
# The beginning of our options, as it may be misspelt: `--pref-model`.
BEGIN = re.compile(r"--p\w{3}[-_]")
DEFAULT = "default"  # the origin of a setting that nobody has typed
CHOSEN = "chosen"  # the origin of a number of threads that no user has typed
DEFAULT_STORAGE = "file://./.benchmarks"  # pytest-benchmark's default, relative to the current folder


def meant(typed: str) -> dict[str, str]:
    """What a misspelt option may mean: `{"--perf-modle": "did you mean --perf-model?"}`. Empty if it is like none."""
    name = typed.partition("=")[0]
    flags = {option.flag.removeprefix("--perf-"): option.flag for option in OPTIONS}
    if name in flags.values() or not BEGIN.match(name):
        return {}
    close = difflib.get_close_matches(BEGIN.sub("", name, count=1), flags, n=1, cutoff=0.5)
    return {name: f"did you mean {flags[close[0]]}?"} if close else {}


def check_swallowed(config: pytest.Config) -> None:
    """Refuse `--benchmark-compare perf/`: it takes the path as the name of a run, and then `perf/` is not collected."""
    wanted = config.getoption("benchmark_compare", None)
    if isinstance(wanted, str) and (config.invocation_params.dir / wanted.split("::")[0]).is_dir():
        raise pytest.UsageError(
            f"--benchmark-compare took {wanted!r} as the run to compare with; put the path first: "
            f"pytest {wanted} --benchmark-compare"
        )


def measures(config: pytest.Config) -> bool:
    """Whether `perf/` is collected. If only the suite's own tests run, the plugin has nothing to do."""
    if config.option.help or config.option.version:
        return False
    paths = [(config.invocation_params.dir / str(argument).split("::")[0]).resolve() for argument in config.args]
    return any(path == PERF or path in PERF.parents or PERF in path.parents for path in paths)


def resolved(config: pytest.Config) -> Plan:
    """Make the plan of the run, and set torch's threads. Raises pytest.UsageError for a user's mistake."""
    _check_plugins(config)
    typed = {option.name: _typed(config.getoption(option.flag)) for option in OPTIONS}
    ini, ini_file = project.settings(config)
    project.search(config)
    if (here := str(config.invocation_params.dir)) not in sys.path:
        sys.path.append(here)  # for `--perf-model=package.module:factory`
    try:
        settings = resolve(typed, ini, ini_file, DATA_ROOT)
        if settings.paired and settings.origins["profile"] == DEFAULT:
            settings = resolve({**typed, "profile": GATE}, ini, ini_file, DATA_ROOT)
        if settings.paired and settings.threads is None:
            settings = replace(settings, threads=GATE_THREADS)
        _check_gate(settings)
        _check_models(settings)
        _check_passes(settings)
        _check_threads(settings)
        tuned = None
        if settings.tuned_cpu:
            settings, tuned = tuned_cpu.tuned(config, settings)
        elif settings.threads == AUTO_THREADS:
            settings = _with_best_threads(settings)
        if settings.threads is not None:
            config.add_cleanup(partial(torch.set_num_threads, torch.get_num_threads()))
            torch.set_num_threads(settings.threads)
        plan = replace(Plan.of(settings), tuned=tuned)
    except (SettingsError, RecipeError, DataError) as error:
        raise pytest.UsageError(str(error)) from None
    _check_checks(config, settings)
    for device in devices.expand(settings.require_devices):
        if device.absent:
            raise pytest.UsageError(f"--perf-require-device: {device.name} is absent: {device.absent}")
    return plan


def _check_plugins(config: pytest.Config) -> None:
    """Refuse the options of other plugins that run a test elsewhere, several times, or beside others."""
    if config.getoption("dist", "no") != "no":
        raise pytest.UsageError("benchmarks that run at the same time disturb each other; run perf/ without -n")
    for flag, (name, off, why) in OTHERS.items():
        asked = config.getoption(name, None)
        with contextlib.suppress(ValueError, KeyError):  # no plugin has this name in an ini file
            asked = asked or config.getini(name)
        if asked not in (off, str(off), None, False, ""):
            raise pytest.UsageError(f"{flag} {why}, so that Stepwatch would not measure what it says: leave it out")


def check_fixture(items: Iterable[pytest.Item]) -> None:
    """Refuse a fixture `benchmark` that is not pytest-benchmark's: with it, the cases pass, and nothing is measured."""
    for item in items:
        if not is_test_file(item.path):
            continue  # tests of the user's own may have any fixture
        found = getattr(item, "_fixtureinfo", None)
        for one in (found.name2fixturedefs.get("benchmark", ()) if found else ())[-1:]:
            module = one.func.__module__
            if not module.startswith("pytest_benchmark"):
                raise pytest.UsageError(
                    f"the fixture `benchmark` is that of {module}, and Stepwatch measures with pytest-benchmark's: "
                    "leave out the other plugin, or its option (-p no:NAME, --codspeed)"
                )


def _with_best_threads(settings: Settings) -> Settings:
    """Choose the number of threads, in another process. Raises SettingsError if that fails."""
    times = step_times(settings, "--perf-threads=auto").times
    return settings.with_threads(thread_count.fewest(times), CHOSEN)


def _typed(value: str | bool | None) -> str | None:
    """The text of an option on the command line; None if it was not given."""
    return {True: "yes", False: None}[value] if isinstance(value, bool) else value


def _check_gate(settings: Settings) -> None:
    """Refuse what has no meaning without a gate, and what would end the gate that the command line asks for.

    What an ini file says of a gate is for the runs that have one.
    """
    origins = settings.origins
    if origins.get("against") == "--perf-against" and settings.gate == "off" and origins["gate"] != "--perf-gate":
        raise pytest.UsageError(
            f"--perf-against and {origins['gate']} exclude each other: a change to a file must not end the gate; give "
            "--perf-gate=off instead, or leave out --perf-against"
        )
    for name in ("against-setup", "base-model"):
        if origins.get("against") == "--perf-against" and origins.get(name, f"--perf-{name}") != f"--perf-{name}":
            raise pytest.UsageError(
                f"{origins[name]}: a change to a file must not decide what base is; type --perf-{name}=… beside "
                "--perf-against"
            )
    if settings.paired or settings.gate == "off":
        return
    if settings.profile.name == GATE:
        raise pytest.UsageError("--perf-profile=gate needs --perf-against, which names what to compare with")
    for name in ("against-setup", "base-model", "max-memory", "time-budget"):
        if origins.get(name) == f"--perf-{name}":
            raise pytest.UsageError(f"--perf-{name} needs --perf-against, which names what to compare with")


def _check_models(settings: Settings) -> None:
    """Refuse several networks where a verdict is on one, and the profile `full` for a gate, which has its own times."""
    if settings.paired and settings.profile.name == "full":
        raise pytest.UsageError(
            "--perf-against and --perf-profile=full exclude each other: name model and modes instead"
        )
    asked = {"--perf-profile=qualify": settings.qualifies, "--perf-against": settings.paired}
    for flag, given in asked.items():
        if given and len(settings.models) > 1:
            raise pytest.UsageError(
                f"{flag} judges one network, and --perf-model names {len(settings.models)}: name one"
            )


def _check_passes(settings: Settings) -> None:
    """Refuse what is typed for passes where there are none, or where the user sets the rounds.

    What an ini file says is for the runs that measure.
    """
    typed = {name: settings.origins.get(name) == f"--perf-{name}" for name in ("passes", "precision-target")}
    typed["passes"] = typed["passes"] and settings.passes != 1
    for name, given in typed.items():
        if given and (settings.paired or settings.qualifies):
            other = "--perf-against" if settings.paired else "--perf-profile=qualify"
            raise pytest.UsageError(f"--perf-{name} and {other} exclude each other: only a measuring run has passes")
    if typed["precision-target"] and settings.rounds is not None:
        raise pytest.UsageError(
            "--perf-precision-target and --perf-rounds exclude each other: all rounds that you set are made"
        )


def _check_threads(settings: Settings) -> None:
    """Refuse more threads than cores: they would wait for each other, and other programs would be blamed for that."""
    if (settings.threads or 0) > (cores := affinity.usable_cores()):
        raise SettingsError(
            f"{settings.origins['threads']}: {counted(settings.threads or 0, 'thread')} on {counted(cores, 'core')}: "
            f"give at most {cores}"
        )


def _check_checks(config: pytest.Config, settings: Settings) -> None:
    """Refuse the options of a qualification in other runs, and those that exclude each other."""
    if settings.quick and settings.full:
        raise pytest.UsageError("--perf-quick and --perf-full exclude each other")
    if settings.qualifies:
        chosen = settings.checks
        for flag, names in (("--perf-require-check", settings.require_checks), ("--perf-inject", settings.inject)):
            for name in names:
                if chosen is not None and name not in (*chosen, ALWAYS):
                    raise pytest.UsageError(f"--perf-check leaves out {name}, which {flag} names")
        cores = affinity.usable_cores()
        if (settings.busy_limit or 0) >= cores / 2:
            raise pytest.UsageError(
                f"--perf-busy-limit={settings.busy_limit:g}: with so many of {cores} cores taken, a good machine "
                f"fails; allow less than {cores / 2:g}"
            )
        return
    for flag, given in (
        ("--perf-check", settings.checks),
        ("--perf-require-check", settings.require_checks),
        ("--perf-expect-devices", settings.expect_devices is not None),
        ("--perf-busy-limit", settings.busy_limit is not None),
        ("--perf-inject", settings.inject),
        ("--perf-spec", settings.spec),
        ("--perf-quick", settings.quick),
        ("--perf-full", settings.full),
    ):
        if given:
            raise pytest.UsageError(f"{flag} works only with --perf-profile=qualify")
    for argument in config.args:
        path = (config.invocation_params.dir / str(argument).split("::")[0]).resolve()
        if CHECKS in (path, *path.parents):
            raise pytest.UsageError(f"{argument}: checks run only with --perf-profile=qualify")


def is_test_file(path: Path) -> bool:
    """Whether `path` is the file of one of our benchmarks or checks. The user may have come through a link."""
    return path.suffix == ".py" and path.resolve().parent in (PERF, CHECKS)


def is_check(path: Path) -> bool:
    return path.resolve().parent == CHECKS


def check_qualify(config: pytest.Config) -> None:
    """Refuse the options that have no meaning in a qualification, which times no benchmark."""
    option = config.option
    for flag, given in (
        ("--benchmark-compare", option.benchmark_compare),
        ("--benchmark-disable", option.benchmark_disable),
        ("--benchmark-skip", option.benchmark_skip),
        ("--perf-against", option.perf_against),
        ("--perf-against-python", option.perf_against_python),
    ):
        if given:
            raise pytest.UsageError(
                f"{flag} and --perf-profile=qualify exclude each other: nothing is timed to compare"
            )


def check_paired(config: pytest.Config) -> None:
    """Refuse the options of pytest-benchmark that exclude a gate: it could pass without judging anything."""
    option = config.option
    for flag, given in (
        ("--benchmark-compare", option.benchmark_compare),
        ("--benchmark-compare-fail", option.benchmark_compare_fail),
        ("--benchmark-disable", option.benchmark_disable),
        ("--benchmark-skip", option.benchmark_skip),
    ):
        if given:
            raise pytest.UsageError(f"{flag} and --perf-against exclude each other: the gate compares side by side")


def check_outputs(config: pytest.Config) -> None:
    """Refuse files that cannot be written and that others open last: their errors would take the report with them."""
    target = config.option.benchmark_json
    if isinstance(target, Path):
        check_writable(target, "--benchmark-json")
    if config.getoption("xmlpath", None):
        target = Path(os.path.expandvars(config.option.xmlpath)).expanduser()
        found = next(folder for folder in target.absolute().parents if folder.exists())  # pytest makes the others
        check_writable(target, "--junitxml", found)


def check_writable(target: Path, option: str, folder: Path | None = None) -> None:
    """Refuse a file that cannot be written: to find that out after the run would lose what it measured.

    `folder` is where it or its folders are made; None: its own.
    """
    folder = folder or target.resolve().parent
    if not folder.exists():
        raise pytest.UsageError(f"{option}={target}: there is no folder {folder}; make it first")
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise pytest.UsageError(f"{option}={target}: cannot be written; choose a file in a writable folder")


def keep_own_records(config: pytest.Config, fingerprint_id: str) -> str | None:
    """Give each fingerprint its own folder in the storage, and stop pytest-benchmark from saving runs there.

    Only the suite knows which runs are whole. Returns the name from `--benchmark-save`, if any.
    """
    base = str(config.option.benchmark_storage)
    if base == DEFAULT_STORAGE:
        base = f"file://{project.home(config) / '.benchmarks'}"
    if base.startswith("file://") or "://" not in base:
        config.option.benchmark_storage = f"{base.rstrip('/')}/{fingerprint_id}"
    name: str | None = config.option.benchmark_save
    config.option.benchmark_save = config.option.benchmark_autosave = None
    if not stock.wants_own_table(config):
        config.option.benchmark_quiet = True
    return name
