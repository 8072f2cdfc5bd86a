"""The checksum of a record: a change of what it says of a verdict is seen, and a file that a tool wrote anew is not."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.record import RecordError
from perf.harness.record.checksum import is_changed, of_run
from perf.harness.record.read import decode, parse
from perf.harness.record.store import keep, plain

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CHECK = {"check": "memory", "device": "cpu", "verdict": "PASS", "variant": "copy", "value": 2.0e10, "unit": "B/s",
         "bar": 1.0e10, "want": "at least"}  # fmt: skip
STANDING = {"verdict": "QUALIFIED", "reasons": [], "next_action": "Nothing."}
JUDGED = {"name": "perf/test_epoch.py::test_epoch[cpu]", "verdict": "SAME"}


def document(**perf):
    made = {"benchmarks": [], "datetime": "2026-11-29", "perf": {"schema_version": 1, "complete": True, **perf}}
    made["perf"]["checksum"] = of_run(made)
    return made


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_written_and_read_is_not_changed(perf):
    made = {"benchmarks": [], "perf": perf, "more": dict(perf)}
    perf["checksum"] = of_run(made)
    assert not is_changed(made)
    assert not is_changed(decode(json.dumps(plain(made)), "it"))


def test_a_tool_may_write_the_file_anew(tmp_path):
    path = tmp_path / "q.json"
    keep(path, document(qualification=STANDING, checks=[CHECK], settings={"rounds": 3, "host": "b\udce4r"}))
    tool = [sys.executable, "-m", "json.tool", "--sort-keys", "--compact", str(path)]
    anew = subprocess.run(tool, capture_output=True, text=True, check=True).stdout.replace("20000000000.0", "2e10")
    assert anew != path.read_text() and "2e10" in anew
    assert parse(anew, "q.json").qualification is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made["perf"]["checks"].pop(),
        lambda made: made["perf"]["checks"][0].update(value=2.1e10),
        lambda made: made["perf"]["checks"][1].update(verdict="PASS"),
        lambda made: made["perf"]["qualification"]["reasons"].append("it is new"),
        lambda made: made["perf"].update(host_name="another"),
        lambda made: made["perf"].pop("devices"),
        lambda made: made.update(datetime="2026-12-29"),
        lambda made: made.pop("datetime"),
    ],
)
def test_a_qualification_that_was_changed_is_refused(change):
    left_out = CHECK | {"variant": "triad", "verdict": "UNJUDGED"}
    made = document(checks=[CHECK, left_out], qualification=STANDING, host_name="one", devices={"cpu": {}})
    assert len(parse(json.dumps(made), "q.json").checks) == 2
    change(made)
    with pytest.raises(RecordError) as caught:
        parse(json.dumps(made), "q.json")
    said = "q.json: is not what the run wrote; the file was changed, so measure again, or use the original"
    assert str(caught.value) == said


def test_a_gate_that_was_changed_is_refused_and_a_baseline_may_be_added():
    made = document(gate=[JUDGED])
    made["perf"]["baseline"] = {
        "name": "it",
        "accepted": "2026-11-29",
        "runs": [{"source": "0001_it.json", "datetime": "", "commit": "", "medians": {}}],
    }
    assert parse(json.dumps(made), "g.json").judgements
    made["perf"]["gate"][0]["verdict"] = "FASTER"
    with pytest.raises(RecordError, match="is not what the run wrote"):
        parse(json.dumps(made), "g.json")


def test_a_run_without_a_verdict_and_a_record_of_before_are_read_as_they_are():
    """Whoever takes a name out of a measured run, or adds a note, loses nothing."""
    made = document(host_name="one")
    made["perf"]["host_name"] = ""
    assert parse(json.dumps(made), "run.json").perf["host_name"] == ""
    made = document(checks=[CHECK], qualification=STANDING)
    del made["perf"]["checksum"], made["perf"]["checks"][0]["unit"]
    assert parse(json.dumps(made), "q.json").qualification is not None
