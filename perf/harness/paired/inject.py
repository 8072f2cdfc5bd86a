"""A true slowdown of a known size, for the self-test: planted in each step of head, calibrated on the step itself."""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable

import torch

from perf.harness.gate.trial import SLOWDOWNS

Times = Callable[[int], tuple[float, ...]]

# Visits with and without, in turn, of so many steps and for about so long; and how often the size is mended by that.
MOST_VISITS, LEAST_VISITS, VISIT_STEPS, VISITS_S, MENDS = 24, 4, 4, 0.3, 1
# prctl(2): how late a sleep may end [ns]; 50 µs by default, which is 5% of a step of 1 ms.
PR_SET_TIMERSLACK, SLACK_NS = 29, 1
# Pages are touched in blocks of this many bytes; larger ones come fresh from the kernel each time (mmap's threshold).
BLOCK_BYTES = 4096
FRESH_BYTES = 32 * 2**20 + BLOCK_BYTES


class Extra:
    """Work of `share` of a step, to be called once in each; none until `calibrate`d."""

    def __init__(self, kind: str, share: float) -> None:
        if kind not in SLOWDOWNS:
            raise ValueError(f"{kind!r} is none of {', '.join(SLOWDOWNS)}")
        self.kind = kind
        self._share = share
        self._amount = 0.0
        if kind == "sleep" and platform.system() == "Linux":
            ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, SLACK_NS)
        self._do = {"sleep": self._sleep, "allocation": self._allocate}.get(kind, self._compute)

    def __call__(self) -> None:
        if self._amount > 0:
            self._do(self._amount)

    def calibrate(self, times: Times, step_s: float) -> float:
        """Find the amount that makes `times` longer by the share; the share that was reached in the end.

        Visits with and without take turns, and the quickest step of each counts: what else runs only ever adds.
        """
        amount = self._first_guess(self._share * step_s)
        visits = max(LEAST_VISITS, min(MOST_VISITS, int(VISITS_S / (2 * VISIT_STEPS * step_s))))
        for _ in range(MENDS):
            reached = self._reached(times, amount, visits)
            if reached > 0:
                amount *= min(4.0, max(0.25, self._share / reached))
        return self._reached(times, amount, visits)

    def _reached(self, times: Times, amount: float, visits: int) -> float:
        without: list[float] = []
        within: list[float] = []
        for _ in range(visits):
            self._amount = 0.0
            without.append(min(times(VISIT_STEPS)))
            self._amount = amount
            within.append(min(times(VISIT_STEPS)))
        return min(within) / min(without) - 1

    def _first_guess(self, seconds: float) -> float:
        trial = {"sleep": 1e-5, "allocation": 8.0}.get(self.kind, 1000.0)
        took = []
        for _ in range(MOST_VISITS):
            start = time.perf_counter()
            self._do(trial)
            took.append(time.perf_counter() - start)
        return trial * seconds / min(took)

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
        fresh = torch.empty(FRESH_BYTES, dtype=torch.uint8)
        fresh[: max(1, int(amount)) * BLOCK_BYTES : BLOCK_BYTES] = 1


def places(extra: Extra | None) -> tuple[Callable[[], None] | None, Callable[[], None] | None]:
    """`extra` as the two arguments of `subject.build`: in the step, or where a batch is loaded."""
    if extra is None:
        return None, None
    return (None, extra) if extra.kind == "input" else (extra, None)
