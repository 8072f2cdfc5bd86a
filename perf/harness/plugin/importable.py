"""Checks that all packages are there, and that this checkout's `model` and `data` can be imported.

Loaded before the plugin, which needs all of them.
"""

from __future__ import annotations

import importlib
import sys

import pytest

from perf.harness.measurement.side_by_side.worker import CHECKOUT, place_of_error, told
from perf.here import install
from perf.needs import missing

if absent := missing():
    raise pytest.UsageError(absent)

# What takes seconds: torch, and what the plugin needs of it.
for name in ("data", "model", "perf.harness.plugin.fixtures", "perf.harness.plugin.preflight"):
    try:
        importlib.import_module(name)
    except KeyboardInterrupt:
        print("interrupted while torch was imported: nothing was measured", file=sys.stderr)
        sys.exit(pytest.ExitCode.INTERRUPTED)
    except Exception as error:
        packages = f", or install the missing package: {install()}"
        hint = f"fix it{packages if isinstance(error, ModuleNotFoundError) else ' first'}"
        where = place_of_error(error, CHECKOUT) or name
        raise pytest.UsageError(f"the working tree cannot be imported: {where}: {told(error)}; {hint}") from None
