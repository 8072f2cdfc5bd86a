"""The second way to run, `--perf-against`: each case runs on base and head side by side, and is judged."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from model import UnknownModel
from perf.harness.machine.identity import cores
from perf.harness.measurement.side_by_side.link import Link, SideError
from perf.harness.measurement.side_by_side.schedule import BASE, HEAD, LOAD_S, Compared, Gate, Watcher
from perf.harness.measurement.side_by_side.sides import Side, SideUnusable, sides
from perf.harness.plugin import preflight, stock
from perf.harness.plugin.items import kind, parametrize, params
from perf.harness.plugin.state import PROGRESS, STATE, end_undecided, keep_record, kept_in
from perf.harness.plugin.way import Way
from perf.harness.record import Case, Scalar
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import short_name
from perf.harness.report.layout import Notes
from perf.harness.report.quantities import duration
from perf.harness.report.verdicts import one_line, render_verdicts
from perf.harness.verdict.launches import LOOKS, Rule
from perf.harness.verdict.tally import EXIT_INCONCLUSIVE, FAILURES, TARGET, tally
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import BY_NAME, place

# The progress on the terminal is updated after each of so many parts of a case's rounds.
PARTS = 4
NOT_PINNED = "its worker processes run on other cores, so the gate cannot pin them"


class GatedItem(pytest.Item):
    """A benchmark under its usual name. The gate's verdict is its outcome."""

    def __init__(
        self, *, case: Compared | None, judgements: dict[str, Judgement], why_not: str = "", **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.case = case
        self.why_not = why_not
        self.judgements = judgements

    def runtest(self) -> None:
        if self.why_not:
            pytest.skip(self.why_not)
        judgement = self.judgements[self.nodeid]
        settings = self.config.stash[STATE].settings
        self.user_properties.append(("verdict", str(judgement.verdict)))
        failing = FAILURES | ({Verdict.INCONCLUSIVE} if settings.inconclusive == "fail" else set())
        if judgement.verdict in failing and settings.gate == "fail":
            pytest.fail(one_line(judgement), pytrace=False)
        if judgement.verdict is Verdict.INCONCLUSIVE:
            pytest.skip(one_line(judgement))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class Shown(Watcher):
    """Shows launch and benchmark on a terminal. Prints a line, on any output, each time cases were judged."""

    def __init__(self, config: pytest.Config) -> None:
        self._progress = config.stash[PROGRESS]
        self._last: tuple[int, str, int] | None = None

    def working(self, launch: int, case: Compared, share: float, undecided: int) -> None:
        now = (launch, case.name, int(share * PARTS))
        if now != self._last:
            self._last = now
            name = short_name(case.name)
            self._progress.say(f"launch {launch} of {LOOKS[0]} to {LOOKS[-1]}: {name}, {undecided} undecided")

    def looked(
        self, launches: int, decided: Sequence[Judgement], undecided: Sequence[Compared], elapsed_s: float
    ) -> None:
        found = " · ".join(f"{number} {verdict}" for verdict, number in tally(decided).items()) or "nothing new"
        left = f"; undecided: {', '.join(short_name(case.name) for case in undecided)}" if undecided else ""
        self._progress.line(f"after {launches} launches, {duration(elapsed_s)}: {found}{left}")


class SideBySide(Way):
    """One gate. It makes the sides at the start and the cases at collection, and measures before the first item runs.

    The items only report the verdicts.
    """

    def __init__(self, config: pytest.Config) -> None:
        preflight.check_paired(config)
        super().__init__(config)
        self._judgements: dict[str, Judgement] = {}
        self._skipped: list[Case] = []
        self._notes: list[str] = []
        self._invalid = ""
        self._undecided = 0
        self._kept = ""
        # How the gate was run: the sides, how long it took, and what else used the machine.
        self._run: dict[str, Scalar] = {}
        self._json = stock.take_json(config)
        config.option.benchmark_only = False  # pytest-benchmark does not know our items as benchmarks
        assert self.settings.threads is not None  # preflight sets the threads
        self._threads = self.settings.threads
        held = contextlib.ExitStack()
        config.add_cleanup(held.close)
        try:
            base, head = held.enter_context(sides(self.settings, self.state.plan.network().data_name, self._threads))
        except SideUnusable as error:
            raise pytest.UsageError(str(error)) from None
        self._sides: dict[str, Side] = {BASE: base, HEAD: head}

    def header(self) -> list[str]:
        return [f"gate      base: {self._sides[BASE].title}; head: {self._sides[HEAD].title}"]

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        parametrize(metafunc, self.state.plan)

    def collect(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: place(kind(item) or ""))
        found = {name: item for item in items if (name := kind(item)) is not None}
        if self.config.option.collectonly or not found:
            return
        listed = self._listed([name for name in found if not BY_NAME[name].not_gated])
        base, head = listed[BASE], listed[HEAD]
        items[:] = [self._gated(item, base) if kind(item) else item for item in items]
        if any("::" in str(argument) for argument in self.config.args):
            return  # the user named single cases: the others are not missing
        for benchmark, ids in base.items():
            for case in sorted(set(ids) - set(head[benchmark])):
                items.append(self._missing(found[benchmark], f"test_{benchmark}[{case}]"))

    def _listed(self, kinds: list[str]) -> dict[str, dict[str, list[str]]]:
        """Ask each side for the ids of its cases, by kind. Raises pytest.UsageError if a side cannot answer."""
        replies: dict[str, dict[str, Any]] = {}
        links: dict[str, Link] = {}
        with contextlib.ExitStack() as held:
            try:
                for name, side in self._sides.items():
                    links[name] = held.enter_context(contextlib.closing(side.launch()))
                    links[name].request("cases", kinds=kinds)
                for name, link in links.items():
                    try:
                        replies[name] = link.reply(LOAD_S)
                    except SideError as error:
                        if name != BASE or not error.what.startswith(f"{UnknownModel.__name__}: "):
                            raise
                        self._notes.append(f"base has no such model: {error.what.partition(': ')[2]}")
                        replies[name] = {"cases": {kind: [] for kind in kinds}}
            except SideError as error:
                other = name == BASE and self.settings.against_python is not None
                option = f"--perf-against-python={self.settings.against_python}" if other else "--perf-against"
                raise pytest.UsageError(f"{option}: {name} cannot be measured: {error}") from None
        self._compare_facts(replies[BASE], replies[HEAD])
        return {
            name: {kind: [Axes(*axes).id for axes in cases] for kind, cases in reply["cases"].items()}
            for name, reply in replies.items()
        }

    def _compare_facts(self, base: dict[str, Any], head: dict[str, Any]) -> None:
        """Note which versions differ, or that both sides are the same code. Different shapes make each case INVALID."""
        for what in ("torch", "python"):
            if base.get(what, head[what]) != head[what]:
                self._notes.append(f"{what}: base {base[what]}, head {head[what]}")
        if not self._notes and base["sources"] == head["sources"]:
            self._notes.append("base and head are the same code")
        if base.get("shapes", head["shapes"]) != head["shapes"]:
            self._invalid = f"shapes differ: base takes {base['shapes']}, head {head['shapes']}"

    def _gated(self, item: pytest.Item, base: dict[str, list[str]]) -> GatedItem:
        """Make the item that replaces `item`: with a case to measure, a reason to skip it, or the verdict NEW."""
        benchmark, axes = kind(item) or "", params(item)
        device = self.state.plan.device(axes["device"])
        why_not, case = "", None
        if device.absent:
            why_not = f"{device.name}: {device.absent}"
        elif why_not := BY_NAME[benchmark].not_gated:
            pass
        elif axes["pipeline"] == "workers":
            why_not = NOT_PINNED
        elif item.name not in {f"test_{benchmark}[{name}]" for name in base[benchmark]}:
            self._judgements[item.nodeid] = Judgement(item.nodeid, Verdict.NEW, "base has no such benchmark")
        else:
            case = Compared(item.nodeid, benchmark, Axes(*(axes[name] for name in Axes._fields)))
        return self._item(item, item.name, case, why_not)

    def _missing(self, like: pytest.Item, name: str) -> GatedItem:
        item = self._item(like, name)
        self._judgements[item.nodeid] = Judgement(
            item.nodeid, Verdict.MISSING, "base has this benchmark, but head does not"
        )
        return item

    def _item(self, like: pytest.Item, name: str, case: Compared | None = None, why_not: str = "") -> GatedItem:
        assert like.parent is not None  # the parent of a test function is its file
        made: GatedItem = GatedItem.from_parent(
            like.parent, name=name, case=case, why_not=why_not, judgements=self._judgements
        )
        return made

    def start(self, session: pytest.Session) -> None:
        """Measure and judge all selected cases. The items then only report the verdicts."""
        items = [item for item in session.items if isinstance(item, GatedItem)]
        if not items:
            return
        chosen = {item.nodeid for item in items}
        for name in set(self._judgements) - chosen:
            del self._judgements[name]
        cases = [item.case for item in items if item.case is not None]
        self._skipped = [Case(item.nodeid, "skipped", item.why_not) for item in items if item.why_not]
        if not cases and not self._judgements:
            reasons = "; ".join(sorted({item.why_not for item in items}))
            raise pytest.UsageError(f"--perf-against: none of the selected benchmarks can be judged: {reasons}")
        if self._invalid:
            found = [Judgement(case.name, Verdict.INVALID, self._invalid) for case in cases]
            self._judgements |= {judged.name: judged for judged in found}
        elif cases:
            self._judge(cases)

    def _judge(self, cases: list[Compared]) -> None:
        gate = Gate(
            cases,
            lambda name: self._sides[name].launch(),
            Rule(len(cases), self.settings.min_effect),
            budget_s=self.settings.time_budget_s,
            cores=cores() if self._threads == 1 else (),
            watcher=Shown(self.config),
        )
        try:
            gate.run()
        finally:  # keep the verdicts that are known when the user interrupts
            self._judgements |= {judged.name: judged for judged in gate.judgements()}
            self._run["seconds"] = gate.elapsed_s
            if (others := gate.others_cores) is not None:
                self._run["others_cores"] = others

    def as_record(self) -> dict[str, Any]:
        return super().as_record() | ({"gate_run": dict(self._run)} if self._run else {})

    def finish(self, session: pytest.Session) -> None:
        self.state.judgements = list(self._judgements.values())
        self.state.complete = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if self._run:  # something was measured
            self._keep()
        self._undecided = end_undecided(session)

    def _keep(self) -> None:
        """Write the record to the folder of the measured runs, and to the file of --benchmark-json, if any."""
        self._run |= {name: side.title for name, side in self._sides.items()}
        self._run["min_effect"] = self.settings.min_effect
        folder, stamp = kept_in(self.config)
        path = folder / f"{'' if self.state.complete else 'partial_'}gate_{stamp}.json"
        keep_record(self.config, path, self._json)
        self._kept = str(path)

    def summarize(self, terminal: pytest.TerminalReporter) -> None:
        if not self.state.judgements:
            return
        terminal.section("Stepwatch: base against head")
        text = render_verdicts(
            self.state.judgements,
            width=self.progress.columns,
            verbose=self.config.get_verbosity() > 0,
            notes=["; ".join([*(f"{name}: {side.title}" for name, side in self._sides.items()), *self._notes]) + "."],
            skipped=self._skipped,
            last=[Notes(tuple(said))] if (said := self._said()) else [],
        )
        for line in [*text.splitlines(), *(["", f"Kept as {self._kept}"] if self._kept else [])]:
            terminal.write_line(line)

    def _said(self) -> list[str]:
        """How the gate measured, which slowdowns it could detect, and what the exit code means."""
        gate, settings = self._run, self.settings
        found = tally(self.state.judgements)
        lines = []
        if "seconds" in gate:
            load = f"; other programs used {gate['others_cores']:.1f} cores" if "others_cores" in gate else ""
            took, threads = duration(float(str(gate["seconds"]))), self._threads
            least, most = settings.min_effect, TARGET * settings.min_effect
            lines.append(f"SLOWER: by {least:.1%} at least. SAME: certainly by less than {most:.1%}.")
            lines.append(f"Measured for {took} with {threads} thread{'s' * (threads > 1)}{load}.")
        limits = [
            f"{short_name(one.name)} {one.smallest_detectable - 1:.0%}"
            for one in self.state.judgements
            if one.verdict is Verdict.INCONCLUSIVE and one.smallest_detectable is not None
        ]
        if limits:
            lines.append(f"The smallest slowdown that {LOOKS[-1]} launches would show: {', '.join(limits)}.")
        failing = sum(found[verdict] for verdict in FAILURES)
        if failing and settings.gate == "warn":
            lines.append(f"--perf-gate=warn: {failing} of them would fail the run.")
        if self._undecided:
            lines.append(f"INCONCLUSIVE is exit code {EXIT_INCONCLUSIVE}; --perf-inconclusive=fail makes it a failure.")
        return lines
