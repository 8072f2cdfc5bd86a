"""How long does a forward pass take in inference mode, with the mini-batch already on the device?"""

from perf.harness.measurement.bench import Bench
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.workload.workload import finite


def test_inference(bench: Bench) -> None:
    work = bench.workload
    bench.check_predicts()
    trainee = bench.cold_trainee(first=lambda fresh: fresh.infer(*work.batches(1)[0]))
    bench.check_logits()
    batches = work.batches()
    infer = bench.definition.on(trainee, batches)

    bench.measurement.run(infer)
    bench.record_rate(work.batch_size)

    if not finite(trainee.infer(*batches[0])):
        raise MeasurementError("the network's output is not finite")
    bench.measurement.enqueue(infer)
    bench.overhead(lambda minimal: bench.definition.on(trainee, minimal.batches()))
    bench.record_flop(trainee.logits)
