"""`python -m perf baseline`: what may be accepted, what is said, and that the file is protected and whole."""

import json
import os

import pytest

from perf.__main__ import main
from perf.harness.record.read import load
from perf.harness.verdict.stored_runs import medians_of
from tests.stored_runs import FINGERPRINT, NAMES, record, write

FOLDER = "standard-1234"


@pytest.fixture
def baseline(tmp_path, capsys):
    """Runs the command with a storage of its own; returns the exit code, stdout and stderr."""

    def run(*arguments):
        code = main(["baseline", *arguments, "--storage", str(tmp_path / "kept")])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def keep(tmp_path):
    """Keeps documents as whole runs, as the plugin does."""

    def write_all(*documents, folder=FOLDER, prefix=None):
        return [
            write(tmp_path / "kept" / folder / "Linux" / f"{prefix or f'{number:04}'}_run.json", document)
            for number, document in enumerate(documents, start=1)
        ]

    return write_all


def four():
    return [record(factor, number=number) for number, factor in enumerate((1.0, 1.02, 0.98, 1.0))]


def test_whole_runs_become_one_protected_file(baseline, keep, tmp_path):
    keep(*four())
    code, out, err = baseline("accept")
    path = tmp_path / "kept" / FOLDER / "baseline-default.json"
    assert (code, err) == (0, "")
    assert out.startswith("Accepted: baseline default, 4 runs, of 20")
    assert path.stat().st_mode & 0o777 == 0o444
    run = load(path)
    assert (run.baseline.name, [one.source for one in run.baseline.runs]) == (
        "default", [f"000{number}_run.json" for number in (1, 2, 3, 4)],
    )  # fmt: skip
    assert run.baseline.runs[1].commit == "2" * 40
    assert [seconds for one in medians_of(run) for seconds in one.seconds.values()] == pytest.approx(
        [1e-3, 1e-3, 1.02e-3, 1.02e-3, 0.98e-3, 0.98e-3, 1e-3, 1e-3]
    )
    assert main(["report", str(path)]) == 0


def test_a_baseline_is_compared_with_as_the_runs_that_it_stands_for(baseline, keep, tmp_path, capsys):
    keep(*four(), record(number=4))
    baseline("accept")
    head = write(tmp_path / "head.json", record(1.5, number=9))
    assert main(["compare", str(tmp_path / "kept" / FOLDER / "baseline-default.json"), str(head)]) == 1
    assert "2 SLOWER" in capsys.readouterr().out


def test_the_newest_20_whole_runs_of_the_newest_fingerprint_are_accepted(baseline, keep, tmp_path):
    runs = keep(*(record(number=number) for number in range(23)))
    other = keep(record(number=25), folder="standard-old")
    smoke = keep(record(profile="smoke"), folder="smoke-new")
    for age, path in enumerate([*smoke, *reversed(runs), *other]):
        os.utime(path, (10**9 - age, 10**9 - age))
    assert baseline("accept")[0] == 0
    kept = load(tmp_path / "kept" / FOLDER / "baseline-default.json").baseline.runs
    assert [one.source for one in kept] == [f"{number:04}_run.json" for number in range(4, 24)]


@pytest.mark.parametrize(
    ("perf", "reason"),
    [
        ({"complete": False}, "not a whole run: it did not finish"),
        ({"unfit": ["4 deselected"]}, "not a whole run: 4 deselected"),
        ({"cases": [{"name": "a", "outcome": "failed"}]}, "not a whole run: 1 failed"),
        ({"cases": [{"name": "a", "outcome": "slower"}]}, "not a whole run: 1 slower"),
        ({"cases": [{"name": "a", "outcome": "out-of-memory"}]}, "not a whole run: 1 out of memory"),
        ({"cases": [{"name": "a", "outcome": "not-run"}]}, "not a whole run: 1 not run"),
        ({"profile": "smoke"}, "a smoke run is too short for a verdict"),
        (
            {"gate_run": {"base": "main", "head": "the working tree"}},
            "a gate compared base with head; accept a run that measured",
        ),
        (
            {"qualification": {"verdict": "INCONCLUSIVE", "reasons": ["no check"], "next_action": "-"}, "checks": []},
            "a qualification judged the machine; accept a run that measured",
        ),
        ({"fingerprint": {}}, "it has no fingerprint, so its machine is unknown"),
        ({"fingerprint_id": "../../etc"}, None),
        ({"fingerprint_id": 7}, None),
    ],
)
def test_what_is_no_whole_run_is_refused_with_the_reason(baseline, keep, tmp_path, perf, reason):
    (path,) = keep(record(**perf))
    code, out, err = baseline("accept", "0001")
    assert (code, out, err.count("\n")) == (4, "", 1)
    expected = f"{path}: no baseline: {reason}" if reason else f"{path}: perf.fingerprint_id: not a valid folder name"
    assert err == f"python -m perf: {expected}\n"
    assert list(tmp_path.rglob("baseline-*")) == []


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_run_among_the_newest_is_named_with_the_way_out(baseline, keep, which):
    damaged = keep(record(), record())[which]
    damaged.write_text(damaged.read_text()[:200])
    code, _, error = baseline("accept", "--name", "main")
    assert code == 4
    assert f"{damaged}: line" in error and error.endswith("; remove that file, or name the runs to accept\n")


def test_a_run_that_was_kept_as_partial_is_refused(baseline, keep, tmp_path):
    keep(record(), prefix="partial")
    assert baseline("accept")[2].endswith("no complete run in this folder; run pytest perf/ first\n")
    write(tmp_path / "kept" / FOLDER / "Linux/selection-k-step-1/0001_run.json", record())
    assert "this folder, only 1 of a selection; run the same command without the selection (" in baseline("accept")[2]
    assert baseline("accept", "partial")[2].endswith("no baseline: not a whole run: it was kept as partial\n")


def test_runs_of_two_fingerprints_are_refused(baseline, keep):
    keep(record(), record(number=1, fingerprint=FINGERPRINT | {"threads": 1}))
    code, _, err = baseline("accept", "0001", "0002")
    assert code == 4 and "threads: 2 → 1" in err


def test_accept_says_what_it_replaces_and_the_largest_change_first(baseline, keep):
    keep(record(), record(number=1))
    baseline("accept")
    (path,) = keep(record(number=5), prefix="0003")
    document = json.loads(path.read_text())
    document["benchmarks"][1]["stats"] |= {"data": [2e-3] * 3, "median": 2e-3}
    path.write_text(json.dumps(document))
    code, out, _ = baseline("accept", "0003")
    assert code == 0
    assert "It replaces baseline default, 2 runs, of 20" in out
    assert out.split("\n\n", 4)[4] == (
        "benchmark                      before → now  change\n"
        "------------------------  -----------------  ------\n"
        "epoch[cpu-bs64-resident]  1.00 ms → 2.00 ms   +100%\n"
        "training_step[cpu-bs64]   1.00 ms → 1.00 ms   +0.0%\n"
        "\n"
        "compared 2 · gone 0 · new 0\n"
    )


def test_show_prints_the_runs_and_what_they_differ_by(baseline, keep):
    keep(*four())
    baseline("accept", "--name=v1")
    code, out, _ = baseline("show", "--name=v1")
    assert code == 0
    assert "0002_run.json  2026-11-02 10:00  2222222222" in out
    assert "training_step[cpu-bs64]   1.00 ms ±1.6%     4" in out


def test_list_names_every_baseline(baseline, keep, tmp_path):
    code, out, _ = baseline("list")
    assert (code, " ".join(out.split())) == (0, f"No baseline in {tmp_path / 'kept'}.")
    keep(*four())
    baseline("accept")
    baseline("accept", "0001", "--name=v1")
    _, out, _ = baseline("list")
    assert [line.split()[:2] for line in out.splitlines()[-2:]] == [["default", "4"], ["v1", "1"]]


def test_remove_says_what_it_removed(baseline, keep, tmp_path):
    keep(*four())
    baseline("accept")
    code, out, _ = baseline("remove")
    assert code == 0
    path = tmp_path / "kept" / FOLDER / "baseline-default.json"
    assert not path.exists()
    assert "".join(out.split()).startswith(f"Removed{path}:baselinedefault,4runs,of20")
    code, _, err = baseline("remove")
    assert code == 4 and err.endswith("kept: no baseline 'default'; there: none\n")


def test_a_baseline_that_cannot_be_read_is_one_line_and_can_be_removed(baseline, keep, tmp_path):
    keep(*four())
    path = write(tmp_path / "kept" / FOLDER / "baseline-default.json", {"benchmarks": 3})
    for action in ("list", "show", "accept"):
        code, out, err = baseline(action)
        assert (code, out) == (4, "") and err.startswith(f"python -m perf: {path}: ") and err.count("\n") == 1
    assert "it could not be read" in " ".join(baseline("remove")[1].split())
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".hidden", "x\n", "é", "x" * 101])
def test_a_bad_name_is_refused(baseline, keep, name):
    keep(*four())
    for action in ("accept", "show", "remove"):
        code, out, err = baseline(action, f"--name={name}")
        assert (code, out, err.count("\n")) == (4, "", 1)
        assert "not a valid name for a baseline" in err


@pytest.mark.parametrize("wanted", ["9", "", "nowhere/run.json", "\x00"])
def test_a_run_that_is_not_there_is_refused(baseline, keep, wanted):
    keep(*four())
    code, _, err = baseline("accept", wanted)
    assert code == 4 and "no such run in" in err and err.count("\n") == 1


def test_a_folder_is_no_run(baseline, keep, tmp_path):
    keep(*four())
    assert baseline("accept", str(tmp_path))[2].endswith(
        ": is a folder: name a run, or choose the folder with --storage\n"
    )


def test_the_beginning_of_several_names_is_refused(baseline, keep):
    keep(*four())
    assert "several runs have such a name" in baseline("accept", "000")[2]


def test_a_name_in_two_fingerprints_needs_the_folder(baseline, keep, tmp_path, capsys):
    keep(*four())
    keep(record(fingerprint_id="standard-other"), folder="standard-other")
    baseline("accept", str(tmp_path / "kept" / FOLDER / "Linux" / "0001_run.json"))
    baseline("accept", str(tmp_path / "kept" / "standard-other" / "Linux" / "0001_run.json"))
    code, _, err = baseline("show")
    assert code == 4 and "several baselines 'default'; name one by --storage" in err
    assert main(["baseline", "show", "--storage", str(tmp_path / "kept" / "standard-other")]) == 0
    assert "standard-other" in capsys.readouterr().out


def test_the_names_of_the_benchmarks_are_kept(baseline, keep, tmp_path):
    keep(*four())
    baseline("accept")
    (one, *_) = load(tmp_path / "kept" / FOLDER / "baseline-default.json").baseline.runs
    assert [name.split("::test_")[1] for name in one.seconds] == list(NAMES)
