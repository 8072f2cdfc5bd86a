"""pytest's hooks, about in the order in which pytest calls them. Each calls the way to run that the options choose."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perf.harness.options import OPTIONS
from perf.harness.plugin import preflight, project, published, stock
from perf.harness.plugin.fixtures import (  # noqa: F401  pytest finds them here
    batch_size,
    bench,
    check,
    device,
    execution,
    model,
    pipeline,
    precision,
    together,
)
from perf.harness.plugin.progress import Progress
from perf.harness.plugin.state import PROGRESS, STATE, State
from perf.harness.plugin.way import WAY, Way
from perf.harness.plugin.ways import chosen
from perf.harness.record import checksum
from perf.harness.record.anonymous import anonymous
from perf.harness.report import header

# The signals of `kill`, and of a lost connection; Windows lacks one.
ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("stepwatch", "Stepwatch: how fast does this machine train?")
    for option in OPTIONS:
        value: dict[str, Any] = (
            {"metavar": option.metavar, "default": None} if option.metavar else {"action": "store_true"}
        )
        group.addoption(option.flag, **value, help=option.full_help.replace("%", "%%"))
        parser.addini(option.ini, option.full_help, default="")
    config = pluginmanager.get_plugin("pytestconfig")
    for typed in config.invocation_params.args if config is not None else ():
        parser.extra_info |= preflight.meant(str(typed))


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
    stock.check_chosen(config)
    config.stash[STATE] = State(preflight.resolved(config))
    config.stash[PROGRESS] = Progress(config)
    config.stash[WAY] = chosen(config)
    for ends in ENDS if threading.current_thread() is threading.main_thread() else ():
        if signal.getsignal(ends) is signal.SIG_DFL:
            # Handle it like Ctrl-C: the report then says what was measured so far, and where it is kept.
            signal.signal(ends, signal.default_int_handler)
            config.add_cleanup(partial(_end_at_once, ends))


def _end_at_once(ends: signal.Signals) -> None:
    """Restore the default action of a signal."""
    signal.signal(ends, signal.SIG_DFL)


def _way(config: pytest.Config) -> Way | None:
    """The way to run; None if `perf/` is not collected, because the suite's own tests do not need one."""
    return config.stash.get(WAY, None)


def pytest_report_header(config: pytest.Config) -> list[str]:
    way = _way(config)
    return [] if way is None else [*header(way.state.empty_run()), *project.header(config), *way.header()]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    way = _way(config)
    if way is None or not preflight.is_test_file(collection_path):
        return None
    return None if way.collects(collection_path) else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    if (way := _way(session.config)) is not None:
        way.collecting(session)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if (way := _way(metafunc.config)) is not None:
        way.parametrize(metafunc)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before -k and --lf choose from the names, and again after that
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    if (way := _way(config)) is None:
        return (yield)
    way.collect(session, items)
    yield
    way.selected(items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and (way := _way(items[0].config)) is not None:
        way.state.unfit.append(f"{len(items)} deselected")
        way.state.deselected = items[0].name


def pytest_collection_finish(session: pytest.Session) -> None:
    if (way := _way(session.config)) is not None:
        preflight.check_fixture(session.items)
        way.collected(session)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    way = _way(config)
    if way is None or items or not way.state.deselected:
        return []
    return [
        f"Nothing is selected: -k, -m or --deselect leaves out all names, such as {way.state.deselected}.",
        "--collect-only -q, without -k, prints all of them.",
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    way = _way(session.config)
    if way is None or session.config.option.collectonly or session.testsfailed:
        return None
    way.start(session)
    return way.loop(session) or None  # None: pytest then runs its own loop


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    way = _way(pyfuncitem.config)
    return None if way is None else way.call(pyfuncitem) or None


@pytest.hookimpl(tryfirst=True)  # before pytest evaluates the skip marks
def pytest_runtest_setup(item: pytest.Item) -> None:
    if (way := _way(item.config)) is not None:
        way.set_up(item)


@pytest.hookimpl(wrapper=True, trylast=True)  # inside pytest's own hook, which listens to every logger
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    way = _way(item.config)
    if way is None:
        return (yield)
    with way.running(item):
        return (yield)


@pytest.hookimpl(tryfirst=True)  # before the terminal describes it
def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """A signal may arrive at an instruction without a line. pytest cannot describe that, and would lose the report."""
    excinfo.traceback = excinfo.traceback.filter(lambda entry: entry._rawentry.tb_lineno is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if (way := _way(item.config)) is not None:
        way.ended(item, call, report)
    return report


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any] | None:
    way = _way(config)
    return None if way is None else way.state.plan.machine_info()


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark's own hook, which warns of any difference
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Only the fingerprint decides whether the machine is the same. Host name and clock readings may differ."""
    if _way(config) is not None:
        compared_benchmark["machine_info"] = machine_info


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    if (way := _way(config)) is not None:
        output_json["perf"] = way.as_record()
        if way.settings.anonymous:
            output_json.update(anonymous(output_json, project.folders(config, way.settings.data_root)))
        output_json["perf"] |= {checksum.CHECKSUM: checksum.of_run(output_json)}


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-benchmark writes its own file
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    if (way := _way(session.config)) is not None and not session.config.option.collectonly:
        if way.state.telemetry is not None:
            way.state.telemetry.stop()  # however the run ended, and before the record is written for the last time
        way.finish(session)
        if (run := way.recorded()) is not None:
            published.publish(session.config, run)
    yield


@pytest.hookimpl(tryfirst=True)  # if pytest-benchmark's summary raises, all later sections are lost
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if (way := _way(config)) is not None:
        way.summarize(terminalreporter)
