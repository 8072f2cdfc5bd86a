"""Trends: what the stored runs say is printed, with its commits and a picture, and is never red."""

import csv
import json
import math
import random

import pytest

from perf.__main__ import main
from perf.harness.record.read import parse
from perf.harness.report.layout import encodable
from perf.harness.verdict.trend import CHANCE, Point, Trend, histories
from tests.stored_runs import record, write

NAME = "training_step[cpu-bs64]"


def stored(folder, factors, **perf):
    for number, factor in enumerate(factors):
        made = record(factor, number=number % 28, **perf)
        made["datetime"] = f"2026-{1 + number // 28:02}-{1 + number % 28:02}T10:00:00+00:00"
        made["commit_info"]["id"] = f"{number:040x}"
        write(folder / f"{number:04}_run.json", made)


def drifting(count=30):
    source = random.Random(11)
    return [math.exp(source.gauss(0, 0.01) + at * math.log(1.01)) for at in range(count)]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def trend(capsys, *arguments):
    code = main(["trend", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_drift_is_said_with_its_commits_and_is_never_red(tmp_path, capsys):
    stored(tmp_path, drifting())
    code, out, err = trend(capsys, tmp_path)
    assert (code, err) == (0, "")
    assert "30 runs, 2026-01-01 to 2026-02-02" in out
    (line,) = [line for line in out.splitlines() if line.startswith(NAME)][:1]
    assert "+3" in line and "▁" in line and "█" in line and line.endswith(" more")
    told = " ".join(out.split())
    assert f"{NAME}: +" in told and "(0000000000" in told


def test_a_run_that_is_named_twice_is_one_point(tmp_path, capsys):
    stored(tmp_path, drifting(4))
    one = next(tmp_path.rglob("*.json"))
    assert trend(capsys, tmp_path, one, tmp_path)[1] == trend(capsys, tmp_path)[1]


def test_a_history_without_drift_says_nothing_of_a_change(tmp_path, capsys):
    source = random.Random(2)
    stored(tmp_path, [math.exp(source.gauss(0, 0.01)) for _ in range(30)])
    lines = [line for line in trend(capsys, tmp_path)[1].splitlines() if line.startswith(("training_step", "epoch"))]
    assert len(lines) == 2 and all(line.endswith("–") for line in lines)


def test_runs_of_several_hosts_are_said_to_be_so(tmp_path, capsys):
    stored(tmp_path / "a", [1.0] * 5, host_name="a")
    assert "machines (" not in trend(capsys, tmp_path)[1]
    stored(tmp_path / "b", [1.001] * 5, host_name="b")
    assert "Measured on 2 machines (a, b): a difference may be one between them." in trend(capsys, tmp_path)[1]


def test_other_machines_and_gates_are_histories_of_their_own(tmp_path):
    gate = {"name": f"perf/x.py::test_{NAME}", "verdict": "SAME", "head_s": 2e-3, "base_s": 1e-3}
    texts = [
        record(number=0), record(1.1, number=1), record(number=2, fingerprint={"cpu_model": "other"}),
        record(number=3, names=(), gate=[gate], gate_run={"base": "a", "head": "b"}),
        record(number=4, names=(), gate=[gate], gate_run={"base": "a", "head": "b"}),
    ]  # fmt: skip
    found = histories([parse(json.dumps(text), f"{n}.json") for n, text in enumerate(texts)])
    assert [(len(one.runs), one.gates) for one in found] == [(2, False), (2, True), (1, False)]
    assert found[0].trends[0].since_first == pytest.approx(1.1)
    assert found[1].trends[0].points[0].seconds == 2e-3


def test_runs_of_a_part_are_a_history_of_their_own(tmp_path):
    part = {"unfit": ["3 deselected"], "names": (NAME,)}
    texts = [record(number=n, **(part if n > 1 else {})) for n in range(5)]
    found = histories([parse(json.dumps(text), f"{n}.json") for n, text in enumerate(texts)])
    assert [(len(one.runs), len(one.trends)) for one in found] == [(3, 1), (2, 2)]


def test_a_new_benchmark_begins_no_new_history_and_another_part_does():
    def parts(*names, **rest):
        texts = [record(number=number, names=some, **rest) for number, some in enumerate(names)]
        return [len(one.runs) for one in histories([parse(json.dumps(text), "a.json") for text in texts])]

    both = (NAME, "epoch[cpu-bs64]")
    assert parts((NAME,), both) == [2]
    assert parts(both[:1], both[1:], unfit=["3 deselected"]) == [1, 1]


def changes_of(*seconds):
    run = parse(json.dumps(record()), "a.json")
    return [round(one.ratio, 6) for one in Trend("a", tuple(Point(one, run) for one in seconds), 0.01).changes]


def test_a_change_is_the_ratio_of_the_medians_before_and_after_and_less_than_1_percent_is_none():
    before = [1.0, 1.0001, 1.0002, 1.0003, 1.0004, 1.0005, 1.0006, 1.0007]
    assert changes_of(*before, *([1.02] * 8)) == [round(1.02 / math.sqrt(1.0003 * 1.0004), 6)]
    assert changes_of(*before, *([1.008] * 8)) == []


@pytest.mark.parametrize("cases", [1, 4])
def test_the_cases_of_a_history_share_the_chance_of_a_change_where_there_is_none(cases):
    names = [f"training_step[cpu-bs{number}]" for number in range(cases)]
    (history,) = histories([parse(json.dumps(record(names=names)), "a.json")])
    assert [trend.chance for trend in history.trends] == [CHANCE / cases] * cases


def test_changes_are_searched_in_the_newest_runs():
    wiggle = [1.0, 1.0001] * 50
    assert changes_of(*[1.5] * 30, *wiggle) == []
    assert changes_of(*[1.5] * 30, *wiggle[:80]) == [round(math.sqrt(1.0001) / 1.5, 6)]


def test_runs_that_have_no_other_to_compare_with_are_named(tmp_path, capsys):
    stored(tmp_path, [1.0, 1.0])
    write(tmp_path / "other_machine.json", record(number=5, fingerprint={"cpu_model": "other"}))
    write(tmp_path / "a_part.json", record(number=6, unfit=["3 deselected"], names=(NAME,)))
    said = " ".join(trend(capsys, tmp_path)[1].split())
    assert "each the only run of its machine, settings and benchmarks: other_machine.json, a_part.json." in said


def test_a_gate_that_has_measured_nothing_is_said(tmp_path, capsys):
    stored(tmp_path, [1.0, 1.0])
    gate = {"name": f"perf/x.py::test_{NAME}", "verdict": "INVALID"}
    write(tmp_path / "gate_x.json", record(names=(), gate=[gate], gate_run={"base": "a", "head": "b"}))
    assert "gate_x.json:agatethathasmeasurednothing" in "".join(trend(capsys, tmp_path)[1].split())


def test_a_run_that_is_given_twice_is_one_point(tmp_path):
    run = parse(json.dumps(record()), "a.json")
    (history,) = histories([run, run])
    assert len(history.runs) == 1


def test_what_is_not_read_is_said_with_its_reason(tmp_path, capsys):
    stored(tmp_path, [1.0, 1.0])
    write(tmp_path / "partial_x.json", record(complete=False))
    write(tmp_path / "smoke.json", record(profile="smoke"))
    (tmp_path / "broken.json").write_text("{")
    write(tmp_path / "baseline-default.json", record())
    _, out, _ = trend(capsys, tmp_path)
    said = "".join(out.split("Not read:")[1].split())
    for reason in ("partial_x.json: it did not finish", "smoke.json: a smoke run is too short", "broken.json: line 1"):
        assert "".join(reason.split()) in said  # a long path is broken anywhere
    assert "baseline" not in said


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "no whole run and no gate here"),
        (
            lambda folder: [write(folder / name, record(profile="smoke")) for name in ("a.json", "b.json")],
            "no whole run and no gate here: 2 files: a smoke run is too short\n",
        ),
        (lambda folder: (folder / "x.json").write_text("{"), "no whole run and no gate here: *x.json: line 1*"),
    ],
)
def test_a_folder_without_runs_is_one_line(tmp_path, capsys, make, says):
    make(tmp_path)
    code, out, err = trend(capsys, tmp_path)
    assert (code, out) == (4, "") and err.count("\n") == 1
    assert all(part in err for part in says.split("*"))


def test_a_file_that_is_named_and_cannot_be_read_is_an_error(tmp_path, capsys):
    (tmp_path / "x.json").write_text("{")
    code, out, err = trend(capsys, tmp_path / "x.json")
    assert (code, out) == (4, "") and "x.json: line 1" in err and "no whole run" not in err
    stored(tmp_path, [1.0, 1.0])
    code, out, _ = trend(capsys, *sorted(tmp_path.glob("*.json")))
    assert code == 4 and "Stepwatch: trend" in out  # the others are reported
    assert "x.json:line1" in "".join(out.split("Not read:")[1].split())


def test_programs_get_every_point_and_change(tmp_path, capsys):
    stored(tmp_path, drifting())
    (tmp_path / "broken.json").write_text("{")
    found = json.loads(trend(capsys, tmp_path, "--format=json")[1])
    (history,), (not_read,) = found["histories"], found["not_read"]
    assert "broken.json: line 1" in not_read
    first = history["benchmarks"][0]
    assert len(first["runs"]) == 30 and first["changes"][0]["ratio"] > 1.01
    assert first["runs"][3]["commit"] == f"{3:040x}"
    code, out, err = trend(capsys, tmp_path, "--format=csv")
    assert (code, err) == (0, f"not read: {not_read}\n")
    points = list(csv.DictReader(out.splitlines()))
    assert len(points) == sum(len(one["runs"]) for one in history["benchmarks"])
    ours = [point for point in points if point["benchmark"] == first["name"]]
    assert [float(point["seconds"]) for point in ours] == [run["seconds"] for run in first["runs"]]
    begins = {point["file"]: float(point["change"]) for point in ours if point["change"]}
    assert begins == {change["file"]: change["ratio"] for change in first["changes"]}


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_and_plain_ascii_can_show_it(tmp_path, capsys, monkeypatch, columns):
    stored(tmp_path, drifting())
    monkeypatch.setenv("COLUMNS", str(columns))
    out = trend(capsys, tmp_path)[1]
    assert max(map(len, out.splitlines())) <= columns
    assert "?" not in encodable(out, "ascii")
