"""Compares a run with stored runs: each benchmark is judged when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perf.harness.plugin import stock
from perf.harness.plugin.base import Found, find
from perf.harness.plugin.command import repeated
from perf.harness.plugin.items import is_part, kind
from perf.harness.plugin.preflight import DEFAULT
from perf.harness.plugin.selection import Selection
from perf.harness.plugin.state import PROGRESS, State
from perf.harness.record import Run
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import by_pass
from perf.harness.report.layout import Block, clean, page, shorten
from perf.harness.report.quantities import seconds
from perf.harness.report.verdicts import judgement_line, verdicts, way_out
from perf.harness.statistics.intervals import summary
from perf.harness.verdict.launches import Rule
from perf.harness.verdict.stored import judge_stored, missing_judgement
from perf.harness.verdict.stored_runs import Base
from perf.harness.verdict.tally import EXIT_INCONCLUSIVE, UNDECIDED
from perf.harness.workload.benchmarks import timed
from perf.here import local

# The longest name from a stored file that a test's name or a message may hold [characters].
MAX_NAME = 200
# The options of a comparison with stored runs, which a gate does not take, and the profile: a gate has its own.
COMPARING = (
    "--benchmark-compare", "--benchmark-compare-fail", "--benchmark-save", "--perf-passes", "--perf-precision-target",
    "--perf-profile",
)  # fmt: skip


def settle(config: pytest.Config, state: State) -> tuple[str, Comparison | None]:
    """A line for the header about the comparison, and the object that makes it, if any. Raises pytest.UsageError."""
    found = find(config, state.plan, Selection.of(config))
    if found.base is None or found.newest is None:
        return found.note, None
    judging = state.settings.gate != "off"
    checks = stock.take_checks(config)
    wanted = judging or checks
    return _said(found), Comparison(config, state, found.base, found.newest, judging, checks) if wanted else None


def _said(found: Found) -> str:
    assert found.base is not None
    known = "" if found.base.fingerprint else ", which has no fingerprint: whether its machine is this one is not known"
    return f"compare   with {found.base.label}{known}"


class Missing(pytest.Item):
    """A benchmark that the stored runs have and this run has not."""

    fixturenames = ("benchmark",)  # so that --benchmark-only does not skip it
    benchmark = ""  # its full name, with all characters

    def runtest(self) -> None:
        """Does nothing: `Comparison.judge` fails the item afterwards."""

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class Comparison:
    """Judges one run against `base`. The `checks` of --benchmark-compare-fail compare it with `newest`."""

    def __init__(
        self, config: pytest.Config, state: State, base: Base, newest: Run, judging: bool, checks: list[Any]
    ) -> None:
        self.config = config
        self.state, self.settings = state, state.settings
        self.base, self.newest = base, newest
        self.judging, self.checks = judging, checks
        self.smoke = base.smoke or state.settings.profile.name == "smoke"
        self.stored_s: dict[str, list[float]] = {}
        self.rule = Rule(1, state.settings.min_effect)
        self.undecided = 0  # how many benchmarks set the exit code for what is undecided

    def collect(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add an item for each benchmark that this run lacks. This is before -k selects, so -k can select them, too."""
        cases = {item.nodeid: item for item in items if kind(item)}
        if not cases or session.testsfailed:
            return
        self.stored_s = self.base.seconds(cases)
        shared = self.stored_s.keys() & cases.keys()
        if not shared:
            raise pytest.UsageError(
                f"--benchmark-compare: {self.base.label} and this run have no benchmark in common; there: "
                f"{clean(', '.join(list(self.stored_s)[:3]))[:MAX_NAME]}"
            )
        self.rule = Rule(len(shared), self.settings.min_effect)
        whole = self.base.selection or not is_part(self.config, cases.values())
        if self.judging and not self.config.option.collectonly and whole:
            items += [_missing_item(session, name) for name in self.stored_s if name not in cases]

    def set_up(self, item: pytest.Item) -> None:
        """Fail a case that is in the stored runs, but is skipped now, before pytest evaluates its skip mark."""
        if isinstance(item, Missing):
            return
        case = self.state.cases.get(item.nodeid)
        mark = item.get_closest_marker("skip")
        if self.judging and case and mark and item.nodeid in self.stored_s:
            self._fail_missing(item.nodeid, str(mark.kwargs.get("reason", "skipped")))

    @property
    def gates(self) -> bool:
        """Whether the user asked for a gate: --benchmark-compare alone is a look, which fails only what is SLOWER."""
        origins = self.settings.origins
        asked = any(origins.get(name, DEFAULT) != DEFAULT for name in ("gate", "inconclusive"))
        return asked or bool(self.checks)

    def judge(self, item: pytest.Item) -> None:
        """Judge a benchmark that was just measured. Fail an item that stands for a missing one."""
        if isinstance(item, Missing):
            self._fail_missing(item.benchmark, "this run has no such case")
        measured = next((one for one in stock.benchmarks(item.config) if one.fullname == item.nodeid), None)
        if measured is None or item.nodeid not in self.state.cases or not timed(kind(item)):
            return
        failed = self._failed_check(item.nodeid, measured)
        found = self._judged(item.nodeid, measured) if self.judging else None
        if found is not None and self.settings.gate == "fail":
            if found.verdict is Verdict.SLOWER:
                other = "; --benchmark-compare-fail would pass it" if self.checks and not failed else ""
                self._fail(item.nodeid, "slower", f"{judgement_line(found)} against {self.base.label}{other}")
            if found.verdict in UNDECIDED and self.settings.inconclusive == "fail":
                self._fail(item.nodeid, "inconclusive", judgement_line(found))
        if failed:
            disagrees = found is not None and found.verdict is not Verdict.SLOWER
            ours = (
                f"; Stepwatch's verdict is another: {judgement_line(found)}" if found is not None and disagrees else ""
            )
            self._fail(item.nodeid, "slower", f"{failed}{ours}")

    def _judged(self, name: str, measured: Any) -> Judgement:
        rounds = by_pass(measured.stats.data, measured.extra_info.get("pass_rounds", {}))
        found = judge_stored(name, summary(rounds).median, self.stored_s.get(name, ()), self.rule, smoke=self.smoke)
        self.state.judgements.append(found)
        return found

    def _failed_check(self, name: str, measured: Any) -> str:
        """Which --benchmark-compare-fail the benchmark fails; "" if none. pytest-benchmark would print a traceback."""
        stored = [one for one in self.newest.benchmarks if one.fullname == name and name in self.stored_s]
        said = (stock.failure(check, measured, one.stats, seconds) for one in stored for check in self.checks)
        return next(filter(None, said), "").format(base=self.newest.file_name)

    def _fail_missing(self, name: str, why: str) -> None:
        self.state.judgements.append(missing_judgement(name, self.stored_s[name], why))
        text = f"MISSING: {self.base.label} has it, and {why}"
        if self.settings.gate == "warn":
            pytest.skip(text)
        self._fail(name, "missing", text)

    def _fail(self, name: str, outcome: str, reason: str) -> None:
        self.state.end(name, outcome, reason)
        raise pytest.fail.Exception(reason, pytrace=False)

    def summarize(self, terminal: pytest.TerminalReporter) -> None:
        if not self.judging:
            return
        terminal.section(f"Stepwatch: against {self.base.label}")
        for line in page(
            self._blocks(self.config.option.verbose > 0), self.config.stash[PROGRESS].columns
        ).splitlines():
            terminal.write_line(line)

    def _blocks(self, verbose: bool) -> list[Block]:
        found = self.state.judgements
        judged = {judgement.name for judgement in found}
        skipped = [case for case in self.state.cases.values() if case.outcome == "skipped" and case.name not in judged]
        unselected = len(self.stored_s.keys() - judged - self.state.cases.keys())
        table = verdicts(found, verbose=verbose, skipped=skipped, unselected=unselected)
        why = ""
        if self.undecided:
            why = f"Nothing failed, but {self.undecided} could not be decided: exit code {EXIT_INCONCLUSIVE}. "
        elif not self.gates:
            why = f"Nothing here fails the run; with --perf-gate=fail, this would be exit code {EXIT_INCONCLUSIVE}. "
        return [*table, *way_out(found, why, self._paired())]

    def _paired(self) -> str:
        """The command that judges what stored runs cannot: base and head side by side; "" if they are one commit."""
        here = stock.commit(self.config)
        if not self.base.commit or (here.get("id") == self.base.commit and not here.get("dirty")):
            return ""
        return local(repeated(self.config, [f"--perf-against={self.base.git_ref}"], without=COMPARING))


def _missing_item(session: pytest.Session, name: str) -> Missing:
    shown = shorten(clean(name[: 2 * MAX_NAME]), MAX_NAME)
    path = session.config.rootpath / shown.partition("::")[0]
    item: Missing = Missing.from_parent(session, name=shown, nodeid=shown, path=path)
    item.benchmark = name
    return item
