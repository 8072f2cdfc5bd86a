"""`pytest perf/ --benchmark-compare`, as users meet it: what is judged, failed, refused and said.

The suite is a toy of two benchmarks, and its clock goes as fast as a test wants: no test depends on real time.
"""

import json
import os
import shlex
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from perf.__main__ import main
from perf.harness.measurement import calls
from perf.harness.options import PROFILES
from perf.harness.plugin import preflight, stock
from tests.conftest import PERF, kept, read
from tests.stored_runs import scaled

pytest_plugins = ["pytester"]

TOY = """
import pytest

def test_{0}(benchmark, device, batch_size, pipeline, execution, precision, model):
    benchmark.pedantic(int, rounds=3)
"""
FACTORS = (0.99, 1.0, 1.0, 1.0, 1.01)
STEP = "toy/test_training_step.py::test_training_step[[]cpu-bs64]"


class Toy:
    """Runs pytest on the toy suite; `speeds` has the seconds that each benchmark takes."""

    def __init__(self, pytester, digits_root):
        self.pytester = pytester
        self.folder = pytester.path / "toy"
        self.speeds = {"training_step": 1e-3, "inference": 2e-3}
        self.storage = pytester.path / "kept"
        self.common = (
            f"--perf-data-root={digits_root}", "--perf-data=digits", "--perf-batch-size=64", "--perf-device=cpu",
            f"--benchmark-storage={self.storage}", "-p", "no:xdist", "--perf-passes=1",
        )  # fmt: skip

    def run(self, *arguments):
        arguments = [*map(str, arguments)]
        if not any(argument.startswith("toy") for argument in arguments):
            arguments.insert(0, "toy")
        return self.pytester.runpytest_inprocess(*self.common, *arguments)

    def compare(self, *arguments):
        return self.run("--benchmark-compare", *arguments)

    def store(self, factors=FACTORS):
        """Whole runs whose times are the toy's, multiplied; returns their paths."""
        assert self.run().ret == 0
        (first,) = kept(self.pytester)
        document = read(first)
        paths = []
        for number, factor in enumerate(factors, start=1):
            made = scaled(document, factor) | {"datetime": f"2026-11-{number:02}T10:00:00+00:00"}
            paths.append(first.with_name(f"{number:04}_run.json"))
            paths[-1].write_text(json.dumps(made))
        first.unlink()
        return paths

    def slow(self, factor=1.5):
        self.speeds["training_step"] = factor * 1e-3

    def newest(self):
        return read(max(kept(self.pytester), key=lambda path: path.stat().st_mtime_ns))


@pytest.fixture
def toy(pytester, read_once, digits_root, monkeypatch):
    made = Toy(pytester, digits_root)
    made.folder.mkdir()
    for name in made.speeds:
        (made.folder / f"test_{name}.py").write_text(TOY.format(name))
    pytester.makeconftest("pytest_plugins = ['perf.harness.plugin.hooks']")
    now = [0.0]

    def timer():
        now[0] += next(speed for name, speed in made.speeds.items() if name in os.environ["PYTEST_CURRENT_TEST"])
        return now[0]

    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setattr(preflight, "PERF", made.folder)
    monkeypatch.setattr(calls, "device_timer", lambda synchronize: timer)
    # Nobody decides on smoke; this is its size under the name of the other.
    monkeypatch.setitem(PROFILES, "standard", replace(PROFILES["smoke"], name="standard"))
    return made


def outcomes(document):
    return [case["outcome"] for case in document["perf"]["cases"]]


def test_unchanged_code_passes_and_says_so(toy):
    toy.store()
    result = toy.compare("-W", "error")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "compare   with the newest 5 whole runs",
            "*Stepwatch: against the newest 5 whole runs*",
            "Nothing changed in 2 benchmarks.",
            "compared 2 · missing 0 · new 0",
            "2 SAME",
            "*Name (time in *",  # pytest-benchmark's own table comes after
        ]
    )
    assert [entry["verdict"] for entry in toy.newest()["perf"]["gate"]] == ["SAME", "SAME"]


def test_what_is_the_same_is_shown_with_its_times(toy):
    toy.store()
    toy.compare().stdout.fnmatch_lines(["inference[[]cpu-bs64] *2.00 ms → 2.00 ms *+0.0% *SAME"])


def test_a_slowdown_is_a_failed_test_of_one_line(toy, pytester):
    toy.store()
    toy.slow()
    result = toy.compare(f"--junit-xml={pytester.path / 'junit.xml'}", "-W", "error")
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "SLOWER: 1.00 ms → 1.50 ms, +50% [[]*] against the newest 5 whole runs",
            "training_step[[]cpu-bs64] *1.00 ms → 1.50 ms *SLOWER",
            "1 SLOWER · 1 SAME",
            f"FAILED {STEP} - *",
        ]
    )
    assert "Traceback" not in result.stdout.str() and "def test_" not in result.stdout.str()
    (suite,) = ElementTree.parse(pytester.path / "junit.xml").getroot()
    assert suite.get("failures") == "1"


def test_a_slow_run_keeps_its_data_and_is_no_baseline(toy, pytester):
    toy.store()
    toy.slow()
    for _ in range(2):  # the second would pass if the first had become the baseline
        result = toy.compare()
        assert result.ret == 1
        result.stdout.fnmatch_lines(["Later runs are not compared with it: 1 slower."])
    document = toy.newest()
    assert outcomes(document) == ["slower", "measured"]
    assert [entry["name"] for entry in document["benchmarks"]] == [
        "test_training_step[cpu-bs64]", "test_inference[cpu-bs64]",
    ]  # fmt: skip
    assert {path.name[:8] for path in kept(pytester)} == {*(f"000{n}_run" for n in range(1, 6)), "partial_"}
    assert main(["baseline", "accept", "partial", f"--storage={toy.storage}"]) == 4


def test_the_last_failed_are_the_slow_ones(toy):
    toy.store()
    toy.slow()
    assert toy.compare().ret == 1
    again = toy.compare("--lf")
    assert again.ret == 1
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*not selected 1*"])


def test_a_gate_that_warns_says_it_and_passes(toy):
    toy.store()
    toy.slow()
    result = toy.compare("--perf-gate=warn")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["training_step* *SLOWER", "1 SLOWER · 1 SAME"])


def test_a_gate_that_is_off_leaves_the_stock_table(toy):
    toy.store()
    toy.slow()
    result = toy.compare("--perf-gate=off")
    assert result.ret == 0
    assert "SLOWER" not in result.stdout.str() and "Name (time in" in result.stdout.str()


def test_one_stored_run_decides_nothing_which_is_no_failure_of_a_look(toy):
    toy.store([1.0])
    toy.slow()
    result = toy.compare("-W", "error")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "training_step[[]cpu-bs64] *+50%  NOT JUDGED YET",
            "*: 1 of 5 stored runs",
            "Nothing here fails the run; with --perf-gate=fail, this would be exit code 10.*",
        ]
    )
    assert outcomes(toy.newest()) == ["measured", "measured"]


@pytest.mark.parametrize(
    "asked", ["--perf-gate=fail", "--perf-inconclusive=warn", "--benchmark-compare-fail=median:500%"]
)
def test_one_stored_run_decides_nothing_and_is_exit_code_10_of_a_gate(toy, asked):
    toy.store([1.0])
    result = toy.compare(asked)
    assert result.ret == 10
    result.stdout.fnmatch_lines(["Nothing failed, but 2 could not be decided: exit code 10.*"])
    assert toy.compare(asked, "--perf-gate=warn").ret == 0


def test_an_ini_file_can_ask_for_a_gate(toy, pytester):
    toy.store([1.0])
    pytester.makeini("[pytest]\nperf_gate = fail")
    assert toy.compare().ret == 10


def test_runs_that_differ_too_much_are_no_failure_of_a_look(toy):
    toy.store([0.5, 1.0, 2.0, 0.7, 1.4])
    look, gate = toy.compare(), toy.compare("--perf-gate=fail")
    assert (look.ret, gate.ret) == (0, 10)
    look.stdout.fnmatch_lines(["training_step* *INCONCLUSIVE", "2 INCONCLUSIVE"])


def test_what_judges_is_a_command_of_the_same_selection_against_the_commit_of_the_runs(toy, monkeypatch):
    (path,) = toy.store([1.0])
    document = read(path)
    document["commit_info"] = {"id": "ab" * 20, "dirty": False}
    path.write_text(json.dumps(document))
    result = toy.compare("-k", "step or inference", "--perf-passes=1", "--perf-profile=standard")
    said = result.stdout.str().partition("side by side:")[2].strip().partition("\n\n")[0]
    command = shlex.split(said.replace("\\\n", ""))
    assert command[:1] == ["pytest"] and command[-1] == "--perf-against=ababababab"
    assert "step or inference" in command
    assert not any(word.startswith(("--benchmark-compare", "--perf-p")) for word in command)
    apart = toy.run("--benchmark-compare", "0001", "--perf-passes", "1").stdout.str()
    assert "0001" not in apart.partition("side by side:")[2].partition("--perf-against")[0]
    monkeypatch.setattr(stock, "commit", lambda config: {"id": "ab" * 20, "dirty": False})
    assert "side by side" not in toy.run("--benchmark-compare=0001").stdout.str()  # base and head would be one commit


PARTS = {"whole": (), "-k": ("-k", "step"), "a file": ("toy/test_training_step.py",)}


@pytest.mark.parametrize("part", PARTS)
def test_the_first_second_and_sixth_comparison(toy, part):
    """From nothing: each run is kept, and the later ones are compared with it, also runs of the same part."""
    codes, lines = [], []
    for number in range(6):
        # The clock of a machine is never twice the same; without that, the runs would be one run to the comparison.
        toy.speeds = {"training_step": 1e-3 * (1 + number / 1e4), "inference": 2e-3 * (1 + number / 1e4)}
        result = toy.run(*PARTS[part], "--benchmark-compare")
        codes.append(result.ret)
        lines.append(result.stdout.str())
    assert codes == [0] * 6
    assert "NO BASELINE: no earlier run" in lines[0] and "NOT JUDGED YET" not in lines[0]
    assert "too short for a verdict" not in lines[0]
    assert "1 of 5 stored runs" in lines[1] and "4 of 5 stored runs" in lines[4]
    cases = 1 if part != "whole" else 2
    assert f"{cases} SAME" in lines[5] and f"compared {cases} · missing 0 · new 0\n" in lines[5]
    if part != "whole":
        assert f"this selection, {SELECTED[part]}," in lines[0]
        assert f"compare   with 5 runs of the same selection, {SELECTED[part]}" in lines[5]


SELECTED = {"-k": "-k step", "a file": "test_training_step.py"}


def test_parts_are_no_base_for_the_whole_or_for_other_parts(toy):
    for _ in range(2):
        assert toy.run("-k", "step").ret == 0
    toy.compare().stdout.fnmatch_lines(["NO BASELINE: *"])
    toy.run("-k", "inference", "--benchmark-compare").stdout.fnmatch_lines(["compare   with 0001*"])  # the whole one
    assert main(["baseline", "accept", f"--storage={toy.storage}"]) == 0
    (baseline,) = toy.storage.rglob("baseline-default.json")
    assert len(read(baseline)["benchmarks"]) == 2


def test_what_a_selection_depends_on_is_not_how_an_earlier_run_ended(toy):
    toy.store()
    toy.slow()
    toy.compare()
    toy.compare("--lf").stdout.fnmatch_lines(["Later runs are not compared with it: *"])
    toy.slow(1.0)
    passed = toy.compare("--lf", "-k", "step")
    assert passed.ret == 0
    passed.stdout.fnmatch_lines(["Later runs are not compared with it: *"])


def test_a_missing_case_of_a_selection_fails(toy):
    for _ in range(2):
        assert toy.run("-k", "step or inference").ret == 0
        assert toy.run("-k", "not epoch").ret == 0
    drop(toy)
    for path in kept(toy.pytester):
        if "selection" not in str(path):
            path.unlink()
    result = toy.compare("-k", "not epoch")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["compared 1 · missing 1 · new 0"])


def test_inconclusive_fails_where_that_is_asked_for(toy):
    toy.store([1.0])
    result = toy.compare("--perf-inconclusive=fail")
    assert result.ret == 1
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["NOT JUDGED YET: 1.00 ms → 1.00 ms, +0.0%: 1 of 5 stored runs"])
    assert outcomes(toy.newest()) == ["inconclusive"] * 2
    assert len(toy.newest()["benchmarks"]) == 2


def test_a_smoke_run_decides_nothing(toy):
    assert toy.run("--perf-profile=smoke").ret == 0
    result = toy.compare("--perf-profile=smoke", "--perf-gate=fail")
    assert result.ret == 10
    result.stdout.fnmatch_lines(["*: a smoke run is too short for a verdict"])


def drop(toy, name="inference"):
    (toy.folder / f"test_{name}.py").unlink()


@pytest.mark.parametrize("arguments", [[], ["--benchmark-only"], ["-k", "inference or training"]])
def test_what_the_stored_runs_have_and_this_run_has_not_fails(toy, arguments):
    toy.store()
    drop(toy)
    result = toy.compare(*arguments)
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "MISSING: the newest 5 whole runs has it, and this run has no such case",
            "*Later runs are not compared with it: 1 missing*",
            "inference[[]cpu-bs64] *2.00 ms → – *MISSING",
            "compared 1 · missing 1 · new 0",
        ]
    )
    assert outcomes(toy.newest()) == ["measured", "missing"]


def test_a_selection_misses_nothing(toy):
    toy.store()
    for arguments in (["-k", "step"], ["toy/test_training_step.py"]):
        result = toy.run(*arguments, "--benchmark-compare")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["compared 1 · missing 0 · new 0 · not selected 1"])


def test_a_missing_one_is_said_where_the_gate_warns(toy):
    toy.store()
    drop(toy)
    result = toy.compare("--perf-gate=warn")
    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["compared 1 · missing 1 · new 0"])


def test_a_case_that_is_skipped_is_missing_where_the_stored_runs_have_it(toy, monkeypatch):
    paths = toy.store()
    for path in paths:
        path.write_text(path.read_text().replace("cpu-bs64", "cuda-bs64"))
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    result = toy.compare("--perf-device=cpu,cuda")
    assert result.ret == 1
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["MISSING: the newest 5 whole runs has it, and cuda: unplugged", "2 MISSING · 2 NEW"])


def test_a_new_benchmark_is_counted(toy):
    toy.store()
    (toy.folder / "test_training_run.py").write_text(TOY.format("training_run"))
    toy.speeds["training_run"] = 1.0
    result = toy.compare()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["training_run[[]cpu] *– → 1.00 s *NEW", "compared 2 · missing 0 · new 1"])


def test_nothing_in_common_is_refused(toy):
    toy.store()
    for name in ("training_step", "inference"):
        drop(toy, name)
    (toy.folder / "test_epoch.py").write_text(TOY.format("epoch"))
    result = toy.compare()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: --benchmark-compare: the newest 5 whole runs and this run have no benchmark in common*"]
    )
    result.stdout.no_fnmatch_line("*passed*")


def test_another_fingerprint_is_refused_before_anything_is_measured(toy, pytester):
    path = toy.store()[0]
    document = read(path)
    document["perf"]["fingerprint"] |= {"torch": "1.0", "threads": 64}
    other = pytester.path / "other.json"
    other.write_text(json.dumps(document))
    result = toy.run(f"--benchmark-compare={other}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: *other.json was not made as this run would be: *threads: 64 → 1, torch: 1.0 → *perf report*"]
    )
    result.stdout.no_fnmatch_line("*passed*")
    document["perf"]["host_name"] = document["machine_info"]["node"] = "another"
    document["machine_info"]["cpu"]["hz_actual"] = [2_445_438_000, 0]
    document["perf"]["fingerprint"] = read(path)["perf"]["fingerprint"]
    other.write_text(json.dumps(document))
    assert toy.run(f"--benchmark-compare={other}", "-W", "error").ret == 0


def test_a_stored_run_that_cannot_be_read_is_refused(toy):
    path = toy.store()[2]
    path.write_text("{")
    result = toy.compare()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: --benchmark-compare: *0003_run.json: line 1, column 2: not JSON*; remove that *"]
    )


@pytest.mark.parametrize("option", ["--benchmark-disable", "--benchmark-skip"])
def test_a_comparison_of_nothing_timed_is_refused(toy, option):
    toy.store()
    result = toy.compare(option)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare compares times, and nothing is timed*"])


def test_the_accepted_baseline_is_what_runs_are_compared_with(toy, pytester):
    toy.store()
    assert main(["baseline", "accept", f"--storage={toy.storage}"]) == 0
    (baseline,) = toy.storage.rglob("baseline-default.json")
    before = baseline.read_bytes()
    for path in toy.storage.rglob("0*.json"):  # they are faster now, and that changes nothing
        path.write_text(json.dumps(scaled(read(path), 0.5)))
    for arguments in (["--benchmark-compare"], ["--benchmark-compare=default"]):
        result = toy.run(*arguments, "-W", "error")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["compare   with baseline default", "2 SAME", "*Name (time in*"])
    assert baseline.read_bytes() == before
    assert baseline.stat().st_mode & 0o222 == 0


def test_a_baseline_of_another_fingerprint_is_refused_by_name(toy):
    toy.store()
    assert main(["baseline", "accept", "--name=v1", f"--storage={toy.storage}"]) == 0
    result = toy.run("--benchmark-compare=v1", "--perf-profile=smoke")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: *baseline-v1.json was not made as this run would be: profile: standard → smoke*"]
    )


def test_stored_runs_can_be_named(toy):
    toy.store()
    result = toy.run("--benchmark-compare=0003")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["compare   with 0003_run.json"])
    assert toy.run("--benchmark-compare=000").ret == 0  # five of them


def test_a_failed_check_of_pytest_benchmark_is_a_failed_test_of_one_line(toy, pytester):
    toy.store([1.0])
    toy.slow()
    result = toy.compare("--benchmark-compare-fail=median:5%")
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "median 1.50 ms is 50% above 1.00 ms of 0001_run.json (--benchmark-compare-fail=median:5%); "
            "Stepwatch's verdict is another: NOT JUDGED YET: *"
        ]
    )
    assert "Performance has regressed" not in result.stdout.str() + result.stderr.str()
    assert outcomes(toy.newest()) == ["slower", "measured"]
    only = toy.compare("--benchmark-compare-fail=max:1e-4", "--perf-gate=off")
    assert only.ret == 1
    only.stdout.fnmatch_lines(
        ["max 1.50 ms is 500 µs above 1.00 ms of 0001_run.json (--benchmark-compare-fail=max:0.0001)"]
    )


def test_a_check_of_pytest_benchmark_and_the_verdict_that_disagree_say_so(toy):
    toy.store((0.99, 1.0, 1.0, 1.0, 0.9))  # the check compares with the newest run alone
    toy.slow(1.03)
    result = toy.compare("--benchmark-compare-fail=median:8%")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["median *is 14% above *; Stepwatch's verdict is another: INCONCLUSIVE: *"])
    toy.slow()
    lenient = toy.compare("--benchmark-compare-fail=median:500%")
    assert lenient.ret == 1
    lenient.stdout.fnmatch_lines(["SLOWER: *; --benchmark-compare-fail would pass it"])
    both = toy.compare("--benchmark-compare-fail=median:5%")
    both.stdout.fnmatch_lines(["SLOWER: * against the newest 5 whole runs"])


def test_a_record_with_verdicts_fits_its_schema(toy, pytester):
    jsonschema = pytest.importorskip("jsonschema")
    schema = read(PERF / "schema.json")["$defs"]
    toy.store()
    toy.slow()
    drop(toy)
    toy.compare()
    gate = {"$ref": "#/$defs/perf", "$defs": schema}
    validator = jsonschema.Draft202012Validator(gate)
    perf = toy.newest()["perf"]
    assert {entry["verdict"] for entry in perf["gate"]} == {"SLOWER", "MISSING"}
    assert [error.message for error in validator.iter_errors(perf)] == []
    perf["gate"][0]["verdict"] = "FINE"
    assert not validator.is_valid(perf)
    assert main(["baseline", "accept", "0001", f"--storage={toy.storage}"]) == 0
    (baseline,) = toy.storage.rglob("baseline-default.json")
    assert [error.message for error in validator.iter_errors(read(baseline)["perf"])] == []


def test_a_run_of_passes_is_judged_by_the_median_of_their_medians(toy, monkeypatch):
    """As the stored runs are; the median of all rounds is another number: here nearly that of the slow pass alone."""
    toy.store()
    seen = []
    put = stock.benchmarks

    def with_passes(config):
        for one in put(config):
            one.stats.data = [1e-3, 1e-3, *[9e-3] * 5]
            one.extra_info["pass_rounds"] = {"1": 1, "2": 1, "3": 5}
        return put(config)

    monkeypatch.setattr(stock, "benchmarks", with_passes)
    monkeypatch.setattr(
        "perf.harness.plugin.stored.judge_stored", lambda name, head_s, *rest, **more: seen.append(head_s)
    )
    toy.compare()
    assert seen
    assert all(head_s == pytest.approx(1e-3) for head_s in seen)
