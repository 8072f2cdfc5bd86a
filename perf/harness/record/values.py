"""The types of the values in a record, with the limits that a file must keep."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Scalar = str | int | float | bool | None
Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
# A plausible time [s]: from 1e-18, far below any measurement, to 1e10, which is about 317 years.
Seconds = Annotated[float, Meta(ge=1e-18, le=1e10)]
