"""The instrument: benchmarks (`test_*.py`), the harness behind them, and the commands (`python -m perf`)."""
