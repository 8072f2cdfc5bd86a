"""The commands of `python -m perf`, one per module: `add` declares its arguments, and a function runs it.

They work on recorded runs and load neither torch nor pytest; only `selftest` measures.
"""
