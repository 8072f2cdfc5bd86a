"""Does the telemetry disturb what it watches? Compares the training step with and without the sampler.

    python -m pytest perf/proof/telemetry.py -s

In one process, blocks of steps with and without the sampler take turns, so that other load on the machine affects both.
The means of the blocks are compared, because a mean includes the steps that were held up, and a median does not. The
sampler asks up to ten times as often as in a run, so that its effect can be seen. In a run, the effect is smaller by
the same factor.
"""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import data
from model import load_recipe
from perf.harness.machine.devices import Device, expand, synchronizer
from perf.harness.machine.telemetry.sampler import INTERVAL_S, sampler_of
from perf.harness.measurement.calls import device_timer
from perf.harness.workload.benchmarks import BY_NAME
from perf.harness.workload.workload import Workload

BLOCK_S = 1.0
PAIRS = 30  # a minute in all
OFTENER = 10
BATCH_SIZE = 64
WARM_UP = 200
LIMIT = 0.005
SAMPLES = 50


def steps_for(step: Callable[[], object], timer: Callable[[], float], seconds: float) -> float:
    """Make steps for `seconds`, and return the mean time of one [s]."""
    start, count = timer(), 0
    while timer() - start < seconds:
        for _ in range(10):
            step()
        count += 10
    return (timer() - start) / count


def test_the_step_is_as_fast_beside_the_sampler() -> None:
    torch.set_num_threads(1)  # two threads on shared cores wait for each other at random: ±30% of noise
    device = next((found for found in expand(["cuda"]) if not found.absent), Device("cpu"))
    work = Workload(
        load_recipe("simple_nn"), data.load("auto", Path(data.__file__).parent), device, BATCH_SIZE, None, 0
    )
    step, timer = BY_NAME["training_step"].on(work.trainee(), work.batches()), device_timer(synchronizer(device))
    for _ in range(WARM_UP):
        step()

    taken = []

    def beside() -> float:
        sampler = sampler_of([device], interval_s=INTERVAL_S / OFTENER)
        sampler.start()
        try:
            return steps_for(step, timer, BLOCK_S)
        finally:
            sampler.stop()
            taken.append(len(sampler.samples(device.name)) - 2)  # the first and the last sample are outside the block

    def alone() -> float:
        return steps_for(step, timer, BLOCK_S)

    order = random.Random(0)  # random, so that neither always has the warmer caches
    pairs = [{block: block() for block in order.sample([beside, alone], 2)} for _ in range(PAIRS)]
    oftener = statistics.mean(taken) / BLOCK_S * INTERVAL_S
    ratios = [pair[beside] / pair[alone] for pair in pairs]
    effect, error = statistics.median(ratios) - 1, statistics.stdev(ratios) / PAIRS**0.5
    with_s, without_s = (statistics.median(pair[block] for pair in pairs) for block in (beside, alone))
    print(
        f"\n{device.name}, batch {BATCH_SIZE}: {with_s * 1e3:.4f} ms beside a sampler that asks {oftener:.1f} times as "
        f"often, {without_s * 1e3:.4f} ms alone, ratio {1 + effect:.4f} (standard error {error:.4f}); at one sample a "
        f"second {effect / oftener:+.3%} (standard error {error / oftener:.3%}), {PAIRS} pairs of blocks of {BLOCK_S} s"
    )
    assert effect / oftener <= LIMIT + 2 * error / oftener


def test_a_sample_takes_next_to_nothing() -> None:
    """A sample costs at most the CPU time of its thread, in which other threads may wait. Nothing else runs here."""
    device = next((found for found in expand(["cuda"]) if not found.absent), Device("cpu"))
    costs = []
    for _ in range(SAMPLES):
        sampler = sampler_of([device])
        before = time.thread_time()
        sampler.ask()
        costs.append(time.thread_time() - before)
    cost_s = statistics.median(costs)
    share = cost_s / INTERVAL_S
    print(f"\n{' and '.join(sampler.names)}: {cost_s * 1e3:.3f} ms of CPU time for a sample, {share:.3%} of one core")
    assert share <= LIMIT
