"""The third way to run, `--perf-profile=qualify`: the checks in `perf/qualification/` and their verdicts."""

from __future__ import annotations

import contextlib
import platform
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.junitxml import xml_key

from perf.harness.machine import devices, memory
from perf.harness.machine.devices import Device
from perf.harness.machine.hardware import hardware
from perf.harness.machine.identity import cores, usable_cores
from perf.harness.measurement.checks import faults, probes
from perf.harness.measurement.checks.attempt import USUAL, Attempt
from perf.harness.measurement.checks.counters import ErrorCounters, NotCounted, Read
from perf.harness.measurement.checks.timing import Reading
from perf.harness.options import FAULTS, QUALIFY
from perf.harness.plugin import preflight
from perf.harness.plugin.kept import DecidingRecord, check_folder
from perf.harness.plugin.way import Way
from perf.harness.record import RecordError, Run
from perf.harness.record.check import Check, CheckVerdict, Qualification
from perf.harness.record.spec import Spec, load_spec
from perf.harness.report import render
from perf.harness.report.qualification import one_line
from perf.harness.report.quantities import counted, duration
from perf.harness.verdict.checks import BUSY_SHARE, Allowed, allowed_load
from perf.harness.verdict.machine import qualification, unmet
from perf.harness.verdict.required import unjudged
from perf.harness.verdict.tally import standing_exit

CHECKS = tuple(FAULTS)
BETWEEN, AFTER = " between", " after"
MIDDLE = "sustained"  # the check after which metrics that end with BETWEEN come
START_S = 5.0  # reading the data, and trying what one busy core does
NAMED = 60  # the most characters of a host, or of the devices, in the name of a record


class Qualify(Way):
    """One qualification: it chooses and parametrizes the checks, keeps each result at once, and prints the banner."""

    def __init__(self, config: pytest.Config) -> None:
        preflight.check_qualify(config)
        super().__init__(config)
        self._qualification: Qualification | None = None
        self._found: dict[str, Check] = {}
        self._nowhere: set[str] = set()  # checks that no device of this run can have
        self._todo: Counter[tuple[str, str]] = Counter()  # the number of metrics to come, by check and device
        self._notes: list[str] = []
        self._selection: list[str] = []  # what the user's selection leaves out
        self._begun = False
        self._clocks: Reading | None = None  # when the run began
        self._hardware: dict[str, Any] = {}
        self._allowed = USUAL
        self._errors: dict[str, ErrorCounters | NotCounted] = {}
        self._left_s: dict[str, float] = {}
        self._spec: Spec | None = None
        self._record = DecidingRecord(config, self._kind)
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
        here = {device.name: self.state.plan.device_name(device.name) for device in present}
        unknown = {name: model for name, model in here.items() if not spec.knows(model)}
        if here and len(unknown) == len(here):
            there = ", ".join(spec.devices) or "no device"
            raise pytest.UsageError(
                f"--perf-spec: {spec.source} is of {there}, and says nothing of {', '.join(here.values())}"
            )
        self._notes += [f"{spec.source} says nothing of {name} ({model})" for name, model in unknown.items()]

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
            (name, one) for name, device in self.state.plan.devices.items() for one in self._variants(marker, device)
        ]
        if not pairs:
            self._nowhere.add(metafunc.function.__name__.removeprefix("test_"))
        cases = [pytest.param(pair, id="-".join(filter(None, pair))) for pair in pairs]
        metafunc.parametrize("_place", cases)

    def _variants(self, marker: pytest.Mark, device: Device) -> tuple[str, ...]:
        """The metrics of a check on `device`: those of all devices, those of its kind, or one for each batch size."""
        if marker.kwargs.get("each") == "batch_size":
            return tuple(f"bs{size}" for size in self.state.plan.network().batch_sizes)
        kind = "accelerator" if device.asynchronous else "cpu"
        return marker.args or marker.kwargs.get(kind, ("",))

    def collect(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        for item in items:
            if item.get_closest_marker("check") is None:
                raise pytest.UsageError(f"{item.nodeid}: --perf-profile=qualify runs only the checks: use pytest perf/")
        items[:] = [item for item in items if _name(item) not in self._nowhere]
        chosen = self.settings.checks
        for flag, names in (("inject", self.settings.inject), ("require-check", self.settings.require_checks)):
            if none := sorted(self._nowhere.intersection(names)):
                raise pytest.UsageError(f"--perf-{flag}: {', '.join(none)}: {self._only_a_cpu}")
        if chosen is not None and (none := sorted(self._nowhere.intersection(chosen))):
            self._notes.append(f"{', '.join(none)}: {self._only_a_cpu}")
        dropped = [item for item in items if chosen is not None and _name(item) not in (*chosen, preflight.ALWAYS)]
        if dropped:
            self.config.hook.pytest_deselected(items=dropped)
        items[:] = sorted((item for item in items if item not in dropped), key=_turn)
        for item in items:
            device = self.state.plan.devices[_place(item)[0]]
            if device.absent:
                item.add_marker(pytest.mark.skip(reason=f"{device.name}: {device.absent}"))

    @property
    def _only_a_cpu(self) -> str:
        devices = ", ".join(self.state.plan.devices)
        return f"only a CPU has such a check, and --perf-device={devices} names none"

    def collected(self, session: pytest.Session) -> None:
        absent = [device for device in self.state.plan.devices.values() if device.absent]
        self._notes += [f"{device.name} was not checked: {device.absent}" for device in absent]
        chosen = {_name(item) for item in session.items}
        if left_out := [name for name in CHECKS if name not in chosen | self._nowhere]:
            self._selection = [f"not selected: {', '.join(left_out)}"]
        elif self.state.unfit:
            self._selection = [f"only a part of the metrics was selected: {', '.join(self.state.unfit)}"]
        for item in session.items:
            marker = item.get_closest_marker("check")
            if marker is not None and not item.get_closest_marker("skip"):
                seconds = marker.kwargs["seconds"]
                self._left_s[item.nodeid] = marker.kwargs.get("full", seconds) if self.settings.full else seconds
                self._todo[_name(item), _place(item)[0]] += 1
        if self._left_s and not self.config.option.collectonly:
            self._promise(session)

    def _promise(self, session: pytest.Session) -> None:
        """Say how long the run will take, and each of its checks, the longest first."""
        of: Counter[str] = Counter()
        for item in session.items:
            of[_name(item)] += self._left_s.get(item.nodeid, 0.0)  # type: ignore[assignment]
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
        self._hardware = hardware(present, cores(), anonymous=self.settings.anonymous)
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
                self._notes.append(more)
            return Allowed(given, f"--perf-busy-limit={given:g}")
        self.progress.say("trying what one busy core does …")
        cpu = self.state.plan.devices.get("cpu")
        return allowed_load(usable_cores(), None if cpu is None else probes.slower_beside_one(cpu))

    @contextlib.contextmanager
    def attempt(self, item: pytest.Item) -> Iterator[Attempt]:
        """The attempt at the check of `item`. The memory of its device is freed before and after it."""
        (device_name, variant), name = _place(item), _name(item)
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
                done=tuple(self._checks),
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
        try:
            yield
        except Exception as error:
            said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            self._keep(item, replace(attempt.result, verdict=CheckVerdict.FAIL, reason=f"the check crashed: {said}"))
            raise
        self._keep(item, attempt.result)
        if missed := self._missed(attempt.result):
            raise pytest.fail.Exception(f"{missed}: {attempt.result.reason}", pytrace=False)
        found, inconclusive = attempt.result, self.settings.inconclusive
        if found.verdict is CheckVerdict.FAIL or (
            found.verdict is CheckVerdict.INCONCLUSIVE and inconclusive == "fail"
        ):
            raise pytest.fail.Exception(one_line(found), pytrace=False)
        if found.verdict is not CheckVerdict.PASS:
            pytest.skip(one_line(found))

    def _missed(self, last: Check) -> str:
        """Why a required check is unmet: its `last` metric is done, and none could be judged. Or an empty text."""
        if last.check not in self.settings.require_checks or self._todo[last.check, last.device]:
            return ""
        here = [check for check in self._checks if check.device == last.device]
        return "; ".join(unmet(here, [last.check]))

    def _keep(self, item: pytest.Item, found: Check) -> None:
        """Keep the result of `item`, and write all results so far to disk."""
        self._found[item.nodeid] = found
        self._todo[found.check, found.device] -= 1
        self._write()

    @property
    def _checks(self) -> list[Check]:
        """The results so far."""
        return list(self._found.values())

    @property
    def _kind(self) -> str:
        """The beginning of the record's name, which tells the machines of a fleet apart: host and devices."""
        present = [device.name for device in self.state.plan.devices.values() if not device.absent]
        parts = ["" if self.settings.anonymous else platform.node(), "-".join(present)]
        return "_".join([QUALIFY, *(re.sub(r"[^A-Za-z0-9.-]+", "-", part)[:NAMED] for part in parts if part)])

    def _write(self, last: bool = False) -> None:
        """Write all results so far. A killed run leaves its record as `partial_qualify_….json`."""
        settings = self.settings
        self._qualification = qualification(
            self._checks,
            required=settings.require_checks,
            lacking=self._too_few(),
            unjudged=self._unjudged() if self.state.complete else [],
            selection=self._selection,
            notes=[*self._notes, *self._unreached()],
            complete=self.state.complete,
        )
        self._record.write(self.state.complete, last)

    def _too_few(self) -> list[str]:
        """What is wrong if the machine has fewer accelerators than the user expects."""
        expected, planned = self.settings.expect_devices, self.state.plan.devices.values()
        found = [device.name for device in planned if device.asynchronous and not device.absent]
        if expected is None or len(found) >= expected:
            return []
        there = f"{len(found)} besides the CPU ({', '.join(found)})" if found else "none besides the CPU"
        return [f"--perf-expect-devices={expected}: this run can check {there}"]

    def _unjudged(self) -> list[str]:
        """What devices of these kinds need before they are QUALIFIED, and was not judged."""
        plan = self.state.plan
        present = [device.name for device in plan.devices.values() if not device.absent]
        return unjudged(self._checks, {name: plan.device_name(name) for name in present})

    def _unreached(self) -> list[str]:
        left = dict.fromkeys(check for (check, _), metrics in self._todo.items() if metrics)
        return [f"not reached: {', '.join(left)}"] if left else []

    def as_record(self) -> dict[str, Any]:
        record = super().as_record()
        if self._qualification is not None:
            record["checks"] = [check.as_record() for check in self._checks]
            record["qualification"] = self._qualification.as_record()
            record["hardware"] = self._hardware
        return record

    def finish(self, session: pytest.Session) -> None:
        if not self._begun:
            return
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        self.state.complete = ended and not self._unreached()  # -x may end the run earlier
        self._write(last=True)
        assert self._qualification is not None
        if (xml := self.config.stash.get(xml_key, None)) is not None:
            xml.add_global_property("qualification", str(self._qualification.standing))
        standing = self._qualification.standing
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = standing_exit([standing])

    def recorded(self) -> Run | None:
        return self._record.run()

    def summarize(self, terminal: pytest.TerminalReporter) -> None:
        run = self.recorded()
        if run is None:
            return
        terminal.section("Stepwatch: qualification")
        real = self.state.complete and not self.settings.inject
        kept = self._record.lines("; attach it to the ticket." if real else "")
        for line in [*render([run], width=self.progress.columns).splitlines(), "", *kept]:
            terminal.write_line(line)


def _counters(device: Device, fault: str | None) -> ErrorCounters | NotCounted:
    def plant(read: Read) -> Read:
        return faults.miscounting(read, fault) if fault else read

    try:
        return ErrorCounters(device, plant)
    except NotCounted as reason:
        return reason


def _name(item: pytest.Item) -> str:
    """The name of a check: `matmul` for the item `test_matmul[cpu-fp32]`."""
    return str(getattr(item, "originalname", item.name)).removeprefix("test_")


def _turn(item: pytest.Item) -> tuple[bool, int, bool]:
    """The sort key of an item: the order of the checks, but some metrics come after MIDDLE, or last."""
    variant = _place(item)[1]
    between = variant.endswith(BETWEEN)
    return variant.endswith(AFTER), CHECKS.index(MIDDLE if between else _name(item)), between


def _place(item: pytest.Item) -> tuple[str, str]:
    """The device and the variant of a check."""
    assert isinstance(item, pytest.Function)
    place: Any = item.callspec.params["_place"]
    return place[0], place[1]
