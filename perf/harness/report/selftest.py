"""In: what a self-test has seen. Out: a table, and in words whether this machine can gate."""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.record.judgement import Verdict
from perf.harness.report import units
from perf.harness.report.layout import Block, Column, Heading, Notes, Table, markdown, page
from perf.harness.verdict.tally import tally
from perf.harness.verdict.trials import Outcome, Trial

NOTHING = "–"
FORMATS = ("terminal", "github")
# A share of the larger slowdowns that a gate has to find before it may stand in the way of a change.
ENOUGH = 0.95


def render_selftest(outcomes: Sequence[Outcome], *, width: int, format: str = "terminal") -> str:
    """The table and the advice, without a line end; `width` [columns] is for the terminal."""
    blocks: list[Block] = [Heading("What the gate can tell on this machine"), _table(outcomes), Notes(_notes(outcomes))]
    return markdown(blocks) if format == "github" else page(blocks, width)


def one_trial(trial: Trial, number: int, of: int) -> str:
    """One gate in one line, as it is done."""
    found = " · ".join(f"{count} {verdict}" for verdict, count in sorted(tally(trial.judgements).items()))
    planted = f"{trial.share:.0%} {trial.kind}" if trial.share else "nothing planted"
    load = "" if trial.others_cores is None else f", load {trial.others_cores:.2f}"
    not_found = [one.name for one in trial.judgements if trial.share and one.verdict is not Verdict.SLOWER]
    missed = f"; missed {', '.join(not_found)}" if not_found else ""
    small = f"; too small to be planted in {', '.join(trial.unplanted)}" if trial.unplanted else ""
    return f"{planted}, gate {number} of {of}: {found or 'nothing judged'}, {trial.seconds:.0f} s{load}{missed}{small}"


def _table(outcomes: Sequence[Outcome]) -> Table:
    def column(title: str, cells: Sequence[str], spare: int = 0) -> Column:
        return Column(title, tuple(cells), spare=spare)

    return Table(
        "Self-test",
        (
            Column("planted", tuple(_planted(one) for one in outcomes), right=False),
            column("reached", [_share(one.reached) for one in outcomes], spare=3),
            column("gates", [str(one.gates) for one in outcomes]),
            column("SLOWER", [f"{one.slower} of {one.benchmarks}" for one in outcomes]),
            column("SAME", [str(one.same) for one in outcomes]),
            column("INCONCL.", [str(one.inconclusive) for one in outcomes]),
            column("other", [str(one.other) for one in outcomes], spare=4),
            column("launches", [f"{one.launches:.1f}" for one in outcomes], spare=2),
            column("s/gate", [f"{one.seconds:.0f}" for one in outcomes]),
            column("load", [NOTHING if one.others_cores is None else f"{one.others_cores:.2f}" for one in outcomes]),
            column("median:5%", [f"{one.stock_flagged} of {one.stock_pairs}" for one in outcomes], spare=1),
        ),
    )


def _planted(outcome: Outcome) -> str:
    return f"{outcome.share:.0%} {outcome.kind}" if outcome.share else "nothing"


def _share(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.1%}"


def _notes(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    notes = [*map(_sentence, outcomes)]
    if any(one.stock_pairs for one in outcomes):
        notes.append(
            "median:5%: how often --benchmark-compare-fail=median:5% would have failed: head of a launch, base of the "
            "one before. load: cores that other programs used. reached: the slowdown as measured in the worker."
        )
    return (*notes, *_advice(outcomes))


def _sentence(outcome: Outcome) -> str:
    if not outcome.share:
        return (
            f"Nothing planted: false alarms {outcome.slower} of {outcome.benchmarks} benchmarks, in "
            f"{outcome.gates_with_slower} of {outcome.gates} gates."
        )
    small = f"; too small to be planted in {outcome.unplanted} more" if outcome.unplanted else ""
    return f"{_planted(outcome)}: found {outcome.slower} of {outcome.benchmarks} benchmarks{small}."


def _advice(outcomes: Sequence[Outcome]) -> list[str]:
    """Whether `--perf-gate=fail` may be switched on, as far as these trials go."""
    null = [one for one in outcomes if not one.share]
    planted = [one for one in outcomes if one.share]
    advice = []
    detectable = [one.detectable for one in null if one.detectable is not None]
    if detectable:
        advice.append(f"The smallest slowdown that shows here, typically: {max(detectable):.1%}.")
    if any(one.slower for one in null):
        advice.append(
            "It accused unchanged code: do not let it fail a build here (--perf-gate=warn), and say so to us."
        )
    elif null and planted:
        missed = [one for one in planted if one.slower < ENOUGH * one.benchmarks]
        gates = units.count(sum(one.gates for one in null))
        if missed:
            sizes = ", ".join(map(_planted, missed))
            advice.append(f"It accused nothing unchanged in {gates} gates, but misses slowdowns of {sizes}.")
        else:
            advice.append(f"--perf-gate=fail is safe to switch on, as far as {gates} unchanged gates can tell.")
    return advice
