"""In: sources. Out: what each of them said, once a second, from a thread of its own that waits in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from perf.harness.machine.telemetry.source import Sample, Source, Unsupported

INTERVAL_S = 1.0
# A source may take this share of one core: one that takes 20 ms, as the clocks of 200 cores do, is asked every 2 s.
MOST_SHARE = 0.01
# Almost 3 hours of one source, about 20 MB. A longer run keeps every second one of the older half, the first included.
MOST_SAMPLES = 10_000
# A driver that hangs does not keep pytest from ending: the thread is a daemon.
JOIN_S = 5.0

Clock = Callable[[], float]


class Sampler:
    """Asks each source from `start` to `stop`. One that raises is not asked again: `reasons` then says what it said.

    `clock` is that of the timed rounds; `cost` is the CPU time of the thread that calls it [s]; `wait(seconds)` returns
    whether it was told to stop.
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
        """What is, or was to be, sampled."""
        return list(dict.fromkeys([*self._samples, *self.reasons]))

    def start(self) -> None:
        """Ask each source once, then go on beside."""
        self.ask()
        self._thread = threading.Thread(target=self._run, name="stepwatch-telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask each source a last time, and end the thread. Does nothing where it has not been started, or has ended."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopped.set()
        thread.join(JOIN_S)
        if not thread.is_alive():
            self._due = dict.fromkeys(self._due, float("-inf"))
            self.ask()

    def samples(self, name: str) -> list[Sample]:
        """All of one source, in the order of time; none of an unknown one."""
        with self._lock:
            return list(self._samples.get(name, ()))

    def between(self, name: str, start: float, end: float) -> list[Sample]:
        """Those of one source from `start` to `end` [s of the clock]."""
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
        except Exception as error:  # a driver's: whatever it is, it must not end the run, nor the other sources
            known = isinstance(error, Unsupported)
            self.reasons[name] = str(error) if known else f"{type(error).__name__}: {error}".rstrip(": ")
            del self._sources[name]
            return
        # A moment less, for a thread that wakes up a moment early.
        self._due[name] = at + max(0.9 * self._interval_s, (self._cost() - before) / MOST_SHARE)
        with self._lock:
            samples = self._samples[name]
            samples.append(Sample(at, values))
            if len(samples) > MOST_SAMPLES:
                del samples[1 : MOST_SAMPLES // 2 : 2]
