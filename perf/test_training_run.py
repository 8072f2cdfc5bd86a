"""The reference comparison: how long do 5 epochs take on each device, and what accuracy do they reach?"""

from torch import Tensor

from model import train_epoch
from perf.harness.measurement.bench import Bench
from perf.harness.measurement.learned import quality

EPOCHS = 5


def test_training_run(bench: Bench) -> None:
    work = bench.workload
    losses: list[Tensor] = []
    with work.open(work.data.train) as pipeline:
        trainee = bench.cold_trainee(first=lambda fresh: fresh.step(*next(iter(pipeline.epoch(0)))))
        bench.check_length(trainee, EPOCHS * pipeline.batches)

        def epoch(number: int) -> Tensor:
            return train_epoch(trainee.step, pipeline.epoch(number))

        def train() -> None:
            losses[:] = [epoch(number) for number in range(EPOCHS)]

        def warm_up() -> float:
            epoch(0)
            return 1 / EPOCHS

        bench.measurement.from_start(train, trainee.restore, warm_up)
        bench.record_rate(EPOCHS * len(work.data.train))

    by_epoch = [loss.item() for loss in losses]
    bench.keep(**quality(work, trainee))
    by_number = {str(number): loss for number, loss in enumerate(by_epoch, start=1)}
    bench.keep(epochs=EPOCHS, losses=by_number)
    few = work.batches(work.loss_batches)
    bench.record_losses(trainee, few, by_epoch[0], by_epoch[-1], EPOCHS * pipeline.batches)
    bench.record_flop(trainee.plain)
