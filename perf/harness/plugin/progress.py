"""Which case runs, its round, and the time left: on a terminal only, between timed rounds only."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import Any

import pytest

from perf.harness.report import PAGE
from perf.harness.report.quantities import duration

# DEC private: save and restore the cursor; CSI K: erase to the end of the line. What pytest wrote stays in place.
SAVE, RESTORE, ERASE = "\x1b7", "\x1b8", "\x1b[K"
LEAST_COLUMNS = 12  # less room than this shows nothing readable


class Progress:
    """The rest of pytest's current line; silent where the output is no terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._case = ""

    @property
    def active(self) -> bool:
        manager = self._config.pluginmanager
        # Not sys.stdout: that is a file while pytest captures.
        return bool(getattr(manager.getplugin("terminalreporter"), "isatty", False)) and manager.hasplugin(
            "capturemanager"
        )

    @property
    def columns(self) -> int:
        """The width of a page: no wider than the terminal, where there is one."""
        return min(PAGE, self._config.get_terminal_writer().fullwidth) if self.active else PAGE

    def start_case(self, name: str, number: int, of: int) -> Callable[[int, int, float], None] | None:
        """What to call between rounds of the case, or None where nothing is to be shown."""
        if not self.active:
            return None
        self._case = f"{number}/{of} {name}"
        self._show(f"{self._case}: warming up")
        return self._round

    def _round(self, done: int, rounds: int, seconds_left: float) -> None:
        self._show(f"{self._case}: round {done + 1}/{rounds}, {duration(seconds_left)} left")

    def say(self, text: str) -> None:
        """Show `text` until something else is written there; nothing, to take it away."""
        if self.active:
            self._show(text)

    def _show(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - self._config.get_terminal_writer().width_of_current_line - 2
        shown = f" {text[:room]}" if text and room >= LEAST_COLUMNS else ""
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            sys.stdout.write(f"{SAVE}{shown}{ERASE}{RESTORE}")
            sys.stdout.flush()
