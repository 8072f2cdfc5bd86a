"""In: `--perf-against`, `--perf-against-python`, `--perf-model`. Out: base and head: which code, on which Python.

The subject is the code that is compared: `model/` and `data/` of this checkout. With
`--perf-model=package.module:factory`, the subject is the project that contains this module, and both sides use
`model/` and `data/` of this checkout.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import NAMES
from model.imports import users_module
from perf.harness.measurement.side_by_side.link import Link, command
from perf.harness.measurement.side_by_side.worker import CHECKOUT
from perf.harness.measurement.side_by_side.worktree import RefError, changed, commit, top_level, worktree
from perf.harness.options import Settings

SHORT = 10
INSTALLED = "site-packages"
# glibc may give the memory of a large mini-batch back to the kernel after each step. Whether it does depends on what
# the process freed before: of two processes with the same code, one loaded mini-batches of 4,096 in 4.4 ms, the other
# in 1.6 ms. So a worker does not give freed memory back to the system. 32 MiB is the largest block that glibc can keep.
# The user's own settings take precedence.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


class SideUnusable(Exception):
    """A side cannot be measured: `str()` says which option named this side, and what to do."""


@dataclass(frozen=True)
class Subject:
    """The code that differs between the sides: the project in `root`, imported from the folders `roots`, in order."""

    root: Path
    roots: tuple[Path, ...]
    module: str | None = None

    def at(self, root: Path) -> Subject:
        """This subject in another checkout, at `root`."""
        own = {path for path in self.roots if path == CHECKOUT != self.root}  # this checkout, if inside the project
        moved = (path if path in own else root / path.relative_to(self.root) for path in self.roots)
        return Subject(root, tuple(moved), self.module)

    def missing(self) -> str:
        """Which files or folders the subject lacks; empty if none."""
        if self.module is None:
            lacking = [name for name in ("model", "data") if not (self.root / name / "__init__.py").is_file()]
            return " and ".join(f"{name}/" for name in lacking)
        path = Path(*self.module.split("."))
        files = (path.with_suffix(".py"), path / "__init__.py")
        return "" if any((root / file).is_file() for root in self.roots for file in files) else str(files[0])


@dataclass(frozen=True)
class Side:
    """One side: `name` is "base" or "head", `title` is what the user sees."""

    name: str
    title: str
    python: str
    subject: Subject
    start: Mapping[str, Any]

    def launch(self, inject: Mapping[str, Any] | None = None) -> Link:
        """Start a fresh worker process. Raises SideLost if it cannot be started."""
        start = {**self.start, "root": str(self.subject.root), "roots": [str(path) for path in self.subject.roots]}
        # OpenMP reads its number of threads when it is loaded, before torch can set it.
        env = {**KEPT_MEMORY, **os.environ, "OMP_NUM_THREADS": self.start["options"]["threads"]}
        return Link(command(self.python), start | ({"inject": dict(inject)} if inject else {}), env)


def subject_of(settings: Settings) -> Subject:
    """The subject that this process would measure. Raises SideUnusable."""
    module = users_module(settings.model)
    if module is None:
        return Subject(CHECKOUT, (CHECKOUT,))
    found = getattr(sys.modules.get(module) or importlib.import_module(module), "__file__", None)
    if found is None:
        raise SideUnusable(f"--perf-model={settings.model}: it is in no file, so that it has no other version")
    file = Path(found).resolve()
    parents = file.parents if file.name != "__init__.py" else file.parent.parents
    root = parents[module.count(".")]
    project = _repository(root) or root
    if project == CHECKOUT:
        return Subject(CHECKOUT, tuple(dict.fromkeys((CHECKOUT, root))), module)
    # This checkout first: Stepwatch needs its own `model` and `data`, whatever names the project's packages have.
    return Subject(project, (CHECKOUT, root), module)


@contextlib.contextmanager
def sides(settings: Settings, data_name: str, threads: int) -> Iterator[tuple[Side, Side]]:
    """Base and head of a gate, on the data set `data_name`. Raises SideUnusable."""
    subject = subject_of(settings)
    if INSTALLED in subject.roots[-1].parts:  # base would import head's torch from there
        raise SideUnusable(
            f"--perf-model={settings.model}: it is installed in {subject.roots[-1]}; the gate compares checkouts: "
            "run it in the project's own"
        )
    start = _start(settings, subject, data_name, threads)
    python = _python(settings.against_python)
    head = Side("head", _working_tree(subject.root), sys.executable, subject, start)
    with contextlib.ExitStack() as held:
        base, title = _base(subject, settings.against, held)
        if settings.against_python is not None:
            title += f" on {settings.against_python}"
        yield Side("base", title, python, base, start), head


def itself(settings: Settings, data_name: str, threads: int) -> Side:
    """The code of this process as a side, to run it in other processes. Raises SideUnusable."""
    subject = subject_of(settings)
    return Side("", "this process", sys.executable, subject, _start(settings, subject, data_name, threads))


def _start(settings: Settings, subject: Subject, data_name: str, threads: int) -> dict[str, Any]:
    """What a worker is told when it starts."""
    return {
        "options": settings.for_worker(
            device=",".join(settings.devices),
            data=data_name if data_name in NAMES else "auto",  # both sides use the data set that head would use
            threads=str(threads),
            # A file is imported as a module from its folder, which is another one on each side.
            model=settings.model if subject.module is None else f"{subject.module}:{settings.model.rpartition(':')[2]}",
        )
    }


def _working_tree(root: Path) -> str:
    """Head's title, with the commit if git knows it."""
    at = ""
    with contextlib.suppress(RefError):
        at = f" at {commit(root, 'HEAD')[:SHORT]}" + (" + uncommitted changes" if changed(root) else "")
    return f"the working tree {root.name}{at}"


def _base(subject: Subject, against: str | None, held: contextlib.ExitStack) -> tuple[Subject, str]:
    if against is None:
        return subject, "the same code"
    if (folder := Path(against).expanduser()).is_dir() and not _is_ref(subject.root, against):
        return _complete(subject.at(folder.resolve()), against), f"{folder}"
    try:
        repository = top_level(subject.root)
        if repository is None:
            raise RefError(f"{against!r} is no folder, and {subject.root} is in no git repository")
        sha = commit(repository, against)
        place = held.enter_context(worktree(repository, sha))
    except RefError as error:
        raise SideUnusable(f"--perf-against: {error}") from None
    short = sha[:SHORT]
    title = short if sha.startswith(against) else f"{against} ({short})"
    base = subject.at(place / subject.root.relative_to(repository))
    # An older commit may lack a user's model: then all benchmarks of this model are new.
    return (base if base.module else _complete(base, against)), title


def _complete(base: Subject, against: str) -> Subject:
    if lacking := base.missing():
        raise SideUnusable(f"--perf-against={against}: it has no {lacking}; name a checkout of the project")
    return base


def _repository(root: Path) -> Path | None:
    """The working tree that `root` is in; None if git cannot say, because two folders can be compared without git."""
    with contextlib.suppress(RefError):
        return top_level(root)
    return None


def _is_ref(root: Path, against: str) -> bool:
    """Whether `against` is a git ref. A name without "/", such as `perf`, may also be a folder: then the ref counts."""
    repository = _repository(root)
    if "/" in against or against in (".", "..") or repository is None:
        return False
    with contextlib.suppress(RefError):
        commit(repository, against)
        return True
    return False


def _python(name: str | None) -> str:
    if name is None:
        return sys.executable
    found = shutil.which(Path(name).expanduser())
    if found is None:
        raise SideUnusable(f"--perf-against-python={name}: no such program; give the path of a Python that has torch")
    return str(Path(found).absolute())  # not resolved: the python of a virtual environment is a link out of it
