"""What a benchmark varies, and the name of each case that comes of it."""

from __future__ import annotations

import re
from typing import NamedTuple

from perf.harness.options import EAGER, FP32


class Axes(NamedTuple):
    """One case of a benchmark; None, or the plain way, where it has not the axis.

    `model` is None in a run of one network.
    """

    device: str
    batch_size: int | None
    pipeline: str | None
    execution: str = EAGER
    precision: str = FP32
    model: str | None = None

    @property
    def id(self) -> str:
        """What stands in brackets: the baseline's key, and so short and stable; the plain way is not named."""
        size = f"bs{self.batch_size}" if self.batch_size else None
        execution = self.execution if self.execution != EAGER else None
        precision = self.precision if self.precision != FP32 else None
        return "-".join(
            filter(None, [_plain(self.model or ""), self.device, size, self.pipeline, execution, precision])
        )


def _plain(name: str) -> str:
    """A network's name without what pytest reads as its own: `package.module.factory`."""
    return re.sub(r"[^\w.-]", "_", name.replace(":", "."))
