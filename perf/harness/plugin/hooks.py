"""pytest's hooks and fixtures, in the order in which pytest calls them. Thin: the work is in the modules beside."""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from data import DataError
from model import RecipeError
from perf.harness.machine import devices, memory
from perf.harness.measurement import rounds as measure
from perf.harness.measurement.bench import Bench, TooLong
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.options import OPTIONS, SettingsError
from perf.harness.plugin import preflight, stock, stored
from perf.harness.plugin.gate import PairedGate
from perf.harness.plugin.items import is_part, kind, name_of, params
from perf.harness.plugin.progress import Progress
from perf.harness.plugin.qualify import Qualifying
from perf.harness.plugin.state import PROGRESS, STATE, State, kept_in
from perf.harness.record import RecordError, Run
from perf.harness.record.read import load, parse
from perf.harness.record.run import TIMED
from perf.harness.record.store import RunFile
from perf.harness.report import header, render
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import BY_NAME, place
from perf.harness.workload.modes.execution import untraced
from perf.harness.workload.modes.mode import Mode, Unsupported

# Failures that were given their outcome, and reason, where they were found.
SAID = ("out-of-memory", "slower", "inconclusive", "missing")

SAVE_AS = pytest.StashKey[str | None]()
COMPARED = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stepwatch", "Stepwatch: how fast does this machine train?")
    for option in OPTIONS:
        value: dict[str, Any] = (
            {"metavar": option.metavar, "default": None} if option.metavar else {"action": "store_true"}
        )
        group.addoption(option.flag, **value, help=option.full_help.replace("%", "%%"))
        parser.addini(option.ini, option.full_help, default="")


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark, which opens its storage here
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "check(*metrics, seconds): a check of the machine; each='batch_size': one metric for each"
    )
    preflight.check_swallowed(config)
    if not preflight.measures(config):
        return
    stock.check_active(config)
    stock.check_version()
    state = config.stash[STATE] = State(preflight.resolved(config))
    config.stash[PROGRESS] = Progress(config)
    config.stash[SAVE_AS] = preflight.keep_own_records(config, state.plan.fingerprint_id)
    preflight.check_json(config)
    if state.settings.qualifies:
        preflight.check_qualify(config)
        config.pluginmanager.register(Qualifying(config), "stepwatch-qualify")
    if state.settings.paired:
        preflight.check_paired(config)
        config.pluginmanager.register(PairedGate(config), "stepwatch-paired")
    config.stash[COMPARED] = stored.settle(config, state)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The checks are for `--perf-profile=qualify` alone, and it is for nothing else."""
    state = config.stash.get(STATE, None)
    if state is None or not preflight.is_test_file(collection_path):
        return None
    return True if state.settings.qualifies != preflight.is_check(collection_path) else None


def pytest_report_header(config: pytest.Config) -> list[str]:
    state = config.stash.get(STATE, None)
    if state is None:
        return []
    lines = header(_empty_run(state))
    if state.settings.against and state.settings.gate == "off":
        lines.append(f"gate      off: --perf-against={state.settings.against} is ignored")
    if note := config.stash[COMPARED]:
        lines.append(note)
    return lines


def _empty_run(state: State) -> Run:
    """The run as the report sees it where there is no record: no benchmarks, but what became of the cases."""
    return parse(json.dumps({"benchmarks": [], "perf": state.as_record()}), "this run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    state = metafunc.config.stash.get(STATE, None)
    if state is None or "device" not in metafunc.fixturenames:
        return
    name = name_of(metafunc.function.__name__)
    if name not in BY_NAME:
        if "bench" in metafunc.fixturenames:
            raise pytest.UsageError(
                f"{metafunc.definition.nodeid}: no benchmark {name!r} is defined; add its definition to "
                "perf/harness/workload/benchmarks.py"
            )
        return
    metafunc.parametrize(Axes._fields, [pytest.param(*axes, id=axes.id) for axes in state.plan.axes(name)])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash.get(STATE, None)
    if state is None:
        return
    for item in items:
        if (group := kind(item)) is None:
            continue
        device = state.plan.devices[params(item)["device"]]
        why_not = device.absent
        if not BY_NAME[group].timed and not why_not:
            why_not = memory.why_unbounded(device, state.settings.memory_limit)
        if why_not:
            item.add_marker(pytest.mark.skip(reason=f"{device.name}: {why_not}"))
            continue
        if reason := state.plan.why_left_out(group, params(item)["model"]):
            item.add_marker(pytest.mark.skip(reason=reason))
            continue
        # One mark with everything: marks do not merge.
        timer = measure.device_timer(devices.synchronizer(device))
        item.add_marker(pytest.mark.benchmark(group=group, timer=timer, disable_gc=not BY_NAME[group].collects))
    items.sort(key=lambda item: place(kind(item) or ""))  # a user who interrupts a run has seen the quick answers


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and (state := items[0].config.stash.get(STATE, None)) is not None:
        state.unfit.append(f"{len(items)} deselected")


def pytest_collection_finish(session: pytest.Session) -> None:
    state = session.config.stash.get(STATE, None)
    if state is None or state.settings.qualifies:
        return
    cases = [item for item in session.items if kind(item)]
    for item in cases:
        state.end(item.nodeid, "not-run")
    if is_part(session.config, cases) and not state.unfit:  # what was deselected is said already
        state.unfit.append("a part of perf/")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Read the data, and refuse what cannot work, before the first case."""
    state = session.config.stash.get(STATE, None)
    if state is None or session.config.option.collectonly or not state.cases or session.testsfailed:
        return
    session.config.stash[PROGRESS].say("reading the data …")
    try:
        state.plan = state.plan.prepared()
    except (SettingsError, RecipeError, DataError) as error:
        raise pytest.UsageError(str(error)) from None
    finally:
        session.config.stash[PROGRESS].say("")
    if not stock.disabled(session.config):
        state.start_telemetry()


@pytest.fixture
def device() -> None:
    """The axis of that name, where the benchmark has it."""


@pytest.fixture
def batch_size() -> None:
    """The axis of that name, where the benchmark has it."""


@pytest.fixture
def pipeline() -> None:
    """The axis of that name, where the benchmark has it."""


@pytest.fixture
def execution() -> None:
    """The axis of that name, where the benchmark has it."""


@pytest.fixture
def precision() -> None:
    """The axis of that name, where the benchmark has it."""


@pytest.fixture
def model() -> None:
    """The axis of that name, where the run has several networks."""


@pytest.fixture
def bench(
    request: pytest.FixtureRequest,
    benchmark: Any,
    device: str,
    batch_size: int | None,
    pipeline: str | None,
    execution: str,
    precision: str,
    model: str | None,
) -> Iterator[Bench]:
    """One case, ready to be measured; device memory is empty before and after."""
    config = request.config
    state, progress = config.stash[STATE], config.stash[PROGRESS]
    mode = Mode(execution, precision)
    workload = state.plan.workload(device, batch_size, pipeline, mode, model)
    names = list(state.cases)
    node = request.node
    benchmark.skipped = True  # until it is used: an interrupt here is no reason to warn that it was not
    on_round = progress.start_case(node.name, names.index(node.nodeid) + 1, len(names))
    memory.free(workload.device)
    try:
        mode.check(workload.device.torch_device)
    except Unsupported as reason:
        pytest.skip(str(reason))
    with devices.current(workload.device), memory.bounded_memory(workload.device), mode.active(anew=True):
        yield Bench(
            BY_NAME[kind(node) or ""],
            workload,
            state.settings,
            benchmark,
            state.plan.device_name(device),
            on_round,
            state.readings(device),
        )
    benchmark.skipped = True  # a case that failed before its rounds needs no warning that it did not use the fixture
    memory.free(workload.device)
    progress.say("")


@pytest.hookimpl(wrapper=True, trylast=True)  # within pytest's own, which listens to every logger
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A measurement that came to nothing is one line, not a traceback through the harness."""
    state = item.config.stash.get(STATE, None)
    if state is None or item.nodeid not in state.cases:
        return (yield)
    try:
        with untraced():
            return (yield)
    except TooLong as reason:
        raise pytest.skip.Exception(str(reason)) from None
    except MeasurementError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that filled the memory
        message = f"out of memory on {_where(item)}: {_first_line(error)[:200]}"
        state.end(item.nodeid, "out-of-memory", message)
        raise pytest.fail.Exception(message, pytrace=False) from None


def _where(item: pytest.Item) -> str:
    axes = params(item)
    size = axes["batch_size"] or item.config.stash[STATE].plan.network(axes["model"]).batch_sizes[0]
    return f"{axes['device']} at batch size {size}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    state = item.config.stash.get(STATE, None)
    if state is None or item.nodeid not in state.cases:
        return report
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        state.end(item.nodeid, "skipped", reason.removeprefix("Skipped: "))
    elif report.failed and state.cases[item.nodeid].outcome not in SAID:
        state.end(item.nodeid, "failed", _first_line(call.excinfo.value) if call.excinfo else "")
    elif report.passed and report.when == "call":
        state.end(item.nodeid, "ran-once" if stock.disabled(item.config) else "measured")
    if report.failed or report.when == "call":
        _write(item.config)  # before pytest says PASSED: what was said to be finished is on disk
    return report


def _write(config: pytest.Config) -> None:
    """Put everything measured so far on disk; a file that cannot be written ends the run now, not after an hour."""
    state = config.stash[STATE]
    stock.drop(config, keep=lambda name: name not in state.cases or state.cases[name].outcome in TIMED)
    if state.file is None:
        if not stock.benchmarks(config) or not state.cases:
            return
        state.file = RunFile(*kept_in(config))
    try:
        state.file.write(stock.document(config))
    except RecordError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any] | None:
    state = config.stash.get(STATE, None)
    return None if state is None else state.plan.machine_info()


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark's own, which warns of any difference
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Whether the machine is the same, the fingerprint decides; host name and clock readings are no difference."""
    if config.stash.get(STATE, None) is not None:
        compared_benchmark["machine_info"] = machine_info


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    if (state := config.stash.get(STATE, None)) is not None:
        output_json["perf"] = state.as_record()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-benchmark writes its own file
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    config = session.config
    state = config.stash.get(STATE, None)
    if state is not None and state.telemetry is not None:
        state.telemetry.stop()  # however the run ended; before its record is written for the last time
    if state is not None and not config.option.collectonly:
        not_run = any(case.outcome == "not-run" for case in state.cases.values())
        state.complete = not not_run and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        _write(config)
        if state.file is not None and state.why_no_baseline() is None:
            state.file.number(config.stash[SAVE_AS] or state.file.stamp)
    yield


@pytest.hookimpl(tryfirst=True)  # a section printed after pytest-benchmark's is lost where that one raises
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    state = config.stash.get(STATE, None)
    if state is None or not state.plan.ready or state.settings.qualifies:  # nothing was begun, or nothing timed
        return
    terminalreporter.section("Stepwatch")
    for line in _summary(config, state):
        terminalreporter.write_line(line)


def _summary(config: pytest.Config, state: State) -> list[str]:
    run = _empty_run(state) if state.file is None else load(state.file.path)
    run = dataclasses.replace(run, judgements=())  # they have a section of their own
    lines = render([run], width=config.stash[PROGRESS].columns).splitlines()
    if state.file is None:
        return lines
    lines.append("")
    if reason := state.why_no_baseline():
        lines.append(f"Kept as {_shown(config, state.file.path)}")
        lines.append(f"It is no baseline for later runs: {reason}.")
    else:
        lines.append(f"Saved as {_shown(config, state.file.path)}")
        lines.append("Compare the next run with it: the same command and --benchmark-compare")
    return lines


def _shown(config: pytest.Config, path: Path) -> str:
    try:
        return str(path.relative_to(config.invocation_params.dir))
    except ValueError:
        return str(path)
