"""Does the instrument add anything to what it measures? The training step, against a loop that anyone would write.

    python -m pytest perf/proof/bare_loop.py -s

In one process, the two take turns every few steps, so that whatever else the machine does meets both.
"""

import itertools
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.nn import functional

import data
from model import load_recipe
from perf.harness import stats
from perf.harness.devices import Device
from perf.harness.measure import device_timer
from perf.harness.workload import Batch, Trainee, Workload, rotate

VISIT = 16  # steps in a row before the other's turn
STEPS = {64: 6400, 4096: 640}  # a few seconds each
WARM_UP = 200


def bare_loop(trainee: Trainee, batches: Iterator[Batch], steps: int, times: list[float]) -> None:
    """Train for some steps and note how long each took: PyTorch and a clock, nothing of ours."""
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
@pytest.mark.parametrize("batch_size", STEPS)
def test_the_step_is_as_fast_as_in_a_bare_loop(benchmark: Any, batch_size: int) -> None:
    root = Path(data.__file__).parent
    work = Workload(load_recipe("simple_nn"), data.load("auto", root), Device("cpu"), batch_size, None, seed=0)
    bare, ours, batches = work.trainee(), work.trainee(), work.batches()
    turn, step = itertools.cycle(batches), rotate(ours.step, batches)
    bare_loop(bare, turn, WARM_UP, [])
    for _ in range(WARM_UP):
        step()

    times: list[float] = []
    rounds = itertools.count()

    def let_the_other_have_its_turn() -> None:
        if next(rounds) % VISIT == 0:
            bare_loop(bare, turn, VISIT + random.randint(-4, 4), times)

    benchmark.pedantic(step, setup=let_the_other_have_its_turn, rounds=STEPS[batch_size], iterations=1)
    measured = benchmark.stats.stats.data
    ratio = stats.ratio(measured, times)
    print(
        f"\nbatch {batch_size}: instrument {statistics.median(measured) * 1e3:.4f} ms, bare loop "
        f"{statistics.median(times) * 1e3:.4f} ms, ratio {ratio.point:.4f} [{ratio.low:.4f}, {ratio.high:.4f}], "
        f"{len(measured)} and {len(times)} steps"
    )
    assert abs(ratio.point - 1) <= 0.02
