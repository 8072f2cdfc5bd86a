"""A machine on which packages of `requirements.txt` are missing: one sentence says which, and how to install them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from perf import needs

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "pip install -r requirements.txt"


def test_the_packages_are_those_of_the_requirements_that_a_run_cannot_do_without():
    listed = re.findall(r"^([a-z-]+)[>=]", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert sorted(needs.PACKAGES) == sorted(name.replace("-", "_") for name in listed if name != "nvidia-ml-py")


@pytest.mark.parametrize(
    ("hidden", "says"),
    [((), ""), (("msgspec",), f"msgspec is not installed: {INSTALL}"),
     (("pytest_benchmark", "scipy"), f"pytest-benchmark, scipy are not installed: {INSTALL}")],
)  # fmt: skip
def test_all_that_is_missing_is_said_at_once(monkeypatch, hidden, says):
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    assert needs.missing() == says


@pytest.mark.parametrize("command", [["-m", "pytest", "perf/"], ["-m", "perf", "report", "x.json"], ["perf", "trend"]])
def test_no_command_ends_in_a_traceback(tmp_path, command):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules.update(msgspec=None, tabulate=None)\n")
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode in (1, 4)
    assert f"msgspec, tabulate are not installed: {INSTALL}" in done.stderr
    assert "Traceback" not in done.stderr
