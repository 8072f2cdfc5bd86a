"""Does the instrument slow down what it measures? Compares the training step with a loop that anyone would write.

    python -m pytest perf/proof/bare_loop.py -s

Both run in one process and take turns every few steps, so that other load on the machine affects both.
"""

import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import data
from data import Batch
from model import load_recipe
from perf.harness.machine.devices import Device
from perf.harness.measurement.rounds import device_timer
from perf.harness.workload.benchmarks import BY_NAME
from perf.harness.workload.workload import Trainee, Workload

VISIT = 9  # steps in a row; the first is left out, because its caches hold the data of the other loop
VISITS = {64: 800, 4096: 80}  # a few seconds each
WARM_UP = 200


def bare_loop(trainee: Trainee, batches: Iterator[Batch], steps: int, times: list[float]) -> None:
    """Train for some steps and note how long each took, with PyTorch and a clock only."""
    model, optimizer = trainee.model, trainee.step.optimizer
    for _ in range(steps):
        images, labels = next(batches)
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(time.perf_counter() - start)


@pytest.mark.benchmark(timer=device_timer(lambda: None), disable_gc=True)
@pytest.mark.parametrize("batch_size", VISITS)
def test_the_step_is_as_fast_as_in_a_bare_loop(benchmark: Any, batch_size: int) -> None:
    torch.set_num_threads(1)  # two threads on shared cores wait for each other at random: ±30% of noise
    root = Path(data.__file__).parent
    work = Workload(load_recipe("simple_nn"), data.load("auto", root), Device("cpu"), batch_size, None, seed=0)
    bare, ours, batches = work.trainee(), work.trainee(), work.batches()
    turn, step = itertools.cycle(batches), BY_NAME["training_step"].on(ours, batches)
    bare_loop(bare, turn, WARM_UP, [])
    for _ in range(WARM_UP):
        step()

    theirs: list[float] = []
    rounds = itertools.count()

    def let_the_other_have_its_turn() -> None:
        if next(rounds) % VISIT == 0:
            bare_loop(bare, turn, VISIT, theirs)

    benchmark.pedantic(step, setup=let_the_other_have_its_turn, rounds=VISIT * VISITS[batch_size], iterations=1)
    measured, bare_times = by_visit(benchmark.stats.stats.data), by_visit(theirs)
    # Visit by visit, because a busy machine's speed changes within seconds.
    ratios = [ours / bare for ours, bare in zip(measured, bare_times, strict=True)]
    ratio, error = statistics.median(ratios), statistics.stdev(ratios) / len(ratios) ** 0.5
    print(
        f"\nbatch {batch_size}: instrument {statistics.median(measured) * 1e3:.4f} ms, bare loop "
        f"{statistics.median(bare_times) * 1e3:.4f} ms, ratio {ratio:.4f} (standard error {error:.4f}), "
        f"{len(ratios)} visits of {VISIT - 1} steps each"
    )
    assert abs(ratio - 1) <= 0.02


def by_visit(times: list[float]) -> list[float]:
    """The median time of the steps of each visit, without its first step."""
    return [statistics.median(times[start + 1 : start + VISIT]) for start in range(0, len(times), VISIT)]
