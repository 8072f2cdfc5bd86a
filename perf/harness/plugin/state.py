"""What the plugin keeps in pytest's stash: the run, and where its progress is shown."""

import pytest

from perf.harness.progress import Progress
from perf.harness.suite import Suite

SUITE = pytest.StashKey[Suite]()
PROGRESS = pytest.StashKey[Progress]()
