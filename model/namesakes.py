"""Keeps a user's packages called `model`, `data` or `perf` apart from Stepwatch's own of these names.

Python knows one module of each name. So there are two sets of them, and an import statement gets those of its own side:
Stepwatch's code finds Stepwatch's, and all other code finds the user's.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).resolve().parent.parent
OWN_PACKAGES = ("model", "data", "perf")
# pytest itself looks up these by name, so that Stepwatch's must be there between imports.
NEEDED = ("perf",)


class Namesakes:
    """The user's packages in `folder` that are called as Stepwatch's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = _namesakes(folder)
        self._hidden: dict[str, dict[str, ModuleType]] = {name: {} for name in self.names}
        self._are_users = dict.fromkeys(self.names, False)
        self._import = builtins.__import__

    def install(self) -> None:
        """From now on, imports are told apart. Between imports, the user's modules are those that Python knows."""
        builtins.__import__ = self._told_apart
        for name in self.names:
            if name not in NEEDED:
                self._exchange(name)

    @contextlib.contextmanager
    def side(self, *, users: bool, names: Sequence[str]) -> Iterator[None]:
        """In the block, `names` mean the user's packages, or Stepwatch's."""
        changed = [name for name in names if self._are_users[name] != users]
        for name in changed:
            self._exchange(name)
        try:
            yield
        finally:
            for name in changed:
                self._exchange(name)

    def _exchange(self, name: str) -> None:
        known = {full: sys.modules.pop(full) for full in list(sys.modules) if full.partition(".")[0] == name}
        sys.modules.update(self._hidden[name])
        self._hidden[name] = known
        self._are_users[name] = not self._are_users[name]
        folder = str(self.folder)
        if any(self._are_users.values()) and sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
        elif not any(self._are_users.values()) and sys.path[:1] == [folder]:
            del sys.path[0]

    def _told_apart(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Python's `__import__`."""
        place = globals or {}
        full = str(place.get("__package__") or "") if level else name
        root = full.partition(".")[0]
        ours = CHECKOUT in Path(str(place.get("__file__") or "")).parents
        if root not in self.names and not (ours and name.partition(".")[0] in self.names):
            return self._import(name, globals, locals, fromlist, level)
        with self.side(users=not ours, names=self.names):
            return self._import(name, globals, locals, fromlist, level)


def _namesakes(folder: Path) -> list[str]:
    return [name for name in OWN_PACKAGES if (folder / name).is_dir() or (folder / f"{name}.py").is_file()]


def has_namesakes(folder: Path) -> bool:
    """Whether there is a package in `folder` that is called as one of Stepwatch's."""
    return bool(_namesakes(folder))


_installed: dict[Path, Namesakes] = {}


@contextlib.contextmanager
def apart(folder: Path) -> Iterator[None]:
    """In the block, `model`, `data` and `perf` mean the packages in `folder`, if it has such.

    Afterwards, each import statement gets those of its own side.
    """
    folder = folder.resolve()
    if folder == CHECKOUT or not has_namesakes(folder):
        yield
        return
    if folder not in _installed:
        _installed[folder] = Namesakes(folder)
        _installed[folder].install()
    found = _installed[folder]
    with found.side(users=True, names=found.names):
        yield
