"""The third way to run, `--perf-profile=qualify`: the checks in `perf/qualification/` and their verdicts."""

from __future__ import annotations

import contextlib
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from _pytest.junitxml import xml_key

from perf.harness.machine import devices, memory
from perf.harness.machine.affinity import cores, usable_cores
from perf.harness.machine.devices import Device
from perf.harness.machine.hardware import hardware
from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import USUAL, Attempt
from perf.harness.measurement.checks.counters import ErrorCounters, NotCounted, Read
from perf.harness.measurement.checks.timing import Reading
from perf.harness.plugin import preflight
from perf.harness.plugin.kept import check_folder
from perf.harness.plugin.metrics import CHECKS, check_of, place, turn, variants
from perf.harness.plugin.results import Results
from perf.harness.plugin.way import Way
from perf.harness.record import RecordError, Run
from perf.harness.record.check import Check, CheckVerdict
from perf.harness.record.spec import Spec, load_spec
from perf.harness.report import render
from perf.harness.report.qualification import check_line
from perf.harness.report.quantities import counted, duration
from perf.harness.verdict.checks import BUSY_SHARE, Allowed, allowed_load
from perf.harness.verdict.keys import model_of
from perf.harness.verdict.tally import standing_exit
from perf.here import suite

START_S = 5.0  # reading the data, and trying what one busy core does


class Qualify(Way):
    """One qualification: it chooses and parametrizes the checks, keeps each result at once, and prints the banner."""

    def __init__(self, config: pytest.Config) -> None:
        preflight.check_qualify(config)
        super().__init__(config)
        self._results = Results(config, self.state)
        self._nowhere: set[str] = set()  # checks that no device of this run can have
        self._always: list[pytest.Item] = []
        self._begun = False
        self._lost: dict[str, str] = {}  # the devices that no longer work in this process, and why
        self._clocks: Reading | None = None  # when the run began
        self._allowed = USUAL
        self._errors: dict[str, ErrorCounters | NotCounted] = {}
        self._left_s: dict[str, float] = {}
        self._spec: Spec | None = None
        config.option.benchmark_only = False  # pytest-benchmark does not know the checks as benchmarks
        if (spec := self.settings.spec) is not None:
            try:
                self._spec = load_spec(spec)
            except RecordError as error:
                raise pytest.UsageError(f"--perf-spec: {error}") from None
            self._check_spec(self._spec)

    def _check_spec(self, spec: Spec) -> None:
        """Refuse a spec with an unknown check, or with no device of this machine: it would judge nothing."""
        for one in spec.references:
            if one.check not in CHECKS:
                raise pytest.UsageError(f"--perf-spec: {spec.source}: there is no check {one.check!r}")
        present = [device for device in self.state.plan.devices.values() if not device.absent]
        perf = self.state.plan.as_record()
        here = {device.name: model_of(device.name, perf) for device in present}
        unknown = {name: model for name, model in here.items() if not spec.knows(model)}
        if here and len(unknown) == len(here):
            there = ", ".join(spec.devices) or "no device"
            raise pytest.UsageError(
                f"--perf-spec: {spec.source} is of {there}, and says nothing of {', '.join(here.values())}"
            )
        self._results.notes += [f"{spec.source} says nothing of {name} ({model})" for name, model in unknown.items()]

    def header(self) -> list[str]:
        planted = [f"{check}:{kind}" for check, kind in self.settings.inject.items()]
        return [f"INJECTED  {', '.join(planted)}: this run says nothing about the machine"] if planted else []

    def collects(self, path: Path) -> bool:
        return preflight.is_check(path)

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        marker = metafunc.definition.get_closest_marker("check")
        if marker is None:
            return
        pairs = [
            (name, one)
            for name, device in self.state.plan.devices.items()
            for one in variants(marker, device, self.state.plan)
        ]
        if not pairs:
            self._nowhere.add(metafunc.function.__name__.removeprefix("test_"))
        cases = [pytest.param(pair, id="-".join(filter(None, pair))) for pair in pairs]
        metafunc.parametrize("_place", cases)

    def collecting(self, session: pytest.Session) -> None:
        """Whatever files are named, the preconditions are of the run."""
        path, here = preflight.CHECKS / f"test_{preflight.ALWAYS}.py", session.config.invocation_params.dir
        named = [Path(here, str(one).partition("::")[0]).resolve() for one in session.config.args]
        if not {path, *path.parents}.intersection(named) and any(map(preflight.is_check, named)):
            session.config.args.append(str(path))

    def collect(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        for item in items:
            if item.get_closest_marker("check") is None:
                raise pytest.UsageError(f"{item.nodeid}: --perf-profile=qualify runs only the checks: use {suite()}")
        items[:] = [item for item in items if check_of(item) not in self._nowhere]
        chosen = self.settings.checks
        for flag, names in (("inject", self.settings.inject), ("require-check", self.settings.require_checks)):
            if none := sorted(self._nowhere.intersection(names)):
                raise pytest.UsageError(f"--perf-{flag}: {', '.join(none)}: {self._only_a_cpu}")
        if chosen is not None and (none := sorted(self._nowhere.intersection(chosen))):
            self._results.notes.append(f"{', '.join(none)}: {self._only_a_cpu}")
        dropped = [item for item in items if chosen is not None and check_of(item) not in (*chosen, preflight.ALWAYS)]
        if dropped:
            self.config.hook.pytest_deselected(items=dropped)
        items[:] = sorted((item for item in items if item not in dropped), key=turn)
        for item in items:
            device = self.state.plan.devices[place(item)[0]]
            if device.absent:
                item.add_marker(pytest.mark.skip(reason=f"{device.name}: {device.absent}"))
        self._always = [item for item in items if check_of(item) == preflight.ALWAYS]

    def selected(self, items: list[pytest.Item]) -> None:
        if items:
            items[:] = sorted(dict.fromkeys([*items, *self._always]), key=turn)

    @property
    def _only_a_cpu(self) -> str:
        devices = ", ".join(self.state.plan.devices)
        return f"only a CPU has such a check, and --perf-device={devices} names none"

    def collected(self, session: pytest.Session) -> None:
        absent = [device for device in self.state.plan.devices.values() if device.absent]
        self._results.notes += [f"{device.name} was not checked: {device.absent}" for device in absent]
        chosen = {check_of(item) for item in session.items}
        if left_out := [name for name in CHECKS if name not in chosen | self._nowhere]:
            self._results.selection = [f"not selected: {', '.join(left_out)}"]
        elif self.state.unfit:
            self._results.selection = [f"only a part of the metrics was selected: {', '.join(self.state.unfit)}"]
        for item in session.items:
            marker = item.get_closest_marker("check")
            if marker is not None and not item.get_closest_marker("skip"):
                seconds = marker.kwargs["seconds"]
                self._left_s[item.nodeid] = marker.kwargs.get("full", seconds) if self.settings.full else seconds
                self._results.todo[check_of(item), place(item)[0]] += 1
        if self._left_s and not self.config.option.collectonly:
            self._promise(session)

    def _promise(self, session: pytest.Session) -> None:
        """Say how long the run will take, and each of its checks, the longest first."""
        of: Counter[str] = Counter()
        for item in session.items:
            of[check_of(item)] += self._left_s.get(item.nodeid, 0.0)  # type: ignore[assignment]
        each = ", ".join(f"{name} {duration(seconds)}" for name, seconds in of.most_common() if seconds)
        metrics, whole = counted(len(self._left_s), "metric"), duration(START_S + sum(self._left_s.values()))
        self.progress.line(textwrap.fill(f"{metrics}: about {whole} ({each})", self.progress.columns))

    def start(self, session: pytest.Session) -> None:
        if not session.items:
            return
        check_folder(self.config)
        self.prepare_data()  # the checks that train need the data
        self._begun, self._clocks = True, Reading.now()
        present = [device for device in self.state.plan.devices.values() if not device.absent]
        self._results.hardware = hardware(present, cores(), anonymous=self.settings.anonymous)
        if present:
            self._allowed = self._allowed_load()
        inject = self.settings.inject
        if inject.get("sustained") == "throttle":
            self.state.start_telemetry(plant=faults.Overheated)
        else:
            self.state.start_telemetry()
        for device in self.state.plan.devices.values():
            if not device.absent:
                self._errors[device.name] = _counters(device, inject.get("errors"))

    def _allowed_load(self) -> Allowed:
        """How many cores others may take: what the user says, or follows from what one busy core does to the CPU."""
        if (given := self.settings.busy_limit) is not None:
            if given > (usual := BUSY_SHARE * usable_cores()):
                more = f"--perf-busy-limit={given:g} lets other programs take more than the usual {usual:.2g} cores"
                self._results.notes.append(more)
            return Allowed(given, f"--perf-busy-limit={given:g}")
        self.progress.say("trying what one busy core does …")
        cpu = self.state.plan.devices.get("cpu")
        return allowed_load(usable_cores(), None if cpu is None else probes.slower_beside_one(cpu))

    @contextlib.contextmanager
    def attempt(self, item: pytest.Item) -> Iterator[Attempt]:
        """The attempt at the check of `item`. The memory of its device is freed before and after it."""
        (device_name, variant), name = place(item), check_of(item)
        device = self.state.plan.devices[device_name]
        self._say(item)
        memory.free(device)
        with devices.current(device):
            yield Attempt(
                name,
                device,
                variant,
                self.state.plan,
                self.settings.inject.get(name, ""),
                self._errors[device.name],
                spec=self._spec,
                allowed=self._allowed,
                done=tuple(self._results.checks),
                began=self._clocks,
                readings=self.state.readings(device.name),
            )
        memory.free(device)
        self.progress.say("")
        self._left_s.pop(item.nodeid, None)

    def _say(self, item: pytest.Item) -> None:
        left = duration(sum(self._left_s.values()))
        self.progress.say(f"{item.name.removeprefix('test_')}: about {left} left")

    @contextlib.contextmanager
    def running(self, item: pytest.Item) -> Iterator[None]:
        attempt: Attempt = getattr(item, "funcargs", {})["check"]
        device = place(item)[0]
        if why := self._lost.get(device):
            attempt.unclear(why)
            self._results.keep(item.nodeid, attempt.result)
            raise pytest.fail.Exception(check_line(attempt.result), pytrace=False)
        try:
            yield
        except Exception as error:
            said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            if isinstance(error, torch.AcceleratorError) and not memory.is_out_of_memory(error):
                self._lost[device] = f"not checked, as {device} stopped working in {attempt.result.name}: {said}"
            self._results.keep(
                item.nodeid, replace(attempt.result, verdict=CheckVerdict.FAIL, reason=f"the check crashed: {said}")
            )
            raise
        self._results.keep(item.nodeid, attempt.result)
        self._warn_of_load(attempt.result)
        if missed := self._results.missed(attempt.result):
            raise pytest.fail.Exception(f"{missed}: {attempt.result.reason}", pytrace=False)
        found, inconclusive = attempt.result, self.settings.inconclusive
        if found.verdict is CheckVerdict.FAIL or (
            found.verdict is CheckVerdict.INCONCLUSIVE and inconclusive == "fail"
        ):
            raise pytest.fail.Exception(check_line(found), pytrace=False)
        if found.verdict is not CheckVerdict.PASS:
            pytest.skip(check_line(found))

    def _warn_of_load(self, found: Check) -> None:
        """Say at the beginning of a run that its machine is busy: most checks take minutes, and would judge nothing."""
        if (found.check, found.variant) == (preflight.ALWAYS, "load") and found.verdict is CheckVerdict.INCONCLUSIVE:
            how = (
                "checks that need the cores will be INCONCLUSIVE. Stop the other programs, or end this run with Ctrl-C"
            )
            self.progress.line(f"{found.reason} (allowed: {found.bar:.2g}): {how}")

    def as_record(self) -> dict[str, Any]:
        return super().as_record() | self._results.as_record()

    def finish(self, session: pytest.Session) -> None:
        if not self._begun:
            return
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        self.state.complete = ended and not self._results.unreached()  # -x may end the run earlier
        self._results.write(last=True)
        assert self._results.qualification is not None
        found = self._results.qualification
        if (xml := self.config.stash.get(xml_key, None)) is not None:
            xml.add_global_property("qualification", found.said(self._results.checks))
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = standing_exit([found.standing])

    def recorded(self) -> Run | None:
        return self._results.record.run()

    def summarize(self, terminal: pytest.TerminalReporter) -> None:
        run = self.recorded()
        if run is None:
            return
        terminal.section("Stepwatch: qualification")
        real = self.state.complete and not self.settings.inject
        kept = self._results.record.lines("; attach it to the ticket." if real else "")
        for line in [*render([run], width=self.progress.columns).splitlines(), "", *kept]:
            terminal.write_line(line)


def _counters(device: Device, fault: str | None) -> ErrorCounters | NotCounted:
    def plant(read: Read) -> Read:
        return faults.miscounting(read, fault) if fault else read

    try:
        return ErrorCounters(device, plant)
    except NotCounted as reason:
        return reason
