"""Does the instrument slow down what it measures? Compares the training step with a loop that anyone would write.

    python -m pytest perf/proof/bare_loop.py -s      # both in one process: they take turns every few steps
    python perf/proof/bare_loop.py --passes 7        # each in processes of its own, in turns

Other load on the machine affects both. In one process the ratio is known to a tenth of a percent. Processes differ by
more, but a process of its own is what a user's program has.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import data  # noqa: E402
from data import Batch  # noqa: E402
from model import load_recipe  # noqa: E402
from perf.harness.machine.devices import Device  # noqa: E402
from perf.harness.measurement.calls import device_timer  # noqa: E402
from perf.harness.workload.benchmarks import BY_NAME  # noqa: E402
from perf.harness.workload.workload import Trainee, Workload  # noqa: E402

VISIT = 9  # steps in a row; the first is left out, because its caches hold the data of the other loop
VISITS = {64: 800, 4096: 80}  # a few seconds each
WARM_UP = 200


def workload(batch_size: int) -> Workload:
    found = data.load("auto", Path(data.__file__).parent)
    return Workload(load_recipe("simple_nn"), found, Device("cpu"), batch_size, None, seed=0)


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
    work = workload(batch_size)
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


def bare_program(batch_size: int, seconds: float) -> None:
    """What a user would write: train with one thread, first to warm up, and print the median time of a step [s]."""
    torch.set_num_threads(1)
    work = workload(batch_size)
    trainee, turn, times = work.trainee(), itertools.cycle(work.batches()), list[float]()
    for part in (seconds / 2, seconds):
        times, begin = [], time.perf_counter()
        while time.perf_counter() - begin < part:
            bare_loop(trainee, turn, 100, times)
    print(statistics.median(times))


def instrument(batch_size: int) -> float:
    """The median time of a step in a run of one pass [s]."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "run.json")
        command = [sys.executable, "-m", "pytest", "perf/test_training_step.py", "-q", f"--benchmark-json={kept}"]
        command += ["--perf-device=cpu", "--perf-passes=1", "--perf-threads=1", f"--perf-batch-size={batch_size}"]
        command += [f"--benchmark-storage={folder}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return float(json.loads(kept.read_text())["benchmarks"][0]["stats"]["median"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare the instrument with bare programs, in processes of their own."
    )
    parser.add_argument("--passes", type=int, default=7, help="processes of each kind (default: 7)")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)  # what this script starts
    asked = parser.parse_args()
    if asked.bare:
        bare_program(asked.bare, seconds=4.0)
        return 0
    worst = 0.0
    for batch_size in VISITS:
        ours, theirs = [], []
        for _ in range(asked.passes):
            ours.append(instrument(batch_size))
            command = [sys.executable, os.fspath(Path(__file__)), "--bare", str(batch_size)]
            theirs.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        ratio = statistics.median(ours) / statistics.median(theirs)
        spread = " ".join(f"{time / statistics.median(theirs):.3f}" for time in sorted(theirs))
        print(
            f"batch {batch_size}: instrument {statistics.median(ours) * 1e3:.4f} ms, bare program "
            f"{statistics.median(theirs) * 1e3:.4f} ms, ratio {ratio:.4f}; bare programs differ: {spread}"
        )
        worst = max(worst, abs(ratio - 1))
    return int(worst > 0.02)


if __name__ == "__main__":
    sys.exit(main())
