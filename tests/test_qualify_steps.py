"""Which input pipelines the loader is tried with; the rest of it is in the tests of a qualification."""

import pytest

from perf.harness.machine import affinity
from perf.harness.measurement.checks import steps


@pytest.mark.parametrize(
    ("cores", "workers"), [(1, ["1 worker"]), (3, ["1 worker", "2 workers", "3 workers"]), (16, None), (256, None)]
)
def test_a_loader_has_no_worker_or_up_to_one_for_each_core(monkeypatch, cores, workers):
    monkeypatch.setattr(affinity, "usable_cores", lambda: cores)
    first, *between = map(str, steps.loaders())
    assert first == "dataloader"
    assert between == (workers or ["1 worker", "2 workers", "4 workers", "8 workers", "16 workers"])
