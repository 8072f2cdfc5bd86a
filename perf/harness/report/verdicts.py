"""In: judgements on base and head, from any gate. Out: text: what changed, how certain that is, and counts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import Case, short_name, told_apart
from perf.harness.report import quantities
from perf.harness.report.cases import outcome
from perf.harness.report.layout import Block, Column, Heading, Notes, Table, command, formatted, shorten
from perf.harness.verdict.tally import UNDECIDED, exit_code, tally

FORMATS = ("terminal", "github", "json")
ORDER = tuple(Verdict)
LONGEST = 600  # a reason has up to so many characters
# A table with up to this many rows is easy to read. A longer table leaves out the rows that are SAME.
SHORT = 16
LOSS_DIGITS = 4
# A reason names up to this many benchmarks. For more benchmarks, it gives only their number.
NAMED = 2

Shown = tuple[str, Judgement]


def render_verdicts(
    judgements: Sequence[Judgement],
    *,
    width: int,
    verbose: bool,
    format: str = "terminal",
    notes: Sequence[str] = (),
    skipped: Sequence[Case] = (),
    unselected: int = 0,
    last: Sequence[Block] = (),
) -> str:
    """The verdicts in one of FORMATS, without a final line break. `notes` come first, `last` comes last.

    JSON has only the judgements and the `notes`. Raises ValueError for an unknown format.
    """
    if format == "json":
        return verdicts_json(judgements, notes)
    found = verdicts(judgements, verbose=verbose, skipped=skipped, unselected=unselected)
    return formatted([Heading("Stepwatch"), *(Notes([note]) for note in notes), *found, *last], format, width, FORMATS)


def verdicts_json(judgements: Sequence[Judgement], notes: Sequence[str] = ()) -> str:
    """JSON for programs: every judgement, the notes, the number of each verdict, and the exit code."""
    found = {
        "exit_code": exit_code(judgements),
        "verdicts": {str(verdict): number for verdict, number in _counted(judgements)},
        "notes": list(notes),
        "gate": [judgement.as_record() for judgement in judgements],
    }
    # With ASCII only, a control sequence in a name stays escaped.
    return json.dumps(found, indent=1, allow_nan=False, ensure_ascii=True)


def verdicts(
    judgements: Sequence[Judgement], *, verbose: bool, skipped: Sequence[Case] = (), unselected: int = 0
) -> list[Block]:
    """A table, the reasons and the counts. A long table leaves out the rows that are SAME, unless `verbose`.

    `skipped` are the skipped cases of head. `unselected` is the number of base's benchmarks that were not to be
    measured in head.
    """
    ordered = ranked(judgements)
    whole = verbose or len(ordered) <= SHORT
    shown = [one for one in ordered if whole or one[1].verdict is not Verdict.SAME]
    unchanged = all(judgement.verdict is Verdict.SAME for _, judgement in ordered)
    blocks: list[Block] = [Notes([_unchanged(judgements)])] if unchanged else []
    return [*blocks, *table("Verdicts", shown), *takes(shown), Notes(judgement_counts(judgements, skipped, unselected))]


def ranked(judgements: Sequence[Judgement]) -> list[Shown]:
    """The judgements, worst first, each with the name that tells it apart."""
    ordered = sorted(judgements, key=_badness)
    return list(zip(_names(ordered), ordered, strict=True))


def table(title: str, shown: Sequence[Shown], pairs: str = "", told: Sequence[Shown] = ()) -> list[Block]:
    """The table of `shown`, and the reasons of those that are not `told` elsewhere.

    `pairs` is the title of the column that says on how many samples a verdict rests; "" leaves it out.
    """
    why = reasons([one for one in shown if one not in told])
    return [*([_table(title, shown, pairs)] if shown else []), *([Notes(why)] if why else [])]


def takes(shown: Sequence[Shown]) -> list[Block]:
    """What training takes besides time, and what the columns of all tables mean."""
    notes = _columns([judgement for _, judgement in shown])
    return [*_training(shown), *([Notes(notes)] if notes else [])]


def _columns(judgements: Sequence[Judgement]) -> list[str]:
    """What the columns mean that are in the table."""
    notes = []
    if any(judgement.low is not None for judgement in judgements):
        notes.append("change: from base's time to head's; […]: the 98% interval of the change.")
    if any(map(_memory, judgements)):
        notes.append("memory: of torch's allocator, from building the training to the peak of a step.")
    if any(map(_losses, judgements)):
        notes.append("loss: after the same few steps.")
    return notes


def change(ratio: float) -> str:
    """A ratio of times as a percentage: +6.4%, -12%, +1,230%."""
    percent = 100 * (ratio - 1)
    if abs(percent) < 9.95:
        return f"{round(percent, 1) + 0.0:+.1f}%"  # + 0.0 turns -0.0 into 0.0
    return f"{percent:+.0f}%" if percent < 999.5 else f"+{quantities.significant(percent)}%"


def change_shown(judgement: Judgement) -> str:
    """The change and its interval, as far as they are known."""
    if judgement.ratio is None:
        return quantities.NONE
    if judgement.low is None or judgement.high is None:
        return change(judgement.ratio)
    return f"{change(judgement.ratio)} [{change(judgement.low)}, {change(judgement.high)}]"


def both_times(judgement: Judgement) -> str:
    """The times of base and head: `1.23 ms → 1.31 ms`."""
    if judgement.base_s is None and judgement.head_s is None:
        return quantities.NONE
    base, head = (
        quantities.NONE if time is None else quantities.seconds(time) for time in (judgement.base_s, judgement.head_s)
    )
    return f"{base} → {head}"


def judgement_line(judgement: Judgement) -> str:
    """A judgement as the reason of a failed or skipped test: `SLOWER: 1.23 ms → 1.31 ms, +6.4% [+4.2%, +8.7%]`."""
    known = [f"{both_times(judgement)}, {change_shown(judgement)}"] if judgement.ratio is not None else []
    return ": ".join([str(judgement.verdict), *known, *filter(None, [judgement.reason])])


def way_out(judgements: Sequence[Judgement], before: str, again: str) -> list[Block]:
    """How to judge what stored runs leave undecided; empty if nothing is. The text begins with `before`.

    `again` is the command that measures base and head side by side; "" if there is none.
    """
    left = [str(verdict) for verdict in ORDER if verdict in UNDECIDED and tally(judgements)[verdict]]
    if not left:
        return []
    if not again:
        return [Notes([before.rstrip()])] if before else []
    how = f"To judge what is {' or '.join(left)}, measure base and head side by side:"
    return [Notes([before + how]), command(again)]


def _badness(judgement: Judgement) -> tuple[int, float]:
    return ORDER.index(judgement.verdict), -(judgement.ratio or 0.0)


def _names(judgements: Sequence[Judgement]) -> list[str]:
    """The short name of each benchmark; its full name if two short names are equal."""
    full = [judgement.name for judgement in judgements]
    return told_apart(list(map(short_name, full)), full)


def _table(title: str, shown: Sequence[Shown], pairs: str) -> Table:
    judgements = [judgement for _, judgement in shown]
    columns = (
        Column.names("benchmark", [name for name, _ in shown]),
        Column("base → head", list(map(both_times, judgements)), spare=1),
        Column("change", list(map(change_shown, judgements))),
        *([Column(pairs, [str(judgement.launches or quantities.NONE) for judgement in judgements])] if pairs else []),
        Column.words("verdict", [str(judgement.verdict) for judgement in judgements]),
    )
    return Table(title, columns)


def _training(shown: Sequence[Shown]) -> list[Table]:
    """What training takes and reaches besides time, where that was compared."""
    known = [(name, judgement) for name, judgement in shown if _memory(judgement) or _losses(judgement)]
    columns = (
        Column.names("benchmark", [name for name, _ in known]),
        Column("memory", [_memory(judgement) for _, judgement in known]),
        Column("loss", [_losses(judgement) for _, judgement in known]),
    )
    return [Table("What training takes", [column for column in columns if any(column.cells)])] if known else []


def _memory(judgement: Judgement) -> str:
    """The memory that training takes on both sides: `212 MiB → 612 MiB`, or once if it is the same."""
    base, head = judgement.base_bytes, judgement.head_bytes
    if base is None or head is None:
        return ""
    sides = [quantities.size(base), quantities.size(head)]
    return sides[0] if base == head else " → ".join(sides)


def _losses(judgement: Judgement) -> str:
    base, head = judgement.base_loss, judgement.head_loss
    if base is None or head is None:
        return ""
    sides = [quantities.significant(base, LOSS_DIGITS), quantities.significant(head, LOSS_DIGITS)]
    return sides[0] if sides[0] == sides[1] else " → ".join(sides)


def _unchanged(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return "Nothing was compared."
    return f"Nothing changed in {quantities.counted(len(judgements), 'benchmark')}."


def reasons(shown: Sequence[Shown]) -> list[str]:
    """Each reason once, with the benchmarks that have this reason, in the order of the table."""
    holders: dict[str, list[str]] = {}
    for name, judgement in shown:
        if judgement.reason:
            holders.setdefault(judgement.reason, []).append(name)
    return [f"{_holders(names)}: {shorten(reason, LONGEST)}" for reason, names in holders.items()]


def _holders(names: Sequence[str]) -> str:
    return f"{len(names)} benchmarks" if len(names) > NAMED else ", ".join(names)


def judgement_counts(judgements: Sequence[Judgement], skipped: Sequence[Case], unselected: int = 0) -> list[str]:
    """How many benchmarks were compared, and how many have each verdict: a line each."""
    found = tally(judgements)
    compared = sum(one.ratio is not None for one in judgements)
    sides = [f"compared {compared}", f"missing {found[Verdict.MISSING]}", f"new {found[Verdict.NEW]}"]
    if skipped:
        sides.append(outcome("skipped", skipped))
    if unselected:
        sides.append(f"not selected {unselected}")
    verdicts = [f"{number} {verdict}" for verdict, number in _counted(judgements)]
    return [" · ".join(line) for line in (sides, verdicts) if line]


def _counted(judgements: Sequence[Judgement]) -> list[tuple[Verdict, int]]:
    found = tally(judgements)
    return [(verdict, found[verdict]) for verdict in ORDER if found[verdict]]
