"""In: the tree of this side, and the other side's. Out: a process that imports and opens files of its own tree only.

Many things lead into head's tree: the folder in which pytest was called, `PYTHONPATH`, `.pth` files, the finders of
editable installs, links, absolute paths. In a worker of base, each of them is mapped to the same place in base's tree.
What still opens a file of the other side is refused by name, so that no side is measured with the other's code. This
module runs in a worker, before anything of the subject is imported, and needs no library.
"""

from __future__ import annotations

import errno
import functools
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

# A virtual environment may lie inside the project, but its libraries are not the subject.
SCHEMES = ("stdlib", "platstdlib", "purelib", "platlib")
# The audit events that name files, and the places of the names among their arguments.
FILES = {
    "open": (0,), "import": (1,), "ctypes.dlopen": (0,), "os.remove": (0,), "os.rename": (0, 1), "os.link": (0, 1),
    "os.symlink": (0, 1), "os.truncate": (0,),
}  # fmt: skip
MOST_KEPT = 10_000


@functools.cache  # `sysconfig` puts the paths together anew each time: 0.9 ms for each of 3,000 modules
def libraries() -> tuple[Path, ...]:
    """The folders of this Python and its libraries."""
    places = {sysconfig.get_path(name) for name in SCHEMES} | {sys.prefix, sys.base_prefix}
    return tuple(Path(place).resolve() for place in places)


@dataclass(frozen=True)
class Trees:
    """This side's tree `own`, and the `other` side's. `free` are places in `other` that are open to both sides."""

    own: Path
    other: Path
    free: tuple[Path, ...] = ()

    @classmethod
    def of(cls, own: Path, other: Path, free: Iterable[Path]) -> Trees:
        """`free` that holds the whole of `other` does not count: a project may lie in the folder of its Python."""
        inside = (place for place in free if place != other and place.is_relative_to(other))
        return cls(own, other, tuple(inside))

    def closed(self, path: Path) -> bool:
        """Whether `path`, absolute and without `..`, belongs to the other side."""
        if not path.is_relative_to(self.other) or any(map(path.is_relative_to, self.free)):
            return False
        # One tree may lie inside the other: then the inner one counts.
        return not (path.is_relative_to(self.own) and self.own.is_relative_to(self.other))

    def mapped(self, text: str) -> str:
        """The path `text`, or its place in this side's tree if it belongs to the other side."""
        path = _plain(text)
        for one in () if path is None else (path, _real(path)):
            if self.closed(one):
                return str(self.own / one.relative_to(self.other))
        return text


def _plain(path: object) -> Path | None:
    """An absolute path without `..`; None for what is no path, such as the number of an open file."""
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    try:
        return Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  links are not followed here
    except ValueError:  # a zero byte
        return None


def _real(path: Path) -> Path:
    """`path` with its links followed. A data set may have a million files in one folder."""
    folder = Path(_real_folder(str(path.parent)), path.name)
    return Path(os.path.realpath(folder)) if folder.is_symlink() else folder


@functools.cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def environment(given: Mapping[str, str], trees: Trees) -> dict[str, str]:
    """The variables `given`, with each path into the other side's tree mapped, also in lists such as `PYTHONPATH`.

    An address such as `file:///…` is left as it is.
    """

    def mapped(value: str) -> str:
        parts = [value] if "://" in value else value.split(os.pathsep)
        return os.pathsep.join(trees.mapped(part) if Path(part).is_absolute() else part for part in parts)

    return {name: mapped(value) for name, value in given.items()}


class OwnTree:
    """A finder that asks all other finders. It takes the place of this side for what they find in the other's.

    Some finders read files of the folder that was installed before they answer: meson-python's builds it. `watch`
    refuses that, and the other finders are asked.
    """

    def __init__(self, trees: Trees, watch: Watch) -> None:
        self._trees, self._watch = trees, watch

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        strange, before = "", dict(self._watch.refused)
        for finder in list(sys.meta_path):
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            try:
                spec = finder.find_spec(fullname, path, target)
            except PermissionError as error:
                if self._watch.refused == before:
                    raise
                strange = strange or str(error.filename)
                continue
            if spec is None:
                continue
            if (own := self._own(spec)) is not None:
                self._watch.refused = before  # nothing of the other side was read, and nothing was needed
                return own
            strange = strange or str(spec.origin or fullname)
        if strange:  # with None, Python would ask the other finders, and import this file
            name = strange.removeprefix(f"{self._trees.other}{os.sep}")
            raise ModuleNotFoundError(f"No module named {fullname!r}: only the other side has {name}", name=fullname)
        return None

    def _own(self, spec: ModuleSpec) -> ModuleSpec | None:
        """`spec` in this side's tree; None if it is only in the other's."""
        places = list(spec.submodule_search_locations or ())
        mapped = [self._trees.mapped(place) for place in places]
        if spec.origin is None or not spec.has_location:
            if mapped == places:
                return spec
            there = [place for place in mapped if Path(place).is_dir()]
            if not there:
                return None
            found = ModuleSpec(spec.name, None, is_package=True)  # a namespace package
            found.submodule_search_locations = there
            return found
        origin = self._trees.mapped(spec.origin)
        if origin == spec.origin and mapped == places:
            return spec
        if not Path(origin).is_file():
            return None
        package = spec.submodule_search_locations is not None
        return importlib.util.spec_from_file_location(
            spec.name, origin, submodule_search_locations=mapped if package else None
        )


def _source(name: str) -> str:
    """The source file of a compiled one, which Python opens first."""
    try:
        return importlib.util.source_from_cache(name)
    except ValueError:
        return name


class Watch:
    """Refuses to open or change a file of the other side.

    `refused` has the names of such files, also where the error was caught, and the line of this side's code, if any.
    `opened` are the first MOST_KEPT files of this side's tree that were opened.
    """

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self._ours = (Path(__file__).resolve().parents[4] / "perf", *libraries())
        self.refused: dict[str, str] = {}
        self.opened: dict[str, None] = {}

    def _place(self) -> str:
        frame = sys._getframe()
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(self._trees.own) and not any(map(path.is_relative_to, self._ours)):
                return f"{path.relative_to(self._trees.own)}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return ""

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        for place in FILES.get(event, ()):
            if (path := _plain(arguments[place])) is not None:
                self._see(path)

    def _see(self, path: Path) -> None:
        """Take note of a file that is opened or changed. Raises PermissionError if it is the other side's."""
        for one in (path, _real(path)):
            if self._trees.closed(one):
                self.refused.setdefault(_source(str(one.relative_to(self._trees.other))), self._place())
                raise PermissionError(errno.EACCES, "it is the other side's", str(one))
        if len(self.opened) < MOST_KEPT and path.is_relative_to(self._trees.own):
            self.opened[str(path.relative_to(self._trees.own))] = None


def seal(trees: Trees) -> Watch:
    """Keep this process in its own tree, for as long as it lives."""
    sys.path[:] = [trees.mapped(entry) for entry in sys.path]
    sys.path_importer_cache.clear()
    watch = Watch(trees)
    sys.meta_path.insert(0, OwnTree(trees, watch))
    sys.addaudithook(watch)
    return watch
