"""Files of other programs: their times are shown where that is possible, and otherwise their tool is named."""

import json

import pytest

from perf.harness.record import RecordError
from perf.harness.record.read import parse
from perf.harness.report import render
from perf.harness.verdict.stored_runs import Incomparable, compare

MACHINE = {
    "node": "n", "machine": "x86_64", "system": "Linux", "python_version": "3.12.1",
    "cpu": {"brand_raw": "Some CPU", "count": 4},
}  # fmt: skip


def entry(name="test_a", median=1e-3, file="tests/test_a.py", options=None, info=None, **stats):
    stats = {"median": median, "q1": 0.95 * (median or 0), "q3": 1.05 * (median or 0), "rounds": 10, **stats}
    options = {"timer": "perf_counter", "disable_gc": False} | (options or {})
    return {"name": name, "fullname": f"{file}::{name}", "stats": stats, "extra_info": info or {}, "options": options}


def foreign(*entries, source="x.json", **rest):
    document = {"machine_info": MACHINE, "commit_info": {"id": "a" * 40}, "benchmarks": entries, **rest}
    return parse(json.dumps(document), source)


def shown(run):
    """The lines of the table of a report, with single spaces."""
    lines = render([run]).split("Other benchmarks")[1].split("\n\n")[1].splitlines()[2:]
    return [" ".join(line.split()) for line in lines]


def refusal(root):
    with pytest.raises(RecordError) as caught:
        parse(root if isinstance(root, str) else json.dumps(root), "x.json")
    return str(caught.value).removeprefix("x.json: ")


HYPERFINE = {"results": [
    {"command": "python a.py", "mean": 0.2, "median": 0.2, "min": 0.1, "max": 0.3, "times": [0.1, 0.2, 0.3],
     "exit_codes": [0, 0, 0]},
    {"command": "sleep 1", "mean": 1.0, "stddev": None, "median": 1.0, "min": 1.0, "max": 1.0},
]}  # fmt: skip
PYPERF = {
    "version": "1.0",
    "metadata": {"name": "sort", "unit": "second", "cpu_model_name": "Some CPU", "python_version": "3.12.1"},
    "benchmarks": [{"runs": [
        {"metadata": {"calibrate_loops": 8}, "warmups": [[1, 0.02]]},
        {"values": [0.010, 0.011], "metadata": {"date": "2026-01-02 03:04:05.678"}},
        {"values": [0.012]},
    ]}],
}  # fmt: skip


def test_the_times_of_hyperfine_are_shown():
    run = parse(json.dumps(HYPERFINE), "x.json")
    assert [benchmark.seconds for benchmark in run.benchmarks] == [(0.1, 0.2, 0.3), ()]
    assert shown(run) == ["python a.py 200 ms ±25% 3", "sleep 1 1.00 s 1"]


def test_the_times_of_pyperf_are_shown_without_those_of_its_calibration():
    run = parse(json.dumps(PYPERF), "x.json")
    assert run.benchmarks[0].seconds == (0.010, 0.011, 0.012)
    assert shown(run) == ["sort 11.0 ms ±4.5% 3"]
    assert "cpu       Some CPU" in render([run])


@pytest.mark.parametrize(
    ("root", "tool"),
    [
        ({"context": {"host_name": "h"}, "benchmarks": [{"name": "BM_a", "real_time": 12.3}]}, "Google Benchmark"),
        ({"commit_hash": "abc", "env_name": "py3.12", "results": {"time_a": [[1.0]]}, "version": 2}, "asv"),
        ({"creator": {"name": "pytest-codspeed"}, "instrument": {}, "benchmarks": []}, "pytest-codspeed"),
        ({"lastUpdate": 1, "repoUrl": "u", "entries": {}}, "github-action-benchmark"),
        ([{"name": "a", "unit": "ms", "value": 3}], "github-action-benchmark"),
        ('window.BENCHMARK_DATA = {"lastUpdate": 1}', "github-action-benchmark"),
        (PYPERF | {"metadata": {"unit": "byte"}}, "pyperf"),
    ],
)
def test_the_tool_of_a_file_that_cannot_be_read_is_named(root, tool):
    can = "give a file of pytest-benchmark, hyperfine or pyperf"
    assert refusal(root) == f"a file of {tool}, whose times cannot be read here; {can}"


@pytest.mark.parametrize("root", [[], {}, {"results": []}, {"results": [{"a": 1}]}, [{"name": "a"}], 3, None])
def test_a_file_of_an_unknown_tool_is_no_benchmark_file(root):
    assert refusal(root) == "no `benchmarks` list: not a pytest-benchmark file"


@pytest.mark.parametrize(
    "root",
    [
        {"benchmarks": [{"runs": {"a": 1}}]}, {"benchmarks": [{"runs": "x"}]}, {"benchmarks": [{"runs": [1]}]},
        {"creator": {"name": []}, "benchmarks": []}, {"results": [{"command": "a", "times": 3}]},
    ],
)  # fmt: skip
def test_odd_contents_of_another_tools_file_are_no_traceback(root):
    assert parse(json.dumps(root), "x.json").benchmarks == ()


def test_a_time_of_zero_hides_no_other_benchmark():
    run = foreign(entry("test_fast", 1e-6, min=0.0), entry("test_none", 0.0, data=[0.0, 0.0]), entry("test_slow", 1.0))
    assert shown(run) == ["test_fast 1.00 µs ±5.0% 10", "test_slow 1.00 s ±5.0% 10"]
    assert "Without a usable time: test_none." in render([run])


def test_raw_times_with_a_zero_give_way_to_the_statistics():
    assert shown(foreign(entry(data=[0.0, 1e-3, 1e-3]))) == ["test_a 1.00 ms ±5.0% 10"]


def test_what_a_foreign_test_keeps_under_our_names_counts_for_nothing():
    info = {"benchmark": "memory", "device": "cpu", "batch_size": 64}
    assert shown(foreign(entry("test_alloc", info=info))) == ["test_alloc 1.00 ms ±5.0% 10"]


def test_nan_and_numbers_beyond_a_float_in_what_is_not_needed_refuse_nothing():
    text = json.dumps({"benchmarks": [entry(info={"x": float("nan")}) | {"params": {"n": 2**2048}}]})
    assert "NaN" in text
    assert shown(parse(text, "x")) == ["test_a 1.00 ms ±5.0% 10"]


def test_equal_short_names_are_told_apart_in_every_format():
    run = foreign(entry(), entry(median=5e-3, file="tests/test_b.py"), entry(median=9e-3))
    assert shown(run) == [
        "tests/test_a.py::test_a 1.00 ms ±5.0% 10",
        "tests/test_b.py::test_a 5.00 ms ±5.0% 10",
        "tests/test_a.py::test_a#2 9.00 ms ±5.0% 10",
    ]
    assert [row["fullname"] for row in json.loads(render([run], format="json"))] == [
        "tests/test_a.py::test_a", "tests/test_b.py::test_a", "tests/test_a.py::test_a",
    ]  # fmt: skip


def test_a_name_that_is_there_twice_is_compared_once_and_named():
    found = compare([foreign(entry())], foreign(entry(), entry(median=9e-3), source="twice.json"), 0.025)
    assert [(one.name, one.head_s) for one in found.judgements] == [
        ("tests/test_a.py::test_a", 1e-3), ("tests/test_a.py::test_a#2", 9e-3),
    ]  # fmt: skip
    assert found.notes[0] == "twice.json has a name more than once; #2 is the second: tests/test_a.py::test_a."


STORED = [
    foreign(entry("test_a", time), entry("test_b", time)) for time in (1e-3, 1.001e-3, 1.002e-3, 0.999e-3, 0.998e-3)
]


def test_other_machines_are_not_compared():
    other = foreign(entry(), machine_info=MACHINE | {"cpu": {"brand_raw": "Old CPU"}, "python_version": "3.9.0"})
    said = r"cpu: Some CPU → Old CPU, python: 3\.12 → 3\.9; the command `report` shows both$"
    with pytest.raises(Incomparable, match=said):
        compare(STORED, other, 0.025)


def test_a_patch_of_python_or_another_host_is_the_same_machine():
    same = foreign(entry(), machine_info=MACHINE | {"node": "m", "python_version": "3.12.9"})
    assert compare(STORED, same, 0.025).judgements[0].verdict == "SAME"


def test_times_of_another_timer_decide_nothing():
    head = foreign(entry("test_a", 2e-3, options={"timer": "time", "disable_gc": True}), entry("test_b", 2e-3))
    first, second = compare(STORED, head, 0.025).judgements
    assert (first.verdict, second.verdict) == ("INCONCLUSIVE", "SLOWER")
    assert first.reason == "measured in another way: timer: perf_counter → time, disable_gc: False → True"
