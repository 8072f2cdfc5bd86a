"""The faults that `--perf-inject=CHECK:KIND` plants, so that every check can be seen to fail.

They are real: an operation is done twice, a bit is flipped in memory, a program keeps a core busy. Nothing scales a
number afterwards.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from os import kill
from typing import TypeVar

import torch
from torch import Tensor

from perf.harness.machine.telemetry.reasons import Reason
from perf.harness.machine.telemetry.source import Sample

T = TypeVar("T")

# Once a second: busy, at its power cap, and three times of nine too hot as well.
OVERHEATED = tuple(
    Sample(float(second), {"reasons": Reason.SW_POWER_CAP | (Reason.HW_THERMAL_SLOWDOWN if second % 3 == 2 else 0)})
    for second in range(9)
)
# A load that is left behind ends by itself.
LOAD_S = 120


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


@contextlib.contextmanager
def foreign_load(cores: int) -> Iterator[None]:
    """Keep `cores` cores busy with programs that are not this process's children, as another user's are not."""
    program = f"import time\nend = time.monotonic() + {LOAD_S}\nwhile time.monotonic() < end: pass"
    popen = (
        f"subprocess.Popen([sys.executable, '-c', {program!r}], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    )
    start = f"import subprocess, sys\nprint({popen}.pid)"
    pids: list[int] = []
    try:
        for _ in range(cores):
            made = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True)
            pids.append(int(made.stdout))
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
