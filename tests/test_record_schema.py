"""perf/schema.json, which people read, and the types that records are written and read by say the same."""

import json

import pytest
from msgspec.json import schema_components

from perf.harness.record.check import Check, Qualification
from perf.harness.record.extra_info import ExtraInfo
from perf.harness.record.judgement import Judgement
from perf.harness.record.run import Baseline, Case, Medians
from tests.conftest import ROOT, validator

SCHEMA = json.loads((ROOT / "perf/schema.json").read_text())
PERF = SCHEMA["$defs"]["perf"]["properties"]
TYPES = {
    ExtraInfo: SCHEMA["$defs"]["extra_info"],
    Case: PERF["cases"]["items"],
    Judgement: PERF["gate"]["items"],
    Check: PERF["checks"]["items"],
    Qualification: PERF["qualification"],
    Baseline: PERF["baseline"],
    Medians: PERF["baseline"]["properties"]["runs"]["items"],
}
JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def accepted(schema, definitions):
    """The JSON types that `schema` accepts; what takes numbers takes whole ones too."""
    if "$ref" in schema:
        return accepted(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        types = set().union(*(accepted(one, definitions) for one in schema["anyOf"]))
    elif "enum" in schema:
        types = {JSON_TYPES[type(value)] for value in schema["enum"]}
    else:
        types = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    return types - {"integer"} if "number" in types else types


def differences(kind, written):
    """Where the type `kind` and the schema `written` are not the same, in words."""
    _, definitions = schema_components([kind])
    ours, theirs = definitions[kind.__name__]["properties"], written["properties"]
    found = [f"{name}: in one of the two only" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        here, there = accepted(ours[name], definitions), accepted(theirs[name], SCHEMA["$defs"])
        if here != there:
            found.append(f"{name}: {sorted(here)} here, {sorted(there)} in the schema")
        words = definitions.get(ours[name].get("$ref", "").rpartition("/")[2], {}).get("enum")
        if words is not None and sorted(words) != sorted(theirs[name]["enum"]):
            found.append(f"{name}: other words")
    return found


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_a_type_and_its_schema_are_the_same(kind):
    assert differences(kind, TYPES[kind]) == []


def test_a_schema_that_differs_is_found():
    written = json.loads(json.dumps(TYPES[Check]))
    written["properties"]["verdict"]["enum"].remove("PASS")
    written["properties"]["value"]["type"] = "number"
    written["properties"]["added"] = written["properties"].pop("note")
    assert differences(Check, written) == [
        "added: in one of the two only",
        "note: in one of the two only",
        "value: ['null', 'number'] here, ['number'] in the schema",
        "verdict: other words",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "perf/results").glob("*.json")), ids=lambda path: path.stem)
def test_every_published_record_has_the_schema(path):
    """Also those of earlier versions: what a later version adds is required of none."""
    assert [error.message for error in validator().iter_errors(json.loads(path.read_text()))] == []
