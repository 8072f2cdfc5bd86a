"""Who may import whom: the way through the house goes one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A PurePath or a StringIO touches no disk.
CLOCK_AND_DISK = ("time", "datetime", "os", "tempfile", "pathlib.Path", "io.open")

# (files, modules that they must not import, directly; a prefix stands for all below it)
RULES = [
    ("model/*.py", ("perf", "pytest", "tests")),
    ("model/[!_]*.py", ("data",)),
    ("model/__init__.py", ("data",)),
    ("data/*.py", ("model", "perf", "pytest", "tests")),
    ("perf/harness/stats.py", ("torch", "pytest", *CLOCK_AND_DISK, "data", "model")),
    ("perf/harness/report/*.py", ("torch", "pytest", *CLOCK_AND_DISK, "data", "model")),
    (
        "perf/harness/record/*.py",
        ("torch", "pytest", "time", "data", "model", "perf.harness.stats", "perf.harness.gate", "perf.harness.report"),
    ),
    (
        "perf/harness/gate/*.py",
        ("torch", "pytest", *CLOCK_AND_DISK, "data", "model", "perf.harness.report", "perf.harness.paired"),
    ),
    ("perf/harness/paired/*.py", ("pytest", "perf.harness.report", "perf.harness.plugin")),
    ("perf/harness/measure.py", ("pytest", "perf.harness.stats", "perf.harness.report", "pathlib")),
    ("perf/harness/qualify/*.py", ("pytest", "perf.harness.report", "perf.harness.plugin")),
    ("perf/harness/qualify/judge.py", ("torch", *CLOCK_AND_DISK)),
    ("perf/harness/qualify/roofline.py", ("torch", *CLOCK_AND_DISK)),
    ("perf/harness/telemetry/*.py", ("pytest", "data", "model", "perf.harness.report", "perf.harness.plugin")),
    # Beside the timed rounds, nothing may wait for a device.
    ("perf/harness/telemetry/sampler.py", ("torch",)),
    ("perf/harness/telemetry/reasons.py", ("torch",)),
    ("perf/harness/telemetry/summary.py", ("pytest", *CLOCK_AND_DISK, "torch", "threading")),
    ("perf/__main__.py", ("torch", "pytest", "data", "model")),
    ("perf/commands/*.py", ("torch", "pytest", "time", "data", "model")),
]
# The files that may import a module at all.
ONLY = {
    "pytest": ("perf/harness/plugin/*.py", "perf/harness/preflight.py", "perf/harness/stock.py",
               "perf/harness/progress.py", "perf/harness/importable.py", "perf/test_*.py", "perf/qualification/*.py",
               "perf/proof/*.py"),
    "pytest_benchmark": ("perf/harness/stock.py",),
    # The sampler says when each sample was taken, by the clock of the timed rounds.
    "time": ("perf/harness/measure.py", "perf/harness/paired/*.py", "perf/harness/qualify/*.py",
             "perf/harness/telemetry/sampler.py", "perf/proof/*.py", "model/__main__.py"),
    # Both are optional: one place knows what to do without.
    "pynvml": ("perf/harness/telemetry/nvml.py",),
    "psutil": ("perf/harness/telemetry/host.py",),
    "perf.harness.plugin": ("conftest.py", "perf/harness/plugin/*.py"),
    "perf.harness.record.write": ("perf/harness/record/*.py", "perf/commands/output.py"),
}  # fmt: skip


def imported(source: str) -> set[str]:
    """Every module that `source` imports, anywhere in it: `from a import b` counts as `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where a name comes from"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def uses(source: str, module: str) -> bool:
    return any(name == module or name.startswith(module + ".") for name in imported(source))


def violations(path: Path, source: str) -> list[str]:
    found = []
    for pattern, forbidden in RULES:
        if path.full_match(pattern) if hasattr(path, "full_match") else path.match(pattern):
            found += [f"{path} imports {module}" for module in forbidden if uses(source, module)]
    for module, allowed in ONLY.items():
        if uses(source, module) and not any(path.match(pattern) for pattern in allowed):
            found.append(f"{path} imports {module}")
    return found


def sources() -> list[Path]:
    return [
        path.relative_to(ROOT) for folder in ("model", "data", "perf") for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def test_no_module_breaks_a_rule():
    assert [line for path in sources() for line in violations(path, (ROOT / path).read_text())] == []


def test_every_rule_is_about_files_that_exist():
    for pattern in [pattern for pattern, _ in RULES] + [p for patterns in ONLY.values() for p in patterns]:
        assert list(ROOT.glob(pattern)), pattern


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("model/training.py", "from data import load"),
        ("model/__main__.py", "import pytest"),
        ("data/sets.py", "def late():\n    import perf.harness.settings"),
        ("perf/harness/stats.py", "import torch.nn as nn"),
        ("perf/harness/report/units.py", "from pathlib import Path"),
        ("perf/harness/gate/paired.py", "import time"),
        ("perf/harness/record/run.py", "import torch"),
        ("perf/harness/record/read.py", "from perf.harness.gate.verdict import tally"),
        ("perf/harness/gate/runs.py", "from perf.harness.report import units"),
        ("perf/harness/gate/stored.py", "import torch"),
        ("perf/harness/gate/stored.py", "from pathlib import Path"),
        ("perf/harness/gate/trial.py", "from perf.harness.paired import selftest"),
        ("perf/harness/gate/verdict.py", "from model import RecipeError"),
        ("perf/harness/gate/__init__.py", "import data.sets"),
        ("perf/harness/paired/visit.py", "from perf.harness.report.units import seconds"),
        ("perf/harness/paired/sides.py", "from perf.harness.plugin.state import SUITE"),
        ("perf/harness/paired/schedule.py", "import pytest"),
        ("perf/commands/compare.py", "import torch"),
        ("perf/commands/report.py", "from perf.harness.record.write import write_text"),
        ("perf/harness/measure.py", "from perf.harness import stats"),
        ("perf/harness/bench.py", "import pytest"),
        ("perf/harness/qualify/counters.py", "import pynvml"),
        ("perf/harness/qualify/attempt.py", "from perf.harness.report import units"),
        ("perf/harness/qualify/exact.py", "from perf.harness.plugin.state import SUITE"),
        ("perf/harness/qualify/judge.py", "import torch"),
        ("perf/harness/qualify/roofline.py", "import time"),
        ("perf/harness/environment.py", "def load():\n    import psutil"),
        ("perf/harness/telemetry/nvml.py", "import time"),
        ("perf/harness/telemetry/sampler.py", "import torch"),
        ("perf/harness/telemetry/summary.py", "from pathlib import Path"),
        ("perf/harness/telemetry/watch.py", "from perf.harness.report import units"),
        ("perf/harness/suite.py", "from time import perf_counter"),
        ("perf/harness/suite.py", "import pytest_benchmark.session"),
        ("perf/test_epoch.py", "from perf.harness.plugin import SUITE"),
        ("perf/harness/suite.py", "from perf.harness.record.write import write_text"),
    ],
)
def test_a_planted_violation_is_found(path, planted):
    assert violations(Path(path), planted) != []


def test_a_module_of_a_similar_name_is_no_violation():
    assert violations(Path("model/training.py"), "import database, pytestify") == []
