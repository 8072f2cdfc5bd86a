"""The commands of `python -m perf`, one per module: `add` declares its arguments, and a function runs it.

Only `selftest` measures. The others work on recorded runs, and load neither torch nor pytest.
"""
