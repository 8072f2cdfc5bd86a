"""In: `--perf-against`, `--perf-against-python`, `--perf-model`. Out: base and head: which code, on which Python.

The subject is the code that is compared: `model/` and `data/` of this checkout. With the user's own `--perf-model`, the
subject is the project that contains it, and both sides use `model/` and `data/` of this checkout. No code of the
user's project runs in this process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data import places
from model.imports import LIBRARIES, file_of, from_where, is_file
from perf.harness.measurement.side_by_side.link import Link, command
from perf.harness.measurement.side_by_side.repository import (
    RefError,
    commit,
    has_changes,
    merged_commit,
    same_tree,
    top_level,
    trailers,
)
from perf.harness.measurement.side_by_side.sealed import Trees, environment, libraries
from perf.harness.measurement.side_by_side.worker import CHECKOUT
from perf.harness.measurement.side_by_side.worktree import PREFIX, SetupFailed, make_ready, own_links, worktree
from perf.harness.options import Settings

SHORT = 10
INSTALLED = "site-packages"
# The trailer of a commit that accepts a change.
ACCEPT = "Perf-Accept"
# The environment variable with head's folder, for the command that makes base ready.
HEAD_VARIABLE = "STEPWATCH_HEAD"
# glibc may give the memory of a large mini-batch back to the kernel after each step. Whether it does depends on what
# the process freed before: of two processes with the same code, one loaded mini-batches of 4,096 in 4.4 ms, the other
# in 1.6 ms. So a worker does not give freed memory back to the system. 32 MiB is the largest block that glibc can keep.
# The user's own settings take precedence.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


class SideUnusable(Exception):
    """A side cannot be measured: `str()` says which option named this side, and what to do."""


@dataclass(frozen=True)
class Subject:
    """The code that differs between the sides: the project in `root`.

    Modules are searched first in the folders `roots`, in order. `file` is that of the user's model. `cwd` is the folder
    in which the workers run.
    """

    root: Path
    roots: tuple[Path, ...]
    cwd: Path
    file: Path | None = None

    def at(self, root: Path) -> Subject:
        """This subject in another checkout, at `root`."""
        own = {path for path in self.roots if path == CHECKOUT != self.root}  # this checkout, if inside the project
        roots = (path if path in own else self._moved(path, root) for path in self.roots)
        cwd = self._moved(self.cwd, root)
        while cwd.is_relative_to(root) and not cwd.is_dir():  # a folder that is new in head
            cwd = cwd.parent
        return Subject(root, tuple(roots), cwd, self.file and self._moved(self.file, root))

    def _moved(self, path: Path, root: Path) -> Path:
        return root / path.relative_to(self.root) if path.is_relative_to(self.root) else path

    def missing(self) -> str:
        """Which files or folders the subject lacks; empty if none."""
        if self.file is not None:
            return "" if self.file.exists() else str(self.file.relative_to(self.root))
        lacking = [name for name in ("model", "data") if not (self.root / name / "__init__.py").is_file()]
        return " and ".join(f"{name}/" for name in lacking)


@dataclass(frozen=True)
class Side:
    """One side: `name` is "base" or "head", `title` is what the user sees.

    `start` is what a worker is told when it starts. `other` is the tree of the other side, which stays closed, with the
    folders in it that are `free`; None if both sides are the same tree.
    """

    name: str
    title: str
    python: str
    subject: Subject
    start: Mapping[str, Any]
    other: Path | None = None
    free: tuple[Path, ...] = ()

    def launch(self, inject: Mapping[str, Any] | None = None) -> Link:
        """Start a fresh worker process. Raises SideLost if it cannot be started."""
        subject = self.subject
        start = {
            **self.start,
            "root": str(subject.root),
            "roots": [str(path) for path in subject.roots],
            "cwd": str(subject.cwd),
            "other": self.other and str(self.other),
            "free": [str(path) for path in self.free],
        }
        # OpenMP reads its number of threads when it is loaded, before torch can set it.
        env = {**KEPT_MEMORY, **self.environment(), "OMP_NUM_THREADS": self.start["options"]["threads"]}
        return Link(command(self.python), start | ({"inject": dict(inject)} if inject else {}), env)

    def environment(self) -> dict[str, str]:
        """The environment variables of this process, with the paths of the other side's tree mapped."""
        if self.other is None:
            return dict(os.environ)
        return environment(os.environ, Trees.of(self.subject.root, self.other, self.free))


def subject_of(settings: Settings) -> Subject:
    """The subject that this process would measure. Raises SideUnusable."""
    here, place = Path.cwd(), settings.model.rpartition(":")[0]
    if not place or place in LIBRARIES:
        return Subject(CHECKOUT, (CHECKOUT,), here)
    file = file_of(place)
    if file is None:
        raise SideUnusable(f"--perf-model={settings.model}: {_nowhere(place)}")
    root = file.parent if is_file(place) else _root_of(file, place)
    project = _repository(root) or root
    # This checkout first: Stepwatch needs its own `model` and `data`, whatever names the project's packages have.
    entries = (Path(entry).resolve() for entry in sys.path)
    inside = Trees.of(CHECKOUT, project, libraries()).closed
    roots = dict.fromkeys((CHECKOUT, *filter(inside, entries), *([] if is_file(place) else [root])))
    return Subject(project, tuple(roots), here, file)


def _root_of(file: Path, module: str) -> Path:
    """The folder from which the module in `file` is imported."""
    parts = len(module.split("."))
    package = file.name == "__init__.py" or file.is_dir()
    return file.parents[parts - 1] if not package or file.is_dir() else file.parents[parts]


def _nowhere(place: str) -> str:
    if is_file(place):
        return f"there is no file {Path(place).expanduser().resolve()}"
    return f"there is no file of a module {place!r} on the import path; {from_where(place)}"


@contextlib.contextmanager
def sides(settings: Settings, threads: int) -> Iterator[tuple[Side, Side]]:
    """Base and head of a gate. Raises SideUnusable."""
    subject = subject_of(settings)
    if subject.file is not None and INSTALLED in subject.file.parts:  # base would import head's torch from there
        raise SideUnusable(
            f"--perf-model={settings.model}: it is installed in {subject.roots[-1]}; the gate compares checkouts: "
            "run it in the project's own"
        )
    python = _python(settings.against_python)
    start = {"options": _options(settings, settings.model, subject, threads)}
    head = Side("head", _working_tree(subject.root), sys.executable, subject, start)
    with contextlib.ExitStack() as held:
        there, title = _base(subject, settings, held)
        if settings.against_python is not None:
            title += f" on {settings.against_python}"
        start = {"options": _options(settings, settings.base_model or settings.model, there, threads, subject)}
        base = Side("base", title, python, there, start)
        if there.root != subject.root:
            free = _open_to_both(settings, subject, python)
            base, head = replace(base, other=subject.root, free=free), replace(head, other=there.root)
            base = _ready(base, settings)
        yield base, head


def itself(settings: Settings, threads: int) -> Side:
    """The code of this process as a side, to run it in other processes. Raises SideUnusable."""
    subject = subject_of(settings)
    start = {"options": _options(settings, settings.model, subject, threads)}
    return Side("", "this process", sys.executable, subject, start)


def same_code(base: Side, head: Side) -> bool:
    """Whether git says that both sides have the same files. It says nothing of two folders."""
    repository = _repository(head.subject.root)
    if base.python != head.python or repository is None:
        return False
    if base.other is None:
        return True
    try:
        own = _repository(base.subject.root)
        return own == base.subject.root and same_tree(repository, commit(own, "HEAD")) and not has_changes(own)
    except RefError:  # another repository, which has commits of its own
        return False


def acceptances(base: Side, head: Side) -> list[tuple[str, str]]:
    """What the commits since base accept, as their authors wrote it, with the commits; nothing of two folders."""
    repository = _repository(head.subject.root)
    if repository is None or base.other is None:
        return []
    try:
        return trailers(repository, commit(base.subject.root, "HEAD"), ACCEPT)
    except RefError:  # another repository, which has commits of its own
        return []


def _options(
    settings: Settings, model: str, subject: Subject, threads: int, head: Subject | None = None
) -> dict[str, str]:
    """The options of a worker. A model in a file is that of the worker's own tree."""
    place, _, name = model.rpartition(":")
    if place and is_file(place):
        path = Path(place).expanduser().resolve()
        if head is not None and path.is_relative_to(head.root):
            path = subject.root / path.relative_to(head.root)
        model = f"{path}:{name}"
    return settings.for_worker(device=",".join(settings.devices), threads=str(threads), model=model)


def _open_to_both(settings: Settings, subject: Subject, python: str) -> tuple[Path, ...]:
    """What may lie in head's tree, but is open to base: this checkout, libraries, and Stepwatch's data sets."""
    ours = CHECKOUT / "perf" if subject.root == CHECKOUT else CHECKOUT
    return (ours, *libraries(), Path(python).parent.parent, *places(settings.data_root.resolve()))


def _ready(base: Side, settings: Settings) -> Side:
    """Base after the user's command has made it ready. Links that it made are followed. Raises SideUnusable."""
    command = settings.against_setup
    if command is None:
        return base
    option = f"--perf-against-setup={command}"
    place, head = base.subject.root, base.other
    if _repository(place) != place or not place.name.startswith(PREFIX):
        raise SideUnusable(f"{option}: it makes a git ref ready; the folder {place} is yours to make ready")
    try:
        make_ready(place, command, {**base.environment(), HEAD_VARIABLE: str(head)})
    except SetupFailed as error:
        raise SideUnusable(f"{option}: {error}") from None
    return replace(base, free=(*base.free, *own_links(place)))


def version() -> str:
    """The commit of this checkout of Stepwatch, and whether its files differ; "" if git cannot say."""
    return _at(CHECKOUT) if _repository(CHECKOUT) == CHECKOUT else ""


def _at(root: Path) -> str:
    """The commit of the working tree `root`, and whether its files differ; "" if git cannot say.

    A system for CI may check out a merge that only it knows: then the commit that it merged is named, too.
    """
    with contextlib.suppress(RefError):
        merged = merged_commit(root)
        of = f" (which merges {merged[:SHORT]})" if merged else ""
        return f"{commit(root, 'HEAD')[:SHORT]}{of}" + (" + uncommitted changes" if has_changes(root) else "")
    return ""


def _working_tree(root: Path) -> str:
    """Head's title, with the commit if git knows it."""
    at = _at(root)
    return f"the working tree {root.name}" + (f" at {at}" if at else "")


def _base(subject: Subject, settings: Settings, held: contextlib.ExitStack) -> tuple[Subject, str]:
    against = settings.against
    if against is None:
        return subject, "the same code"
    if (folder := Path(against).expanduser()).is_dir() and not _is_ref(subject.root, against):
        return _complete(subject.at(folder.resolve()), against), f"{folder}"
    here = _repository(Path.cwd())
    if subject.file is None and here is not None and here != CHECKOUT:
        raise SideUnusable(
            f"--perf-against={against}: without --perf-model=…:NAME, the gate compares Stepwatch with itself, and you "
            f"are in {here}: name your own training, or run this in {CHECKOUT}"
        )
    try:
        repository = top_level(subject.root)
        if repository is None:
            how = "name a folder with the code of base, or run where your training is in a repository"
            raise RefError(f"{against!r} is no folder, and {subject.root} is in no git repository; {how}")
        sha = commit(repository, against)
        place = held.enter_context(worktree(repository, sha))
    except RefError as error:
        raise SideUnusable(f"--perf-against: {error}") from None
    short = sha[:SHORT]
    title = short if sha.startswith(against) else f"{against} ({short})"
    base = subject.at(place / subject.root.relative_to(repository))
    # An older commit may lack a user's model: then all benchmarks of this model are new.
    return (base if base.file else _complete(base, against)), title


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
