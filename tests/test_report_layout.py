"""Any text in, what fits a page out."""

import shlex
import subprocess

import pytest

from perf.harness.report.layout import Column, Table, clean, command, fit, markdown, page, shorten


def test_strangers_text_becomes_one_line_of_one_column_characters():
    assert clean("a\x1b[31mb\nc\x9bd\u202ee\ud800") == "a\\x1b[31mb\\nc\\x9bd\\u202ee\\ud800"
    assert clean("naïve µ × cafe\u0301 日 z\u0337") == "naïve µ × café \\u65e5 z\\u0337"


def test_a_long_name_loses_its_middle():
    assert shorten("test_training_step[cuda-bs4096]", 15) == "test_tr…bs4096]"
    assert [shorten("abc", n) for n in (1, 2, 3)] == ["…", "a…", "abc"]


def test_on_a_narrow_page_names_give_way_first_and_spare_columns_next():
    columns = [
        Column("name", ("n" * 30,), right=False, flexible=True),
        Column("a", ("12345",), spare=1),
        Column("b", ("67890",), spare=2),
    ]
    kept, dropped = fit(columns, 30)
    assert [c.cells[0] for c in kept] == ["nnnnnnnn…nnnnnnn", "12345", "67890"] and dropped == []
    kept, dropped = fit(columns, 20)
    assert [len(c.cells[0]) for c in kept] == [13, 5] and dropped == ["b"]
    assert fit(columns, 9) == ([], [])


@pytest.mark.parametrize("width", [1, 20, 36])
def test_where_no_table_fits_each_row_is_a_paragraph_and_nothing_of_a_number_is_left_out(width):
    """A number without its middle is another number."""
    columns = [
        Column.names("check\x1f", ["copies out pageable", "disk"]),
        Column("value", ["1,234,567 samples/s", "1.74 GB/s"]),
        Column("bar", ["–", "≥ 1.5 GB/s"]),
    ]
    lines = page([Table("Checks", columns)], width).splitlines()[2:]
    assert max(map(len, lines)) <= width
    rows = [
        "check\\x1f copies out pageable ·", "  value 1,234,567 samples/s",
        "check\\x1f disk · value 1.74 GB/s ·", "  bar ≥ 1.5 GB/s",
    ]  # fmt: skip
    assert "".join("".join(lines).split()) == "".join("".join(rows).split())
    assert width < 36 or lines == rows


@pytest.mark.parametrize(
    "words",
    [
        ["pytest", "perf/", "-k", "training_step or inference or (epoch and (resident or dataloader)) " * 2, "-x"],
        ["pytest", "perf/", "--perf-model=" + ",".join(f"file_{number}.py:Network" for number in range(20))],
        ["python", "it's", 'a "quoted" word', "a\\\\b", "$HOME", *map(str, range(100, 160))],
    ],
)
@pytest.mark.parametrize("form", [lambda blocks: page(blocks, 40), markdown])
def test_a_command_is_read_by_a_shell_as_it_was_typed_however_long_and_on_any_page(words, form):
    text = form([command(shlex.join(words))])
    said = subprocess.run(["sh", "-c", f"printf '%s\\n' {text}"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == words
    assert len(text.splitlines()) > 1
