"""A device that queues work, on a clock of its own, and rounds on it."""

from perf.harness.machine.load import Company
from perf.harness.measurement.calls import device_timer
from perf.harness.measurement.effort import Effort
from perf.harness.measurement.rounds import Measurement

STANDARD = Effort(case_s=0.5, min_rounds=5, long_s=30.0)


class AsyncDevice:
    """A device that queues work: a call returns after `enqueue_s` of the host's time; `synchronize` waits for all."""

    def __init__(self, enqueue_s=1e-6, now=0.0):
        self.now = now  # the host's clock
        self.free_at = 0.0  # when the device has done what is queued
        self.enqueue_s = enqueue_s
        self.longest_queue_s = 0.0

    def clock(self):
        return self.now

    def launch(self, work_s):
        self.now += self.enqueue_s
        self.free_at = max(self.free_at, self.now) + work_s
        self.longest_queue_s = max(self.longest_queue_s, self.free_at - self.now)

    def synchronize(self):
        self.now = max(self.now, self.free_at)


def pedantic(timer, samples):
    """As pytest-benchmark's `pedantic` runs: set-up outside the clock, timer, calls, timer, tear-down."""

    def run(target, *, setup, teardown, rounds, warmup_rounds, iterations):
        assert warmup_rounds == 0
        for _ in range(rounds):
            if setup:
                setup()
            start = timer()
            for _ in range(iterations):
                target()
            samples.append((timer() - start) / iterations)
            if teardown:
                teardown()
        if iterations > 1:  # for the result, as it says there
            target()
            if teardown:
                teardown()

    return run


def measurement(
    device, effort=None, *, asynchronous=True, enabled=True, on_round=None, foreign_cpu_s=lambda: None,
    energy_j=lambda: None,
):  # fmt: skip
    samples, found = [], {}
    made = Measurement(
        pedantic(device_timer(device.synchronize, device.clock), samples),
        device.synchronize,
        effort or STANDARD,
        asynchronous=asynchronous,
        enabled=enabled,
        keep=found.update,
        on_round=on_round,
        company=Company(device.clock, foreign_cpu_s, lambda: None),
        energy_j=energy_j,
        clock=device.clock,
    )
    made.found = found
    return made, samples
