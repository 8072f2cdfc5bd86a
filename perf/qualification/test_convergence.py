"""Does training reach its accuracy in the usual number of steps?"""

import statistics

import pytest

from perf.harness.measurement.checks import learning
from perf.harness.measurement.checks.attempt import Attempt

SEEDS, AGAIN = range(5), range(5, 15)
BATCH_SIZE = 64


@pytest.mark.check(seconds=3)
def test_convergence(check: Attempt) -> None:
    """The median number of training steps to 80% accuracy on the test set, over 5 seeds [steps].

    The median may be at most 10% above that of 20 other seeds. It is a FAIL only if a one-sided test agrees (p < 0.05)
    and 10 more seeds confirm it. A device whose arithmetic is slightly wrong still trains, but needs more steps.
    """
    work = check.plan.workload(check.device.name, BATCH_SIZE, "resident")
    usual = learning.usual(work.recipe.name, work.data.name)
    if usual is None:
        check.unsupported(f"there is no reference for how fast {work.recipe.name} learns {work.data.name}")
        return
    slower = check.fault == "slow"
    steps = learning.steps_to_target(work, SEEDS, slower)
    found, p = learning.slower_than_usual(steps, usual.steps)
    first = None
    if found:
        first = statistics.median(steps)
        steps = learning.steps_to_target(work, AGAIN, slower)
        found, p = learning.slower_than_usual(steps, usual.steps)
    bar = learning.EFFECT * statistics.median(usual.steps)
    median = statistics.median(steps)
    said = "more steps than usual" if found else "no sign of slow learning"
    more = f", after {len(SEEDS)} others with more steps than usual" if first is not None else ""
    reason = f"p = {p:.2g} with {len(steps)} seeds{more}: {said}"
    if median > bar and not found:
        variation = f"more steps than usual, but within the variation between seeds: p = {p:.2g}"
        check.unclear(variation, median, "steps", again=first)
    else:
        check.at_most(median, "steps", bar, f"{learning.EFFECT:.0%} of {usual.source}", reason, again=first)
