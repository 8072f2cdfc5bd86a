"""The benchmarks of a gate as pytest's items, and the gate's progress on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from perf.harness.measurement.side_by_side.pair import Compared
from perf.harness.measurement.side_by_side.schedule import Watcher
from perf.harness.plugin.state import PROGRESS, STATE
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import short_name
from perf.harness.report.quantities import counted, duration
from perf.harness.report.verdicts import judgement_line
from perf.harness.verdict.launches import LOOKS
from perf.harness.verdict.tally import FAILURES, tally

# The progress on the terminal is updated after each of so many parts of a case's rounds.
PARTS = 4


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
            pytest.fail(judgement_line(judgement), pytrace=False)
        if judgement.verdict is Verdict.INCONCLUSIVE:
            pytest.skip(judgement_line(judgement))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class ShownProgress(Watcher):
    """Shows launch and benchmark on a terminal. Prints a line, on any output, each time cases were judged."""

    def __init__(self, config: pytest.Config) -> None:
        self._progress = config.stash[PROGRESS]
        self._last: tuple[int, str, int] | None = None

    def working(self, launch: int, case: Compared, share: float, undecided: int) -> None:
        now = (launch, case.name, int(share * PARTS))
        if now != self._last:
            self._last = now
            name = short_name(case.name)
            self._progress.say(f"pair {launch} of {LOOKS[0]} to {LOOKS[-1]}: {name}, {undecided} undecided")

    def doubted(self, case: Compared, why: str) -> None:
        self._progress.line(f"{short_name(case.name)}: one pair does not count: {why}")

    def looked(
        self, launches: int, decided: Sequence[Judgement], undecided: Sequence[Compared], elapsed_s: float
    ) -> None:
        found = " · ".join(f"{number} {verdict}" for verdict, number in tally(decided).items()) or "nothing new"
        left = f"; undecided: {', '.join(short_name(case.name) for case in undecided)}" if undecided else ""
        self._progress.line(f"after {counted(launches, 'pair')}, {duration(elapsed_s)}: {found}{left}")
