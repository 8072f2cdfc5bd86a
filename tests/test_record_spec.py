"""A spec is written, read, and refused."""

import json

import pytest

from perf.harness.record.run import RecordError
from perf.harness.record.spec import Reference, Spec, load_spec, write

KEY = {"device": "CPU 1", "threads": 2}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "spec.json"
    references = (
        Reference("matmul", "fp32", "FLOP/s", 100.0, 0.1, 5, 4, KEY),
        Reference("memory", "", "B/s", 2.0, 0.0, 3, 1, KEY),
    )
    write(path, Spec("", references, {"simple_nn, CPU 1": "0f"}))
    spec = load_spec(path)
    assert spec == Spec("spec.json", references, {"simple_nn, CPU 1": "0f"})
    assert [one.rests_on for one in spec.references] == ["4 machines", "3 runs of 1 machine"]
    assert spec.devices == ["CPU 1"]


def test_a_spec_that_was_changed_later_is_refused_unless_the_change_is_meant(tmp_path):
    path = tmp_path / "spec.json"
    write(path, Spec("", (Reference("matmul", "fp32", "FLOP/s", 100.0, 0.1, 5, 4, KEY),), {}))
    root = json.loads(path.read_text())
    root["references"][0]["value"] = 30.0
    path.write_text(json.dumps(root))
    with pytest.raises(RecordError, match=r"was changed since it was made; .* or remove its `checksum` if you mean"):
        load_spec(path)
    del root["checksum"]
    path.write_text(json.dumps(root))
    assert load_spec(path).references[0].value == 30.0


REFERENCE = {"check": "a", "variant": "", "unit": "s", "value": 1.0, "spread": 0.0, "runs": 3, "machines": 1}
REFERENCE["key"] = {"device": "b"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty file"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "not a spec of version 2; make one with python -m perf spec"),
        ('{"benchmarks": []}', "not a spec of version 2"),
        (json.dumps({"stepwatch_spec": 3, "references": []}), "not a spec of version 2"),
        (json.dumps({"stepwatch_spec": 2, "references": []}), "has no references"),
        (json.dumps({"stepwatch_spec": 2, "references": {}}), "references: expected a list, found an object"),
        (json.dumps({"stepwatch_spec": 2, "references": [], "digests": []}), "digests: expected an object"),
        (json.dumps({"stepwatch_spec": 2, "references": [], "digests": {"a": 1}}), "digests.a: expected a text"),
        (json.dumps({"stepwatch_spec": 2, "references": [3]}), "references[0]: expected an object, found 3"),
        *[
            (json.dumps({"stepwatch_spec": 2, "references": [REFERENCE | wrong]}), f"references[0].{says}")
            for wrong, says in (
                ({"check": 1}, "check: expected a text, found 1"),
                ({"value": 0}, "value: expected a number above 0, found 0"),
                ({"value": -1.0}, "value: expected a number above 0, found -1.0"),
                ({"value": "1"}, 'value: expected a number, found "1"'),
                ({"value": True}, "value: expected a number, found true"),
                ({"spread": -0.1}, "spread: expected a number of at least 0, found -0.1"),
                ({"runs": "1"}, 'runs: expected a whole number, found "1"'),
                ({"runs": None}, "runs: expected a whole number, found nothing"),
                ({"machines": -1}, "machines: expected a whole number of at least 1, found -1"),
                ({"key": "CPU"}, 'key: expected an object, found "CPU"'),
                ({"key": {"device": []}}, "key.device: expected one value, found an empty list"),
                ({"spread": None}, "spread: expected a number, found nothing"),
            )
        ],
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "spec.json"
    path.write_text(content)
    with pytest.raises(RecordError) as caught:
        load_spec(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_good_reference_is_read(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"stepwatch_spec": 2, "references": [REFERENCE]}))
    assert load_spec(path).references == (Reference("a", "", "s", 1.0, 0.0, 3, 1, {"device": "b"}),)
