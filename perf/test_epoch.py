"""How long does one epoch take, with its input pipeline, and where does the time go?"""

from perf.harness.measurement.bench import Bench
from perf.harness.workload.modes.execution import epoch


def test_epoch(bench: Bench) -> None:
    work = bench.workload
    samples = len(work.data.train)
    with work.open(work.data.train) as pipeline:
        trainee = bench.cold_trainee(first=lambda fresh: fresh.step(*next(iter(pipeline.epoch(0)))))
        bench.check_length(trainee, pipeline.batches)
        bench.check_parity()
        bench.check_epoch(trainee, pipeline)
        batches = work.batches(work.loss_batches)
        loss_first = trainee.mean_loss(batches)

        bench.measurement.from_start(
            lambda: epoch(trainee.step, pipeline, 0),
            restore=trainee.restore,
            warm_call=lambda: bench.warm_epoch(trainee, pipeline),
        )
        bench.record_rate(samples)
        bench.record_losses(trainee, batches, loss_first, trainee.mean_loss(batches), pipeline.batches)
    bench.record_flop(trainee.plain)
