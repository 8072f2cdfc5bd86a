"""A spec is written, read, and refused."""

import json

import pytest

from perf.harness.record.run import RecordError
from perf.harness.record.spec import Reference, Spec, load_spec, write


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "spec.json"
    reference = Reference("matmul", "fp32", "CPU 1", "FLOP/s", 100.0, 0.1, 2)
    write(
        path, Spec("", (reference, Reference("memory", "", "CPU 1", "B/s", 2.0, None, 1)), {"simple_nn, CPU 1": "0f"})
    )
    spec = load_spec(path)
    assert spec.source == "spec.json"
    assert spec.digests == {"simple_nn, CPU 1": "0f"}
    assert spec.find("matmul", "fp32", "CPU 1") == reference
    assert spec.find("memory", "", "CPU 1").spread is None
    assert spec.find("matmul", "fp32", "CPU 2") is None
    assert spec.find("matmul", "bf16", "CPU 1") is None


REFERENCE = {"check": "a", "variant": "", "device_name": "b", "unit": "s", "value": 1.0, "spread": None, "runs": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty file"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "not a spec of version 1; make one with python -m perf spec"),
        ('{"benchmarks": []}', "not a spec of version 1"),
        (json.dumps({"stepwatch_spec": 2, "references": []}), "not a spec of version 1"),
        (json.dumps({"stepwatch_spec": 1, "references": []}), "has no references"),
        (json.dumps({"stepwatch_spec": 1, "references": {}}), "references: expected a list, found an object"),
        (json.dumps({"stepwatch_spec": 1, "references": [], "digests": []}), "digests: expected an object"),
        (json.dumps({"stepwatch_spec": 1, "references": [], "digests": {"a": 1}}), "digests.a: expected a text"),
        (json.dumps({"stepwatch_spec": 1, "references": [3]}), "references[0]: expected an object, found 3"),
        *[
            (json.dumps({"stepwatch_spec": 1, "references": [REFERENCE | wrong]}), f"references[0].{says}")
            for wrong, says in (
                ({"check": 1}, "check: expected a text, found 1"),
                ({"value": 0}, "value: expected a number above 0, found 0"),
                ({"value": -1.0}, "value: expected a number above 0, found -1.0"),
                ({"value": "1"}, 'value: expected a number, found "1"'),
                ({"value": True}, "value: expected a number, found true"),
                ({"spread": -0.1}, "spread: expected a number of at least 0, found -0.1"),
                ({"runs": "1"}, 'runs: expected a whole number, found "1"'),
                ({"runs": None}, "runs: expected a whole number, found nothing"),
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
    path.write_text(json.dumps({"stepwatch_spec": 1, "references": [REFERENCE]}))
    assert load_spec(path).references == (Reference("a", "", "b", "s", 1.0, None, 1),)
