"""Finds the way to run that the options choose. This is the only module that knows all ways."""

from __future__ import annotations

import os

import pytest

from perf.harness.options import Settings
from perf.harness.plugin.gate import SideBySide
from perf.harness.plugin.measure import Measure
from perf.harness.plugin.passes import InPasses
from perf.harness.plugin.qualify import Qualify
from perf.harness.plugin.serving import Requests, Serving
from perf.harness.plugin.state import STATE
from perf.harness.plugin.way import Way


def chosen(config: pytest.Config) -> Way:
    """The way to run that the options choose. Raises pytest.UsageError if they exclude each other."""
    settings = config.stash[STATE].settings
    if settings.qualifies:
        return Qualify(config)
    if settings.paired:
        return SideBySide(config)
    if (requests := config.pluginmanager.get_plugin(Requests.NAME)) is not None:
        return Serving(config, requests)
    passes, here = _passes(config, settings)
    return InPasses(config, passes) if passes > 1 else Measure(config, here)


def _passes(config: pytest.Config, settings: Settings) -> tuple[int, str]:
    """The number of passes: 1 if the cases must run in this process, and the option for which they must.

    Raises pytest.UsageError if more are asked.
    """
    option = config.option
    here = {
        "--benchmark-disable": option.benchmark_disable and not option.benchmark_enable,
        "--benchmark-skip": option.benchmark_skip,
        "--benchmark-cprofile": option.benchmark_cprofile,
        "--setup-only": option.setuponly,
        "--setup-plan": option.setupplan,
        "--pdb": option.usepdb,
        "--trace": option.trace,
        "Windows": os.name == "nt",
    }
    why = next((name for name, given in here.items() if given), "")
    if why and settings.passes and settings.passes > 1:
        raise pytest.UsageError(f"{why} needs --perf-passes=1, because several passes run in other processes")
    return (1, why) if why else (settings.passes or settings.profile.passes, "")
