"""How much memory do the parts of a training step take: weights, gradients, optimizer state and activations?"""

from dataclasses import asdict

from data import Batch
from perf.harness.measurement.bench import Bench
from perf.harness.measurement.step_memory import account, fresh_step


def test_memory(bench: Bench) -> None:
    """`account` defines the parts. The timed rounds are training steps, because a benchmark needs rounds."""
    work = bench.workload
    batch = work.batches(1)[0]
    measure(bench, batch)  # first: memory that torch and its libraries keep from now on does not count
    bench.keep(**asdict(account(work, batch)))


def measure(bench: Bench, batch: Batch) -> None:
    """Time the training step. No network is left in memory afterwards."""
    step = bench.measurement.cold_start(lambda: fresh_step(bench.workload), first=lambda fresh: fresh(*batch))
    bench.measurement.run(lambda: step(*batch))
    bench.record_rate(bench.workload.batch_size)
