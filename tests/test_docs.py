"""README, the pages in docs/ and CONTRIBUTING keep their word: commands, links, tables, examples, the map."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from perf.harness.measurement.phases import PHASES
from perf.harness.options import FAULTS, OPTIONS
from perf.harness.record import Case
from perf.harness.record.check import Check, CheckVerdict
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.report import render
from perf.harness.report.layout import page as laid_out
from perf.harness.report.qualification import qualification_blocks as checks_page
from perf.harness.report.verdicts import render_verdicts
from perf.harness.verdict.keys import DEPENDS_ON
from perf.harness.verdict.machine import qualification_of
from perf.harness.verdict.roofline import PHASE
from perf.harness.workload.benchmarks import DEFINITIONS
from tests.report_runs import MACHINE, benchmark, run, steps

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
def test_every_value_of_an_option_in_a_command_is_one_that_it_takes(document):
    parsers = {option.flag: option.parse for option in OPTIONS}
    for command in commands(document):
        for word in shlex.split(command, comments=True):
            flag, equals, value = word.partition("=")
            if flag in parsers and equals:
                parsers[flag](value)


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
    typed = [f"{option.flag}={option.metavar}" if option.metavar else option.flag for option in OPTIONS]
    assert rows == list(zip(typed, [option.full_help for option in OPTIONS], strict=True))


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


@pytest.fixture
def use(tmp_path):
    """Runs the first set-up command with stand-ins for pip and tox; gives its exit code and the modules called so far.

    pip makes tox's folder; where there is a file `offline`, it fails.
    """
    (command, _) = [line for line in commands(README) if "tox-uv" in line]
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\necho "$2" >> calls\n[ "$2" != pip ] || { [ ! -e offline ] && mkdir -p .tox/tools/tox; }\n'
    )
    fake.chmod(0o755)

    def use():
        environment = {"PATH": f"{fake.parent}:/usr/bin:/bin"}
        done = subprocess.run(["/bin/sh", "-euc", command], cwd=tmp_path, env=environment, check=False)
        return done.returncode, (tmp_path / "calls").read_text().split()

    return use


def test_a_set_up_command_installs_once_and_then_runs_at_once(use):
    """The second use does not call pip, which would warn that its folder is there."""
    assert use() == (0, ["pip", "tox"])
    assert use() == (0, ["pip", "tox", "tox"])


def test_a_set_up_command_whose_download_fails_ends_there_and_is_tried_again(use, tmp_path):
    (tmp_path / "offline").touch()
    code, called = use()
    assert code != 0 and called == ["pip"]
    (tmp_path / "offline").unlink()
    assert use() == (0, ["pip", "pip", "tox"])


def test_ci_runs_the_readmes_own_test_command():
    pattern = re.search(r"grep -E -m 1 '(.*)' README.md", text(".ci/run"))[1]
    (command,) = re.findall(pattern, README.read_text(), re.MULTILINE)[:1]
    found = next(line for line in README.read_text().splitlines() if re.search(pattern, line))
    assert found.endswith(" -e tests") and command


def test_the_example_of_a_users_model_runs_as_written(tmp_path, torch_process):
    page = ROOT / "docs" / "your-model.md"
    (example,) = blocks(page, "python")
    (tmp_path / "tiny.py").write_text(example)
    (command,) = [line for line in commands(page) if "--perf-model=" in line]
    arguments = shlex.split(command.replace("$STEPWATCH", str(ROOT)))[1:]
    quick = ["-k", "bs64 and (step or inference)", "--perf-device=cpu", "--perf-rounds=3", "--perf-passes=1"]
    command = [sys.executable, "-m", "pytest", *arguments, *quick, "-p", "no:cacheprovider"]
    done = torch_process.run([*command, f"--benchmark-storage={tmp_path / 'kept'}"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny.py:tiny_cnn" in done.stdout
    assert re.search(r"\b2 passed\b", done.stdout)


@pytest.mark.parametrize("document", [README, *PAGES], ids=lambda document: document.name)
def test_what_is_printed_is_at_most_100_columns_wide(document):
    for sample in blocks(document, "text"):
        assert max(map(len, sample.splitlines())) <= 100


# What the pages show as printed.


def tables(text):
    """The titles of the tables of a report, and the columns of each."""
    found = re.findall(r"^(\S.*)\n\n(\S.*|  .*)\n-[- ]+-$", text, re.MULTILINE)
    return [(title, re.split(r"  +", columns.strip())) for title, columns in found]


def columns_of(text):
    """The columns of the first table in `text`, which may have no title."""
    return re.split(r"  +", re.search(r"^(.*)\n-[- ]+-$", text, re.MULTILINE)[1].strip())


def sentences(text):
    """The paragraphs that are no tables, each in one line, with # for every number."""
    found = [" ".join(part.split()) for part in re.split(r"\n\n|\n(?=(?:time|bound by|peak memory|\[…\])\b)", text)]
    return {re.sub(r"\d[\d,.]*", "#", part) for part in found if "-----" not in part}


NO_GPU = Case("b[cuda]", "skipped", "cuda: Found no NVIDIA driver on your system")
NO_LIMIT = Case(
    "c[cpu]", "skipped", "cpu: needs --perf-memory-limit=SIZE, because the system and other programs need memory too"
)


def whole_run():
    """A run with every table of the sample."""
    cold = {"cold_start_s": 0.02, "peak_bytes": 2**30, "pass_rounds": {"1": 2, "2": 2, "3": 1, "4": 1, "5": 1}}
    of_two_kinds = cold | {"samples": (1.0, 1.0, 1.0, 1.0, 1.4, 1.4, 1.0)}
    gains, more_gains = ({"one_thread_s": one_s, "all_threads_s": 1e-3} for one_s in (1.4e-3, 1.8e-3))
    at_64, waits = {"samples_per_iteration": 60000}, {"data_wait": 8.0, "copy": 0.5}
    return run(
        benchmark("training_step", seconds=679e-6, overhead_s=500e-6, parameters=101770, flop_per_sample=4e5,
                  matmul_flop_per_s=1e11, **gains, **of_two_kinds),
        benchmark("training_step", batch=512, seconds=1.3e-3, overhead_s=100e-6, **cold, **more_gains),
        benchmark("inference", seconds=232e-6, overhead_s=100e-6, **cold),
        benchmark("epoch", pipeline="dataloader", seconds=14.5, phases_s=waits, phases_wall_s=9.4, **at_64, **cold),
        benchmark("epoch", pipeline="resident", seconds=1.31, phases_s={"data_wait": 0.1, "copy": 0.0},
                  phases_wall_s=1.3, **at_64, **cold),
        benchmark("input_pipeline", pipeline="dataloader", seconds=17.3e-3, **cold),
        benchmark("input_pipeline", pipeline="resident", seconds=45.8e-6, **of_two_kinds),
        benchmark("training_run", pipeline="resident", seconds=5.19, epochs=5, samples_per_iteration=300000,
                  accuracy=0.942, loss_last=0.179, **of_two_kinds),
        cases=[Case("a", "measured"), NO_GPU, NO_LIMIT],
        source="this run",
        **MACHINE | {"environment": MACHINE["environment"] | {"threads": 2}},
    )  # fmt: skip


def test_the_sample_report_has_the_tables_the_columns_and_the_sentences_of_a_report():
    (sample,) = blocks(ROOT / "docs/measure.md", "text")
    printed = render([whole_run()], width=100)
    assert max(map(len, sample.splitlines())) <= 100
    assert tables(sample) == tables(printed)
    own = tuple(part for part in sentences(sample) if part.startswith(("cpu AMD", "BIMODAL on cpu: ", "Saved as ")))
    assert sentences(sample) - sentences(printed) == set(own)
    (bimodal,) = (part for part in sentences(printed) if part.startswith("BIMODAL on cpu: "))
    assert any(part.endswith(bimodal[bimodal.index(". They are fast") :]) for part in own)


def test_the_readme_shows_a_table_and_a_sentence_of_a_report():
    printed, shown = render([whole_run()], width=100), blocks(README, "text")[0]
    assert ("Epoch", columns_of(shown)) in tables(printed)
    (sentence,) = (part.removeprefix("SMOKE: ") for part in sentences(shown))
    assert sentence in sentences(printed)


def judged(benchmark, verdict, base_s, head_s, ratio, low=None, high=None, reason=""):
    return Judgement(f"perf/test_x.py::test_{benchmark}", verdict, reason, ratio, low, high, base_s, head_s, 4)


def test_the_sample_of_the_gate_is_what_the_gate_prints():
    takes = {"base_bytes": 827 * 2**10, "head_bytes": 287 * 2**20 - 827 * 2**5, "base_loss": 2.267, "head_loss": 2.276}
    takes["reason"] = "training takes 286.9 MiB instead of 0.8 MiB"
    slower = judged("training_step[cpu-bs64]", Verdict.SLOWER, 381e-6, 467e-6, 1.23, 1.22, 1.24)
    found = [
        replace(slower, **takes),
        judged("inference[cpu-bs64]", Verdict.SAME, 146e-6, 146e-6, 1.001, 0.993, 1.008),
        judged("input_pipeline[cpu-bs64-dataloader]", Verdict.SAME, 2.21e-3, 2.24e-3, 1.012, 0.996, 1.029),
    ]
    printed = render_verdicts(found, width=100, verbose=False).removeprefix("Stepwatch\n\n")
    sample, _ = blocks(ROOT / "docs/gate.md", "text")  # the second is a commit message
    assert sample.startswith(printed + "\n")
    columns = dict(tables(printed))["Verdicts"]
    assert columns_of(blocks(README, "text")[1]) == columns


def test_the_sample_of_a_comparison_is_what_it_prints():
    reason = "1 of 5 stored runs"
    found = [
        judged("inference[cpu-bs64]", Verdict.NOT_JUDGED, 247e-6, 15.9e-3, 64.6, reason=reason),
        judged("training_run[cpu]", Verdict.NOT_JUDGED, 0.734, 0.751, 1.023, reason=reason),
    ]
    printed = render_verdicts(found, width=100, verbose=False).removeprefix("Stepwatch\n\n")
    assert blocks(ROOT / "docs/compare.md", "text") == [printed + "\n"]


def test_the_sample_of_the_modes_has_the_columns_of_a_report():
    times = {
        (64, "eager", "fp32"): 453e-6, (64, "compile", "fp32"): 262e-6,
        (512, "eager", "fp32"): 1.91e-3, (512, "compile", "bf16"): 830e-6,
    }  # fmt: skip
    plain = {"flop_per_sample": 4e5, "overhead_s": 200e-6, "precision_difference": 1e-5, "parity_steps": 50}
    printed = render([run(*steps(times, **plain))], width=110)
    (sample,) = blocks(ROOT / "docs/modes.md", "text")
    (columns,) = [columns for title, columns in tables(printed) if title.startswith("Training step by mode")]
    assert columns_of(sample) == columns


def test_the_samples_of_a_qualification_have_the_columns_and_the_verdict_of_a_page():
    known = {"flop_per_byte": 9.24, "achieved_flop_per_s": 73e9, "bytes_per_step": 1, "bound_by": "overhead"}
    known |= dict.fromkeys((f"{PHASE}{name}" for name in PHASES), 0.1)
    found = [Check("step", "cpu", CheckVerdict.UNJUDGED, "bs64", 178000, "samples/s", details=known)]
    found += [Check("matmul", "cpu", CheckVerdict.PASS, str(number)) for number in range(16)]
    found += [Check("memory", "cpu", CheckVerdict.UNJUDGED, str(number)) for number in range(13)]
    found += [Check("errors", "cpu", CheckVerdict.UNSUPPORTED, str(number)) for number in range(5)]
    printed = laid_out(checks_page(found, qualification_of(found, unjudged=["memory"])), 100)
    (sample,) = blocks(ROOT / "docs/qualify.md", "text")
    assert tables(sample) == tables(printed)
    verdict = sample.splitlines()[-3]
    *_, first, second = shown = blocks(README, "text")[2].splitlines()
    assert verdict == shown[0] and {verdict, first, second} <= set(printed.splitlines())


def test_the_docs_say_what_each_metric_depends_on():
    rows = re.findall(r"^\| (\w+) \| ((?:device)[\w ,]*) \|$", text("docs/qualify.md"), re.MULTILINE)
    assert {check: tuple(names.split(", ")) for check, names in rows} == dict(DEPENDS_ON)


def test_the_map_names_every_file_of_the_harness_and_nothing_else():
    rows = re.findall(r"^\| `perf/harness/([\w/]*)` \| [^|]* \| ([^|]*) \|$", text("CONTRIBUTING.md"), re.MULTILINE)
    told = {f"{folder}{name}" for folder, names in rows for name in re.findall(r"`([\w.]+)`", names)}
    there = {
        str(path.relative_to(HARNESS))
        for path in HARNESS.rglob("*")
        if path.is_file() and path.suffix in (".py", ".json") and path.name != "__init__.py"
    }
    assert told == there


def test_the_words_name_every_verdict():
    row = re.search(r"^\| verdict \| (.*) for a benchmark; (.*) for a check \|$", text("CONTRIBUTING.md"), re.MULTILINE)
    named = [re.split(r", | or ", kind) for kind in row.groups()]
    assert named == [list(Verdict), list(CheckVerdict)]
