"""Which is the largest batch that a device can train on, and from which batch size on is training no faster?"""

from perf.harness.machine import memory
from perf.harness.measurement.bench import Bench
from perf.harness.measurement.capacity import largest, sufficient
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.measurement.step_memory import Tries


def test_largest_batch(bench: Bench) -> None:
    """The search starts at the first batch size. The timed rounds are steps at the sufficient batch size."""
    work = bench.workload
    tries = Tries(work, bench.measurement.timer, bench.memory_limit)
    bench.measurement.cold_start(lambda: tries.training(work.batch_size), first=lambda step: step())
    most_bytes = memory.searchable_bytes(work.device, bench.memory_limit)
    with memory.bounded_memory(work.device, most_bytes):
        found = largest(tries.fits, work.batch_size, tries.most)
    if not found.size:
        smallest = min(tries.problems)
        raise MeasurementError(f"not even a batch of {smallest} fits: {tries.problems[smallest]}")
    rates = tries.doublings(work.batch_size, found.size)
    size = sufficient(rates)

    bench.measurement.run(tries.training(size))
    bench.record_rate(size)
    bench.keep(
        batch_size=size,
        pipeline=None,
        largest_batch=found.size,
        sufficient_batch=size,
        limited_by=tries.problems.get(found.refused, "") if found.refused else "",
        memory_limit_bytes=memory.limit_bytes(work.device, most_bytes),
        rates={str(tried): rate for tried, rate in rates.items()},
    )
