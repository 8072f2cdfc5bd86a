"""What a benchmark varies, and the name of each resulting case."""

from __future__ import annotations

import re
from typing import NamedTuple

from perf.harness.options import EAGER, EXECUTIONS, FP32, PIPELINES, PRECISIONS


class Axes(NamedTuple):
    """One case of a benchmark. An axis that the benchmark lacks is None, or the plain way (eager, fp32).

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
        """The name of the case in brackets: short and stable, because baselines use it as key. Omits the plain way."""
        size = f"bs{self.batch_size}" if self.batch_size else None
        execution = self.execution if self.execution != EAGER else None
        precision = self.precision if self.precision != FP32 else None
        return "-".join(
            filter(None, [_plain(self.model or ""), self.device, size, self.pipeline, execution, precision])
        )

    @classmethod
    def of(cls, id: str) -> Axes:
        """The axes of the case with this `id`; its model is the name without special characters."""
        *rest, last = id.split("-")
        found: dict[str, str] = {}
        for axis, choices in (("precision", PRECISIONS), ("execution", EXECUTIONS), ("pipeline", PIPELINES)):
            if rest and last in choices:
                found[axis] = last
                *rest, last = rest
        batch_size = None
        if rest and (size := re.fullmatch(r"bs(\d+)", last)):
            batch_size = int(size[1])
            *rest, last = rest
        return cls(last, batch_size, found.pop("pipeline", None), model="-".join(rest) or None, **found)


def _plain(name: str) -> str:
    """A network's name without characters that mean something to pytest: `package.module.factory`."""
    return re.sub(r"[^\w.-]", "_", name.replace(":", "."))
