"""Does training reach the accuracy that it should, in as many steps as it should?"""

import statistics

import pytest

from perf.harness.measurement.checks import learning
from perf.harness.measurement.checks.attempt import Attempt

SEEDS, AGAIN = range(5), range(5, 15)
BATCH_SIZE = 64


@pytest.mark.check(seconds=10)
def test_convergence(check: Attempt) -> None:
    """The median steps to 80% of the test set, over 5 seeds, in the fixed recipe of the reference program [steps].

    Held against the steps of 20 other seeds, by a one-sided test (p < 0.05) and an effect of 10%; 10 more seeds must
    confirm it. Arithmetic that is a little wrong trains, but not as well.
    """
    work = check.plan.workload(check.device.name, BATCH_SIZE, "resident")
    usual = learning.usual(work.recipe.name, work.data.name)
    if usual is None:
        check.unsupported(f"nobody has measured how fast {work.recipe.name} learns {work.data.name}")
        return
    slower = check.fault == "slow"
    steps = learning.steps_to_target(work, SEEDS, slower)
    found, p = learning.slower_than_usual(steps, usual.steps)
    if found:
        steps = learning.steps_to_target(work, AGAIN, slower)
        found, p = learning.slower_than_usual(steps, usual.steps)
    bar = learning.EFFECT * statistics.median(usual.steps)
    median = statistics.median(steps)
    reason = f"{len(steps)} seeds; p = {p:.2g} that they are no slower than usual"
    if median > bar and not found:
        check.unclear(f"slower than usual, but by less than seeds vary: {reason}", median, "steps")
    else:
        check.at_most(median, "steps", bar, f"{learning.EFFECT:.0%} of {usual.source}", reason)
