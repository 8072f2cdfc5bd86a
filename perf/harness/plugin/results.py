"""The results of a qualification: kept and judged after each metric, on disk at once."""

from __future__ import annotations

import platform
import re
from collections import Counter
from typing import Any

import pytest

from perf.harness.options import QUALIFY
from perf.harness.plugin.kept import DecidingRecord
from perf.harness.plugin.state import State
from perf.harness.record.check import Check, Qualification
from perf.harness.verdict.machine import qualification_of, unmet
from perf.harness.verdict.required import unjudged

NAMED = 60  # the most characters of a host, or of the devices, in the name of a record


class Results:
    """The results so far, by the node id of the metric, and what else decides the verdict on the machine.

    `todo` is the number of metrics to come, by check and device; `notes` are for the banner; `selection` says what the
    user's selection leaves out; `hardware` identifies the machine in the record.
    """

    def __init__(self, config: pytest.Config, state: State) -> None:
        self._state = state
        self._found: dict[str, Check] = {}
        self.todo: Counter[tuple[str, str]] = Counter()
        self.notes: list[str] = []
        self.selection: list[str] = []
        self.hardware: dict[str, Any] = {}
        self.qualification: Qualification | None = None
        self.record = DecidingRecord(config, self._kind)

    @property
    def checks(self) -> list[Check]:
        return list(self._found.values())

    @property
    def _kind(self) -> str:
        """The beginning of the record's name, which tells the machines of a fleet apart: host and devices."""
        parts = ["" if self._state.settings.anonymous else platform.node(), "-".join(self._present())]
        return "_".join([QUALIFY, *(re.sub(r"[^A-Za-z0-9.-]+", "-", part)[:NAMED] for part in parts if part)])

    def _present(self) -> list[str]:
        return [device.name for device in self._state.plan.devices.values() if not device.absent]

    def keep(self, name: str, found: Check) -> None:
        """Keep the result of the metric `name`, and write all results so far to disk."""
        self._found[name] = found
        self.todo[found.check, found.device] -= 1
        self.write()

    def write(self, last: bool = False) -> None:
        """Judge and write all results so far. A killed run leaves its record as `partial_qualify_….json`."""
        complete = self._state.complete
        self.qualification = qualification_of(
            self.checks,
            required=self._state.settings.require_checks,
            lacking=self._too_few(),
            unjudged=self._unjudged() if complete else [],
            selection=self.selection,
            notes=[*self.notes, *self.unreached()],
            complete=complete,
        )
        self.record.write(complete, last)

    def as_record(self) -> dict[str, Any]:
        if self.qualification is None:
            return {}
        return {
            "checks": [check.as_record() for check in self.checks],
            "qualification": self.qualification.as_record(),
            "hardware": self.hardware,
        }

    def missed(self, last: Check) -> str:
        """Why a required check is unmet: its `last` metric is done, and none could be judged. Or an empty text."""
        if last.check not in self._state.settings.require_checks or self.todo[last.check, last.device]:
            return ""
        return "; ".join(unmet([check for check in self.checks if check.device == last.device], [last.check]))

    def unreached(self) -> list[str]:
        left = dict.fromkeys(check for (check, _), metrics in self.todo.items() if metrics)
        begun = [check for check in left if any(one.check == check for one in self.checks)]
        untouched = [check for check in left if check not in begun]
        said = [("not reached", untouched), ("reached only in part", begun)]
        return [f"{what}: {', '.join(names)}" for what, names in said if names]

    def _too_few(self) -> list[str]:
        """What is wrong if the machine has fewer accelerators than the user expects."""
        expected, planned = self._state.settings.expect_devices, self._state.plan.devices.values()
        found = [device.name for device in planned if device.asynchronous and not device.absent]
        if expected is None or len(found) >= expected:
            return []
        there = f"{len(found)} besides the CPU ({', '.join(found)})" if found else "none besides the CPU"
        return [f"--perf-expect-devices={expected}: this run can check {there}"]

    def _unjudged(self) -> list[str]:
        """What devices of these kinds need before they are QUALIFIED, and was not judged."""
        return unjudged(self.checks, {name: self._state.plan.device_name(name) for name in self._present()})
