"""README, the pages in docs/ and CONTRIBUTING keep their word: commands, links, tables, examples, the map."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perf.harness.options import FAULTS, OPTIONS
from perf.harness.workload.benchmarks import DEFINITIONS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [README, *PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
ROW = r"^\| `(--perf-[^`]*)` \| (.*) \|$"
HARNESS = ROOT / "perf" / "harness"


def text(name):
    return (ROOT / name).read_text()


def blocks(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def commands(document):
    """Each command of the document's shell blocks, in one line."""
    lines = [line for block in blocks(document, "sh") for line in block.replace("\\\n", "").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readme_is_short_and_leads_to_every_page():
    lines = README.read_text().splitlines()
    assert len(lines) <= 200
    for page in PAGES:
        assert f"(docs/{page.name})" in README.read_text(), f"nothing leads to {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_a_question_and_its_first_command_stands_in_the_first_ten_lines(page):
    lines = page.read_text().splitlines()
    assert re.fullmatch(r"# .*\?", lines[0])
    assert "```sh" in lines[:9]


def links():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("http"):
                yield pytest.param(document, target, id=f"{document.name}-{target}")


@pytest.mark.parametrize(("document", "target"), list(links()))
def test_every_link_leads_somewhere(document, target):
    assert (document.parent / target).exists()


def named_files():
    pattern = r"`((?:perf|data|model|docs|tests)/[\w./-]+\.\w+)`|python3? ((?:perf)/[\w/]+\.py)"
    for document in DOCUMENTS[:-1]:
        for one, other in sorted(set(re.findall(pattern, document.read_text()))):
            yield pytest.param(one or other, id=f"{document.name}-{one or other}")


@pytest.mark.parametrize("path", list(named_files()))
def test_every_file_that_is_named_exists(path):
    assert (ROOT / path).is_file()


def options_of(document):
    return re.findall(r"--perf-[a-z-]+", document.read_text())


@pytest.mark.parametrize("document", DOCUMENTS[:-1], ids=lambda document: document.name)
def test_every_option_that_is_named_exists(document):
    known = {option.flag for option in OPTIONS}
    assert {name.rstrip("-") for name in options_of(document)} - known == set()


@pytest.mark.parametrize("document", [README, *PAGES], ids=lambda document: document.name)
def test_every_offline_command_exists(document):
    names = {path.stem for path in (ROOT / "perf" / "commands").glob("*.py")} - {"__init__", "output"}
    for command in commands(document):
        if command.startswith("python -m perf "):
            assert shlex.split(command)[3] in names


@pytest.mark.parametrize("document", [README, *PAGES], ids=lambda document: document.name)
def test_every_test_that_a_command_selects_exists(document):
    for command in commands(document):
        for path in re.findall(r"perf/[\w/]+\.py", command):
            assert (ROOT / path).is_file(), command


def test_the_table_of_options_is_the_options():
    table = text("docs/options.md").replace(r"\|", "/")  # Markdown wants a | in a cell escaped
    rows = [(flag.replace("/", "|"), meaning) for flag, meaning in re.findall(ROW, table, re.MULTILINE)]
    assert rows == [(option.usage, option.full_help) for option in OPTIONS]


def test_the_kinds_of_faults_are_those_that_can_be_planted():
    told = re.search(r"The kinds: ([^.]*)\.", text("docs/qualify.md"))[1].split()
    assert [one.rstrip(",") for one in told] == [f"{check}:{kind}" for check, kinds in FAULTS.items() for kind in kinds]


def test_the_tables_of_benchmarks_and_checks_have_them_all():
    benchmarks = re.findall(r"^\| `test_(\w+)\[", text("docs/measure.md"), re.MULTILINE)
    assert benchmarks == [definition.name for definition in DEFINITIONS]
    checks = re.findall(r"^\| (\w+) \| [^|]*\| [^|]*\|$", text("docs/qualify.md"), re.MULTILINE)
    assert [one for one in checks if one != "check"] == list(FAULTS)


def test_each_set_up_command_runs_its_own_environment():
    ours = [line for line in commands(README) if "tox-uv" in line]
    assert [command.rsplit(" ", 1)[1] for command in ours] == ["perf", "tests"]
    environments = re.findall(r"^\[testenv:(\w+)\]$", text("tox.ini"), re.MULTILINE)
    assert {"perf", "tests", "lint", "oldest"} <= set(environments)


def test_a_set_up_command_installs_once_and_then_runs_at_once(tmp_path):
    """With stand-ins for pip and tox: the second use does not call pip, which would warn that its folder is there."""
    (command, _) = [line for line in commands(README) if "tox-uv" in line]
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$2" >> calls\n[ "$2" = pip ] && mkdir -p .tox/tools\nexit 0\n')
    fake.chmod(0o755)
    for _ in range(2):
        done = subprocess.run(
            ["/bin/sh", "-euc", command], cwd=tmp_path, env={"PATH": f"{fake.parent}:/usr/bin:/bin"}, check=False
        )
        assert done.returncode == 0
    assert (tmp_path / "calls").read_text().split() == ["pip", "tox", "tox"]


def test_ci_runs_the_readmes_own_test_command():
    pattern = re.search(r"grep -E -m 1 '(.*)' README.md", text(".ci/run"))[1]
    (command,) = re.findall(pattern, README.read_text(), re.MULTILINE)[:1]
    found = next(line for line in README.read_text().splitlines() if re.search(pattern, line))
    assert found.endswith(" -e tests") and command


def test_the_example_of_a_users_model_runs_as_written(tmp_path, digits_root):
    page = ROOT / "docs" / "your-model.md"
    (example,) = blocks(page, "python")
    (tmp_path / "tiny.py").write_text(example)
    (command,) = [line for line in commands(page) if "--perf-model=" in line]
    arguments = command.replace("perf/", str(ROOT / "perf")).split()[1:]
    quick = ["-k", "bs64 and (step or resident)", "--perf-device=cpu", "--perf-rounds=3", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, *quick, f"--benchmark-storage={tmp_path / 'kept'}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny:tiny_cnn" in done.stdout
    assert re.search(r"\b3 passed\b", done.stdout)


@pytest.mark.parametrize("document", [README, *PAGES], ids=lambda document: document.name)
def test_what_is_printed_is_at_most_100_columns_wide(document):
    for sample in blocks(document, "text"):
        assert max(map(len, sample.splitlines())) <= 100


def test_the_map_names_every_file_of_the_harness_and_nothing_else():
    rows = re.findall(r"^\| `perf/harness/([\w/]*)` \| [^|]* \| ([^|]*) \|$", text("CONTRIBUTING.md"), re.MULTILINE)
    told = {f"{folder}{name}" for folder, names in rows for name in re.findall(r"`([\w.]+)`", names)}
    there = {
        str(path.relative_to(HARNESS))
        for path in HARNESS.rglob("*")
        if path.is_file() and path.suffix in (".py", ".json") and path.name != "__init__.py"
    }
    assert told == there
