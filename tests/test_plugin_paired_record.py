"""What the paired gate writes: its record, the page for a reviewer, the annotations of a job."""

import shlex
import tempfile

import pytest

from perf.__main__ import main
from perf.harness.measurement.side_by_side.link import SideError
from perf.harness.plugin.gate import SideBySide
from tests.conftest import PERF, STEP, kept, read
from tests.judged import INVALID, NAMES, SLOWER, UNDECIDED

pytest_plugins = ["pytester", "tests.gates"]

pytestmark = pytest.mark.usefixtures("preloaded")


def test_an_interrupt_prints_and_keeps_what_is_known(gate, world, pytester):
    world.interrupt = KeyboardInterrupt()
    world.found = dict.fromkeys(NAMES, UNDECIDED | {"reason": "interrupted"}) | {"inference[cpu-bs64]": SLOWER}
    result = gate()
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        ["PARTIAL: the run did not finish.", "*1 SLOWER · 3 INCONCLUSIVE", "Kept as */partial_gate_*.json"]
    )
    (path,) = kept(pytester)
    assert path.name.startswith("partial_gate_")
    assert read(path)["perf"]["complete"] is False


def test_a_gate_that_is_interrupted_before_its_first_pair_says_that_there_is_no_record(gate, world, pytester):
    world.errors["base"] = KeyboardInterrupt()
    result = gate()
    assert result.ret == 2 and kept(pytester) == []
    result.stdout.fnmatch_lines(
        ["The gate ended before its first pair: nothing was compared, and there is no record.", "*KeyboardInterrupt*"]
    )


def test_a_gate_tries_its_folder_first_and_keeps_its_verdict_if_the_disk_fills(
    gate, world, pytester, monkeypatch, full
):
    elsewhere = pytester.mkdir("elsewhere")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))
    world.found["inference[cpu-bs64]"] = SLOWER
    judge = SideBySide._judge
    monkeypatch.setattr(SideBySide, "_judge", lambda *named: full.append(pytester.path / "kept") or judge(*named))
    result = gate()
    assert result.ret == 1
    (path,) = elsewhere.glob("*.json")
    assert path.name.startswith("gate_") and read(path)["perf"]["gate"]
    result.stdout.fnmatch_lines(["*1 SLOWER · 3 SAME", "*No space left on device", f"Kept as {path} instead"])
    full.append(pytester.path)
    result = gate()
    assert (result.ret, len(world.gates)) == (4, 1)
    result.stderr.fnmatch_lines(
        ["*No space left on device, so the record of this run would be lost; free space there, *"]
    )


def test_collecting_alone_measures_nothing(gate, world, pytester):
    result = gate("--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_training_step[[]cpu-bs64]"])
    assert (world.gates, kept(pytester)) == ([], [])


@pytest.mark.parametrize(("more", "named"), [((), True), (("--perf-anonymous",), False)])
def test_an_anonymous_gate_keeps_no_command_and_no_path(gate, pytester, more, named):
    page = pytester.path / "page.md"
    assert gate(f"--perf-summary={page}", *more).ret == 0
    (path,) = kept(pytester)
    assert ("command" in read(path)["perf"]["gate_run"]) is named
    assert (str(pytester.path) in path.read_text()) is named


def test_the_record_is_kept_beside_the_others_and_where_it_is_wanted_and_fits_its_schema(gate, world, pytester):
    jsonschema = pytest.importorskip("jsonschema")
    world.found["inference[cpu-bs64]"] = SLOWER
    world.found["training_step[cpu-bs64]"] = INVALID
    gate(f"--benchmark-json={pytester.path / 'out.json'}")
    (path,) = kept(pytester)
    assert path.name.startswith("gate_")
    assert path.parent.name.startswith("smoke-simple_nn-digits-") or path.parent.parent.name.startswith("smoke-")
    document = read(path)
    assert read(pytester.path / "out.json") == document
    validator = jsonschema.Draft202012Validator(read(PERF / "schema.json"))
    assert [error.message for error in validator.iter_errors(document)] == []
    found = {entry["name"].rpartition("test_")[2]: entry for entry in document["perf"]["gate"]}
    slower = found["inference[cpu-bs64]"]
    assert {key: slower[key] for key in SLOWER} == SLOWER
    assert found["training_step[cpu-bs64]"]["ratio"] is None
    run = document["perf"]["gate_run"]
    assert (run["base"], run["head"], run["seconds"], run["min_effect"]) == (
        "main (0123456789)", "the working tree", 12.0, 0.025,
    )  # fmt: skip
    assert document["perf"]["complete"] is True
    slower["verdict"] = "SLOW"
    assert not validator.is_valid(document)


@pytest.fixture
def github(monkeypatch, pytester):
    """The variables of a job on GitHub, and the file of its page."""
    page = pytester.path / "page.md"
    page.write_text("of an earlier step\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    return page


def test_a_reviewer_reads_the_same_live_and_from_the_record(gate, world, pytester, github, capsys):
    world.found["inference[cpu-bs64]"] = SLOWER
    wanted = pytester.path / "summary.md"
    result = gate(f"--perf-summary={wanted}")
    assert result.ret == 1
    (record,) = kept(pytester)
    assert main(["report", str(record), "--format=github"]) == 0
    text = wanted.read_text()
    assert capsys.readouterr().out.endswith(text)
    assert text.startswith("<!-- stepwatch -->\n## Stepwatch: 1 SLOWER · 3 SAME\n")
    assert "base: main (0123456789); head: the working tree." in text and "cuda" not in text
    said = text.partition("The command</summary>\n\n")[2].partition("\n\n</details>")[0]
    command = shlex.split(said.replace("\\\n", ""))
    assert command[:2] == ["pytest", "$STEPWATCH/perf"] and "--perf-against=main" in command
    assert github.read_text() == f"of an earlier step\n{text}"
    result.stdout.fnmatch_lines(
        [f"Summary in {wanted}", "::error title=Stepwatch%3A inference[[]cpu-bs64]::SLOWER: 1.0*"]
    )


def test_a_summary_is_written_of_a_head_that_cannot_be_measured(gate, world, pytester, github):
    world.errors["head"] = SideError("ImportError: no such thing")
    assert gate().ret == 1
    assert "## Stepwatch: 4 INVALID\n" in github.read_text() and "no such thing" in github.read_text()


def test_what_cannot_be_judged_is_in_the_summary_with_its_reason(gate, world, pytester):
    gate(f"--perf-summary={pytester.path / 's.md'}", device="cpu,cuda")
    text = (pytester.path / "s.md").read_text()
    assert "<details><summary>Not judged: " in text and "not timed" not in text
    (record,) = kept(pytester)
    assert {case["outcome"] for case in read(record)["perf"]["cases"]} == {"skipped"}


@pytest.mark.parametrize(
    ("place", "says"),
    [("no/where.md", "there is no folder */no; make it first"),
     (".", "cannot be written; choose a file in a writable folder")],
)  # fmt: skip
def test_a_summary_that_cannot_be_written_is_refused_before_anything_is_measured(gate, world, pytester, place, says):
    result = gate(f"--perf-summary={pytester.path / place}")
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines([f"ERROR: --perf-summary=*: {says}"])


def test_without_github_nothing_is_annotated(gate, world, monkeypatch):
    world.found["inference[cpu-bs64]"] = SLOWER
    assert "::error" not in gate().stdout.str()


def test_a_page_of_the_job_that_cannot_be_written_is_said_and_changes_no_verdict(gate, world, github, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(github.parent))
    result = gate()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["GITHUB_STEP_SUMMARY: *: the page of the job has no summary"])


def test_a_json_file_that_cannot_be_written_is_refused_before_anything_is_measured(gate, world, pytester):
    result = gate(f"--benchmark-json={pytester.path / 'no' / 'where.json'}")
    assert (result.ret, world.gates) == (4, [])
    # Version 5.2 of pytest-benchmark opens it by itself.
    result.stderr.re_match_lines([".*(there is no folder .*/no; make it first|can't open .*where.json.*)$"])


@pytest.mark.parametrize("place", ["a_file/x.xml", "a_file/no/where.xml"])
def test_a_junit_file_that_cannot_be_written_is_refused_before_anything_is_measured(gate, world, pytester, place):
    (pytester.path / "a_file").touch()
    result = gate(f"--junitxml={pytester.path / place}")
    assert (result.ret, world.gates) == (4, [])
    result.stderr.fnmatch_lines([f"ERROR: --junitxml=*{place}: cannot be written; choose a file in a writable folder"])


def test_a_junit_file_may_be_in_a_folder_that_is_not_there_yet(gate, pytester):
    assert gate(f"--junitxml={pytester.path / 'no' / 'where.xml'}").ret == 0
    assert (pytester.path / "no" / "where.xml").is_file()


def test_a_gates_record_is_no_baseline_of_measured_runs(gate, pytester):
    gate()
    result = gate("--perf-gate=off", "--benchmark-compare", "--perf-rounds=1", path=STEP)
    result.stdout.fnmatch_lines(["NO BASELINE*"])
