"""In: devices. Out: samples of each device and of the host, taken once a second by a thread that otherwise waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from perf.harness.machine.devices import Device
from perf.harness.machine.load import Clock
from perf.harness.machine.telemetry.host import Host
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.source import Sample, Source, Unreadable
from perf.harness.machine.telemetry.summary import condense
from perf.harness.record import Scalar

# The host is sampled in every run, under this name, because it starts the work of every device.
HOST = "cpu"

INTERVAL_S = 1.0
# Sampling a source may take this share of one core. The clocks of 200 cores take 20 ms, so we read them every 2 s.
MOST_SHARE = 0.01
# Almost 3 hours of one source, about 20 MB. A longer run drops every second sample of its older half.
MOST_SAMPLES = 10_000
# A driver that hangs must not keep pytest from ending. For the same reason, the thread is a daemon.
JOIN_S = 5.0


class Sampler:
    """Samples each source from `start` to `stop`. After an error, a source is not asked again; `reasons` has the error.

    `clock` is the clock of the timed rounds; `cost` is the CPU time of the calling thread [s]; `wait(seconds)` waits
    and returns whether `stop` was called.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        reasons: Mapping[str, str] | None = None,
        *,
        interval_s: float = INTERVAL_S,
        clock: Clock = time.perf_counter,
        cost: Clock = time.thread_time,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.reasons = dict(reasons or {})
        self._sources = dict(sources)
        self._samples: dict[str, list[Sample]] = {name: [] for name in sources}
        self._due = dict.fromkeys(sources, float("-inf"))
        self._interval_s, self._clock, self._cost = interval_s, clock, cost
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._wait = wait or self._stopped.wait
        self._thread: threading.Thread | None = None

    @property
    def names(self) -> list[str]:
        """The names of the sources, and of the devices without a source."""
        return list(dict.fromkeys([*self._samples, *self.reasons]))

    def start(self) -> None:
        """Ask each source once, then continue in a thread."""
        self.ask()
        self._thread = threading.Thread(target=self._run, name="stepwatch-telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and ask each source once more, unless the thread hangs. Does nothing if no thread runs."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopped.set()
        thread.join(JOIN_S)
        if not thread.is_alive():
            self._due = dict.fromkeys(self._due, float("-inf"))
            self.ask()

    def samples(self, name: str) -> list[Sample]:
        """All samples of one source, in the order of time; none of an unknown source."""
        with self._lock:
            return list(self._samples.get(name, ()))

    def between(self, name: str, start: float, end: float) -> list[Sample]:
        """The samples of one source from `start` to `end` [s of the clock]."""
        return [sample for sample in self.samples(name) if start <= sample.at <= end]

    def ask(self) -> None:
        """Ask each source that is due."""
        for name in list(self._sources):
            if self._clock() >= self._due[name]:
                self._ask(name)

    def _run(self) -> None:
        while not self._wait(self._interval_s):
            self.ask()

    def _ask(self, name: str) -> None:
        at, before = self._clock(), self._cost()
        try:
            values = self._sources[name].sample()
        except Exception as error:  # an error of a driver must not end the run or the other sources
            known = isinstance(error, Unreadable)
            self.reasons[name] = str(error) if known else f"{type(error).__name__}: {error}".rstrip(": ")
            del self._sources[name]
            return
        # A little less than the interval: the thread may wake up a little early.
        self._due[name] = at + max(0.9 * self._interval_s, (self._cost() - before) / MOST_SHARE)
        with self._lock:
            samples = self._samples[name]
            samples.append(Sample(at, values))
            if len(samples) > MOST_SAMPLES:
                del samples[1 : MOST_SAMPLES // 2 : 2]


def sampler_of(
    devices: Iterable[Device], interval_s: float = INTERVAL_S, plant: Callable[[Source], Source] = lambda source: source
) -> Sampler:
    """A sampler of the host and of `devices`, not started yet. `plant` can put a fault into the answers of a source."""
    sources: dict[str, Source] = {}
    reasons: dict[str, str] = {}
    for device in ({HOST: Device(HOST)} | {device.name: device for device in devices}).values():
        if device.absent:
            reasons[device.name] = device.absent
            continue
        try:
            sources[device.name] = plant(open_gpu(device) if device.asynchronous else Host())
        except Unreadable as error:
            reasons[device.name] = str(error)
    return Sampler(sources, reasons, interval_s=interval_s)


def as_record(sampler: Sampler) -> dict[str, dict[str, Scalar]]:
    """`perf.telemetry`: the summary of each device; `unsupported` says why there is none, or why it ended early."""
    return {
        name: condense(sampler.samples(name))
        | ({"unsupported": sampler.reasons[name]} if name in sampler.reasons else {})
        for name in sampler.names
    }
