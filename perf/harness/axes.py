"""What a benchmark varies, and the name of each case that comes of it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

EAGER, FP32 = "eager", "fp32"
EXECUTIONS: Final = (EAGER, "compile", "cudagraph")
"""Operation by operation; compiled by `torch.compile`; captured once as a CUDA graph, and replayed."""
PRECISIONS: Final = (FP32, "tf32", "bf16", "fp16")
"""The precisions that a step can be computed in: all of float32; its products in 10 bits of mantissa on tensor cores;
autocast to bfloat16 or to float16."""
ROUNDING: Final = dict(zip(PRECISIONS, (1e-5, 1e-3, 1e-3, 1e-3), strict=True))
"""The largest relative difference of a step's loss from that of the same step, operation by operation, in the same
precision, that is no other training: the order of additions is another one, and a fused operation rounds less often.
A training in bf16 differs from one in fp32 by 1e-4 and more: larger limits would not see it."""
CARRIED: Final = 3.0
"""Some trainings multiply rounding: Adam, for one, divides a gradient of nothing but rounding by its own size. Of
these, a difference up to so many times of what rounding alone was seen to make is no other training either."""


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
