"""Checks that this checkout's `model` and `data` can be imported. Loaded before the plugin, which needs both."""

from __future__ import annotations

import importlib

import pytest

from perf.harness.measurement.side_by_side.worker import CHECKOUT, place, told

for package in ("data", "model"):
    try:
        importlib.import_module(package)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError)
        hint = "fix it, or install the missing package: pip install -r requirements.txt" if missing else "fix it first"
        where = place(error, CHECKOUT) or package
        raise pytest.UsageError(f"the working tree cannot be imported: {where}: {told(error)}; {hint}") from None
