"""How fast does an input pipeline deliver batches to the device, if nothing is computed on them?"""

from data import WORKERS
from perf.harness.measurement.bench import Bench
from perf.harness.workload.benchmarks import endless

# A round has at most so many samples: those of the fastest pipeline take milliseconds, which a clock measures well.
ROUND_SAMPLES = 8192


def test_input_pipeline(bench: Bench) -> None:
    work = bench.workload
    with work.full_batches() as pipeline:
        stream = bench.measurement.cold_start(lambda: endless(pipeline.epoch), first=next)
        turn = WORKERS if work.pipeline == "workers" else 1
        bench.measurement.stream(lambda: next(stream), ROUND_SAMPLES // work.batch_size, turn)
        bench.record_rate(work.batch_size)
