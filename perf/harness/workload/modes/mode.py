"""An execution and a precision together: whether they can be, torch's settings for them, and the step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from perf.harness.options import EAGER, FP32
from perf.harness.workload.modes import execution, precision
from perf.harness.workload.modes.execution import Unsupported


@dataclass(frozen=True)
class Mode:
    """How a step is run; the default is the plain way, against which every other is checked."""

    execution: str = EAGER
    precision: str = FP32

    def __str__(self) -> str:
        return f"{self.execution} {self.precision}"

    def check(self, device: torch.device) -> None:
        """Raises Unsupported where `device` cannot run it."""
        reasons = {
            self.precision: precision.why_unsupported(self.precision, device),
            self.execution: execution.why_unsupported(self.execution, device),
            str(self): SCALED if self == Mode("cudagraph", "fp16") else None,
        }
        for what, reason in reasons.items():
            if reason:
                raise Unsupported(f"{what} on {device.type}: {reason}")

    @contextlib.contextmanager
    def active(self, *, anew: bool = False) -> Iterator[None]:
        """torch's settings for this mode, and those of before afterwards; `anew`: nothing is compiled already."""
        with contextlib.ExitStack() as settings:
            settings.enter_context(precision.float32_products(tf32=self.precision == "tf32"))
            if self.execution == "compile":
                settings.enter_context(execution.compiling(anew=anew))
            yield


SCALED = "the scaler of fp16 asks the host at each step whether a gradient has overflown, which a graph cannot"
PLAIN = Mode()
