"""The README keeps its word: its table of options, its example, its commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from perf.harness.options import FAULTS, OPTIONS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ROW = r"^\| `(--perf-[^`]*)` \| (.*) \|$"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_table_of_options_is_the_options():
    table = README.replace(r"\|", "/")  # Markdown wants a | in a cell escaped
    rows = [(flag.replace("/", "|"), meaning) for flag, meaning in re.findall(ROW, table, re.MULTILINE)]
    assert rows == [(option.usage, option.full_help) for option in OPTIONS]


def test_the_kinds_of_faults_are_those_that_can_be_planted():
    told = re.search(r"The kinds: ([^.]*)\.", README)[1].split()
    assert [one.rstrip(",") for one in told] == [f"{check}:{kind}" for check, kinds in FAULTS.items() for kind in kinds]


def test_each_set_up_command_runs_its_own_environment():
    commands = [line for block in blocks("sh") for line in block.splitlines() if "tox-uv" in line]
    assert [command.rsplit(" ", 1)[1] for command in commands] == ["perf", "tests"]
    environments = re.findall(r"^\[testenv:(\w+)\]$", (ROOT / "tox.ini").read_text(), re.MULTILINE)
    assert {"perf", "tests", "lint", "oldest"} <= set(environments)


def test_ci_runs_the_readmes_own_test_command():
    pattern = re.search(r"grep -E -m 1 '(.*)' README.md", (ROOT / ".ci" / "run").read_text())[1]
    assert re.search(pattern, README, re.MULTILINE)[0].endswith(" -e tests")


def test_the_example_of_a_users_model_runs_as_written(tmp_path, digits_root):
    (example,) = blocks("python")
    (tmp_path / "tiny.py").write_text(example)
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if "--perf-model=" in line]
    arguments = command.replace("perf/", str(ROOT / "perf")).split()[1:]
    quick = [
        "-k",
        "bs64 and (step or resident)",
        "--perf-device=cpu",
        "--perf-rounds=3",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, *quick, f"--benchmark-storage={tmp_path / 'kept'}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny:tiny_cnn" in done.stdout
    assert re.search(r"\b3 passed\b", done.stdout)


def test_the_contract_of_a_factory_takes_15_lines_at_most():
    contract = re.search(r"## Your own model\n(.*?)```python", README, re.DOTALL)[1].strip()
    assert len(contract.splitlines()) <= 15


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:perf|data|model)/[\w./]+\.\w+|\w+\.md)`", README))))
def test_every_file_that_is_named_exists(path):
    assert (ROOT / path).is_file()


def test_the_sample_report_is_at_most_100_columns_wide():
    (sample,) = blocks("text")
    assert len(sample.splitlines()) > 30
    assert max(map(len, sample.splitlines())) <= 100
