"""In: a worker for each device. Out: the time of a training step on each alone, and while all of them train."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perf.harness.measurement.rounds import MeasurementError
from perf.harness.measurement.side_by_side.link import SideError
from perf.harness.measurement.side_by_side.pair import LOAD_S, PREPARE_S, WorkerLink

# A device makes so many visits in a row. The first and the last do not count, because another device may not have begun
# yet, or may have ended.
VISITS = 5
ROUNDS = 5
# How long the visits in a row may take [s].
LIMIT_S = 300.0


@dataclass(frozen=True)
class Steps:
    """The time of a training step by device [s]: the median of the rounds."""

    alone_s: Mapping[str, float]
    together_s: Mapping[str, float]


class Together:
    """The devices of one kind, each with a worker process of its own. `cases` are the arguments of its `prepare`.

    A device trains alone for about `seconds` in all, and as long beside the others.

    Every method raises MeasurementError if a worker fails.
    """

    def __init__(
        self, workers: Mapping[str, WorkerLink], cases: Mapping[str, Mapping[str, Any]], seconds: float
    ) -> None:
        self._workers = workers
        self._cases = cases
        self._visit_s = seconds / (ROUNDS * VISITS)
        self._steps: dict[str, int] = {}

    @property
    def devices(self) -> list[str]:
        return list(self._workers)

    @property
    def steps_at_once(self) -> int:
        """How many steps all devices make in one call of `at_once`."""
        return VISITS * sum(self._steps.values())

    def prepare(self) -> None:
        """Load the data, build the network and warm it up, on all devices at the same time."""
        self._all("load", LOAD_S)
        for name in self._workers:
            self._request(name, "prepare", **self._cases[name])
        for name in self._workers:
            step_s = self._reply(name, PREPARE_S)["step_s"]
            self._steps[name] = max(2, round(self._visit_s / step_s) + 1)

    def at_once(self) -> dict[str, float]:
        """Let all devices train at the same time. Returns the time of a step on each [s]."""
        return self._visits(self._workers)

    def compare(self) -> Steps:
        """Let each device train alone, then all at once, in several rounds."""
        alone: dict[str, list[float]] = {name: [] for name in self._workers}
        together: dict[str, list[float]] = {name: [] for name in self._workers}
        for _ in range(ROUNDS):
            for name in random.sample(self.devices, len(self.devices)):
                alone[name].append(self._visits([name])[name])
            for name, step_s in self.at_once().items():
                together[name].append(step_s)
        return Steps(_medians(alone), _medians(together))

    def finish(self) -> None:
        """Check the results of all steps."""
        for name, reply in self._all("finish", PREPARE_S).items():
            if reply["problem"]:
                raise MeasurementError(f"{name}: {reply['problem']}")

    def _visits(self, names: Iterable[str]) -> dict[str, float]:
        """The time of a step on each of these devices [s]. All their requests are sent before the first reply."""
        for name in names:
            for _ in range(VISITS):
                self._request(name, "visit", steps=self._steps[name])
        found = {}
        for name in names:
            replies = [self._reply(name, LIMIT_S) for _ in range(VISITS)]
            found[name] = statistics.median(statistics.fmean(reply["wall_s"]) for reply in replies[1:-1])
        return found

    def _all(self, do: str, limit_s: float) -> dict[str, dict[str, Any]]:
        for name in self._workers:
            self._request(name, do)
        return {name: self._reply(name, limit_s) for name in self._workers}

    def _request(self, name: str, do: str, **arguments: Any) -> None:
        self._workers[name].request(do, **arguments)

    def _reply(self, name: str, limit_s: float) -> dict[str, Any]:
        try:
            return self._workers[name].reply(limit_s)
        except SideError as error:
            raise MeasurementError(f"{name}: {error}") from None


def _medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(found) for name, found in times.items()}
