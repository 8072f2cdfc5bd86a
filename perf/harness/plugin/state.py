"""The state of a run, kept in pytest's stash with the frozen plan of the run, and functions that write it to disk."""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perf.harness.machine.load import Company
from perf.harness.machine.telemetry.sampler import Sampler, as_record, sampler_of
from perf.harness.machine.telemetry.source import Sample, Source
from perf.harness.options import Settings
from perf.harness.plugin import project, stock
from perf.harness.plugin.progress import Progress
from perf.harness.record import SCHEMA_VERSION, Case, Run
from perf.harness.record.judgement import Judgement
from perf.harness.record.read import parse
from perf.harness.verdict.acceptance import spoiled
from perf.harness.verdict.tally import EXIT_INCONCLUSIVE, UNDECIDED, tally
from perf.harness.workload.plan import Plan

STAMP = "%Y%m%d_%H%M%S"


@dataclass
class State:
    """One run so far. `cases` is by node id, in the order in which the cases run."""

    plan: Plan
    cases: dict[str, Case] = field(default_factory=dict)
    # Why this run is no baseline although every case that ran has passed: only some of the cases were selected.
    unfit: list[str] = field(default_factory=list)
    deselected: str = ""  # the name of an item that -k or another option left out
    complete: bool = False
    judgements: list[Judgement] = field(default_factory=list)
    company: Company = field(default_factory=Company)  # what others use of the cores in this process
    # Samples devices and host during the measurements.
    telemetry: Sampler | None = None

    @property
    def settings(self) -> Settings:
        return self.plan.settings

    def start_telemetry(self, plant: Callable[[Source], Source] = lambda source: source) -> None:
        """Sample devices and host from now on, until `telemetry.stop`; `plant` puts a fault into their answers."""
        self.telemetry = sampler_of(self.plan.devices.values(), plant=plant)
        self.telemetry.start()

    def readings(self, device: str) -> Callable[[float, float], Sequence[Sample]]:
        """A function that returns the samples of `device` between two times of `time.perf_counter`, if any."""
        if self.telemetry is None:
            return lambda start, end: ()
        return partial(self.telemetry.between, device)

    def end(self, name: str, outcome: str, reason: str = "") -> None:
        self.cases[name] = Case(name, outcome, reason)

    def why_no_baseline(self) -> str | None:
        """Why later runs must not be compared with this one, or None if they may.

        That only a part was selected is a reason if there is no other: runs of the same part may be compared.
        """
        unfinished = [] if self.complete else ["it did not finish"]
        return ", ".join([*unfinished, *spoiled(self.cases.values())] or self.unfit) or None

    def as_record(self) -> dict[str, Any]:
        """The top-level key `perf` of the JSON."""
        record: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "complete": self.complete,
            "unfit": list(self.unfit),
            **self.plan.as_record(),
            "cases": [asdict(case) for case in self.cases.values()],
            "gate": [judgement.as_record() for judgement in self.judgements],
        }
        if self.telemetry is not None:
            record["telemetry"] = as_record(self.telemetry)
        return record

    def empty_run(self, **more: Any) -> Run:
        """This run for the report, if there is no record: no benchmarks, but the outcomes of the cases, and `more`."""
        return parse(json.dumps({"benchmarks": [], "perf": self.as_record() | more}), "this run")


STATE = pytest.StashKey[State]()
PROGRESS = pytest.StashKey[Progress]()


def kept_in(config: pytest.Config) -> tuple[Path, str]:
    """The folder of this run's file, and the part of its name that no other run has: time and a random part.

    Process ids are no such part: containers that share a folder count them alike.
    """
    folder = (
        stock.storage_folder(config) or project.home(config) / ".benchmarks" / config.stash[STATE].plan.fingerprint_id
    )
    return folder, f"{datetime.datetime.now(datetime.UTC).strftime(STAMP)}_{secrets.token_hex(4)}"


def end_undecided(session: pytest.Session) -> int:
    """If nothing failed, set the exit code for undecided benchmarks. Returns their number; 0 if not set."""
    state = session.config.stash[STATE]
    found = tally(state.judgements)
    undecided = sum(found[verdict] for verdict in UNDECIDED)
    if session.exitstatus != pytest.ExitCode.OK or state.settings.gate != "fail" or not undecided:
        return 0
    if state.settings.inconclusive == "pass":
        return 0
    session.exitstatus = EXIT_INCONCLUSIVE
    return undecided


def shown(config: pytest.Config, path: Path) -> str:
    """`path` relative to the folder in which pytest was called, if it is inside that folder."""
    try:
        return str(path.relative_to(config.invocation_params.dir))
    except ValueError:
        return str(path)
