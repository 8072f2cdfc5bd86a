"""In: a clock and a stopping rule. Out: when each round began and ended, and the end of a case's rounds."""

from __future__ import annotations

from collections.abc import Callable

from perf.harness.machine.load import Clock
from perf.harness.measurement.effort import StoppingRule


class Over(BaseException):
    """Ends the rounds of a case. It is not an Exception, because `pedantic` counts an Exception as a failure."""


class Between:
    """The set-up and teardown that `pedantic` calls between rounds, outside the timed region.

    They note when each round began and ended. These clock readings include a few microseconds of `pedantic` itself, so
    they do not give the times of the rounds.
    """

    def __init__(
        self, clock: Clock, setup: Callable[[], None] | None, tick: Callable[[], None], rule: StoppingRule
    ) -> None:
        self._clock, self._setup, self._tick, self._rule = clock, setup, tick, rule
        self._readings: list[float] = [clock()]
        self._begin = self._readings[0]

    def setup(self) -> None:
        if self._setup is not None:
            self._setup()
        self._readings[-1] = self._clock()

    def teardown(self) -> None:
        self._readings.append(self._clock())
        self._tick()
        self._readings.append(self._clock())
        if self._rule.is_over(self._readings[-1] - self._begin, len(self._readings) // 2, self._times):
            raise Over

    def _times(self) -> list[float]:
        return [end - start for start, end in self.spans]

    @property
    def spans(self) -> list[tuple[float, float]]:
        """(start, end) of each round [s]."""
        return list(zip(self._readings[:-1:2], self._readings[1::2], strict=True))
