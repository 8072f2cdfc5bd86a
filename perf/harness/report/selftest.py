"""In: the outcomes of a self-test. Out: a table, and sentences that say whether the gate works on this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perf.harness.record.judgement import Verdict
from perf.harness.report import quantities
from perf.harness.report.layout import Block, Column, Heading, Notes, Table, formatted
from perf.harness.statistics.intervals import CONFIDENCE, at_most
from perf.harness.verdict.tally import ALPHA, tally
from perf.harness.verdict.trials import Outcome, Trial

FORMATS = ("terminal", "github")


def render_selftest(outcomes: Sequence[Outcome], *, width: int, format: str = "terminal") -> str:
    """The table and the advice, without a final line break. `width` [columns] is for the terminal."""
    blocks: list[Block] = [Heading("What the gate can tell on this machine"), _table(outcomes), Notes(_notes(outcomes))]
    return formatted(blocks, format, width, FORMATS)


def one_trial(trial: Trial, number: int, of: int) -> str:
    """The result of one gate, in one line."""
    found = " · ".join(f"{count} {verdict}" for verdict, count in sorted(tally(trial.judgements).items()))
    planted = _planted(trial) if trial.share else "nothing planted"
    load = "" if trial.others_cores is None else f", load {trial.others_cores:.2f}"
    not_found = [one.name for one in trial.judgements if trial.share and one.verdict is not Verdict.SLOWER]
    missed = f"; missed {', '.join(not_found)}" if not_found else ""
    small = f"; too small to be planted in {', '.join(trial.unplanted)}" if trial.unplanted else ""
    return f"{planted}, gate {number} of {of}: {found or 'nothing judged'}, {trial.seconds:.0f} s{load}{missed}{small}"


def _table(outcomes: Sequence[Outcome]) -> Table:
    none = quantities.NONE
    columns = (
        Column.words("planted", list(map(_planted, outcomes))),
        Column("reached", [none if one.reached is None else f"{one.reached:.1%}" for one in outcomes], spare=3),
        Column("gates", [str(one.gates) for one in outcomes]),
        Column("SLOWER", [f"{one.slower} of {one.benchmarks}" for one in outcomes]),
        Column("SAME", [str(one.same) for one in outcomes]),
        Column("INCONCL.", [str(one.inconclusive) for one in outcomes]),
        Column("other", [str(one.other) for one in outcomes], spare=4),
        Column("pairs", [f"{one.launches:.1f}" for one in outcomes], spare=2),
        Column("s/gate", [f"{one.seconds:.0f}" for one in outcomes]),
        Column("load", [none if one.others_cores is None else f"{one.others_cores:.2f}" for one in outcomes]),
        Column("median:5%", [f"{one.stock_flagged} of {one.stock_pairs}" for one in outcomes], spare=1),
    )
    return Table("Self-test", columns)


def _planted(one: Outcome | Trial) -> str:
    return f"{one.share:.0%} {one.kind}" if one.share else "nothing"


def _notes(outcomes: Sequence[Outcome]) -> list[str]:
    notes = [*map(_sentence, outcomes)]
    if any(one.stock_pairs for one in outcomes):
        notes.append(
            "median:5%: how often --benchmark-compare-fail=median:5% would have failed, if it compares head with the "
            "base of the pair before. load: the cores that other programs used. reached: the slowdown that the "
            "worker measured."
        )
    return [*notes, *_advice(outcomes)]


def _sentence(outcome: Outcome) -> str:
    if not outcome.share:
        bound = f": at most {at_most(outcome.slower, outcome.benchmarks):.1%} of all with 95% confidence"
        return (
            f"Nothing planted: {outcome.slower} of {outcome.benchmarks} benchmarks were false alarms, in "
            f"{outcome.gates_with_slower} of {outcome.gates} gates{bound if outcome.benchmarks else ''}."
        )
    small = f"; it was too small to be planted in {outcome.unplanted} more" if outcome.unplanted else ""
    return f"{_planted(outcome)}: found in {outcome.slower} of {outcome.benchmarks} benchmarks{small}."


def _for_a_build(unsure: float, benchmarks: float) -> str:
    """Whether the gate may fail a build, if at most the share `unsure` of unchanged benchmarks is a false alarm."""
    if unsure <= ALPHA:
        return (
            f"You can switch --perf-gate=fail on: at most {unsure:.1%} of unchanged benchmarks would fail, with 95% "
            "confidence."
        )
    needed = math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-ALPHA) / benchmarks)
    return (
        f"No false alarm, but so few benchmarks show only that at most {unsure:.1%} of unchanged ones would fail. To "
        f"show {ALPHA:.0%}, it takes {needed} gates: --gates {needed}."
    )


def _advice(outcomes: Sequence[Outcome]) -> list[str]:
    """What these trials say about the gate: how much it finds, and whether you can switch --perf-gate=fail on."""
    unchanged = [one for one in outcomes if not one.share]
    gates = f"{quantities.counted(sum(one.gates for one in unchanged), 'gate')} of unchanged code"
    advice = []
    detectable = [one.detectable for one in unchanged if one.detectable is not None]
    if detectable:
        advice.append(f"A slowdown typically has to reach {max(detectable):.1%} to be found here.")
    if any(one.false_alarm for one in outcomes):
        advice.append(
            "The gate called unchanged code SLOWER: do not let it fail a build here (use --perf-gate=warn), and please "
            "report it."
        )
    elif unchanged and len(unchanged) < len(outcomes):
        missed = ", ".join(_planted(one) for one in outcomes if one.missed)
        if missed:
            advice.append(f"No false alarm in {gates}, but the gate misses slowdowns of {missed}.")
        elif unsure := max(at_most(one.slower, one.benchmarks) for one in unchanged if one.benchmarks):
            advice.append(_for_a_build(unsure, max(one.benchmarks / one.gates for one in unchanged)))
    return advice
