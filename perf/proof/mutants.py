"""Which faults do the tests see? Plants one small fault at a time in the code that decides, and runs its tests.

    python perf/proof/mutants.py                      # all that decides; takes hours on 2 cores
    python perf/proof/mutants.py verdict/stored.py    # one module
    python perf/proof/mutants.py --sample 100         # a hundred faults, chosen at random, but always the same

A fault is one operator, number, comparison or condition that is changed (DeMillo, Lipton and Sayward 1978). A fault
that no test sees is printed as SURVIVED, with its place: either a test is missing, or the change makes no difference.
`strict=` and `frozen=` are left alone: they guard against mistakes in the code itself. The exit code is 1 if fewer than
90% of the faults are seen, or if Ctrl-C ended it early.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import gc
import importlib.abc
import importlib.util
import math
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HARNESS = ROOT / "perf" / "harness"
# Not hypothesis: it has a plugin, and pytest warns of plugins that were imported before it, which a test would see.
LIBRARIES = ("jsonschema", "msgspec", "numpy", "psutil", "scipy.stats", "tabulate", "torch", "torchvision")
# Every module of these rooms decides something.
ROOMS = ("statistics", "verdict")
# What else decides, and tests that must see its faults without importing it. The first pattern that fits counts.
CODE = {
    "statistics/change_points.py": [],
    "statistics/*.py": ["test_fits.py", "test_kinds.py", "test_stats.py", "test_gate_stored.py"],
    "verdict/rows.py": ["test_verdict_speedups.py", "test_report_modes.py", "test_report_conclusion.py"],
    "verdict/speedups.py": ["test_report_conclusion.py"],
    "verdict/fastest.py": ["test_report_advice.py", "test_report_conclusion.py"],
    "verdict/acceptance.py": ["test_command_baseline.py", "test_verdict_references.py"],
    "verdict/stored*.py": ["test_command_compare.py"],
    "verdict/by_spec.py": ["test_verdict_rejudged.py", "test_verdict_required.py"],
    "verdict/checks.py": ["test_verdict_references.py", "test_verdict_required.py"],
    "verdict/keys.py": ["test_verdict_references.py", "test_verdict_required.py"],
    "verdict/machine.py": ["test_verdict_rejudged.py"],
    "verdict/references.py": ["test_report_qualification.py"],
    "verdict/roofline.py": ["test_qualify_judge.py"],
    "verdict/tally.py": ["test_report_verdicts.py"],
    "measurement/passes.py": [],
    "measurement/timetable.py": [],
    "measurement/effort.py": [],
    "measurement/calls.py": ["test_measure.py"],
    "measurement/between.py": ["test_measure.py"],
    "measurement/rounds.py": ["test_phases.py"],
}
ENOUGH = 0.9
LARGE = 1_000_000
# A fault may make a loop endless: tests that take so many times as long as without a fault count as failed.
MOST_TIMES = 5
# The tests of each module, in this process: the one that saw a fault last comes first, as it may see the next one, too.
_in_order: dict[Path, list[str]] = {}
SWAPS: dict[type[ast.AST], type[Any]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Fault:
    """One change in one module; `number` counts the possible changes of the module, from 0."""

    path: Path
    number: int
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(HARNESS)}:{self.line}: {self.what}"


class Changer(ast.NodeTransformer):
    """Walks through a module, makes the change with the number `wanted`, and notes all possible changes."""

    def __init__(self, wanted: int | None = None) -> None:
        self.wanted = wanted
        self.found: list[tuple[int, str]] = []

    def _takes(self, node: Any, what: str) -> bool:
        self.found.append((node.lineno, what))
        return len(self.found) - 1 == self.wanted

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for place, operator in enumerate(node.ops):
            new = SWAPS[type(operator)]
            if self._takes(node, f"{_name(operator)} → {new.__name__}"):
                node.ops[place] = new()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        new = SWAPS.get(type(node.op))
        if new is not None and not _typing(node) and self._takes(node, f"{_name(node.op)} → {new.__name__}"):
            node.op = new()
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        new = SWAPS[type(node.op)]
        if self._takes(node, f"{_name(node.op)} → {new.__name__}"):
            node.op = new()
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.USub) and self._takes(node, f"{_name(node.op)} left out"):
            return node.operand
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            if self._takes(node, f"{node.value} → {not node.value}"):
                return ast.copy_location(ast.Constant(not node.value), node)
        elif isinstance(node.value, int | float):
            # One more is no fault of a rate of a billion bytes per second.
            wrong = node.value + 1 if abs(node.value) < LARGE else node.value * 2
            if self._takes(node, f"{node.value} → {wrong}"):
                return ast.copy_location(ast.Constant(wrong), node)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        if self._takes(node, "the condition is never true"):
            node.test = ast.copy_location(ast.Constant(False), node.test)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if self._takes(node, "the two values change places"):
            node.body, node.orelse = node.orelse, node.body
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        new = NAMES.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if new is not None and self._takes(node, f"{node.func.id} → {new}"):  # type: ignore[attr-defined]
            node.func = ast.copy_location(ast.Name(new, ast.Load()), node.func)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        return node if node.arg in ("strict", "frozen") else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node  # an annotation computes nothing


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _name(node: ast.AST) -> str:
    return type(node).__name__


def _typing(node: ast.BinOp) -> bool:
    """Whether `node` joins texts or paths: both use the operators of numbers, + and /."""
    return (
        isinstance(node.op, ast.Div | ast.Add)
        and isinstance(node.right, ast.Constant | ast.JoinedStr)
        and isinstance(getattr(node.right, "value", ""), str)
    )


def faults(path: Path) -> list[Fault]:
    """Every fault that can be planted in the module at `path`."""
    changer = Changer()
    changer.visit(ast.parse(path.read_text()))
    return [Fault(path, number, line, what) for number, (line, what) in enumerate(changer.found)]


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the module of `fault` with the fault in it."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._module = _module(fault.path)

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self._module:
            return None
        package = [str(self._fault.path.parent)] if self._fault.path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name, self._fault.path, loader=self, submodule_search_locations=package
        )

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        tree = Changer(self._fault.number).visit(ast.parse(self._fault.path.read_text()))
        exec(compile(ast.fix_missing_locations(tree), str(self._fault.path), "exec"), module.__dict__)


def seen(fault: Fault | None, tests: Sequence[str], limit_s: float = math.inf) -> bool:
    """Whether `tests` fail with `fault` planted; None plants no fault.

    They run in a child process, which is killed after `limit_s`: an endless loop counts as seen.
    """
    child = os.fork()
    if child == 0:
        _run(fault, tests)
    end, done = time.monotonic() + limit_s, 0
    try:
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) != 0
            time.sleep(0.02)
        return True
    finally:
        if not done:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _run(fault: Fault | None, tests: Sequence[str]) -> None:
    """Run pytest in the child process without any output, and end the process."""
    code = 99
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests press Ctrl-C
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        if fault is not None:
            sys.meta_path.insert(0, Planted(fault))
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", f"--rootdir={ROOT}"]
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(code)


def tests_of(path: Path) -> list[str]:
    """The test files that must see a fault in the module at `path`: those that CODE names, and all that import it."""
    patterns = next((names for code, names in CODE.items() if path.match(f"perf/harness/{code}")), [])
    named = sorted({test for pattern in patterns for test in (ROOT / "tests").glob(pattern)})
    imports = re.compile(rf"{re.escape(_module(path))}\b")
    others = sorted(test for test in (ROOT / "tests").glob("test_*.py") if imports.search(test.read_text()))
    return [str(test) for test in dict.fromkeys([*named, *others])]


def _one(fault: Fault, limits_s: Mapping[str, float]) -> tuple[Fault, bool]:
    tests = _in_order.setdefault(fault.path, sorted(tests_of(fault.path), key=limits_s.__getitem__))
    for test in tests:
        if seen(fault, [test], limits_s[test]):
            tests.remove(test)
            tests.insert(0, test)
            return fault, True
    return fault, False


def _begin_worker() -> None:
    """Ctrl-C ends the parent, which ends the workers; each then ends its tests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def preload() -> None:
    """Import the libraries that every child needs, once, and keep the children from searching them for garbage."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT))
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="*", help="below perf/harness/; all that decides, where none is named")
    parser.add_argument("--sample", type=int, help="so many faults, picked at random")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many at a time (default: one a core)")
    wanted = parser.parse_args()
    code = [*CODE, *(f"{room}/[a-z]*.py" for room in ROOMS)]
    paths = [HARNESS / name for name in wanted.module] or sorted({p for each in code for p in HARNESS.glob(each)})
    if missing := [path for path in paths if not path.is_file()]:
        parser.error(f"no such module: {missing[0]}")
    if unknown := [path for path in paths if not tests_of(path)]:
        parser.error(f"no test imports {unknown[0].relative_to(HARNESS)}: add one, or name tests in CODE")
    found = [fault for path in paths for fault in faults(path)]
    if wanted.sample is not None and wanted.sample < len(found):
        found = random.Random(0).sample(found, wanted.sample)
    preload()
    limits_s: dict[str, float] = {}
    for test in sorted({test for path in paths for test in tests_of(path)}):
        start = time.monotonic()
        if seen(None, [test]):
            gc.unfreeze()
            print(f"without a fault {test} must pass, and does not", file=sys.stderr)
            return 2
        limits_s[test] = MOST_TIMES * (time.monotonic() - start)
    planted: Counter[Path] = Counter()
    survived: Counter[Path] = Counter()
    pool = multiprocessing.get_context("fork").Pool(wanted.jobs, _begin_worker)
    with contextlib.suppress(KeyboardInterrupt), pool:  # Ctrl-C ends with what is known
        for fault, killed in pool.imap_unordered(functools.partial(_one, limits_s=limits_s), found):
            planted[fault.path] += 1
            if not killed:
                survived[fault.path] += 1
                print(f"SURVIVED {fault}", flush=True)
    gc.unfreeze()  # or some libraries say, at the end, that they leak
    print()
    for path in paths:
        if total := planted[path]:
            print(f"{total - survived[path]:5} of {total:4} seen  {path.relative_to(HARNESS)}")
    killed_share = 1 - survived.total() / max(1, planted.total())
    print(f"{planted.total() - survived.total():5} of {planted.total():4} seen: {killed_share:.1%}")
    if planted.total() < len(found):
        print(f"Ended early: {len(found) - planted.total()} faults were not planted.")
    return 0 if killed_share >= ENOUGH and planted.total() == len(found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        gc.unfreeze()
        sys.exit("Ended before any fault was planted.")
