"""In: runs. Out: text for people (terminal, Markdown) and for programs (CSV, JSON).

There is no colour: the text is the same on a terminal, in a pipe and in a file.
"""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.record.run import Run, some_of
from perf.harness.report import reviewer
from perf.harness.report.benchmark_tables import tables
from perf.harness.report.cases import case_counts
from perf.harness.report.conclusion import conclusion
from perf.harness.report.export import as_csv, speedups_json
from perf.harness.report.facts import SUBJECT, absent, header, lines, same_machine
from perf.harness.report.footnotes import footnotes
from perf.harness.report.layout import PAGE, WIDE_PAGE, Block, Fixed, Heading, Notes, encodable, formatted
from perf.harness.report.qualification import by_today, hardware_blocks, machines, qualification_blocks
from perf.harness.report.reviewer import MARKER, cut, judged, unfinished, workflow_commands
from perf.harness.report.together import together_blocks
from perf.harness.verdict.speedups import Speedups, UnknownReference, letters

__all__ = [
    "FORMATS",
    "PAGE",
    "WIDE_PAGE",
    "UnknownReference",
    "encodable",
    "fleet",
    "header",
    "render",
    "summary",
    "workflow_commands",
]

FORMATS = ("terminal", "github", "csv", "json")
# The indent of the lines under the letter and the name of a file.
MARGIN = "   "


def fleet(runs: Sequence[Run], *, format: str = "terminal", width: int = PAGE) -> str:
    """The table of machines at the end of the report on these qualifications, as text or Markdown. See `render`."""
    named = list(zip(letters(len(runs)), runs, strict=True))
    blocks = machines([(letter, run.host, run) for letter, run in named], records=True)
    return formatted([Heading("Stepwatch"), *blocks], format, width, FORMATS)


def render(runs: Sequence[Run], *, format: str = "terminal", reference: str | None = None, width: int = PAGE) -> str:
    """The report on `runs` in one of FORMATS, without a final line break. `width` [columns] is for the terminal.

    Speedups are over the device `reference`: `cpu`, or `A:cpu` if there are several files. None means the first CPU, or
    the first device if there is no CPU. Raises UnknownReference if no file has that device, and ValueError for an
    unknown format.
    """
    found = Speedups.of(runs, reference)
    named = list(zip(letters(len(runs)), runs, strict=True))
    if format == "csv":
        return as_csv(found, named)
    if format == "json":
        return speedups_json(found, named)
    blocks: list[Block] = [
        Heading("Stepwatch"),
        *_warnings(named),
        *_machines(named),
        *tables(found),
        *together_blocks(found.untimed),
        *footnotes(found),
        *case_counts([run for run in runs if run.gate is None]),
        *conclusion(found),
        *(block for letter, run in named if run.judgements for block in _judged(letter, run)),
    ]
    if format == "github" and len(runs) == 1 and runs[0].judgements:
        return reviewer.page(runs[0], blocks if runs[0].benchmarks else ()).rstrip("\n")
    for letter, run in named:
        if run.qualification:
            blocks += [*hardware_blocks(run.perf, letter), *qualification_blocks(run.checks, run.qualification, letter)]
            blocks += [Notes([f"{letter + ': ' if letter else ''}{said}"]) for said in by_today(run)]
    blocks += machines([(letter, run.host, run) for letter, run in named])
    said = any(run.judgements or run.qualification for run in runs)
    if not any((found.rows, found.untimed, found.foreign, said)):
        blocks.append(Notes([f"Nothing was measured{_too_early(runs)}.{_required(runs)}"]))
    return formatted(blocks, format, width, FORMATS)


def _too_early(runs: Sequence[Run]) -> str:
    """Why runs that ended early have no result."""
    return "" if all(run.complete for run in runs) else ": the run ended before it had measured a case"


def _required(runs: Sequence[Run]) -> str:
    """How an absent device is made an error, where that is why all cases were skipped."""
    names = dict.fromkeys(name for run in runs for name in absent(run))
    whys = [f"{name}: " for name in names]
    if not names or not all(
        case.outcome == "skipped" and case.reason.startswith(tuple(whys)) for run in runs for case in run.cases
    ):
        return ""
    return f" --perf-require-device={','.join(names)} makes that an error (exit code 4)."


def summary_page(run: Run) -> str:
    """The report on one run for `--perf-summary`: Markdown with a marker, shorter than a comment may be."""
    text = f"{render([run], format='github')}\n"
    return text if text.startswith(MARKER) else cut(f"{MARKER}\n{text}")


def _judged(letter: str, run: Run) -> list[Block]:
    return [*([Notes([f"{letter}: {run.source}"])] if letter else []), *judged(run, verbose=True)]


def _warnings(named: Sequence[tuple[str, Run]]) -> list[Block]:
    smoke = [letter for letter, run in named if run.smoke]
    partial = [letter for letter, run in named if not run.complete]
    blocks: list[Block] = []
    if smoke:
        text = f"SMOKE{_which(smoke)}: a short run on a part of the data. Do not decide anything by its numbers."
        blocks.append(Notes([text]))
    if partial:
        blocks.append(unfinished(_which(partial)))
    for letter, run in named:
        if run.untimed:
            blocks.append(Notes([f"Without a usable time{_which([letter])}: {some_of(run.untimed)}."]))
    return blocks


def _which(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if any(names) else ""


def _machines(named: Sequence[tuple[str, Run]]) -> list[Block]:
    """The header of each run. If there are several runs, each header begins with the letter and the name of the file.

    A later run of the same machine has only the lines that differ from the first run of that machine.
    """
    if len(named) == 1:
        return [Fixed(lines(named[0][1]), hang=SUBJECT)]
    blocks: list[Block] = []
    for place, (letter, run) in enumerate(named):
        same = same_machine(run, named[:place])
        said = set(lines(dict(named)[same])) if same else set()
        own = [f"{MARGIN}{line}" for line in lines(run) if line not in said]
        kind = "" if same and run.host == dict(named)[same].host else "kind of "
        note = f" (same {kind}machine and settings as {same})" if same else ""
        blocks.append(Fixed([f"{letter}  {run.source}{note}", *own], hang=len(MARGIN) + SUBJECT))
    return blocks
