"""The interface of a way to run: measure, gate or qualify. pytest's hooks call it, whichever way was chosen."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import Any

import pytest

from data import DataError
from model import RecipeError
from perf.harness.options import SettingsError
from perf.harness.plugin import preflight
from perf.harness.plugin.state import PROGRESS, STATE
from perf.harness.record import Run
from perf.harness.workload.benchmarks import BY_NAME


class Way:
    """One run, from the options to the summary. pytest's hooks call the methods, about in the order below.

    Each method has a default, for a way that does not need it.
    """

    elsewhere = False  # whether other processes measure, and try the networks

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.state = config.stash[STATE]
        self.settings = self.state.settings
        self.progress = config.stash[PROGRESS]
        self.save_as = preflight.keep_own_records(config, self.state.plan.fingerprint_id)
        preflight.check_outputs(config)
        if self.settings.summary is not None:
            preflight.check_writable(self.settings.summary, self.settings.origins["summary"])

    def header(self) -> list[str]:
        """Lines for pytest's header, below the machine's."""
        return []

    def collects(self, path: Path) -> bool:
        """Whether `path`, one of our test files, is part of this run."""
        definition = BY_NAME.get(path.stem.removeprefix("test_"))
        no_case = definition is not None and definition.all_at_once and not self.state.plan.kinds()
        return not preflight.is_check(path) and not no_case

    def collecting(self, session: pytest.Session) -> None:
        """Find out what the collection needs, and refuse what cannot work."""

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Make the cases of one test function."""

    def collect(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Change and sort the items in place, before -k and --lf select from them."""

    def selected(self, items: list[pytest.Item]) -> None:
        """Change in place what -k and --lf have left."""

    def collected(self, session: pytest.Session) -> None:
        """Take note of the items that are left."""

    def start(self, session: pytest.Session) -> None:
        """Prepare what the first item needs, and refuse what cannot work."""

    def loop(self, session: pytest.Session) -> bool:
        """Run the items instead of pytest. Returns False if pytest must run them."""
        return False

    def call(self, item: pytest.Function) -> bool:
        """Call the function of one item instead of pytest. Returns False if pytest must call it."""
        return False

    def set_up(self, item: pytest.Item) -> None:
        """Prepare `item`, before its marks can skip it."""

    def running(self, item: pytest.Item) -> contextlib.AbstractContextManager[None]:
        """A context manager around the call of one item."""
        return contextlib.nullcontext()

    def ended(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Keep the outcome after each phase of one item: it is on disk before pytest reports it."""

    def as_record(self) -> dict[str, Any]:
        """The top-level key `perf` of the JSON."""
        return self.state.as_record()

    def finish(self, session: pytest.Session) -> None:
        """Write the record for the last time, and set the exit code."""

    def recorded(self) -> Run | None:
        """The run as it is recorded, for the summary; None if nothing was kept."""
        return None

    def summarize(self, terminal: pytest.TerminalReporter) -> None:
        """Print the summary of the run."""

    def prepare_data(self) -> None:
        """Read the data and try each network once. Raises pytest.UsageError."""
        self.progress.say("reading the data …")
        try:
            self.state.plan = self.state.plan.prepared(tried=self.elsewhere)
        except (SettingsError, RecipeError, DataError) as error:
            raise pytest.UsageError(str(error)) from None
        finally:
            self.progress.say("")
        if not self.elsewhere:
            gc.collect()
            self.config.add_cleanup(gc.unfreeze)  # libraries complain of what is left when the process ends
            gc.freeze()  # what was imported stays: to look through it again before and after each case takes 0.4 s


WAY = pytest.StashKey[Way]()
