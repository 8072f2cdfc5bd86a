"""In: headings, paragraphs, fixed lines and tables, with any text in them. Out: plain text or Markdown.

The one place where foreign text meets the page: what could steer a terminal, break a line or a table, or begin
markup is made harmless here, and nothing is wider than the page.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

ELLIPSIS = "…"
# A column that may be shortened keeps at least this much: `dataloader`, `A:cuda:12`.
MIN_COLUMN = 10
# One cell; a hostile name may have megabytes. Markdown has no page width, and so only this limit.
MAX_CELL = 60
# One paragraph or line, for the same reason; the longest of ours has about 600 characters, or 200.
MAX_PARAGRAPH = 2000
MAX_LINE = 300
# tabulate's `plain` format puts this much between two columns.
GAP = 2
INDENT = "    "
# For a terminal that cannot show them: one character each, so that columns stay in line.
SUBSTITUTES = str.maketrans({"×": "x", "µ": "u", "±": "~", "…": "~", "·": "|", "–": "-", "−": "-", "→": ">"})


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Notes:
    """Short paragraphs that belong together."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Fixed:
    """Lines that keep their spaces: facts in columns, commands. What is too long goes on after `hang` spaces."""

    lines: tuple[str, ...]
    hang: int


@dataclass(frozen=True)
class Column:
    """`flexible` columns hold names, which may be shortened. `spare` ones go first where the page is too narrow:
    the highest first, 0 never."""

    title: str
    cells: tuple[str, ...]
    right: bool = True
    flexible: bool = False
    spare: int = 0


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[Column, ...]


Block = Heading | Paragraph | Notes | Fixed | Table


def clean(text: str) -> str:
    """`text` in one line of printable characters, each one column wide; others as Python escapes them.

    pytest writes parameters into names in the same way.
    """
    composed = unicodedata.normalize("NFC", text)  # `e` and an accent in two characters are one column
    return "".join(c if _plain(c) else c.encode("unicode_escape").decode("ascii") for c in composed)


def _plain(character: str) -> bool:
    return (
        character.isprintable()
        and unicodedata.category(character) not in ("Mn", "Me")
        and unicodedata.east_asian_width(character) not in ("W", "F")
    )


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` (1 or more) columns; the middle gives way, for names differ at their ends."""
    if len(text) <= width:
        return text
    head = width // 2
    tail = width - head - 1
    return text[:head] + ELLIPSIS + (text[-tail:] if tail else "")


def encodable(text: str, encoding: str) -> str:
    """`text` as `encoding` can write it: ASCII stand-ins for the signs of ours, `?` for the rest."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(SUBSTITUTES).encode(encoding, "replace").decode(encoding)
    return text


def page(blocks: Sequence[Block], width: int) -> str:
    """Plain text, at most `width` columns wide."""
    return _joined(blocks, lambda block: _plain_block(block, width))


def markdown(blocks: Sequence[Block]) -> str:
    """GitHub's Markdown."""
    return _joined(blocks, _markdown_block)


def _joined(blocks: Sequence[Block], form: Callable[[Block], Sequence[str]]) -> str:
    return "\n\n".join("\n".join(lines) for block in blocks if (lines := form(block)))


def _plain_block(block: Block, width: int) -> Sequence[str]:
    match block:
        case Heading(text):
            return [shorten(clean(text), width)]
        case Paragraph(text):
            return _wrap(text, width)
        case Notes(texts):
            return [line for text in texts for line in _wrap(text, width)]
        case Fixed(lines, hang):
            return [part for line in lines for part in hanging(line, width, hang)]
        case Table(title, columns):
            fitted, dropped = fit(columns, width)
            left = f"Left out at this width: {', '.join(dropped)}." if dropped else ""
            return [
                shorten(clean(title), width),
                "",
                *_plain_grid(fitted).splitlines(),
                *_wrap(left, width),
            ]


def _markdown_block(block: Block) -> Sequence[str]:
    match block:
        case Heading(text):
            return [f"## {_escape(_paragraph(text))}"]
        case Paragraph(text):
            return [_escape(_paragraph(text))]
        case Notes(texts):
            # A backslash at the end of a line keeps the line end.
            return ["\\\n".join(_escape(_paragraph(text)) for text in texts)]
        case Fixed(lines, _):
            # Four spaces make code as a fence does, and no line can end them.
            return [INDENT + shorten(clean(line[: 2 * MAX_LINE]), MAX_LINE) for line in lines]
        case Table(title, columns):
            return [f"### {_escape(clean(title))}", "", _pipe_grid(_cut(columns, MAX_CELL, _escape))]


def hanging(line: str, width: int, hang: int) -> list[str]:
    """`line` in as many lines of `width` columns as it needs, the later ones after `hang` spaces."""
    text = shorten(clean(line[: 2 * MAX_LINE]), MAX_LINE)
    after = " " * min(hang, width // 2)
    return textwrap.wrap(text, width, subsequent_indent=after, break_on_hyphens=False)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(_paragraph(text), width, break_on_hyphens=False)


def _paragraph(text: str) -> str:
    return shorten(clean(text[: 2 * MAX_PARAGRAPH]), MAX_PARAGRAPH)


def _escape(text: str) -> str:
    """`text` without markup: CommonMark 2.4 takes a backslash before any ASCII punctuation."""
    return re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", text)


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """The columns within `width`, and the titles of those left out: names give way first, then spare columns,
    and, on a page too narrow for anything, every column."""
    kept = _cut(columns, MAX_CELL)
    dropped: list[str] = []
    while True:
        narrow = _narrowed(kept, width, MIN_COLUMN, lambda column: column.flexible)
        if _width(narrow) <= width:
            return narrow, dropped
        spare = max(kept, key=lambda column: column.spare)
        if spare.spare == 0:
            return _narrowed(narrow, width, 1, lambda column: True), dropped
        kept.remove(spare)
        dropped.append(spare.title)


def _narrowed(columns: Sequence[Column], width: int, least: int, may: Callable[[Column], bool]) -> list[Column]:
    """`columns` with the widest of those that `may` shortened until they fit, or until each has `least`."""
    narrow = list(columns)
    while (excess := _width(narrow) - width) > 0:
        widest = max((c for c in narrow if may(c)), key=_column_width, default=None)
        if widest is None or _column_width(widest) <= least:
            break
        # One at a time, so that two long columns share the loss.
        limit = max(least, _column_width(widest) - max(1, excess // len(narrow)))
        narrow[narrow.index(widest)] = _cut([widest], limit)[0]
    return narrow


def _cut(columns: Sequence[Column], limit: int, form: Callable[[str], str] = str) -> list[Column]:
    """`columns` with each text cleaned, at most `limit` long, and then in `form`."""

    def cell(text: str) -> str:
        return form(shorten(clean(text[: 4 * MAX_CELL]), limit))

    return [Column(cell(c.title), tuple(map(cell, c.cells)), c.right, c.flexible, c.spare) for c in columns]


def _column_width(column: Column) -> int:
    return max(len(text) for text in (column.title, *column.cells))


def _width(columns: Sequence[Column]) -> int:
    return sum(_column_width(column) for column in columns) + GAP * (len(columns) - 1)


def _plain_grid(columns: Sequence[Column]) -> str:
    """tabulate's `simple` format, but its headers are rows here: it widens a column to its header plus 2."""
    titles, rules = zip(*((column.title, "-" * _column_width(column)) for column in columns), strict=True)
    return tabulate([titles, rules, *_rows(columns)], tablefmt="plain", **_as_it_is(columns))


def _pipe_grid(columns: Sequence[Column]) -> str:
    titles = [column.title for column in columns]
    return tabulate(_rows(columns), headers=titles, tablefmt="pipe", **_as_it_is(columns))


def _rows(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    return list(zip(*(column.cells for column in columns), strict=True))


def _as_it_is(columns: Sequence[Column]) -> dict[str, Any]:
    # Numbers are formatted already; tabulate would rewrite 1.20 as 1.2.
    return {"colalign": ["right" if column.right else "left" for column in columns], "disable_numparse": True}
