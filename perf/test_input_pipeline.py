"""How fast does an input pipeline deliver batches to the device, if nothing is computed on them?"""

from perf.harness.measurement.bench import Bench
from perf.harness.workload.benchmarks import endless

# Samples in a round: more batches than the workers hold ready, and a second's work of the slowest pipeline.
ROUND_SAMPLES = 8192


def test_input_pipeline(bench: Bench) -> None:
    work = bench.workload
    with work.full_batches() as pipeline:
        stream = bench.measurement.cold_start(lambda: endless(pipeline.epoch), first=next)
        bench.measurement.stream(lambda: next(stream), max(1, ROUND_SAMPLES // work.batch_size))
        bench.record_rate(work.batch_size)
