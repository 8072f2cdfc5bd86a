"""In: a device and its checks. Out: what must be judged before it is QUALIFIED, and what of that was not judged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from perf.harness.record.check import JUDGED, Check

TABLE = Path(__file__).with_name("required.json")


@dataclass(frozen=True)
class Required:
    """What a device of this `kind` needs: the metrics of each check, such as `copy` and `triad` of `memory`."""

    kind: str
    checks: Mapping[str, Sequence[str]]


def required_of(device: str, model: str) -> Required:
    """What must be judged on `device` (`cuda:1`), whose name is `model` (`NVIDIA H200`)."""
    for entry in _table():
        if entry.get("type") in (None, device.partition(":")[0]) and re.match(entry.get("name", ""), model):
            return Required(entry["kind"], entry["checks"])
    raise AssertionError("the last kind fits every device")


def not_judged(required: Required, checks: Sequence[Check]) -> list[str]:
    """What is `required` of a device and was not judged, also if it is not among its `checks`: metrics, or a check."""
    judged = {check.name for check in checks if check.verdict in JUDGED}
    left: list[str] = []
    for name, variants in required.checks.items():
        wanted = [f"{name} {variant}".rstrip() for variant in variants]
        lacking = [one for one in wanted if one not in judged]
        left += [name] if len(lacking) == len(wanted) > 1 else lacking
    return left


def unjudged(checks: Sequence[Check], models: Mapping[str, str]) -> list[str]:
    """One sentence for each device of which not all that is required was judged. `models` are the names by device."""
    said = []
    for device, model in models.items():
        required = required_of(device, model)
        if left := not_judged(required, [check for check in checks if check.device == device]):
            said.append(f"not judged on {device}, and required of its kind ({required.kind}): {', '.join(left)}")
    return said


@cache
def _table() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(TABLE.read_text(encoding="utf-8"))["kinds"])
