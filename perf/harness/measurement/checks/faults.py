"""The faults that `--perf-inject=CHECK:KIND` plants, so that you can see every check fail.

Most are real: an operation is done twice, a bit is flipped in memory, a program keeps a core busy. No machine can be
made to overheat or to miscount on demand, so `sustained:throttle`, those of `errors` and of `clock` are planted in
the answers of driver and kernel, where they are read: everything from the reading to the verdict is the same as with a
real fault.
No fault changes a result that was measured.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from os import kill
from typing import TypeVar

import torch
from torch import Tensor

from perf.harness.machine import affinity
from perf.harness.machine.telemetry.reasons import Reason
from perf.harness.machine.telemetry.source import Source, Values
from perf.harness.measurement.checks.counters import Counts, NotCounted, Read

T = TypeVar("T")

# In every third answer, the device says that it is too hot.
HOT_EVERY = 3
# A healthy device's counters, for a device that counts nothing; and what is added to the counters after the first
# reading, by fault.
HEALTHY = {"uncorrected": 0, "corrected": 0, "remap pending": 0, "remap failed": 0, "PCIe replays": 0}
ERRORS = {
    "ecc": {"uncorrected": 1},
    "xid": {"Xid 79": 1},
    "corrected": {"corrected": 1000},
    "replays": {"PCIe replays": 1000},
}
# A program that is left behind ends by itself after this time [s].
PROGRAM_S = 120
PROGRAM = f"import time\nend = time.monotonic() + {PROGRAM_S}\nwhile time.monotonic() < end: pass"


def twice(call: Callable[[], T]) -> Callable[[], T]:
    """`call`, done two times at each call."""

    def both() -> T:
        call()
        return call()

    return both


def flip_bit(tensor: Tensor, index: int, bit: int) -> None:
    """Flip one bit of element `index` of the flattened, contiguous `tensor`, in place."""
    width = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    flat = tensor.detach().view(-1).view(width)
    one = 1 << bit if bit < 8 * tensor.element_size() - 1 else torch.iinfo(width).min
    flat[index] ^= one


def stuck_bit(blocks: list[Tensor]) -> None:
    """Set bit 17 of one word, whatever was written to it."""
    blocks[-1][12_345] |= 1 << 17


def one_word_for_two(blocks: list[Tensor]) -> None:
    """Give one word the value of another, as if both had one address."""
    blocks[0][5 + 1024] = blocks[0][5]


class Overheated:
    """A device whose answers say that it is at its power cap and, every third time, too hot."""

    def __init__(self, source: Source) -> None:
        self._source, self._asked = source, 0

    def sample(self) -> Values:
        self._asked += 1
        hot = Reason.HW_THERMAL_SLOWDOWN if self._asked % HOT_EVERY == 0 else 0
        answer = self._source.sample()
        return answer | {"reasons": answer.get("reasons", 0) | Reason.SW_POWER_CAP | hot}


def miscounting(read: Read, kind: str) -> Read:
    """`read`, to which the errors of `kind` are added from the second reading on."""
    readings = itertools.count()

    def both() -> Counts:
        try:
            found = {**HEALTHY, **read()}
        except NotCounted:
            found = HEALTHY
        more = ERRORS[kind] if next(readings) else {}
        return {**found, **{name: found.get(name, 0) + count for name, count in more.items()}}

    return both


@contextlib.contextmanager
def foreign_load(cores: int) -> Iterator[None]:
    """Keep `cores` cores busy with programs that, like another user's, are not children of this process."""
    popen = (
        f"subprocess.Popen([sys.executable, '-c', {PROGRAM!r}], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    )
    start = f"import subprocess, sys\nprint({popen}.pid)"
    pids: list[int] = []
    try:
        for _ in range(cores):
            with affinity.inherited():
                made = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True)
            pids.append(int(made.stdout))
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
