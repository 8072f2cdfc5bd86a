"""The one place that knows the three ways to run: which of them did the options choose?"""

from __future__ import annotations

import pytest

from perf.harness.plugin.gate import SideBySide
from perf.harness.plugin.measure import Measure
from perf.harness.plugin.qualify import Qualify
from perf.harness.plugin.state import STATE
from perf.harness.plugin.way import Way


def chosen(config: pytest.Config) -> Way:
    """Raises pytest.UsageError where the options do not fit together."""
    settings = config.stash[STATE].settings
    if settings.qualifies:
        return Qualify(config)
    return SideBySide(config) if settings.paired else Measure(config)
