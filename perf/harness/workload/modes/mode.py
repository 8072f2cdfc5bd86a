"""A mode is an execution and a precision: whether a device can run this mode, and torch's settings for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.backends import cudnn

from perf.harness.options import EAGER, FP32
from perf.harness.workload.modes import compiler, execution, precision
from perf.harness.workload.modes.errors import Unsupported


@dataclass(frozen=True)
class Mode:
    """How a step runs. The default is the plain way (eager, fp32); every other mode is checked against it."""

    execution: str = EAGER
    precision: str = FP32

    def __str__(self) -> str:
        return f"{self.execution} {self.precision}"

    def check(self, device: torch.device) -> None:
        """Raise Unsupported if `device` cannot run this mode."""
        reasons = {
            self.precision: precision.why_unsupported(self.precision, device),
            self.execution: execution.why_unsupported(self.execution, device),
            str(self): SCALED if self == Mode("cudagraph", "fp16") else None,
        }
        for what, reason in reasons.items():
            if reason:
                raise Unsupported(f"{what} on {device.type}: {reason}")

    @contextlib.contextmanager
    def active(self, *, anew: bool = False, cache: Path | None = None) -> Iterator[None]:
        """Set torch up for this mode, and restore its settings afterwards.

        In all modes but the plain one, cuDNN tries which of its convolutions is the fastest for each shape.
        `anew`: use no earlier compilation, but for what lies in the folder `cache`.
        """
        with contextlib.ExitStack() as settings:
            settings.enter_context(precision.float32_products(tf32=self.precision == "tf32"))
            if self != PLAIN:
                settings.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
                cudnn.benchmark = True
            if self.execution == "compile":
                settings.enter_context(compiler.compiling(anew=anew, cache=cache))
            yield


SCALED = "the scaler of fp16 asks the host at each step whether a gradient has overflown, which a graph cannot"
PLAIN = Mode()
