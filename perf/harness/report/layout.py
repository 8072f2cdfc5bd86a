"""In: headings, paragraphs, fixed lines and tables, with any text in them. Out: plain text or Markdown.

Only this module puts text from files and other programs on the page. It makes harmless all text that could control a
terminal, break a line or a table, or begin markup. In plain text, no line is wider than the page.
"""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tabulate import tabulate

from perf.harness.report.quantities import NONE

# A page that is easy to read [columns], for a file; and the widest one for a terminal, on which every table is whole.
PAGE, WIDE_PAGE = 100, 140
ELLIPSIS = "…"
# A column that may be shortened keeps at least this many characters: `dataloader`, `A:cuda:12`.
MIN_COLUMN = 10
# A hostile name may be megabytes long. Markdown has no page width, so this is the only limit for a Markdown cell.
MAX_CELL = 60
# The limits of a paragraph and of a line, for the same reason. Our longest ones have about 600 and 200 characters.
MAX_PARAGRAPH = 2000
MAX_LINE = 300
# tabulate's `plain` format puts this many spaces between two columns.
GAP = 2
INDENT = "    "
# A word as a shell reads it. It may hold spaces in quotes, where a line cannot be continued.
SHELL_WORD = re.compile(r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|\S)+""")
UNBROKEN = "\u00a0"  # a space at which textwrap breaks no line; `clean` leaves none in a text
# Substitutes for a terminal that cannot show these signs. Each is one character, so that columns stay aligned.
SUBSTITUTES = str.maketrans({"×": "x", "µ": "u", "±": "~", "…": "~", "·": "|", "–": "-", "−": "-", "→": ">"})
PLOT = "▁▂▃▄▅▆▇█"  # the levels of a plot in text; their substitutes are the numbers from 1 to 8
SUBSTITUTES |= {ord(level): str(number) for number, level in enumerate(PLOT, start=1)}


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Notes:
    """Sentences that belong together. Each text begins a new line."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Fixed:
    """Lines that keep their spaces: facts in columns, commands.

    A long line continues below, after `hang` spaces; with None, which is for what a shell reads, it does not.
    """

    lines: Sequence[str]
    hang: int | None


@dataclass(frozen=True)
class Column:
    """A column of a table. The cells of a `flexible` column may be shortened to fit the page.

    If the page is too narrow, the column with the highest `spare` is left out first. A column with 0 is never left out.
    """

    title: str
    cells: Sequence[str]
    right: bool = True
    flexible: bool = False
    spare: int = 0

    @classmethod
    def words(cls, title: str, cells: Sequence[str], spare: int = 0) -> Column:
        """A left-aligned column of words, which is not flexible."""
        return cls(title, cells, right=False, spare=spare)

    @classmethod
    def names(cls, title: str, cells: Sequence[str], spare: int = 0) -> Column:
        """A left-aligned column of names, which may be shortened."""
        return cls(title, cells, right=False, flexible=True, spare=spare)


@dataclass(frozen=True)
class Table:
    """A table. In Markdown, its `title` may be empty."""

    title: str
    columns: Sequence[Column]


@dataclass(frozen=True)
class Folded:
    """Blocks under a title, which a click opens in Markdown. Plain text shows them all."""

    title: str
    blocks: Sequence[Block]


Block = Heading | Notes | Fixed | Table | Folded


def command(text: str, indent: str = INDENT) -> Fixed:
    """The command `text` in lines that a shell reads as one: nothing of it is left out, and no word of it is broken."""
    wide = PAGE - len(indent) - 2
    wrapped = [""]
    for word in SHELL_WORD.findall(text):
        if wrapped[-1] and len(wrapped[-1]) + 1 + len(word) > wide:
            wrapped.append(INDENT + word)
        else:
            wrapped[-1] += f" {word}" if wrapped[-1] else word
    return Fixed([*(f"{indent}{line} \\" for line in wrapped[:-1]), f"{indent}{wrapped[-1]}"], None)


def clean(text: str) -> str:
    """`text` in one line of printable characters, each one column wide. Others are escaped as in Python and pytest."""
    if text.isascii() and text.isprintable():
        return text
    composed = unicodedata.normalize("NFC", text)  # `e` and an accent, two characters, become one
    return "".join(c if _plain(c) else c.encode("unicode_escape").decode("ascii") for c in composed)


@lru_cache
def _plain(character: str) -> bool:
    return (
        character.isprintable()
        and unicodedata.category(character) not in ("Mn", "Me")
        and unicodedata.east_asian_width(character) not in ("W", "F")
    )


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` (1 or more) columns. The middle is left out, because names differ at their ends."""
    if len(text) <= width:
        return text
    head = width // 2
    tail = width - head - 1
    return text[:head] + ELLIPSIS + (text[-tail:] if tail else "")


def encodable(text: str, encoding: str) -> str:
    """`text` as `encoding` can write it: if needed, with ASCII substitutes for our signs and `?` for the rest."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(SUBSTITUTES).encode(encoding, "replace").decode(encoding)
    return text


def formatted(blocks: Sequence[Block], format: str, width: int, formats: Sequence[str]) -> str:
    """`blocks` for the terminal, `width` columns wide, or for GitHub.

    Raises ValueError for any other format; the message names `formats`.
    """
    if format == "github":
        return markdown(blocks)
    if format == "terminal":
        return page(blocks, max(1, width))
    raise ValueError(f"format {format!r} is none of {', '.join(formats)}")


def page(blocks: Sequence[Block], width: int) -> str:
    """`blocks` in plain text, at most `width` columns wide."""
    return _joined(blocks, lambda block: _plain_block(block, width))


def markdown(blocks: Sequence[Block]) -> str:
    """`blocks` in GitHub's Markdown."""
    return _joined(blocks, _markdown_block)


def _joined(blocks: Sequence[Block], form: Callable[[Block], Sequence[str]]) -> str:
    return "\n\n".join("\n".join(lines) for block in blocks if (lines := form(block)))


def _plain_block(block: Block, width: int) -> Sequence[str]:
    match block:
        case Heading(text):
            return [shorten(clean(text), width)]
        case Notes(texts):
            return [line for text in texts for line in _wrap(text, width)]
        case Fixed(lines, hang):
            return [part for line in lines for part in hanging(line, width, hang)]
        case Table(title, columns):
            fitted, dropped = fit(columns, width)
            left = f"Columns left out at this width: {', '.join(dropped)}." if dropped else ""
            rows = [*_plain_grid(fitted).splitlines(), *_wrap(left, width)] if fitted else _stacked(columns, width)
            return [shorten(clean(title), width), "", *rows]
        case Folded(title, blocks):
            return [shorten(clean(title), width), "", page(blocks, width)]


def _markdown_block(block: Block) -> Sequence[str]:
    match block:
        case Heading(text):
            return [f"## {_escape(_paragraph(text))}"]
        case Notes(texts):
            # In Markdown, a backslash at the end of a line keeps the line break.
            return ["\\\n".join(_escape(_paragraph(text)) for text in texts)]
        case Fixed(lines, None):
            return [INDENT + _paragraph(line) for line in lines]
        case Fixed(lines, _):
            # Four spaces mark code as a fence does, but no text in a line can end the code.
            return [INDENT + shorten(clean(line[: 2 * MAX_LINE]), MAX_LINE) for line in lines]
        case Table(title, columns):
            heading = [f"### {_escape(clean(title))}", ""] if title else []
            return [*heading, _pipe_grid(_cut(columns, MAX_CELL, _escape))]
        case Folded(title, blocks):
            # Markdown ends the HTML at the empty line, and begins it again after one.
            return [f"<details><summary>{html.escape(clean(title))}</summary>", "", markdown(blocks), "", "</details>"]


def hanging(line: str, width: int, hang: int | None) -> list[str]:
    """`line` in as many lines of `width` columns as it needs. All lines after the first begin with `hang` spaces."""
    if hang is None:
        return [_paragraph(line)]
    text = shorten(clean(line[: 2 * MAX_LINE]), MAX_LINE)
    after = " " * min(hang, width // 2)
    return textwrap.wrap(text, width, subsequent_indent=after, break_on_hyphens=False)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(_paragraph(text), width, break_on_hyphens=False)


def _paragraph(text: str) -> str:
    return shorten(clean(text[: 2 * MAX_PARAGRAPH]), MAX_PARAGRAPH)


def _escape(text: str) -> str:
    """`text` with its markup escaped. CommonMark 2.4 allows a backslash before any ASCII punctuation.

    GitHub and GitLab also find mentions, issues and addresses in plain text. An empty comment in between prevents that.
    """
    escaped = re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", text)
    return re.sub(r"(?i)(@(?=\w)|\\#(?=\d)|!(?=\d)|[a-z]:(?=//)|www(?=\.))", r"\1<!-- -->", escaped)


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """The columns that fit into `width`, and the titles of the columns that are left out; none if they cannot fit.

    First, names are shortened. Then, spare columns are left out. Numbers are never shortened: they would be others.
    """
    kept = _cut(columns, MAX_CELL)
    dropped: list[str] = []
    while True:
        narrow = _narrowed(kept, width)
        if _width(narrow) <= width:
            return narrow, dropped
        spare = max(kept, key=lambda column: column.spare)
        if spare.spare == 0:
            return [], []
        kept.remove(spare)
        dropped.append(spare.title)


def _narrowed(columns: Sequence[Column], width: int) -> list[Column]:
    """Shorten the widest column of names, until all `columns` fit or each of these has MIN_COLUMN characters."""
    narrow = list(columns)
    while (excess := _width(narrow) - width) > 0:
        widest = max((c for c in narrow if c.flexible), key=_column_width, default=None)
        if widest is None or _column_width(widest) <= MIN_COLUMN:
            break
        # Shorten one column at a time, so that two long columns share the loss.
        limit = max(MIN_COLUMN, _column_width(widest) - max(1, excess // len(narrow)))
        narrow[narrow.index(widest)] = _cut([widest], limit)[0]
    return narrow


def _cut(columns: Sequence[Column], limit: int, form: Callable[[str], str] = str) -> list[Column]:
    """`columns` with each text cleaned, shortened to `limit` characters, and then passed through `form`."""

    def cell(text: str) -> str:
        return form(shorten(clean(text[: 4 * MAX_CELL]), limit))

    return [replace(column, title=cell(column.title), cells=tuple(map(cell, column.cells))) for column in columns]


def _column_width(column: Column) -> int:
    return max(len(text) for text in (column.title, *column.cells))


def _width(columns: Sequence[Column]) -> int:
    return sum(_column_width(column) for column in columns) + GAP * (len(columns) - 1)


def _stacked(columns: Sequence[Column], width: int) -> list[str]:
    """Each row as a paragraph, for a page on which no table fits: `check memory · value 12.3 GB/s`."""
    lines: list[str] = []
    clear = _cut(columns, MAX_CELL)
    for row in _rows(clear):
        pairs = [f"{column.title} {cell}" for column, cell in zip(clear, row, strict=True) if cell not in ("", NONE)]
        # textwrap does not break a line at this kind of space.
        text = f"{UNBROKEN}· ".join(pair.replace(" ", UNBROKEN) if len(pair) < width - 4 else pair for pair in pairs)
        wrapped = textwrap.wrap(text, width, subsequent_indent=" " * min(2, width // 2), break_on_hyphens=False)
        lines += [line.replace(UNBROKEN, " ") for line in wrapped]
    return lines


def _plain_grid(columns: Sequence[Column]) -> str:
    """A table like tabulate's `simple` format. The titles are ordinary rows.

    With `headers`, tabulate would make a column as wide as its title plus 2.
    """
    titles, rules = zip(*((column.title, "-" * _column_width(column)) for column in columns), strict=True)
    return tabulate([titles, rules, *_rows(columns)], tablefmt="plain", **_as_it_is(columns))


def _pipe_grid(columns: Sequence[Column]) -> str:
    titles = [column.title for column in columns]
    return tabulate(_rows(columns), headers=titles, tablefmt="pipe", **_as_it_is(columns))


def _rows(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    return list(zip(*(column.cells for column in columns), strict=True))


def _as_it_is(columns: Sequence[Column]) -> dict[str, Any]:
    # Without `disable_numparse`, tabulate would rewrite 1.20 as 1.2.
    return {"colalign": ["right" if column.right else "left" for column in columns], "disable_numparse": True}
