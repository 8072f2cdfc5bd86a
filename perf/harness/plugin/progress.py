"""Shows which case runs, its round, and the time left: only on a terminal, and only between timed rounds."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import Any

import pytest

from perf.harness.report import PAGE, WIDE_PAGE
from perf.harness.report.quantities import duration

# DEC private: save and restore the cursor; CSI K: erase to the end of the line. What pytest wrote stays in place.
SAVE, RESTORE, ERASE = "\x1b7", "\x1b8", "\x1b[K"
LEAST_COLUMNS = 12  # in less room than this, nothing is readable


class Progress:
    """Writes into the rest of pytest's current line. Does nothing if the output is not a terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._case = ""

    @property
    def active(self) -> bool:
        manager = self._config.pluginmanager
        # Do not ask sys.stdout: it is a file while pytest captures.
        return bool(getattr(manager.getplugin("terminalreporter"), "isatty", False)) and manager.hasplugin(
            "capturemanager"
        )

    @property
    def columns(self) -> int:
        """The width of a page: at most that of the terminal, or of COLUMNS, if there is one of them."""
        return min(WIDE_PAGE, shutil.get_terminal_size((PAGE, 0)).columns)

    def start_case(self, name: str, number: int, of: int) -> Callable[[int, int, float], None] | None:
        """Show that a case starts. Returns the function to call between its rounds, or None if nothing is shown."""
        if not self.active:
            return None
        self._case = f"{number}/{of} {name}"
        self._show(f"{self._case}: warming up")
        return self._round

    def _round(self, done: int, rounds: int, seconds_left: float) -> None:
        self._show(f"{self._case}: round {done + 1}/{rounds}, {duration(seconds_left)} left")

    def say(self, text: str) -> None:
        """Show `text` until other text is written there. An empty `text` removes the last one."""
        if self.active:
            self._show(text)

    def line(self, text: str) -> None:
        """Print a line that stays, on any output."""
        self.say("")
        if (terminal := self._config.pluginmanager.getplugin("terminalreporter")) is not None:
            terminal.ensure_newline()
            terminal.write_line(text)

    def _show(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - self._config.get_terminal_writer().width_of_current_line - 2
        shown = f" {text[:room]}" if text and room >= LEAST_COLUMNS else ""
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            sys.stdout.write(f"{SAVE}{shown}{ERASE}{RESTORE}")
            sys.stdout.flush()
