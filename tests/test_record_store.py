"""Where a run is kept: replaced at once, numbered when whole, and never broken by a kill."""

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.record import RecordError, store
from perf.harness.record.store import WRITING_S, RunFile, claim, numbered, plain

ROOT = Path(__file__).resolve().parent.parent


def test_a_run_is_partial_until_it_gets_its_number(tmp_path):
    file = RunFile(tmp_path / "deep" / "er", "now")
    file.write({"benchmarks": []})
    assert [path.name for path in file.path.parent.iterdir()] == ["partial_now.json"]
    assert numbered(file.path.parent) == []
    assert file.number("first").name == "0001_first.json"
    assert json.loads(file.path.read_text()) == {"benchmarks": []}


def test_numbers_go_on_from_the_highest(tmp_path):
    (tmp_path / "0041_old.json").write_text("{}")
    (tmp_path / "12345_foreign.json").write_text("{}")
    file = RunFile(tmp_path, "now")
    file.write({})
    assert file.number("new").name == "0042_new.json"
    assert [path.name for path in numbered(tmp_path)] == ["0041_old.json", "0042_new.json"]


def test_two_runs_at_once_keep_both_files(tmp_path):
    files = [RunFile(tmp_path, stamp) for stamp in ("one", "two")]
    for file in files:
        file.write({"by": file.stamp})
    assert {json.loads(file.number(file.stamp).read_text())["by"] for file in files} == {"one", "two"}


@pytest.mark.parametrize("links", [True, False])
def test_a_run_that_ends_at_the_same_time_is_not_overwritten(tmp_path, monkeypatch, links):
    """Two machines that share the folder may both see that 0001 is free, and have the same name for their run."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    for number in (1, 2):
        file = RunFile(tmp_path, f"now{number}")
        file.write({"by": number})
        looks = iter([[]])  # the first look is too early to see the other run
        monkeypatch.setattr(store, "numbered", lambda folder, looks=looks: next(looks, numbered(folder)))
        file.number("same")
    assert [json.loads(path.read_text())["by"] for path in numbered(tmp_path)] == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001_same.json", "0002_same.json"]


def no_links(source, target):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_file_is_claimed_once(tmp_path):
    claim(tmp_path / "new" / "a.json")
    with pytest.raises(RecordError, match=r"a.json: cannot be written: File exists"):
        claim(tmp_path / "new" / "a.json")


def test_a_full_or_forbidden_folder_is_found_by_trying_and_nothing_is_left(tmp_path, monkeypatch):
    store.try_folder(tmp_path / "new")
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(RecordError) as caught:
        store.try_folder(tmp_path / "new")
    assert str(caught.value) == f"{tmp_path / 'new'}: cannot be written: No space left on device"
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match=r"file: cannot be written: (File exists|Not a directory)"):
        store.try_folder(tmp_path / "file")


def no_room(file):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match=r"file.*cannot be written"):
        RunFile(tmp_path / "file" / "folder", "now").write({})


def test_what_a_killed_writer_left_is_swept_away_later(tmp_path):
    old, young = tmp_path / ".a.json.1.partial", tmp_path / ".b.json.2.partial"
    for path in (old, young):
        path.write_text("half of a rec")
    past = time.time() - 2 * WRITING_S
    os.utime(old, (past, past))
    RunFile(tmp_path, "now").write({})
    assert (old.exists(), young.exists()) == (False, True)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(object),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=20,
)


@given(anything)
def test_any_value_becomes_valid_json(value):
    text = json.dumps(plain(value), allow_nan=False)
    json.loads(text)


def test_plain_keeps_what_json_can_hold_and_drops_what_it_cannot():
    value = {"a": [1, 2.5, "x", None, True], 3: math.nan, "inf": (-math.inf,)}
    assert plain(value) == {"a": [1, 2.5, "x", None, True], "3": None, "inf": [None]}


def stopped(tmp_path, digits_root, torch_process, by):
    """A run that gets the signal `by` once it has reported two benchmarks; its record, what it reported and said."""
    command = [
        sys.executable, "-m", "pytest", ROOT / "perf", "-v", "-p", "no:cacheprovider", "--perf-device=cpu",
        "--perf-profile=smoke", "--perf-batch-size=64", "--perf-pipeline=resident", "--perf-rounds=3",
        "--perf-data=digits", f"--perf-data-root={digits_root}", f"--benchmark-storage={tmp_path / 'kept'}",
        f"--benchmark-json={tmp_path / 'out.json'}", "--perf-passes=1",
    ]  # fmt: skip
    process = torch_process.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    reported, said = set(), ""
    for line in process.stdout:
        said += line
        reported |= set(re.findall(r"(\w+\[\S+\]) PASSED", line))
        if len(reported) == 2:
            time.sleep(0.3)  # into the next case: between two, pytest itself may trip over an interrupt
            process.send_signal(by)
            break
    said += process.stdout.read()
    (path,) = (tmp_path / "kept").rglob("*.json")
    process.stdout.close()
    return process.wait(), path, reported, said


def names(path):
    return {benchmark["name"] for benchmark in json.loads(path.read_text())["benchmarks"]}


def test_a_killed_run_keeps_every_benchmark_that_it_reported(tmp_path, digits_root, torch_process):
    code, path, reported, _ = stopped(tmp_path, digits_root, torch_process, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert path.name.startswith("partial_")
    assert reported <= names(path)
    shown = torch_process.run([sys.executable, "-m", "perf", "report", path], cwd=ROOT)
    assert shown.returncode == 0 and "PARTIAL" in shown.stdout


def test_an_interrupted_run_keeps_what_it_finished_and_says_so(tmp_path, digits_root, torch_process):
    code, path, reported, said = stopped(tmp_path, digits_root, torch_process, signal.SIGINT)
    assert code == 2, said  # pytest's own exit code for an interrupt
    assert path.name.startswith("partial_")
    assert reported <= names(path) == names(tmp_path / "out.json")
    assert json.loads(path.read_text())["perf"]["complete"] is False
    assert "PARTIAL" in said
    assert re.search(r"Later runs are not compared with it: it did not finish, \d not run\.", said)
