"""Any file in, a `Run` or a RecordError out: good ones, old ones, broken ones and hostile ones."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from perf.harness.record import RecordError, Run
from perf.harness.record import read as reading
from perf.harness.record.check import CheckVerdict, Standing
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.read import load, parse
from perf.harness.record.spec import load_spec

TOY = """
import pytest

@pytest.mark.parametrize("n", [10, 1000])
def test_sum(benchmark, n):
    benchmark.extra_info.update(benchmark_of="sums", parts={"a": 1, "deep": {"b": 2}}, list=[1, 2])
    benchmark.pedantic(lambda: sum(range(n)), rounds=4, iterations=3)
"""

OURS = {
    "datetime": "2026-11-23T10:48:00+00:00",
    "machine_info": {"node": "box"},
    "benchmarks": [
        {
            "name": "test_training_step[cpu-bs64]",
            "fullname": "perf/test_training_step.py::test_training_step[cpu-bs64]",
            "group": "training_step",
            "extra_info": {"benchmark": "training_step", "device": "cpu", "batch_size": 64, "pipeline": None},
            "stats": {"data": [0.25, 0.5, 0.75], "median": 0.5, "iterations": 2, "rounds": 3, "outliers": "0;1"},
        }
    ],
    "perf": {
        "schema_version": 1,
        "complete": False,
        "fingerprint": {"cpu_model": "EPYC", "threads": 2, "cuda": None},
        "fingerprint_id": "standard-1",
        "cases": [
            {"name": "test_training_step[cpu-bs64]", "outcome": "measured", "reason": ""},
            {"name": "test_epoch[cuda]", "outcome": "skipped", "reason": "cuda: no driver"},
        ],
    },
}

FIRST = ("benchmarks", 0)


def changed(value, *path):
    """OURS with `value` at `path`."""
    document = copy.deepcopy(OURS)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(document)


def without(*path):
    document = copy.deepcopy(OURS)
    place = document
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return json.dumps(document)


def refusal(text):
    with pytest.raises(RecordError) as caught:
        parse(text, "x.json")
    return str(caught.value)


@pytest.fixture(scope="module")
def toy_json(tmp_path_factory):
    """What the installed pytest-benchmark writes."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "test_toy.py").write_text(TOY)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-json=toy.json", "."]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "toy.json"


def test_a_file_of_pytest_benchmark_itself_is_read(toy_json):
    run = load(toy_json)
    assert run.source == str(toy_json)
    assert run.complete and run.cases == () and run.perf == {} and run.fingerprint == {}
    assert [benchmark.name for benchmark in run.benchmarks] == ["test_sum[10]", "test_sum[1000]"]
    first = run.benchmarks[0]
    assert not first.ours
    assert len(first.seconds) == 4 and first.iterations == 3
    assert sorted(first.seconds)[1] <= first.stats["median"] <= sorted(first.seconds)[2]
    assert first.info == {}  # a foreign test may keep anything there, also under Stepwatch's names
    assert first.options["timer"] == "perf_counter"
    assert run.machine["cpu"]


def test_a_file_without_raw_samples_is_read(toy_json):
    document = json.loads(toy_json.read_text())
    for benchmark in document["benchmarks"]:
        del benchmark["stats"]["data"]
    run = parse(json.dumps(document), "toy")
    assert run.benchmarks[0].seconds == ()
    assert run.benchmarks[0].stats["median"] > 0


def test_a_file_of_ours_is_read_in_full():
    run = parse(json.dumps(OURS), "ours.json")
    assert (run.source, run.datetime, run.complete) == ("ours.json", "2026-11-23T10:48:00+00:00", False)
    assert run.fingerprint == OURS["perf"]["fingerprint"]
    assert run.perf == OURS["perf"]
    assert [(case.name, case.outcome, case.reason) for case in run.cases] == [
        ("test_training_step[cpu-bs64]", "measured", ""),
        ("test_epoch[cuda]", "skipped", "cuda: no driver"),
    ]
    [benchmark] = run.benchmarks
    assert benchmark.ours
    assert benchmark.seconds == (0.25, 0.5, 0.75)  # pytest-benchmark has divided by the iterations already
    assert benchmark.iterations == 2
    assert benchmark.stats == {"median": 0.5, "iterations": 2.0, "rounds": 3.0}
    assert (benchmark.text("device"), benchmark.number("batch_size")) == ("cpu", 64.0)


@pytest.mark.parametrize(
    "path",
    [
        ("datetime",),
        ("machine_info",),
        ("perf",),
        ("perf", "complete"),
        ("perf", "fingerprint"),
        ("perf", "cases"),
        ("perf", "cases", 0, "reason"),
        ("benchmarks", 0, "fullname"),
        ("benchmarks", 0, "group"),
        ("benchmarks", 0, "extra_info"),
        ("benchmarks", 0, "stats", "iterations"),
        ("benchmarks", 0, "stats", "median"),
        ("benchmarks", 0, "stats", "data"),
    ],
)
def test_what_is_optional_may_be_missing(path):
    assert isinstance(parse(without(*path), "x"), Run)


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (None, ("benchmarks",), "no `benchmarks` list: not a pytest-benchmark file"),
        ({}, ("benchmarks",), "no `benchmarks` list: not a pytest-benchmark file"),
        (7, ("benchmarks", 0), "benchmarks[0]: expected an object, found 7"),
        (None, (*FIRST, "name"), "benchmarks[0].name: expected a text, found nothing"),
        (3, (*FIRST, "fullname"), "benchmarks[0].fullname: expected a text, found 3"),
        ([], (*FIRST, "stats"), "benchmarks[0].stats: expected an object, found an empty list"),
        ({}, (*FIRST, "stats"), "benchmarks[0].stats: neither `median` nor `data`"),
        ([], (*FIRST, "extra_info"), "benchmarks[0].extra_info: expected an object, found an empty list"),
        (0, (*FIRST, "stats", "median"), "benchmarks[0].stats.median: expected a number of at least 1e-18, found 0"),
        (True, (*FIRST, "stats", "median"), "benchmarks[0].stats.median: expected a number, found true"),
        ("1", (*FIRST, "stats", "median"), 'benchmarks[0].stats.median: expected a number, found "1"'),
        (1e300, (*FIRST, "stats", "median"),
         "benchmarks[0].stats.median: expected a number of at most 1e+10, found 1e+300"),
        (0.0, (*FIRST, "stats", "data", 1),
         "benchmarks[0].stats.data[1]: expected a number of at least 1e-18, found 0.0"),
        ({}, (*FIRST, "stats", "data"), "benchmarks[0].stats.data: expected a list, found an object"),
        (0, (*FIRST, "stats", "iterations"),
         "benchmarks[0].stats.iterations: expected a whole number of at least 1, found 0"),
        (5, ("datetime",), "datetime: expected a text, found 5"),
        ([], ("machine_info",), "machine_info: expected an object, found an empty list"),
        ("x", ("perf",), 'perf: expected an object, found "x"'),
        (1.0, ("perf", "schema_version"), "perf.schema_version: expected a whole number, found 1.0"),
        (2, ("perf", "schema_version"),
         "perf.schema_version: 2 was made by a newer Stepwatch (this one reads 1): update Stepwatch"),
        ("yes", ("perf", "complete"), 'perf.complete: expected true or false, found "yes"'),
        ({"a": {}}, ("perf", "fingerprint"), "perf.fingerprint.a: expected one value, found an object"),
        ([], ("perf", "devices"), "perf.devices: expected an object, found an empty list"),
        ({}, ("perf", "cases"), "perf.cases: expected a list, found an object"),
        (None, ("perf", "cases", 1, "outcome"), "perf.cases[1].outcome: expected a text, found nothing"),
        ({"name": "default", "accepted": "", "runs": []}, ("perf", "baseline"),
         "perf.baseline.runs: expected a list of at least 1, found an empty list"),
        ({"name": "default", "accepted": "", "runs": [{"source": "", "datetime": "", "commit": "", "medians": {
            "a": 1, "b": 0}}]}, ("perf", "baseline"),
         "perf.baseline.runs[0].medians.b: expected a number of at least 1e-18, found 0"),
        (4, ("perf", "cases", 1, "reason"), "perf.cases[1].reason: expected a text, found 4"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_place_and_what_was_found(value, path, reason):
    assert refusal(changed(value, *path)) == f"x.json: {reason}"


@pytest.mark.parametrize("value", [-1.5, 0.0, True, "1", 1e300, 10**400, None, {}, []])
@pytest.mark.parametrize("field", ["min", "max", "mean", "q1", "q3"])
def test_a_statistic_that_is_not_needed_refuses_nothing(field, value):
    [benchmark] = parse(changed(value, *FIRST, "stats", field), "x").benchmarks
    assert field not in benchmark.stats and benchmark.stats["median"] == 0.5


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400", "9" * 5000])
def test_a_number_that_json_does_not_have_is_none(token):
    text = changed("@", "perf", "fingerprint", "cpu").replace('"@"', token)
    assert parse(text, "x").fingerprint["cpu"] is None


def test_a_field_that_is_missing_is_named():
    assert refusal(without("benchmarks", 0, "name")) == "x.json: benchmarks[0].name: is missing"
    assert refusal(without("perf", "schema_version")) == "x.json: perf.schema_version: is missing"


def test_a_newer_file_is_recognized_before_its_fields_are():
    document = {"benchmarks": [{"renamed": 1}], "perf": {"schema_version": 99, "cases": "elsewhere"}}
    assert "newer Stepwatch" in refusal(json.dumps(document))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty file"),
        (" \n ", "empty file"),
        ("{\n  nope", "line 2, column 3: not JSON: Expecting property name enclosed in double quotes"),
        ("[NaN, nope]", "line 1, column 7: not JSON: Expecting value"),
        pytest.param("[" * 200_000, "nested too deeply", id="deep lists"),
        pytest.param('{"a":' * 200_000, "nested too deeply", id="deep objects"),
        ("[1]", "no `benchmarks` list: not a pytest-benchmark file"),
        ('"text"', "no `benchmarks` list: not a pytest-benchmark file"),
    ],
)
def test_what_is_no_usable_json_is_refused_in_one_line(text, reason):
    assert refusal(text) == f"x.json: {reason}"


def test_files_that_cannot_be_read_are_refused(tmp_path, monkeypatch):
    def why(path):
        with pytest.raises(RecordError) as caught:
            load(path)
        return str(caught.value).removeprefix(f"{path}: ")

    assert why(tmp_path / "none.json") == "cannot be read: No such file or directory"
    assert why(tmp_path) == "a folder; name a file in it"
    assert why(tmp_path / "a\0b").startswith(f"{tmp_path}/a�b: cannot be read: ")  # the rest is Python's
    binary = tmp_path / "binary.json"
    binary.write_bytes(b'{"a": "\xff"}')
    assert why(binary) == "byte 7: not UTF-8 text"
    monkeypatch.setattr(reading, "MAX_BYTES", 5)
    assert why(binary) == "larger than 0 MiB, which is too large to be read"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of Unix")
def test_a_pipe_that_nobody_writes_to_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match="not a regular file"):
        load(tmp_path / "pipe")


def test_the_mark_that_windows_shells_write_in_front_is_skipped(tmp_path):
    path = tmp_path / "bom.json"
    path.write_text(json.dumps(OURS), encoding="utf-8-sig")
    assert len(load(path).benchmarks) == 1


def test_hostile_text_in_a_message_is_one_printable_line():
    message = refusal(changed("\x1b[31m\nevil\x9b2J\u202e", "perf", "complete"))
    assert message == 'x.json: perf.complete: expected true or false, found "\\u001b[31m\\nevil�2J�"'
    assert refusal(changed({"\x1b]0;title\x07": []}, "perf", "fingerprint")).isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
# Documents that get past the first checks.
like_ours = st.fixed_dictionaries(
    {"benchmarks": st.lists(st.fixed_dictionaries({"name": json_values, "stats": json_values}), max_size=2)},
    optional={"perf": json_values, "datetime": json_values, "machine_info": json_values},
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_values | like_ours)
@example({"benchmarks": [], "perf": {}})
def test_any_json_is_a_run_or_a_record_error(document):
    try:
        assert isinstance(parse(json.dumps(document), "any"), Run)
    except RecordError as error:
        assert str(error).isprintable()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_run_or_a_record_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        load(path)
    except RecordError as error:
        assert str(error).isprintable()


JUDGED = {"name": "a", "verdict": "SLOWER", "reason": "", "ratio": 1.1, "low": 1.05, "high": 1.15, "base_s": 1e-3,
          "head_s": 1.1e-3, "launches": 4, "smallest_detectable": None}  # fmt: skip


def test_the_verdicts_of_a_gate_come_back_as_they_were_written():
    (judgement,) = parse(changed([JUDGED], "perf", "gate"), "x").judgements
    assert judgement == Judgement(**JUDGED | {"verdict": Verdict.SLOWER})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"verdict": "BAD"}, r'perf.gate\[0\].verdict: "BAD" is unknown to this version of Stepwatch'),
        ({"ratio": -1}, r"perf.gate\[0\].ratio: expected a number above 0, found -1"),
        ({"low": "x"}, r"perf.gate\[0\].low"),
        ({"base_s": 0}, r"perf.gate\[0\].base_s: expected a number of at least 1e-18, found 0"),
        ({"launches": -4}, r"perf.gate\[0\].launches: expected a whole number"),
        ({"name": None}, r"perf.gate\[0\].name: expected a text"),
    ],
)
def test_a_verdict_that_cannot_be_one_is_refused_by_its_place(wrong, says):
    with pytest.raises(RecordError, match=says):
        parse(changed([JUDGED | wrong], "perf", "gate"), "x")


# Records that earlier versions wrote: one of each kind, never changed.
RECORDS = Path(__file__).parent / "records"


STEP = "perf/test_training_step.py::test_training_step[cpu-bs64]"


def test_a_kept_run_is_read():
    run = load(RECORDS / "measured.json")
    assert run.complete and run.unfit == ("a part of perf/",) and run.smoke
    assert [case.outcome for case in run.cases] == ["measured", "skipped", "measured", "skipped"]
    step, epoch = run.benchmarks
    assert (step.fullname, step.text("device"), step.number("batch_size")) == (STEP, "cpu", 64)
    assert step.seconds[0] == 0.001199719998112414 and len(step.seconds) == 5
    assert sum(epoch.numbers("phases_s").values()) == pytest.approx(0.1167674)


def test_a_kept_gate_is_read():
    judged = load(RECORDS / "gate.json").judgements[0]
    assert (judged.name, judged.verdict) == (STEP, Verdict.INCONCLUSIVE)
    assert (judged.ratio, judged.launches) == (1.0082124299072495, 1)


def test_a_kept_qualification_is_read():
    run = load(RECORDS / "qualification.json")
    assert run.qualification is not None and run.qualification.standing is Standing.QUALIFIED
    copied, repeated = run.checks[0], run.checks[2]
    assert (copied.name, copied.verdict, copied.value) == ("memory copy", CheckVerdict.UNSUPPORTED, 17249272298.040134)
    assert (repeated.name, repeated.verdict, repeated.value) == ("replay self", CheckVerdict.PASS, 0.0)


def test_a_kept_baseline_is_read():
    run = load(RECORDS / "baseline.json")
    assert run.baseline is not None and run.baseline.name == "default"
    assert [medians.seconds[STEP] for medians in run.baseline.runs] == [0.0017476784996688366]


def test_a_spec_that_is_keyed_by_the_device_alone_is_to_be_made_again():
    with pytest.raises(
        RecordError, match=r"does not say what its values depend on; make it again from the same records"
    ):
        load_spec(RECORDS / "spec.json")
