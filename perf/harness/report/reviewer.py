"""In: a run that compared benchmarks. Out: what it says on the terminal, its summary for a reviewer, and annotations.

All of it comes from the record, so that a stored record says what the run said.
"""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.record.judgement import GateRun, Judgement, Verdict
from perf.harness.record.run import Case, Run, short_name, some_of
from perf.harness.report.cases import by_reason
from perf.harness.report.facts import SUBJECT, lines, machine
from perf.harness.report.layout import (
    INDENT,
    MAX_LINE,
    Block,
    Fixed,
    Folded,
    Heading,
    Notes,
    clean,
    command,
    markdown,
    shorten,
)
from perf.harness.report.quantities import counted, duration
from perf.harness.report.verdicts import Shown, judgement_counts, judgement_line, ranked, table, takes, verdicts
from perf.harness.verdict.launches import LOOKS
from perf.harness.verdict.tally import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, FAILURES, TARGET, UNDECIDED, tally

# A program that keeps one comment up to date finds it by this.
MARKER = "<!-- stepwatch -->"
# GitHub refuses a comment of more than 65,536 characters. What is left is for what a workflow adds.
MOST_BYTES = 60_000
# A summary that is too long is made again with fewer rows in each table.
ROWS = (1000, 300, 100, 30, 10, 3, 0)
# GitHub shows ten annotations of each kind for a step.
ANNOTATIONS = 10
REST = "\n\n</details>\n\nThe rest is in the record: python -m perf report FILE\n"
NOTES = 3  # even the shortest summary has these notes
ACCEPTABLE = (Verdict.SLOWER, Verdict.HEAVIER, Verdict.MISSING)


def unfinished(which: str = "") -> Block:
    """That a run did not finish; `which` says which one it is: ` (A)`."""
    return Notes([f"PARTIAL{which}: the run did not finish."])


def judged(run: Run, *, verbose: bool) -> list[Block]:
    """What was compared, the verdicts and, of a gate, how it measured and what its exit code means."""
    gate = run.gate
    sides = [] if gate is None else [f"{said}." for said in (f"base: {gate.base}; head: {gate.head}", *gate.notes)]
    found = verdicts(run.judgements, verbose=verbose, skipped=_skipped(run) if gate else ())
    how = [] if gate is None else [*_measured(gate, run.judgements), *_limits(run.judgements), *_exit(run)]
    return [*(Notes([said]) for said in sides), *found, *([Notes(how)] if how else [])]


def _skipped(run: Run) -> list[Case]:
    names = {judgement.name for judgement in run.judgements}
    return [case for case in run.cases if case.outcome == "skipped" and case.name not in names]


def _measured(gate: GateRun, judgements: Sequence[Judgement]) -> list[str]:
    if gate.seconds is None:
        return []
    least = gate.min_effect
    threads = f" with {counted(gate.threads, 'thread')}" if gate.threads else ""
    load = "" if gate.others_cores is None else f"; other programs used {gate.others_cores:.1f} cores"
    said = []
    if least is not None:
        said.append(f"SLOWER: slower by {least:.1%} or more. SAME: a slowdown of {TARGET * least:.1%} is ruled out.")
        if any(one.verdict is Verdict.INCONCLUSIVE and (one.low or 0) > 1 + least for one in judgements):
            said.append(f"With few pairs, an interval above {least:.1%} is not enough: the first looks ask for more.")
    return [
        *said,
        f"Measured for {duration(gate.seconds)}{threads}{load}.",
    ]


def _judge(gate: GateRun | None) -> list[str]:
    """Which Stepwatch judged."""
    return [f"{'stepwatch':<{SUBJECT - 1}} {gate.stepwatch}"] if gate and gate.stepwatch else []


def _limits(judgements: Sequence[Judgement]) -> list[str]:
    """The smallest slowdown that would show, for each benchmark that is INCONCLUSIVE."""
    limits = [
        f"{short_name(one.name)} {one.smallest_detectable - 1:.0%}"
        for one in judgements
        if one.verdict is Verdict.INCONCLUSIVE and one.smallest_detectable is not None
    ]
    return [f"The smallest slowdown that {LOOKS[-1]} pairs would show: {', '.join(limits)}."] if limits else []


def _exit(run: Run) -> list[str]:
    """What the verdicts make of the run; nothing for stored runs, and for a run that did not finish."""
    gate, found = run.gate, tally(run.judgements)
    if gate is None or not run.complete:
        return []
    failing, undecided = (sum(found[verdict] for verdict in group) for group in (FAILURES, UNDECIDED))
    if gate.on_slower != "fail" and failing:
        return [f"--perf-gate=warn: {failing} of them would fail the run."]
    if failing:
        return [f"The gate fails: exit code {EXIT_FAILED}."]
    if undecided and gate.on_slower == "fail" and gate.on_inconclusive == "fail":
        return [f"The gate fails, as --perf-inconclusive=fail says: exit code {EXIT_FAILED}."]
    if undecided and gate.on_slower == "fail" and gate.on_inconclusive == "warn":
        left = counted(undecided, "benchmark")
        return [
            f"Nothing failed, but {left} could not be decided: exit code {EXIT_INCONCLUSIVE}. "
            "--perf-inconclusive=fail makes that 1, --perf-inconclusive=pass 0."
        ]
    return [f"The gate passes: exit code {EXIT_OK}."]


def page(run: Run, rest: Sequence[Block] = ()) -> str:
    """The summary of `run` in Markdown, with MARKER, shorter than MOST_BYTES. `rest` is folded at its end."""
    text = ""
    for rows in ROWS:
        for more in (rest, ()) if rest else ((),):
            text = f"{MARKER}\n{markdown(_summary(run, rows, more))}\n"
            if len(text.encode(errors="replace")) < MOST_BYTES:
                return text
    return cut(text)


def cut(text: str) -> str:
    """`text` up to a line before MOST_BYTES, and a sentence that says so."""
    encoded = text.encode(errors="replace")
    if len(encoded) < MOST_BYTES:
        return encoded.decode()
    kept = encoded[: MOST_BYTES - len(REST.encode())].rpartition(b"\n")[0]
    return kept.decode() + REST


def _summary(run: Run, most: int, rest: Sequence[Block]) -> list[Block]:
    """The blocks of a summary; each table has up to `most` rows."""
    gate, ordered = run.gate, ranked(run.judgements)
    changed = [one for one in ordered if one[1].verdict is not Verdict.SAME]
    against = run.perf.get("against")
    sides = f"base: {gate.base}; head: {gate.head}." if gate else f"base: {against}." if against else ""
    first = [*_exit(run), sides, f"Machine: {machine(run)}." if run.perf else ""]
    blocks: list[Block] = [
        Heading(_title(run)),
        Notes(list(filter(None, first))),
        *([Notes([f"{note}." for note in gate.notes[: max(most, NOTES)]])] if gate and gate.notes else []),
        *table("What changed", changed[:most], _pairs(run)),
        *_left_out(len(changed) - most),
        *_advice(run, changed, most),
        Folded(
            f"All {len(ordered)} benchmarks" if len(ordered) > 1 else "The benchmark",
            [
                *([] if len(changed) == len(ordered) else table("", ordered[:most], _pairs(run), changed[:most])),
                *_left_out(len(ordered) - most),
                *takes(ordered[:most]),
                Notes(judgement_counts(run.judgements, [])),
            ],
        ),
    ]
    if skipped := _skipped(run):
        blocks.append(Folded(f"Not judged: {len(skipped)} skipped", [Notes(by_reason(skipped)[: max(most, 1)])]))
    how = [*([Notes(_measured(gate, run.judgements))] if gate and gate.seconds else [])]
    blocks.append(Folded("Machine, load and settings", [Fixed([*lines(run), *_judge(gate)], SUBJECT), *how]))
    if gate and gate.command:
        blocks.append(Folded("The command", [command(gate.command, "")]))
    return [*blocks, *([Folded("All measurements", rest)] if rest else [])]


def _title(run: Run) -> str:
    found = tally(run.judgements)
    partial = "" if run.complete else "PARTIAL, "
    if not found:
        return f"Stepwatch: {partial}nothing was compared"
    if set(found) == {Verdict.SAME}:
        return f"Stepwatch: {partial}nothing changed in {counted(found[Verdict.SAME], 'benchmark')}"
    return f"Stepwatch: {partial}{' · '.join(f'{found[verdict]} {verdict}' for verdict in Verdict if found[verdict])}"


def _pairs(run: Run) -> str:
    """What the column is called that says on how many samples a verdict rests."""
    return "pairs" if run.gate else "runs"


def _left_out(rows: int) -> list[Block]:
    return [Notes([f"And {counted(rows, 'row')} more, which are in the record."])] if rows > 0 else []


def _advice(run: Run, changed: Sequence[Shown], most: int) -> list[Block]:
    """What to do about what changed. It names the limits of up to `most` benchmarks."""
    found = tally(judgement for _, judgement in changed)
    blocks: list[Block] = []
    if run.gate and (names := [name for name, judgement in changed if judgement.verdict in ACCEPTABLE]):
        blocks.append(Notes(["If that is intended, say so in the last lines of a commit message, with your reason:"]))
        blocks.append(Fixed([f"Perf-Accept: {', '.join(names[:3])}: REASON"], len(INDENT)))
    said = []
    if found[Verdict.INVALID]:
        said.append("INVALID: head does not work, or does not train. Its times count for nothing.")
    if found[Verdict.INCONCLUSIVE]:
        said.append("INCONCLUSIVE: give the gate more time, fewer benchmarks, or a quieter machine.")
        said += _limits([judgement for _, judgement in changed[:most]])
    if found[Verdict.NOT_JUDGED]:
        said.append("NOT JUDGED YET: it takes five stored runs to know how much two runs of the same code differ.")
    return [*blocks, *([Notes(said)] if said else [])]


def workflow_commands(judgements: Sequence[Judgement]) -> list[str]:
    """An annotation of GitHub for each benchmark that fails (an error) or is undecided (a warning), worst first."""
    made = []
    for kind, group in (("error", FAILURES), ("warning", UNDECIDED)):
        found = [one for one in ranked(judgements) if one[1].verdict in group]
        for name, judgement in found[: ANNOTATIONS - 1] if len(found) > ANNOTATIONS else found:
            made.append(f"::{kind} title={_property(f'Stepwatch: {name}')}::{_data(judgement_line(judgement))}")
        if len(found) > ANNOTATIONS:
            left = [name for name, _ in found[ANNOTATIONS - 1 :]]
            made.append(f"::{kind} title={_property(f'Stepwatch: {len(left)} more')}::{_data(some_of(left))}")
    return made


def _data(text: str) -> str:
    """`text` as GitHub reads it in a workflow command (docs: "Workflow commands", `toolkit/packages/core`)."""
    return shorten(clean(text), MAX_LINE).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
