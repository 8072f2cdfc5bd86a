"""The metrics of the checks as pytest's items: which check, on which device, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from perf.harness.machine.devices import Device
from perf.harness.options import FAULTS
from perf.harness.workload.plan import Plan

CHECKS = tuple(FAULTS)
BETWEEN, AFTER = " between", " after"
MIDDLE = "sustained"  # the check after which metrics that end with BETWEEN come


def variants(marker: pytest.Mark, device: Device, plan: Plan) -> tuple[str, ...]:
    """The metrics of a check on `device`: those of all devices, those of its kind, or one for each batch size."""
    if marker.kwargs.get("each") == "batch_size":
        return tuple(f"bs{size}" for size in plan.network().batch_sizes)
    kind = "accelerator" if device.asynchronous else "cpu"
    return marker.args or marker.kwargs.get(kind, ("",))


def check_of(item: pytest.Item) -> str:
    """The name of a check: `matmul` for the item `test_matmul[cpu-fp32]`."""
    return str(getattr(item, "originalname", item.name)).removeprefix("test_")


def turn(item: pytest.Item) -> tuple[bool, int, bool]:
    """The sort key of an item: the order of the checks, but some metrics come after MIDDLE, or last."""
    variant = place(item)[1]
    between = variant.endswith(BETWEEN)
    return variant.endswith(AFTER), CHECKS.index(MIDDLE if between else check_of(item)), between


def place(item: pytest.Item) -> tuple[str, str]:
    """The device and the variant of a check."""
    assert isinstance(item, pytest.Function)
    found: Any = item.callspec.params["_place"]
    return found[0], found[1]
