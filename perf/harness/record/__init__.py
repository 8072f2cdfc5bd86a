"""In: a run's benchmarks as pytest-benchmark holds them, or a JSON file. Out: JSON on disk, or a `Run`.

No other package reads or writes record files.
"""

from perf.harness.record.run import (
    SCHEMA_VERSION,
    Baseline,
    Benchmark,
    Case,
    Medians,
    RecordError,
    Run,
    finite,
    one_line,
)
from perf.harness.record.values import Scalar

__all__ = [
    "SCHEMA_VERSION",
    "Baseline",
    "Benchmark",
    "Case",
    "Medians",
    "RecordError",
    "Run",
    "Scalar",
    "finite",
    "one_line",
]
