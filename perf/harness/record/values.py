"""What a value of a record can be: the constraints that a file is read by."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Scalar = str | int | float | bool | None
Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
# Longer than a cycle of light across an atom, shorter than three centuries [s].
Seconds = Annotated[float, Meta(ge=1e-18, le=1e10)]
