"""How long does one training step take, with the mini-batch already on the device?"""

from perf.harness.measurement.bench import Bench


def test_training_step(bench: Bench) -> None:
    work = bench.workload
    trainee = bench.cold_trainee(first=lambda fresh: fresh.step(*work.batches(1)[0]))
    bench.check_length(trainee)
    bench.check_parity()
    batches = work.batches()
    bench.keep_first_losses(trainee, batches)
    few = batches[: work.loss_batches]
    loss_first = trainee.mean_loss(few)
    step = bench.definition.on(trainee, batches)

    bench.measurement.run(step, bench.cycle(trainee))
    bench.record_rate(work.batch_size)

    bench.record_losses(trainee, few, loss_first, trainee.mean_loss(few), bench.measurement.calls)
    bench.enqueue(trainee, step)
    bench.measurement.one_thread(step)
    bench.overhead(lambda minimal: bench.definition.on(trainee, minimal.batches()))
    bench.record_flop(trainee.plain)
    bench.record_bytes(trainee.plain)
    bench.record_products()
