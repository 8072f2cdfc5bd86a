"""The instrument: benchmarks (`test_*.py`), the harness behind them, and the offline commands (`python -m perf`)."""
