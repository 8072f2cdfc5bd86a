"""In: runs. Out: text for people (terminal, Markdown) and for programs (CSV, JSON).

units, layout → machine, telemetry, rows, bound → tables, conclusion, cases, export → here. No colour: the text is the
same on a terminal, in a pipe and in a file.
"""

from __future__ import annotations

from collections.abc import Sequence

from perf.harness.record.run import Run
from perf.harness.report.cases import counts
from perf.harness.report.conclusion import conclusion
from perf.harness.report.export import as_csv, as_json
from perf.harness.report.layout import Block, Fixed, Heading, Paragraph, encodable, hanging, markdown, page
from perf.harness.report.machine import facts, same_machine
from perf.harness.report.qualification import qualification
from perf.harness.report.rows import SMOKE, UnknownReference, compare, letters
from perf.harness.report.tables import footnotes, tables
from perf.harness.report.telemetry import telemetry
from perf.harness.report.verdicts import verdicts

__all__ = ["FORMATS", "PAGE", "UnknownReference", "encodable", "header", "render"]

FORMATS = ("terminal", "github", "csv", "json")
# The widest page that is still read without turning the head, or the terminal.
PAGE = 100
# The longest subject of a header line is `telemetry`.
SUBJECT = 10
# Under the letter and the name of a file.
MARGIN = "   "


def render(runs: Sequence[Run], *, format: str = "terminal", reference: str | None = None, width: int = PAGE) -> str:
    """The report on `runs` in one of FORMATS, without a line end; `width` [columns] is for the terminal.

    `reference` is the device that speedups are over: `cpu`, or `A:cpu` where there are several files; None takes
    the first CPU. Raises UnknownReference where no file has it, ValueError for an unknown format.
    """
    comparison = compare(runs, reference)
    if format == "csv":
        return as_csv(comparison)
    if format == "json":
        return as_json(comparison)
    blocks: list[Block] = [
        Heading("Stepwatch"),
        *_warnings(runs),
        *_machines(runs),
        *tables(comparison),
        *footnotes(comparison),
        *counts(runs),
        *conclusion(comparison),
        *[block for run in runs if run.judgements for block in verdicts(run.judgements, verbose=True)],
        *[
            block
            for run, letter in zip(runs, letters(len(runs)), strict=True)
            if run.qualification
            for block in qualification(run.checks, run.qualification, letter)
        ],
    ]
    said = any(run.judgements or run.qualification for run in runs)
    if not any((comparison.rows, comparison.untimed, comparison.foreign, said)):
        blocks.append(Paragraph("Nothing was measured."))
    if format == "github":
        return markdown(blocks)
    if format == "terminal":
        return page(blocks, max(1, width))
    raise ValueError(f"format {format!r} is none of {', '.join(FORMATS)}")


def header(run: Run) -> list[str]:
    """What `run` is made with, in short lines: devices, or why there is none, software, data and settings."""
    return [part for line in _lines(run) for part in hanging(line, PAGE, SUBJECT)]


def _lines(run: Run) -> list[str]:
    return [f"{subject:<{SUBJECT - 1}} {text}" for subject, text in [*facts(run), *telemetry(run)]]


def _warnings(runs: Sequence[Run]) -> list[Block]:
    names = letters(len(runs))
    smoke = [name for name, run in zip(names, runs, strict=True) if run.perf.get("profile") == SMOKE]
    partial = [name for name, run in zip(names, runs, strict=True) if not run.complete]
    blocks: list[Block] = []
    if smoke:
        blocks.append(Paragraph(f"SMOKE{_which(smoke)}: a subset of the data and of the time, not for decisions."))
    if partial:
        blocks.append(Paragraph(f"PARTIAL{_which(partial)}: the run did not finish."))
    return blocks


def _which(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if any(names) else ""


def _machines(runs: Sequence[Run]) -> list[Block]:
    """Each run's header; of several, under its letter and file, and only what the first run of it has not said."""
    if len(runs) == 1:
        return [Fixed(tuple(_lines(runs[0])), hang=SUBJECT)]
    blocks: list[Block] = []
    named = list(zip(letters(len(runs)), runs, strict=True))
    for place, (letter, run) in enumerate(named):
        same = same_machine(run, named[:place])
        said = set(_lines(dict(named)[same])) if same else set()
        lines = [f"{MARGIN}{line}" for line in _lines(run) if line not in said]
        note = f" (the machine and settings of {same})" if same else ""
        blocks.append(Fixed((f"{letter}  {run.source}{note}", *lines), hang=len(MARGIN) + SUBJECT))
    return blocks
