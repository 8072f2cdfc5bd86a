"""A real slowdown of a known size, for the self-test: planted in each step of head, and calibrated on this step."""

from __future__ import annotations

import ctypes
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable

from perf.harness.machine.load import Clock
from perf.harness.verdict.trials import SLOWDOWNS

Times = Callable[[int], tuple[float, ...]]

# For each amount: the number of visits, the steps of a visit, and the total time [s]; and how often the amount is
# corrected.
MOST_VISITS, LEAST_VISITS, VISIT_STEPS, VISITS_S, MENDS = 60, 5, 4, 0.3, 2
# The first two amounts to try: almost nothing, and enough to be measured.
TRIALS = {"compute": (10.0, 1000.0), "input": (10.0, 1000.0), "sleep": (1e-6, 5e-5), "allocation": (1.0, 200.0)}
# How many of the last calls have their times kept: more than a calibration makes, and few enough to keep in memory.
KEPT = 1000
# prctl(2): how late a sleep may end [ns]; 50 µs by default, which is 5% of a step of 1 ms.
PR_SET_TIMERSLACK, SLACK_NS = 29, 1
# Memory is allocated, written and freed, one page for each unit of the amount.
BLOCK_BYTES = 4096


class Extra:
    """Extra work that takes `share` of a step; to be called once in each step. No work until `amount` is set."""

    def __init__(self, kind: str, share: float, clock: Clock = time.perf_counter) -> None:
        if kind not in SLOWDOWNS:
            raise ValueError(f"{kind!r} is none of {', '.join(SLOWDOWNS)}")
        self.kind = kind
        self._share = share
        self._clock = clock
        self.amount = 0.0
        self._took_s: deque[float] = deque(maxlen=KEPT)
        if kind == "sleep" and platform.system() == "Linux":
            ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, SLACK_NS)
        self._do = {"sleep": self._sleep, "allocation": self._allocate}.get(kind, self._compute)

    def __call__(self) -> None:
        if self.amount > 0:
            start = self._clock()
            self._do(self.amount)
            self._took_s.append(self._clock() - start)

    @property
    def typical_s(self) -> float | None:
        """The median time of the last calls [s]; None if there were none."""
        return statistics.median(self._took_s) if self._took_s else None

    def forget(self) -> None:
        """Forget the times so far: `typical_s` is then that of later calls only."""
        self._took_s.clear()

    def calibrate(self, times: Times, step_s: float) -> None:
        """Find the amount that takes `share` of a step; 0 if even the smallest amount takes more.

        The work is measured between two steps, where it will be called. There the caches are cold, and the work takes
        up to 1.5 times as long as alone.
        """
        visits = max(LEAST_VISITS, min(MOST_VISITS, int(VISITS_S / (VISIT_STEPS * step_s))))
        self.amount = 0.0
        plain_s = statistics.median(min(times(VISIT_STEPS)) for _ in range(visits))
        aim_s = self._share * plain_s
        low, high = TRIALS[self.kind]
        (low_s, high_s) = (self._cost(times, amount, visits) for amount in (low, high))
        for _ in range(MENDS):  # a line through two amounts; the higher one is replaced by a closer one
            amount = max(0.0, low + (aim_s - low_s) * (high - low) / (high_s - low_s))
            if amount <= low:
                break
            high, high_s = amount, self._cost(times, amount, visits)
        self.amount = amount if amount > low else 0.0

    def _cost(self, times: Times, amount: float, visits: int) -> float:
        """The median time of a call with this `amount` between two steps [s]."""
        self.amount = amount
        self.forget()
        for _ in range(visits):
            times(VISIT_STEPS)
        return statistics.median(self._took_s)

    @staticmethod
    def _compute(amount: float) -> None:
        value = 1.0
        for _ in range(int(amount)):
            value = value * 1.0000001 + 1e-9

    @staticmethod
    def _sleep(amount: float) -> None:
        time.sleep(amount)

    @staticmethod
    def _allocate(amount: float) -> None:
        bytearray(int(amount * BLOCK_BYTES))  # this writes a zero to every byte


def places(extra: Extra | None) -> tuple[Callable[[], None] | None, Callable[[], None] | None]:
    """`extra` as the last two arguments of `slices.sliced`: called in each step, or when a mini-batch is loaded."""
    if extra is None:
        return None, None
    return (None, extra) if extra.kind == "input" else (extra, None)
