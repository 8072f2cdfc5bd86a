"""The first way to run: each case is measured, recorded and, if the user asks, compared with stored runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from data import NotResident
from model.imports import raised
from perf.harness.machine import devices, memory
from perf.harness.measurement import calls
from perf.harness.measurement.bench import TooLong
from perf.harness.measurement.rounds import ONLY, MeasurementError, Pass
from perf.harness.plugin import preflight, stock, stored
from perf.harness.plugin.command import repeated
from perf.harness.plugin.items import is_part, kind, parametrize, params
from perf.harness.plugin.kept import check_folder, keep_elsewhere, kept_instead
from perf.harness.plugin.selection import Selection
from perf.harness.plugin.state import end_undecided, kept_in, shown
from perf.harness.plugin.way import Way
from perf.harness.record import RecordError, Run
from perf.harness.record.read import load, parse
from perf.harness.record.run import TIMED
from perf.harness.record.store import RunFile, keep, plain
from perf.harness.report import render
from perf.harness.verdict.acceptance import spoiled
from perf.harness.workload.benchmarks import BY_NAME, place
from perf.harness.workload.modes.compiler import untraced
from perf.harness.workload.modes.errors import Unsupported
from perf.here import local

# Options of a run that do not decide what it measures.
BY_THE_WAY = (
    "--benchmark-json", "--benchmark-compare", "--benchmark-compare-fail", "--benchmark-save", "--perf-summary",
    "--junitxml", "--junit-xml",
)  # fmt: skip
# These outcomes and their reasons are already noted when `ended` is called.
SAID = ("out-of-memory", "slower", "inconclusive", "missing")


class Measure(Way):
    """Measures every case. If the user asks, each case is compared with stored runs when it ends.

    `one` is the pass that this process makes, unless other processes measure. `here` is the option for which this
    process makes the only one.
    """

    one: Pass = ONLY

    def __init__(self, config: pytest.Config, here: str = "") -> None:
        super().__init__(config)
        self._here = here
        self._selection = Selection.of(config)
        self._note, self._comparison = stored.settle(config, self.state)
        self._wanted = stock.take_json(config)
        self._file: RunFile | None = None
        self._document: Mapping[str, Any] = {}
        self._unwritten = ""  # why the document is not in its file
        self._elsewhere: Path | None = None  # where it is then
        self._refused = False
        self._written = ""  # what became of the file of --benchmark-json
        self.lost: dict[str, str] = {}  # the devices that no longer work in this process, and why
        # A capture that fails may leave torch 2.11 so that a later case aborts the process (pytorch#180395).
        self.failed_in_graph = False

    def header(self) -> list[str]:
        chosen = self.settings.origins.get("threads") == preflight.CHOSEN
        threads = [f"threads   {self.settings.threads}, chosen by --perf-threads=auto"] if chosen else []
        off = self.settings.against and self.settings.gate == "off"
        ignored = [f"gate      off: --perf-against={self.settings.against} is ignored"] if off else []
        only = [f"passes    1, in this process, because of {self._here}"] if self._here else []
        return [*threads, *ignored, *only, *([self._note] if self._note else [])]

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        parametrize(metafunc, self.state.plan.axes)

    def collect(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        for item in items:
            if (name := kind(item)) is not None:
                self._mark(item, name)
        items.sort(key=lambda item: place(kind(item) or ""))  # quick ones first, in case the user interrupts
        if self._comparison is not None:
            self._comparison.collect(session, items)

    def _mark(self, item: pytest.Item, name: str) -> None:
        """Skip a case that cannot run, with the reason. Give any other case its timer.

        One mark holds all settings of the case, because marks do not merge.
        """
        device = self.state.plan.device(params(item)["device"])
        why_not = device.absent
        if not why_not and BY_NAME[name].all_at_once:
            why_not = self.state.plan.why_alone(params(item)["device"])
        if not why_not and BY_NAME[name].fills_memory:
            why_not = memory.why_unbounded(device, self.settings.memory_limit)
        if why_not:
            item.add_marker(pytest.mark.skip(reason=f"{device.name}: {why_not}"))
        elif reason := self.state.plan.why_left_out(name, params(item)["model"]):
            item.add_marker(pytest.mark.skip(reason=reason))
        else:
            timer = calls.device_timer(devices.synchronizer(device))
            item.add_marker(pytest.mark.benchmark(group=name, timer=timer, disable_gc=not BY_NAME[name].collects))

    def collected(self, session: pytest.Session) -> None:
        cases = [item for item in session.items if kind(item)]
        for item in cases:
            self.state.end(item.nodeid, "not-run")
        if is_part(self.config, cases) and not self.state.unfit:  # `unfit` may already name deselected cases
            self.state.unfit.append("a part of perf/")

    @property
    def is_spoilt(self) -> bool:
        """Whether what a case did to this process may make later ones fail."""
        return bool(self.lost) or self.failed_in_graph

    def start(self, session: pytest.Session) -> None:
        if not self.state.cases:
            return
        if not stock.disabled(self.config):
            check_folder(self.config)
        self.prepare_data()
        if not stock.disabled(self.config):
            self.state.start_telemetry()

    def set_up(self, item: pytest.Item) -> None:
        if item.nodeid in self.state.cases and (why := self.lost.get(params(item)["device"])):
            raise pytest.fail.Exception(why, pytrace=False)
        if self._comparison is not None:
            self._comparison.set_up(item)

    @contextlib.contextmanager
    def running(self, item: pytest.Item) -> Iterator[None]:
        """Report a failed measurement in one line, without a traceback through the harness. Judge a successful one."""
        try:
            with untraced(), _same_threads() if item.nodeid in self.state.cases else contextlib.nullcontext():
                yield
        except (TooLong, Unsupported) as reason:
            raise pytest.skip.Exception(str(reason)) from None
        except NotResident as reason:
            raise pytest.skip.Exception(f"resident: {reason}") from None
        except MeasurementError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        except Exception as error:
            if item.nodeid not in self.state.cases:
                raise
            self.failed_in_graph |= params(item)["execution"] == "cudagraph"
            if isinstance(error, torch.AcceleratorError) and not memory.is_out_of_memory(error):
                message = self._lose(item, error)
                raise pytest.fail.Exception(message, pytrace=False) from None
            if not memory.is_out_of_memory(error):
                recipe = self.state.plan.network(params(item)["model"]).recipe
                if recipe.ours:
                    raise
                hint = "" if recipe.users else "; to train it in another way, write it as a task: docs/trainings.md"
                raise pytest.fail.Exception(f"{recipe.name}: {raised(error)}{hint}", pytrace=False) from None
            traceback.clear_frames(error.__traceback__)  # the frames hold the tensors that filled the memory
            message = f"out of memory on {self._where(item)}: {_first_line(error)[:200]}"
            self.state.end(item.nodeid, "out-of-memory", message)
            raise pytest.fail.Exception(message, pytrace=False) from None
        if self._comparison is not None:
            self._comparison.judge(item)

    def _lose(self, item: pytest.Item, error: Exception) -> str:
        """Note that the device of `item` no longer works in this process: each later call on it would raise this."""
        device = params(item)["device"]
        message = f"{device} stopped working: {_first_line(error)[:200]}"
        self.lost[device] = (
            f"not measured, as {message} (in {item.name}); without --perf-passes=1, the next case gets a new process"
        )
        return message

    def _where(self, item: pytest.Item) -> str:
        axes = params(item)
        size = axes["batch_size"] or self.state.plan.network(axes["model"]).batch_sizes[0]
        return f"{axes['device']} at batch size {size}"

    def ended(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        if item.nodeid not in self.state.cases:
            return
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self.state.end(item.nodeid, "skipped", reason.removeprefix("Skipped: "))
        elif report.failed and self.state.cases[item.nodeid].outcome not in SAID:
            self.state.end(item.nodeid, "failed", _first_line(call.excinfo.value) if call.excinfo else "")
        elif report.passed and report.when == "call":
            self.state.end(item.nodeid, "ran-once" if stock.disabled(self.config) else "measured")
        if report.failed or report.when == "call":
            self._write()

    def _write(self) -> None:
        """Write everything measured so far to disk. If that fails, the run goes on: later, there may be room."""
        cases = self.state.cases
        stock.drop(self.config, keep=lambda name: name not in cases or cases[name].outcome in TIMED)
        if self._file is None:
            if not stock.benchmarks(self.config) or not cases:
                return
            folder, stamp = kept_in(self.config)
            self._file = RunFile(folder / self._selection.folder_name if self._comparable_part else folder, stamp)
        self._document, self._unwritten = plain(stock.document(self.config)), ""
        try:
            self._file.write(self._document)
        except RecordError as error:
            self._unwritten = str(error)

    def finish(self, session: pytest.Session) -> None:
        not_run = any(case.outcome == "not-run" for case in self.state.cases.values())
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        self.state.complete = ended and not not_run
        self._refused = self._file is None and session.exitstatus == pytest.ExitCode.USAGE_ERROR
        self._write()
        lost = not self._put_wanted()
        if self._file is not None and self._unwritten:
            self._elsewhere = keep_elsewhere(self._file.path.name, self._document)
            lost = lost or self._elsewhere is None
        elif self._file is not None and (self._comparable_part or not self.state.unfit) and not self._spoiled:
            self._file.number(self.save_as or self._file.stamp)
        if self._comparison is not None and self._comparison.gates:
            self._comparison.undecided = end_undecided(session)
        if lost and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def _put_wanted(self) -> bool:
        """Write the file of --benchmark-json, as pytest-benchmark fails on a full disk. Whether that worked."""
        if self._wanted is None:
            return True
        if not stock.benchmarks(self.config):
            self._written = f"{self._wanted}: not written, as nothing was measured"
            return True
        try:
            keep(self._wanted, stock.document(self.config))
        except RecordError as error:
            self._written = str(error)
            return False
        self._written = f"Wrote benchmark data in: {self._wanted}"
        return True

    def summarize(self, terminal: pytest.TerminalReporter) -> None:
        if self._written:
            terminal.write_line(self._written)
        if not self.state.plan.ready or self._refused:  # nothing was started; pytest says why
            return
        terminal.section("Stepwatch")
        for line in self._summary():
            terminal.write_line(line)
        if self._comparison is not None:
            self._comparison.summarize(terminal)

    def recorded(self) -> Run | None:
        if self._file is not None:
            path = self._file.path
            return parse(json.dumps(self._document), str(path)) if self._unwritten else load(path)
        return self.state.empty_run(**self.as_record()) if self.state.plan.ready else None

    def as_record(self) -> dict[str, Any]:
        against = {} if self._comparison is None else {"against": self._comparison.base.label}
        anonymous = self.settings.anonymous  # paths and names in a command say whose it is
        command = {} if anonymous else {"command": repeated(self.config, without=BY_THE_WAY)}
        return super().as_record() | against | command

    def _summary(self) -> list[str]:
        run = self.recorded()
        assert run is not None  # something was started
        run = dataclasses.replace(run, judgements=())  # the judgements have their own section
        lines = local(render([run], width=self.progress.columns)).splitlines()
        if self._file is None:
            return lines
        if self._unwritten:
            return [*lines, "", *kept_instead([self._unwritten], self._elsewhere)]
        path, reason = shown(self.config, self._file.path), self.state.why_no_baseline()
        if reason and not self._file.numbered:
            return [*lines, "", f"Kept as {path}", f"Later runs are not compared with it: {reason}."]
        only = f" (only runs of the same selection are: {self._selection.text})" if reason else ""
        if self._note:  # the user has asked for a comparison already
            return [*lines, "", f"Saved as {path}"]
        last = f"To compare the next run with it{only}, add --benchmark-compare to the same command"
        if run.smoke:
            last = "A smoke run is too short for a verdict: to compare runs, leave out --perf-profile=smoke"
        return [*lines, "", f"Saved as {path}", last]

    @property
    def _comparable_part(self) -> bool:
        """Whether the run measures a part of `perf/` that a later run can measure again."""
        return bool(self.state.unfit) and self._selection.comparable

    @property
    def _spoiled(self) -> bool:
        return bool(spoiled(self.state.cases.values())) or not self.state.complete


@contextlib.contextmanager
def _same_threads() -> Iterator[None]:
    """Restore the number of torch's threads afterwards. Raises MeasurementError if the case changed it."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        after = torch.get_num_threads()
        torch.set_num_threads(before)
    if after != before:
        raise MeasurementError(
            f"it changed the number of torch's threads from {before} to {after}, which is another benchmark; "
            f"give --perf-threads={after} instead"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
