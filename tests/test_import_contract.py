"""The import contract in `.importlinter`: it holds, and a planted violation of each of its rules breaks that rule."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HARNESS = "perf/harness"

# The rule that is broken, the file that breaks it, and the line that does.
PLANTED = [
    ("rooms", f"{HARNESS}/options.py", "from perf.harness.machine import devices"),
    ("rooms", f"{HARNESS}/record/__init__.py", "from perf.harness.statistics import intervals"),
    ("rooms", f"{HARNESS}/machine/load.py", "from perf.harness.workload import axes"),
    ("rooms", f"{HARNESS}/workload/axes.py", "from perf.harness.measurement import phases"),
    ("rooms", f"{HARNESS}/statistics/__init__.py", "from perf.harness.verdict import tally"),
    ("rooms", f"{HARNESS}/verdict/roofline.py", "from perf.harness import report"),
    ("rooms", f"{HARNESS}/report/__init__.py", "from perf.harness import measurement"),
    ("rooms", f"{HARNESS}/measurement/phases.py", "from perf.harness import report"),
    ("rooms", f"{HARNESS}/measurement/phases.py", "from perf.harness.plugin import state"),
    ("rooms", f"{HARNESS}/utils.py", ""),
    ("subject", "model/training.py", "from perf.harness import options"),
    ("subject", "data/idx.py", "import pytest"),
    ("model", "model/training.py", "import data"),
    ("data", "data/idx.py", "import model"),
    ("commands", f"{HARNESS}/report/__init__.py", "from perf.commands import output"),
    ("offline", "perf/commands/report.py", "from perf.harness.plugin import stock"),
    ("numbers", f"{HARNESS}/record/__init__.py", "import torch"),
    ("numbers", f"{HARNESS}/measurement/capacity.py", "def load():\n    import torch"),
    ("numbers", f"{HARNESS}/verdict/roofline.py", "from model import Recipe"),
    ("report", f"{HARNESS}/report/__init__.py", "from perf.harness.workload import plan"),
    ("report", f"{HARNESS}/report/layout.py", "from perf.harness.machine import devices"),
    ("pure", f"{HARNESS}/statistics/__init__.py", "import time"),
    ("pure", f"{HARNESS}/report/__init__.py", "import tempfile"),
    ("timeless", f"{HARNESS}/record/__init__.py", "from time import perf_counter"),
    ("pytest", f"{HARNESS}/measurement/phases.py", "import pytest"),
    ("pytest", f"{HARNESS}/workload/axes.py", "import pytest_benchmark"),
    ("stock", f"{HARNESS}/plugin/state.py", "import pytest_benchmark"),
    ("nvml", f"{HARNESS}/machine/load.py", "import pynvml"),
    ("psutil", f"{HARNESS}/measurement/phases.py", "import psutil"),
    ("writing", f"{HARNESS}/report/__init__.py", "from perf.harness.record import write"),
]


def names():
    """The name of each contract by its key."""
    rules = configparser.ConfigParser()
    rules.read(ROOT / ".importlinter")
    return {key.rpartition(":")[2]: rules[key]["name"] for key in rules if ":contract:" in key}


def lint(folder):
    """What lint-imports says in `folder`, and its exit code."""
    command = "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports as lint; sys.exit(lint())"
    done = subprocess.run([sys.executable, "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """What is said of each contract, by its name, in a copy of the code in which all violations are planted."""
    checkout = tmp_path_factory.mktemp("checkout")
    for package in ("perf", "model", "data"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__", "*.md"))
    shutil.copy(ROOT / ".importlinter", checkout)
    for _, file, line in PLANTED:
        with (checkout / file).open("a") as code:
            code.write(f"\n{line}\n")
    code, said = lint(checkout)
    assert code == 1
    headings = [(said.index(f"\n{name}\n---"), name) for name in names().values() if f"\n{name}\n---" in said]
    starts = sorted(headings)
    ends = [start for start, _ in starts[1:]] + [len(said)]
    return {name: " ".join(said[start:end].split()) for (start, name), end in zip(starts, ends, strict=True)}


def test_the_contract_holds():
    code, said = lint(ROOT)
    assert f"Contracts: {len(names())} kept, 0 broken." in said
    assert code == 0


@pytest.mark.parametrize(("rule", "file", "line"), PLANTED)
def test_a_planted_violation_breaks_its_rule(broken, rule, file, line):
    said = broken[names()[rule]]
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    imported = re.search(r"(?:from|import) ([\w.]+)", line)
    assert module in said if imported is None else f"{module} -> {imported[1]}" in said


def test_every_rule_has_a_planted_violation():
    assert {rule for rule, _, _ in PLANTED} == set(names())


def test_no_test_file_imports_another():
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    assert (
        files
        and [file.name for file in files if re.search(r"^\s*(from|import) tests\.test_", file.read_text(), re.M)] == []
    )
