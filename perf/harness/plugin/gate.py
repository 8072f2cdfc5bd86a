"""The second way to run, `--perf-against`: each case runs on base and head side by side, and is judged.

This process is the judge. It runs no code of the user's project: workers say which cases there are, and how long they
take, and the exit code comes from the judgements alone.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perf.harness.machine.affinity import cores
from perf.harness.measurement.side_by_side.listing import Listed, lacking, listed
from perf.harness.measurement.side_by_side.pair import BASE, HEAD, Compared
from perf.harness.measurement.side_by_side.schedule import Gate
from perf.harness.measurement.side_by_side.sides import Side, SideUnusable, acceptances, same_code, sides, version
from perf.harness.options import GATE
from perf.harness.plugin import deciding, preflight
from perf.harness.plugin.command import repeated
from perf.harness.plugin.gated import GatedItem, ShownProgress
from perf.harness.plugin.items import kind, name_of, parametrize, params
from perf.harness.plugin.kept import DecidingRecord, check_folder
from perf.harness.plugin.state import end_undecided
from perf.harness.plugin.way import Way
from perf.harness.record import Case, Run
from perf.harness.record.judgement import GateRun, Judgement, Verdict
from perf.harness.report.layout import Heading, page
from perf.harness.report.quantities import counted, duration
from perf.harness.report.reviewer import judged, unfinished
from perf.harness.verdict.accepted import Acceptance, with_acceptance
from perf.harness.verdict.launches import Rule
from perf.harness.verdict.rows import PLAIN_PIPELINE
from perf.harness.verdict.weights import other_losses
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import BY_NAME, place
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.workload import OWN

APART = (
    "a path into your working tree gives base head's files: use a path relative to the working directory or to "
    "__file__, or keep data outside of the repository"
)
NOT_PINNED = "its worker processes run on other cores, so the gate cannot pin them"


class SideBySide(Way):
    """One gate. It asks the sides for their cases at collection, and measures before the first item runs.

    The items only report the verdicts.
    """

    def __init__(self, config: pytest.Config) -> None:
        preflight.check_paired(config)
        super().__init__(config)
        self._judgements: dict[str, Judgement] = {}
        self._skipped: list[Case] = []
        self._notes: list[str] = []
        self._listed: dict[str, Listed] = {}
        self._frozen: set[str] = set()
        self._seconds: float | None = None  # how long it measured
        self._others_cores: float | None = None
        self._record = DecidingRecord(config, GATE)
        config.option.benchmark_only = False  # pytest-benchmark does not know our items as benchmarks
        assert self.settings.threads is not None  # preflight sets the threads
        self._threads = self.settings.threads
        held = contextlib.ExitStack()
        config.add_cleanup(held.close)
        try:
            base, head = held.enter_context(sides(self.settings, self._threads))
        except SideUnusable as error:
            raise pytest.UsageError(str(error)) from None
        self._sides: dict[str, Side] = {BASE: base, HEAD: head}
        self.settings, changed = deciding.of_base(config, self.settings, base.subject.root, head.subject.root)
        self.state.plan = replace(self.state.plan, settings=self.settings)
        self._notes += changed

    def header(self) -> list[str]:
        return [f"gate      {'; '.join(self._titles())}"]

    def collecting(self, session: pytest.Session) -> None:
        """Ask both sides what they have. Raises pytest.UsageError if neither has the model, or if base is unusable."""
        self.progress.say("asking base and head for their benchmarks …")
        self._listed = listed(self._sides, list(BY_NAME))
        self.progress.say("")
        base, head = self._listed[BASE], self._listed[HEAD]
        settings = self.settings
        if base.error and (base.strange or settings.against_python or (base.unknown and settings.base_model)):
            way_out = f"; {APART}" if base.strange else ""
            raise pytest.UsageError(f"{self._option(base)}: base cannot be measured: {base.error}{way_out}")
        if base.error and head.unknown:
            raise pytest.UsageError(f"--perf-model={settings.model}: {head.error}")
        self._note_facts(base, head)

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        parametrize(metafunc, self._axes)

    def _axes(self, name: str) -> list[Axes]:
        """The cases of head; if head cannot say what it has, those of base, which are then missing or INVALID."""
        base, head = self._listed[BASE], self._listed[HEAD]
        of = base if head.error and not base.error else head
        if of.error:
            return [Axes(device, None, None) for device in self.state.plan.devices]
        return self._chosen(of, name)

    def _chosen(self, side: Listed, benchmark: str) -> list[Axes]:
        """The cases of `benchmark` that `side` has and that this run asks for."""
        settings, devices = self.settings, {*self.state.plan.devices, *self.state.plan.kinds()}
        found = [one for one in side.cases.get(benchmark, ()) if one.device in devices]
        if not settings.profile.kinds or self._named:
            return found
        if not settings.batch_sizes:
            found = [one for one in found if one.batch_size == found[0].batch_size]
        if not settings.pipelines:
            found = [one for one in found if one.pipeline in (None, PLAIN_PIPELINE)]
        # What loads the images of a network that brings no data is Stepwatch's own, and the same on both sides.
        own_input = self._sides[HEAD].subject.file is None or (side.facts is not None and side.facts.data == OWN)
        return found if own_input or benchmark != "input_pipeline" else []

    @property
    def _named(self) -> bool:
        """Whether the user has named what to judge: then the profile chooses nothing."""
        files = any(Path(str(argument).partition("::")[0]).suffix == ".py" for argument in self.config.args)
        return files or bool(self.config.option.keyword)

    def collects(self, path: Path) -> bool:
        kinds = self.settings.profile.kinds
        return super().collects(path) and (not kinds or self._named or name_of(path.stem) in kinds)

    def _option(self, base: Listed) -> str:
        """The option that is to blame for a base that cannot be measured."""
        settings = self.settings
        if base.unknown and settings.base_model:
            return f"--perf-base-model={settings.base_model}"
        python = settings.against_python
        return f"--perf-against-python={python}" if python else f"--perf-against={settings.against}"

    def _note_facts(self, base: Listed, head: Listed) -> None:
        """Note which versions differ, or that both sides are the same code, and why base cannot be measured."""
        if base.facts and head.facts:
            for what in ("torch", "python"):
                if (old := getattr(base.facts, what)) != (new := getattr(head.facts, what)):
                    self._notes.append(f"{what}: base {old}, head {new}")
            if not self._notes and same_code(self._sides[BASE], self._sides[HEAD]):
                self._notes.append("base and head are the same code")
        elif base.unknown:
            self._notes.append(f"base has no such model: {base.error.partition('UnknownModel: ')[2]}")
        elif base.error and head.facts and (why := lacking(self._sides[BASE], self._sides[HEAD], head.facts.opened)):
            self._notes.append(why)

    def collect(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: place(kind(item) or ""))
        found = {name: item for item in items if (name := kind(item)) is not None}
        if not found:
            return
        base, head = self._listed[BASE], self._listed[HEAD]
        # Where head has no case of a benchmark, pytest makes an item without a device.
        there = [item for item in items if not kind(item) or isinstance(params(item)["device"], str)]
        items[:] = [self._gated(item, base, head) if kind(item) else item for item in there]
        if any("::" in str(argument) for argument in self.config.args) or base.error or head.error:
            return  # the user named single cases: the others are not missing
        for benchmark, item in found.items():
            if BY_NAME[benchmark].not_gated:
                continue
            ids = {axes.id for axes in head.cases.get(benchmark, ())}
            for axes in self._chosen(base, benchmark):
                if axes.id not in ids:
                    items.append(self._missing(item, f"test_{benchmark}[{axes.id}]"))

    def _gated(self, item: pytest.Item, base: Listed, head: Listed) -> GatedItem:
        """Make the item that replaces `item`: with a case to measure, a reason to skip it, or a verdict."""
        benchmark, axes = kind(item) or "", Axes(*(params(item)[name] for name in Axes._fields))
        device = self.state.plan.device(axes.device)
        if device.absent:
            return self._item(item, item.name, why_not=f"{device.name}: {device.absent}")
        if BY_NAME[benchmark].not_gated:
            return self._item(item, item.name, why_not=BY_NAME[benchmark].not_gated)
        if axes.pipeline == "workers":
            return self._item(item, item.name, why_not=NOT_PINNED)
        try:
            Mode(axes.execution, axes.precision).check(device.torch_device)
        except Unsupported as reason:  # on both sides, as in a plain run
            return self._item(item, item.name, why_not=str(reason))
        if head.error:
            verdict = Verdict.MISSING if head.unknown else Verdict.INVALID
            return self._item(item, item.name, verdict=verdict, reason=f"head: {head.error}")
        lost, never = (side.facts.unable.get(benchmark, "") if side.facts else "" for side in (head, base))
        if lost and never:
            return self._item(item, item.name, why_not=lost)
        if lost:
            return self._item(item, item.name, verdict=Verdict.MISSING, reason=f"head: {lost}")
        alone, verdict = "", Verdict.NEW
        if base.error and not base.unknown:
            alone, verdict = f"base: {base.error}", Verdict.INCONCLUSIVE
        elif axes.id not in {one.id for one in base.cases.get(benchmark, ())}:
            alone = "base has no such benchmark"
        elif never:
            alone = f"base: {never}"
        elif base.facts and head.facts and base.facts.shapes != head.facts.shapes:
            alone = f"another training: base takes {base.facts.shapes}, head {head.facts.shapes}"
        return self._item(item, item.name, Compared(item.nodeid, benchmark, axes, alone, verdict))

    def _missing(self, like: pytest.Item, name: str) -> GatedItem:
        return self._item(like, name, verdict=Verdict.MISSING, reason="base has this benchmark, but head does not")

    def _item(
        self,
        like: pytest.Item,
        name: str,
        case: Compared | None = None,
        why_not: str = "",
        verdict: Verdict | None = None,
        reason: str = "",
    ) -> GatedItem:
        assert like.parent is not None  # the parent of a test function is its file
        made: GatedItem = GatedItem.from_parent(
            like.parent, name=name, case=case, why_not=why_not, judgements=self._judgements
        )
        if verdict is not None:
            self._judgements[made.nodeid] = Judgement(made.nodeid, verdict, reason)
        return made

    def start(self, session: pytest.Session) -> None:
        """Measure and judge all selected cases. The items then only report the verdicts."""
        items = [item for item in session.items if isinstance(item, GatedItem)]
        if not items:
            return
        check_folder(self.config)
        chosen = {item.nodeid for item in items}
        for name in set(self._judgements) - chosen:
            del self._judgements[name]
        cases = [item.case for item in items if item.case is not None]
        self._skipped = [Case(item.nodeid, "skipped", item.why_not) for item in items if item.why_not]
        if not cases and not self._judgements:
            reasons = "; ".join(sorted({item.why_not for item in items}))
            raise pytest.UsageError(f"--perf-against: none of the selected benchmarks can be judged: {reasons}")
        if cases:
            self._judge(cases)
        self._accept()

    def _accept(self) -> None:
        """Accept what the commits of head accept. Note each acceptance that is none, or that nothing needs."""
        for commit, text in acceptances(self._sides[BASE], self._sides[HEAD]):
            try:
                given = Acceptance.of(commit, text)
            except ValueError as error:
                self._notes.append(f"Perf-Accept: {error}")
                continue
            found = {
                name: with_acceptance(judged, given, frozen=name in self._frozen)
                for name, judged in self._judgements.items()
            }
            if found == self._judgements:
                crashed = any(one.verdict is Verdict.INVALID and given.covers(name) for name, one in found.items())
                why = (
                    "a benchmark that is INVALID for this reason cannot be accepted"
                    if crashed
                    else f"nothing to accept for {given.cases}"
                )
                self._notes.append(f"Perf-Accept: {why} (commit {commit})")
            self._judgements |= found

    def _judge(self, cases: list[Compared]) -> None:
        budget_s = self.settings.time_budget_s
        self.progress.line(f"{counted(len(cases), 'case')}: {duration(budget_s)} at most (--perf-time-budget)")
        gate = Gate(
            cases,
            lambda name: self._sides[name].launch(),
            Rule(sum(not case.alone for case in cases), self.settings.min_effect, self.settings.max_memory),
            budget_s=budget_s,
            cores=cores() if self._threads == 1 else (),
            watcher=ShownProgress(self.config),
        )
        try:
            gate.run()
        finally:  # keep the verdicts that are known when the user interrupts
            self._judgements |= {judged.name: judged for judged in gate.judgements()}
            self._frozen = gate.frozen
            if gate.other_data:
                self._notes.append("base and head train on different data, which each of them brings")
            else:
                self._notes += other_losses(self._judgements.values())
            self._seconds, self._others_cores = gate.elapsed_s, gate.others_cores

    def as_record(self) -> dict[str, Any]:
        return super().as_record() | {"gate_run": self._gate_run().as_record()}

    def _gate_run(self) -> GateRun:
        return GateRun(
            base=self._sides[BASE].title,
            head=self._sides[HEAD].title,
            min_effect=self.settings.min_effect,
            seconds=self._seconds,
            threads=self._threads,
            others_cores=self._others_cores,
            on_slower=self.settings.gate,
            on_inconclusive=self.settings.inconclusive,
            notes=tuple(self._notes),
            command="" if self.settings.anonymous else repeated(self.config),
            stepwatch=version(),
        )

    def finish(self, session: pytest.Session) -> None:
        self.state.judgements = list(self._judgements.values())
        self.state.cases = {case.name: case for case in self._skipped}
        self.state.complete = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if self._judgements:
            self._record.write(self.state.complete)
        elif session.exitstatus == pytest.ExitCode.INTERRUPTED:
            self.progress.line("The gate ended before its first pair: nothing was compared, and there is no record.")
        end_undecided(session)

    def recorded(self) -> Run | None:
        return self._record.run()

    def summarize(self, terminal: pytest.TerminalReporter) -> None:
        run = self.recorded()
        if run is None:
            return
        terminal.section("Stepwatch: base against head")
        partial = [] if run.complete else [unfinished()]
        blocks = [Heading("Stepwatch"), *partial, *judged(run, verbose=self.config.get_verbosity() > 0)]
        for line in [*page(blocks, self.progress.columns).splitlines(), "", *self._record.lines()]:
            terminal.write_line(line)

    def _titles(self) -> list[str]:
        return [f"{name}: {side.title}" for name, side in self._sides.items()]
