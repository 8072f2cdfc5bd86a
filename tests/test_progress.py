"""Progress: on a terminal only, in the rest of the current line, and taken away afterwards."""

import os
import pty
import re
import select
import sys
from pathlib import Path

import pytest

from perf.harness.plugin.progress import ERASE, Progress, duration

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run_on_terminal(tmp_path, digits_root, torch_process):
    """Runs one case on a terminal of some width; returns what is written to it."""

    def run(columns, passes=1, **variables):
        command = [
            sys.executable, "-m", "pytest", ROOT / "perf" / "test_training_step.py", "--perf-device=cpu",
            "--perf-profile=smoke", "--perf-batch-size=64", "-p", "no:cacheprovider", f"--perf-passes={passes}",
            "--perf-data=digits", f"--perf-data-root={digits_root}", f"--benchmark-storage={tmp_path}",
        ]  # fmt: skip
        ours, theirs = pty.openpty()
        environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"} | variables
        process = torch_process.start(command, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment)
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 120)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            written += chunk
        os.close(ours)
        assert process.wait() == 0, written.decode()
        return written.decode()

    return run


def test_a_terminal_shows_the_case_its_round_and_the_time_left(run_on_terminal):
    written = run_on_terminal(100)
    assert "1/1 test_training_step[cpu-bs64]: warming up" in written
    assert re.search(r"1/1 test_training_step\[cpu-bs64\]: round 1/\d+, 0 s left", written)
    assert f"\x1b7{ERASE}\x1b8" in written  # the last of it is taken away


def test_a_terminal_shows_the_pass(run_on_terminal):
    written = run_on_terminal(100, passes=2)
    assert re.search(r"pass 1 of 2, 1/1 test_training_step\[cpu-bs64\].*pass 2 of 2", written, re.DOTALL)
    assert f"\x1b7{ERASE}\x1b8" in written


@pytest.mark.parametrize(("columns", "wide"), [("60", 60), ("120", 120), ("300", 140), (None, 100), ("x", 100)])
def test_a_page_in_a_pipe_is_as_wide_as_columns_says_and_no_wider_than_its_tables_need(monkeypatch, columns, wide):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.__stdout__", None)
    assert Progress(None).columns == wide


def test_no_progress_line_is_longer_than_the_terminal_and_no_color_is_honoured(run_on_terminal):
    written = run_on_terminal(50, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*m", written)
    shown = re.findall(r"\x1b7([^\x1b]*)\x1b\[K\x1b8", written)
    assert any(shown)
    assert max(map(len, shown)) < 50


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (99, "99 s"),
        (100, "1.7 min"),
        (150, "2.5 min"),
        (180, "3 min"),
        (599.9, "10 min"),
        (3600, "60 min"),
    ],
)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text
