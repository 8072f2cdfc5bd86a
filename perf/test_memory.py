"""What does a training step take of the device's memory: weights, gradients, the optimizer's state, and activations?"""

from dataclasses import asdict

from data import Batch
from perf.harness.measurement.bench import Bench
from perf.harness.measurement.step_memory import account, fresh_step


def test_memory(bench: Bench) -> None:
    """What each part is, `account` says. The rounds are steps, as a benchmark needs some."""
    work = bench.workload
    batch = work.batches(1)[0]
    measure(bench, batch)  # first: what torch and its libraries keep from then on is none of the network's
    bench.keep(**asdict(account(work, batch)))


def measure(bench: Bench, batch: Batch) -> None:
    """The time of the step; it holds no network afterwards."""
    step = bench.measurement.cold_start(lambda: fresh_step(bench.workload), first=lambda fresh: fresh(*batch))
    bench.measurement.run(lambda: step(*batch))
    bench.record_rate(bench.workload.batch_size)
