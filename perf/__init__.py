"""The instrument: benchmarks (`test_*.py`), the harness behind them, and the commands (`python -m perf`)."""

from perf.harness.machine import affinity as affinity  # before torch: see there
