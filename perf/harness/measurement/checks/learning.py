"""In: a workload. Out: how many steps it needs to reach an accuracy, seed by seed, and whether these are too many."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from model import evaluate
from perf.harness.workload.benchmarks import endless
from perf.harness.workload.workload import Workload

# perf/proof/convergence.py makes this file, with the network of the reference program on the CPU.
REFERENCE = Path(__file__).with_name("learning.json")
TARGET = 0.80
EVERY, MOST_STEPS = 10, 2_000
# A difference counts if the p of the one-sided test is below LEVEL and the ratio to the usual steps is at least EFFECT.
LEVEL, EFFECT = 0.05, 1.1


@dataclass(frozen=True)
class Usual:
    """The steps that healthy machines need, seed by seed."""

    steps: tuple[int, ...]
    source: str


@cache
def usual(model: str, data: str) -> Usual | None:
    """The usual steps of a network on a data set; None if nobody has measured them."""
    found = json.loads(REFERENCE.read_text(encoding="utf-8")).get(f"{model} on {data}")
    return None if found is None else Usual(tuple(found["steps"]), found["source"])


def steps_to_target(work: Workload, seeds: Sequence[int], slower: bool = False) -> list[int]:
    """The steps until the accuracy on the test set reaches TARGET, by seed; more than MOST_STEPS if it never does.

    The test set is evaluated every EVERY steps. The seed decides the weights and the order of the samples. `slower`
    halves the learning rate.
    """
    return [_steps(replace(work, seed=seed), slower) for seed in seeds]


def _steps(work: Workload, slower: bool) -> int:
    trainee = work.trainee()
    if slower:
        for group in (group for one in trainee.step.optimizers for group in one.param_groups):
            group["lr"] /= 2
    trainee.model.train()
    with work.open(work.data.test, "resident") as test, work.full_batches() as train:
        for number, batch in enumerate(itertools.islice(endless(train.epoch), MOST_STEPS), start=1):
            trainee.step(*batch)
            if number % EVERY == 0 and evaluate(trainee.model, test.epoch(0)) >= TARGET:
                return number
    return MOST_STEPS + EVERY


def slower_than_usual(steps: Sequence[int], reference: Sequence[int]) -> tuple[bool, float]:
    """Whether `steps` are too many, by a one-sided Mann-Whitney test (1947) and by EFFECT; and the p of the test."""
    from scipy.stats import mannwhitneyu  # type: ignore[import-untyped, unused-ignore]

    p = float(mannwhitneyu(steps, reference, alternative="greater").pvalue)
    return p < LEVEL and statistics.median(steps) >= EFFECT * statistics.median(reference), p
