"""In: the recorded run. Out: its summary in the file of `--perf-summary` and, under GitHub, on the page of the job."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perf.harness.plugin.state import PROGRESS, STATE
from perf.harness.record import RecordError, Run
from perf.harness.record.write import write_text
from perf.harness.report import summary_page, workflow_commands

# GitHub's variables (docs: "Store information in variables", "Workflow commands").
ON_GITHUB, JOB_SUMMARY = "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"


def publish(config: pytest.Config, run: Run) -> None:
    """Write the summary of `run`, and print an annotation for each benchmark that fails or is undecided."""
    progress, target = config.stash[PROGRESS], config.stash[STATE].settings.summary
    if target is not None:
        try:
            write_text(target, summary_page(run))
        except RecordError as error:  # the disk is full, say: the verdict is printed all the same
            progress.line(f"--perf-summary: {error}")
        else:
            progress.line(f"Summary in {target}")
    if page := os.environ.get(JOB_SUMMARY):
        try:
            with Path(page).open("a", encoding="utf-8") as file:  # the steps of a job share this file
                file.write(summary_page(run))
        except OSError as error:
            progress.line(f"{JOB_SUMMARY}: {error.strerror}: the page of the job has no summary")
    if os.environ.get(ON_GITHUB) == "true":
        for line in workflow_commands(run.judgements):
            progress.line(line)
