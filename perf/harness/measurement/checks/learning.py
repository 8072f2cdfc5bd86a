"""In: a workload. Out: how many steps training needs to reach an accuracy, seed by seed; and whether that is usual."""

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

# Made by perf/proof/convergence.py; the reference program's network, on the CPU.
REFERENCE = Path(__file__).with_name("learning.json")
TARGET = 0.80
EVERY, MOST_STEPS = 10, 2_000
# p of the one-sided test, and how many times more steps than usual matter.
LEVEL, EFFECT = 0.05, 1.1


@dataclass(frozen=True)
class Usual:
    """The steps that healthy machines need, seed by seed."""

    steps: tuple[int, ...]
    source: str


@cache
def usual(model: str, data: str) -> Usual | None:
    """What is known of a network on a data set, or None."""
    found = json.loads(REFERENCE.read_text(encoding="utf-8")).get(f"{model} on {data}")
    return None if found is None else Usual(tuple(found["steps"]), found["source"])


def steps_to_target(work: Workload, seeds: Sequence[int], slower: bool = False) -> list[int]:
    """Steps until TARGET of the test set is right, looked at every EVERY; more than MOST_STEPS where it is not.

    The seed decides the weights and the order of the samples. `slower` halves the learning rate.
    """
    return [_steps(replace(work, seed=seed), slower) for seed in seeds]


def _steps(work: Workload, slower: bool) -> int:
    trainee = work.trainee()
    if slower:
        for group in trainee.step.optimizer.param_groups:
            group["lr"] /= 2
    trainee.model.train()
    with work.open(work.data.test, "resident") as test, work.full_batches() as train:
        for number, batch in enumerate(itertools.islice(endless(train.epoch), MOST_STEPS), start=1):
            trainee.step(*batch)
            if number % EVERY == 0 and evaluate(trainee.model, test.epoch(0)) >= TARGET:
                return number
    return MOST_STEPS + EVERY


def slower_than_usual(steps: Sequence[int], reference: Sequence[int]) -> tuple[bool, float]:
    """Whether `steps` are more than usual, by a one-sided Mann-Whitney test (1947) and by EFFECT; and its p."""
    from scipy.stats import mannwhitneyu  # type: ignore[import-untyped, unused-ignore]

    p = float(mannwhitneyu(steps, reference, alternative="greater").pvalue)
    return p < LEVEL and statistics.median(steps) >= EFFECT * statistics.median(reference), p
