"""A name means one thing: who has met a class or a type in one room need not ask which one it is in another."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

HARNESS = Path(__file__).parent.parent / "perf" / "harness"


def types_in(source: str) -> Iterator[str]:
    """The classes and the aliases of types that a module defines; type variables are left out."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and not (
            isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "TypeVar"
        ):
            yield from (
                target.id
                for target in node.targets
                if isinstance(target, ast.Name) and target.id[0].isupper() and not target.id.isupper()
            )


def test_the_names_of_types_are_found():
    source = """
T = TypeVar("T")
Clock = Callable[[], float]
LIMIT_S, other = 3, 4
class Row: ...
class _Own: ...
"""
    assert list(types_in(source)) == ["Clock", "Row", "_Own"]


def test_no_two_types_of_the_harness_have_one_name():
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(HARNESS.rglob("*.py")):
        for name in types_in(path.read_text()):
            if not name.startswith("_"):
                places[name].append(str(path.relative_to(HARNESS)))
    assert "Clock" in places
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
