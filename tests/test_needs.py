"""A machine on which packages of `requirements.txt` are missing: one sentence says which, and how to install them."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perf import here, needs

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "pip install -r requirements.txt"
COMMAND = re.compile("python -m perf|pytest perf/")


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


def test_a_command_of_stepwatch_can_be_typed_in_the_folder_in_which_it_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert (here.offline("trend"), here.install()) == ("python -m perf trend", INSTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not.json").write_text("{}")
    command = here.offline("report", "not.json").removeprefix("python ")
    done = subprocess.run([sys.executable, *shlex.split(command)], capture_output=True, text=True)
    assert done.returncode == 4 and done.stderr.startswith(f"python {ROOT}/perf: not.json: "), done.stderr
    assert Path(here.install().split()[-1]).samefile(ROOT / "requirements.txt")
    assert Path(here.suite().split()[-1]).samefile(ROOT / "perf")


# What is read elsewhere than where it is written: a record, the page of a job; and the command of a run, which has a
# place of its own.
READ_ELSEWHERE = {"verdict/machine.py", "report/reviewer.py", "report/commands.py"}


def test_no_other_message_names_a_command_that_works_in_the_folder_of_stepwatch_alone():
    found = set()
    for path in sorted([*(ROOT / "perf/harness").rglob("*.py"), *(ROOT / "perf/commands").glob("*.py")]):
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs]
        if any(isinstance(one.value, str) and COMMAND.search(one.value) for one in texts):
            found.add("/".join(path.parts[-2:]))
    assert found == READ_ELSEWHERE | {"commands/report.py", "verdict/references.py"}  # they name a run, not a command


def test_a_folder_that_is_no_more_is_none_of_stepwatch(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert here.offline() == f"python {ROOT}/perf"
