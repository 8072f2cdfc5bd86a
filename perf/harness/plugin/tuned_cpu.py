"""Runs the CPU as PyTorch's tuning guide says, in the processes that measure, and measures first what that is worth."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch

from perf.harness.machine import affinity
from perf.harness.machine.tuning import tuning
from perf.harness.options import Settings, SettingsError
from perf.harness.plugin.step_times import StepTimes, step_times

FLAG = "--perf-tuned-cpu"
# So many processes without and with the tuning, in turns: the range of their ratios shows how sure it is.
PAIRS = 3


def tuned(config: pytest.Config, settings: Settings) -> tuple[Settings, dict[str, Any]]:
    """The settings of a tuned run, and what its record says of the tuning.

    Until the end of pytest, this process and those that it starts are bound to the cores and have the environment of
    the tuning. Raises SettingsError for options that exclude it.
    """
    _check(settings)
    chosen = tuning(affinity.cores())
    usual = torch.get_num_threads()
    print(f"{FLAG}: {2 * PAIRS} processes try what it is worth …", file=sys.stderr, flush=True)
    plain, better = [], []
    for _ in range(PAIRS):  # in turns: what becomes slower meanwhile, becomes so for both
        plain.append(step_times(settings, FLAG, usual))
        undo = _enter(chosen.cores, chosen.variables)
        try:
            better.append(step_times(settings, FLAG, chosen.threads))
        finally:
            undo()
    if chosen.preload and better[0].loaded is None:
        raise SettingsError(f"{FLAG}: {chosen.preload} is installed, but it does not load; remove it, or mend it")
    config.add_cleanup(_enter(chosen.cores, chosen.variables))
    gains = zip(*(_gains(*pair) for pair in zip(plain, better, strict=True)), strict=True)
    record = {
        "how": str(chosen),
        "usual_threads": usual,
        "gains": {name: sorted(found) for name, found in zip(plain[0].steps, gains, strict=True)},
    }
    return settings.with_threads(chosen.threads, FLAG), record


def _check(settings: Settings) -> None:
    """Refuse what excludes a tuned CPU. Raises SettingsError."""
    typed = settings.origins.get("threads", "default")
    if typed != "default":
        raise SettingsError(f"{FLAG} and {typed} exclude each other: the tuning chooses the number of threads")
    if settings.paired or settings.qualifies:
        other = "--perf-against" if settings.paired else "--perf-profile=qualify"
        raise SettingsError(f"{FLAG} and {other} exclude each other: only a measuring run tunes the CPU")
    if settings.passes == 1:
        raise SettingsError(f"{FLAG} and --perf-passes=1 exclude each other: it needs new processes")


def _gains(plain: StepTimes, better: StepTimes) -> list[float]:
    """How many times as fast each training step is with the tuning."""
    (before,), (after,) = plain.times.values(), better.times.values()
    return [one / other for one, other in zip(before, after, strict=True)]


def _enter(cores: Sequence[int], variables: Mapping[str, str]) -> partial[None]:
    """Bind this process to `cores`, and set the `variables`; returns a function that undoes both."""
    before = {name: os.environ.get(name) for name in variables}
    bound = affinity.cores()
    os.environ.update(variables)
    affinity.move_to(cores)
    return partial(_leave, bound, before)


def _leave(cores: Sequence[int], variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    affinity.move_to(cores)
