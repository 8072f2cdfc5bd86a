"""A way to run: all cases are measured in several passes, each in a fresh process instead of this one.

Some effects change a whole process: where its memory lies, and on which cores its threads meet. With several processes
these effects are seen, and not taken for the machine. If a case crashes its process, only that case fails.
"""

from __future__ import annotations

import builtins
import hashlib
import itertools
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from perf.harness.machine.load import Meter
from perf.harness.measurement.passes import of_all
from perf.harness.measurement.side_by_side.link import Link, SideError, SideLost, SideSilent
from perf.harness.measurement.timetable import Taken, Timetable
from perf.harness.options import OPTIONS
from perf.harness.plugin import pass_worker, stock
from perf.harness.plugin.items import kind, params
from perf.harness.plugin.measure import Measure
from perf.harness.report.quantities import counted, duration
from perf.harness.statistics.intervals import summary
from perf.harness.verdict.marks import CROWDED
from perf.harness.workload.benchmarks import timed
from perf.harness.workload.plan import Plan

# Time limits [s]: a worker that imports and collects for longer is stuck. A case has no limit in practice.
READY_S, FOREVER_S = 600.0, 1e6
# What the fixtures of a user's own clean up at the end of a pass may take this long.
END_S = 60.0
# What a run takes after its start and beside its passes: what is measured once, and the report.
REST_S = 2.0
# A case is ended if its pass takes this many times as long as its first pass, and longer than this [s], or than what is
# left of the run's time and a little more [s].
TOO_LONG, LEAST_LIMIT_S, LATE_S = 3, 60.0, 10.0
# A later pass takes at most this share of a first pass that compiles (measured: 0.3 to 0.4).
REUSED = 0.5


def can_fork(plan: Plan) -> bool:
    """Whether a pass may be a fork of a process that has imported torch.

    A fork cannot use an accelerator that its parent has used, and an import may use one. Systems other than Linux do
    not let every library work in a fork.
    """
    return sys.platform == "linux" and not plan.fingerprint["accelerators"]


class InPasses(Measure):
    """Measures every case in each pass, or in fewer if it takes long. pytest's own loop makes the last pass."""

    elsewhere = True

    def __init__(self, config: pytest.Config, passes: int) -> None:
        super().__init__(config)
        self.passes = passes
        self._started = time.monotonic()
        self._forks = can_fork(self.state.plan)
        self._link: Link | None = None
        self._serves = False  # whether the worker is in a pass
        settings = self.settings
        self._is_exact = settings.rounds is not None or settings.passes is not None
        self._timetable = Timetable(passes, math.inf if self._is_exact else settings.profile.long_s)
        self._begin = 0.0  # when the first pass began [s of time.monotonic]
        self._load: Meter | None = None  # of other programs, while the first worker starts
        self._due: set[str] = set()  # the cases of the current pass, by node id
        self._replies: dict[str, list[dict[str, Any]]] = {}
        self._ended: set[str] = set()  # the cases that have become too slow for more passes
        self._warned: set[tuple[str, ...]] = set()
        self._compiled: tempfile.TemporaryDirectory[str] | None = None

    def header(self) -> list[str]:
        return [
            *super().header(),
            f"passes    {self.passes}, each in its own process; results appear during the last pass",
        ]

    def loop(self, session: pytest.Session) -> bool:
        """Make all passes but the last, which pytest's own loop makes."""
        cases = [item for item in session.items if self._is_ours(item)]
        untimed = {item.nodeid for item in cases if not timed(kind(item))}
        self._due = {item.nodeid for item in cases} - untimed
        if cases:
            self._worker(session)  # it refuses a network that cannot be used
        self._begin = time.monotonic()
        if cases:
            self._promise(len(cases))
        limit_s, start_s = self._timetable.limit_s, self._begin - self._started + REST_S
        most_failures = session.config.option.maxfail
        while True:
            for place, item in enumerate(cases, start=1):
                if most_failures and sum(map(self._has_failed, self._replies)) >= most_failures:
                    break
                self.progress.say(f"{self._pass}, {place}/{len(cases)} {item.name}")
                self._measure(item)
            self._end_pass()
            taken = {item.nodeid: self._taken(item) for item in cases if self._goes_on(item.nodeid)}
            elapsed_s = time.monotonic() - self._begin
            first, took = self._timetable.number == 1, f"{self._pass} took {duration(elapsed_s)}"
            if taken and first and self._timetable.limit_s == math.inf:
                self.progress.line(f"{took}: about {duration(start_s + elapsed_s * self.passes)} in all")
            self._due = self._timetable.next_pass(taken, elapsed_s)
            if first and taken and not self._timetable.has_more:
                why = ", as other programs use the cores" if self._timetable.crowded else ""
                self.progress.line(f"{took}{why}: there is no time for more passes")
            if self._timetable.limit_s > limit_s:
                limit_s = self._timetable.limit_s
                self.progress.line(f"the cases take longer than expected: about {duration(start_s + limit_s)} in all")
            if self._timetable.is_last:
                self._due |= untimed
                self.progress.say("")
                return False

    @property
    def _pass(self) -> str:
        number = self._timetable.number
        return f"pass {number}" + (f" of {self.passes}" if number <= self.passes else "")

    def _promise(self, cases: int) -> None:
        """Say how long the run takes in all, and plan for it. A user who names rounds or passes gets exactly these.

        Everything but the rounds takes longer beside other programs: measured, as much as the cores that are missing.
        """
        profile, settings = self.settings.profile, self.settings
        if settings.rounds is not None:
            return
        threads = torch.get_num_threads()
        missing = (self._load and self._load.read().missing_cores(threads)) or 0.0
        slowed = 1 + missing / threads
        cases_s = slowed * cases * profile.whole_s * self.passes / profile.passes
        crowded = missing > CROWDED
        why = f" (other programs use {missing:.1f} of the cores that it needs)" if crowded else ""
        cases_s += self._timetable.pass_s * (self.passes - 1)  # the first one has begun
        if not self._is_exact:
            self._timetable.limit_s, self._timetable.target = cases_s, settings.target
        # Threads that meet on crowded cores may wait for each other many times as long; only a plan keeps its time.
        about = "at least" if crowded and self._is_exact else "about"
        made = f"{counted(cases, 'case')} in {counted(self.passes, 'pass', 'passes')}"
        start_s = self._begin - self._started
        self.progress.line(f"{made}: {about} {duration(start_s + slowed * REST_S + cases_s)} in all{why}")

    def _goes_on(self, name: str) -> bool:
        return bool(self._replies.get(name)) and not self._has_failed(name) and name not in self._ended

    def _taken(self, item: pytest.Item) -> Taken:
        replies = self._replies[item.nodeid]
        compiled = len(replies) == 1 and params(item)["execution"] == "compile"
        seconds = [reply["seconds"] for reply in replies]
        crowding = replies[-1]["info"].get("crowding") or 0.0
        width = summary(seconds).spread if len(seconds) > 1 else None
        return Taken(replies[-1]["wall_s"] * (REUSED if compiled else 1), len(replies), width, crowding > CROWDED)

    @staticmethod
    def _is_ours(item: pytest.Item) -> bool:
        return kind(item) is not None and item.get_closest_marker("skip") is None

    def _has_failed(self, name: str) -> bool:
        return any(reply["outcome"] != "measured" for reply in self._replies.get(name, ()))

    def _measure(self, item: pytest.Item) -> None:
        """Let the worker measure `item` and keep the result, if `item` is in this pass and has not failed before."""
        name = item.nodeid
        if name not in self._due or self._has_failed(name):
            return
        before = self._replies.setdefault(name, [])
        left_s = self._timetable.until_late_s(time.monotonic() - self._begin)
        if before and not left_s:
            return
        known: dict[str, Any] = {"iterations": None, "call_s": None, "cache": self._cache(item)}
        if before:
            known |= {"iterations": before[0]["iterations"], "call_s": summary([before[0]["seconds"]]).median}
        try:
            limit_s = max(TOO_LONG * before[0]["wall_s"], min(LATE_S + left_s, LEAST_LIMIT_S)) if before else FOREVER_S
            reply = self._worker(item.session).ask("case", limit_s, name=name, **known)
        except SideLost as lost:
            self._link, self._serves = None, False
            if isinstance(lost, SideSilent):
                self.progress.line(
                    f"{item.name}: {self._pass} was ended after {duration(limit_s)}; the earlier ones count"
                )
                self._ended.add(name)
                return
            reply = {"outcome": "failed", "reason": str(lost), "text": "", "warnings": [], "printed": ["", ""]}
        except BaseException:  # the link has ended the worker
            self._link, self._serves = None, False
            raise
        if reply.get("lost"):  # in a new process, the device may work again
            self._end_worker()
            self._serves = False
        if before and reply["outcome"] == "skipped":  # the earlier passes count
            self._ended.add(name)
            return
        if reply["outcome"] == "measured" and not reply.get("seconds"):
            reply |= {"outcome": "failed", "reason": "nothing was measured"}
        before.append(reply | {"pass": self._timetable.number})
        self._keep(item)

    def _cache(self, item: pytest.Item) -> str | None:
        """The folder into which the case compiles: empty in the first pass, and used by the others."""
        if params(item)["execution"] != "compile":
            return None
        if self._compiled is None:
            self._compiled = tempfile.TemporaryDirectory(prefix="stepwatch-")
        return str(Path(self._compiled.name, hashlib.sha256(item.nodeid.encode()).hexdigest()[:16]))

    def _keep(self, item: pytest.Item) -> None:
        """Put all results of `item` so far into the record, and write it to disk."""
        replies = self._replies[item.nodeid]
        last = replies[-1]
        self.state.end(item.nodeid, last["outcome"], last["reason"])
        if last["outcome"] == "measured":
            seconds = [reply["seconds"] for reply in replies]
            info = of_all({reply["pass"]: reply["info"] for reply in replies}, seconds)
            stock.put(item, list(itertools.chain(*seconds)), last["iterations"], info, last["options"])
        self._write()

    def call(self, item: pytest.Function) -> bool:
        if not self._is_ours(item):
            return False
        self.progress.say(self._pass)
        self._measure(item)
        self.progress.say("")
        replies = self._replies[item.nodeid]
        for reply in replies:
            self._warn(reply["warnings"])
            for stream, text in zip((sys.stdout, sys.stderr), reply["printed"], strict=True):
                stream.write(text)
        last = replies[-1]
        if last["outcome"] == "skipped":
            raise pytest.skip.Exception(last["reason"])
        if last["outcome"] != "measured":
            raise pytest.fail.Exception(f"{last['text'] or last['reason']}\n(in pass {last['pass']})", pytrace=False)
        return True

    def _warn(self, found: Sequence[Sequence[Any]]) -> None:
        """Repeat the warnings from a worker in this process, each of them once."""
        for message, category, file, line in found:
            if (key := (message, category, file)) not in self._warned:
                self._warned.add(key)
                kind_of = getattr(builtins, category, UserWarning)
                warnings.warn_explicit(message, kind_of, file, line)

    def start(self, session: pytest.Session) -> None:
        if any(map(self._is_ours, session.items)):
            self._load = Meter()
            self._link = self._new_link()  # it imports, while this process reads the data
        super().start(session)

    def _new_link(self) -> Link:
        command = [sys.executable, "-P", str(Path(pass_worker.__file__).resolve())]
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        return Link(command, {"forks": self._forks}, environment)

    def _worker(self, session: pytest.Session) -> Link:
        """The worker, in this pass, started if there is none. Raises pytest.UsageError if it cannot start."""
        link = self._link = self._link or self._new_link()
        if not self._serves:
            # pytest takes no absolute path with brackets, which a folder above may have.
            files = dict.fromkeys(os.path.relpath(item.path) for item in session.items if kind(item))
            arguments = [*files, *self._arguments()]
            try:
                reply = link.ask("pass", READY_S, number=self._timetable.number, of=self.passes, arguments=arguments)
            except SideError as error:
                if not isinstance(error, SideLost):  # what the user has to mend
                    raise pytest.UsageError(str(error)) from None
                self._link = None
                here = "use --perf-passes=1 to measure in this process"
                raise pytest.UsageError(f"pass {self._timetable.number} cannot start: {error}; {here}") from None
            self._serves = True
            self._timetable.pass_s = reply["pass_s"]
        return link

    def _arguments(self) -> list[str]:
        """The arguments of a worker's pytest after the files: the same settings, without pytest's cache and xdist."""
        config, option = self.config, self.config.option
        texts = self.settings.for_worker()
        ours = [f"{one.flag}={texts[one.name]}" for one in OPTIONS if one.name in texts and one.metavar]
        where = [f"--rootdir={config.rootpath}", *(["-c", str(config.inipath)] if config.inipath else [])]
        given = {"-p": option.plugins, "-W": option.pythonwarnings or (), "-o": option.override_ini or ()}
        same = [text for flag, values in given.items() for value in values for text in (flag, value)]
        same += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # a fork has imported its plugins already
        return [*where, *same, "-p", "no:cacheprovider", "-p", "no:xdist", "--capture=fd", *ours]

    def _end_pass(self) -> None:
        if self._link is not None and self._serves and self._forks:
            try:
                self._link.ask("end", END_S)
            except SideLost:
                self._link = None
        else:
            self._end_worker()
        self._serves = False

    def _end_worker(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def as_record(self) -> dict[str, Any]:
        return super().as_record() | {"passes": self.passes}

    def finish(self, session: pytest.Session) -> None:
        self._end_worker()
        if self._compiled is not None:
            self._compiled.cleanup()
        super().finish(session)
