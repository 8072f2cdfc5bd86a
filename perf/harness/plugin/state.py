"""What the plugin keeps in pytest's stash: the run, and where its progress is shown; and what follows from the run."""

import datetime
import os
from pathlib import Path

import pytest

from perf.harness import stock
from perf.harness.gate.verdict import EXIT_INCONCLUSIVE, tally
from perf.harness.progress import Progress
from perf.harness.record import RecordError
from perf.harness.record.judgement import Verdict
from perf.harness.record.store import keep
from perf.harness.suite import Suite

STAMP = "%Y%m%d_%H%M%S"

SUITE = pytest.StashKey[Suite]()
PROGRESS = pytest.StashKey[Progress]()


def kept_in(config: pytest.Config) -> tuple[Path, str]:
    """The folder of this run's file, and what tells its name from those of other runs."""
    folder = stock.storage_folder(config) or config.rootpath / ".benchmarks" / config.stash[SUITE].fingerprint_id
    return folder, f"{datetime.datetime.now().strftime(STAMP)}_{os.getpid()}"


def keep_record(config: pytest.Config, path: Path, wanted: Path | None) -> None:
    """Write the run's record to `path`, and where the user wants it. Raises pytest.UsageError where it cannot."""
    document = stock.document(config)
    try:
        for target in filter(None, (path, wanted)):
            keep(target, document)
    except RecordError as error:
        raise pytest.UsageError(str(error)) from None


def end_undecided(session: pytest.Session) -> int:
    """Where nothing failed, make the exit code that of INCONCLUSIVE benchmarks; how many there are, else 0."""
    suite = session.config.stash[SUITE]
    undecided = tally(suite.judgements)[Verdict.INCONCLUSIVE]
    if session.exitstatus != pytest.ExitCode.OK or suite.settings.gate != "fail" or not undecided:
        return 0
    session.exitstatus = EXIT_INCONCLUSIVE
    return undecided
