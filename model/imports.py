"""Imports a user's code for `--perf-model=package.module:name` and `--perf-model=path/to/file.py:name`.

What the code does to this process while it is imported is undone or refused, and what it prints is cut short.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import io
import itertools
import os
import pkgutil
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from model.errors import RecipeError, UnknownModel
from model.namesakes import CHECKOUT, OWN_PACKAGES, apart, has_namesakes

# The prefixes of names that are no user's modules, with the library that each needs.
LIBRARIES = {"timm": "timm", "hf": "transformers"}
# Parts of the paths of code that is not the user's.
NOT_USERS = ("site-packages", "/lib/python", *(f"{CHECKOUT / name}{os.sep}" for name in OWN_PACKAGES))
IN_WORKER = "in DataLoader worker process"
# What a user's code may print while it is imported [characters].
MOST_PRINTED = 2000
SLOW_S = 5.0  # an import that takes longer is said: it is part of every pass, and none of its time is training


def import_factory(name: str) -> Callable[[], Any]:
    """The function or class that `name` means. Raises RecipeError, or UnknownModel if there is none."""
    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        raise RecipeError(f"{name!r} is not of the form package.module:factory or path/to/file.py:factory")
    module = _imported(name, place)
    factory = getattr(module, attribute, None)
    if factory is None:
        raise UnknownModel(
            f"{name}: {place!r} ({module.__file__}) has no {attribute!r}{_meant(attribute, vars(module))}"
        )
    if not callable(factory):
        raise RecipeError(f"{name}: {attribute!r} must be callable and return a torch.nn.Module, not {factory!r}")
    return factory  # type: ignore[no-any-return]


def _meant(name: str, known: Iterable[str], suffix: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}{suffix}?" if close else ""


def is_file(place: str) -> bool:
    """Whether the first part of a model's name means a file, and not a module."""
    return place.endswith(".py") or "/" in place or os.sep in place


def users_module(name: str) -> str | None:
    """The name under which the module of the user's model `name` is imported; None if it is no user's model."""
    place = name.rpartition(":")[0]
    if not place or place in LIBRARIES:
        return None
    return Path(place).stem if is_file(place) else place


def folder_of(place: str) -> Path:
    """The folder whose packages a user's module, or the file `place`, imports; the current one if there is none.

    A file imports what lies beside it, and all that Python finds elsewhere: its packages called `model`, `data` or
    `perf` are those of the first folder with such a package.
    """
    if is_file(place):
        beside = Path(place).expanduser().resolve().parent
        folders = (beside, *(Path(entry).resolve() for entry in sys.path))
        return next((one for one in folders if one != CHECKOUT and has_namesakes(one)), beside)
    first = place.partition(".")[0]
    for entry in map(Path, (here for here in sys.path if here)):
        if entry.resolve() != CHECKOUT and ((entry / first).is_dir() or (entry / f"{first}.py").is_file()):
            return entry
    return Path.cwd()


def file_of(place: str) -> Path | None:
    """The file of a user's module, or the file `place`, found without running any of its code; None if there is none.

    For a namespace package, this is its folder.
    """
    if is_file(place):
        path = Path(place).expanduser().resolve()
        return path if path.is_file() else None
    locations: list[str] | None = None
    spec: ModuleSpec | None = None
    for part in itertools.accumulate(place.split("."), "{}.{}".format):
        spec = _spec(part, locations)
        if spec is None:
            return None
        locations = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    if spec is None or (spec.origin is None and not locations):
        return None
    found = Path(str(spec.origin) if spec.has_location else next(iter(locations or ()), ""))
    return found.resolve() if found.exists() and str(found) != "." else None


def _spec(name: str, locations: list[str] | None) -> ModuleSpec | None:
    """Where Python would find `name`. Stepwatch's own packages come last, whatever the user's are called."""
    theirs = [entry for entry in sys.path if Path(entry).resolve() != CHECKOUT]
    for wide in (False, True):
        for finder in sys.meta_path:
            path = locations if locations is not None or wide or finder is not PathFinder else theirs
            find = getattr(finder, "find_spec", None)
            if find is not None and (found := find(name, path)) is not None:
                return found  # type: ignore[no-any-return]
    return None


def _imported(name: str, place: str) -> ModuleType:
    try:
        began = time.perf_counter()
        with guarded(name), apart(folder_of(place)):
            module = _from_file(name, place) if is_file(place) else importlib.import_module(place)
        if (took_s := time.perf_counter() - began) > SLOW_S:
            print(f"{name}: importing it took {took_s:.0f} s, and each process that measures it imports it again")
        return module
    except ModuleNotFoundError as error:
        if is_file(place) or not f"{place}.".startswith(f"{error.name}."):
            hint = _where(error.name or place) or "install it or, if it is yours, add its folder to PYTHONPATH"
            raise RecipeError(f"{name}: importing {place!r} raised {raised(error)}; {hint}") from error
        raise UnknownModel(f"{name}: cannot import {place!r} ({error}); {from_where(place, error.name)}") from error
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(f"{name}: importing {place!r} raised {raised(error)}{_in_package(name, error)}") from error


def _in_package(name: str, error: Exception) -> str:
    """How to name a file that imports from its own package, where that is what failed."""
    place, _, what = name.rpartition(":")
    if not (is_file(place) and isinstance(error, ImportError) and "attempted relative import" in str(error)):
        return ""
    path = Path(place).expanduser().resolve()
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts, folder = [folder.name, *parts], folder.parent
    if len(parts) == 1:
        return "; a file is in no package here: leave the dot out, as what lies beside the file is found"
    here = Path.cwd()
    found = folder.relative_to(here) if folder.is_relative_to(here) else folder
    where = "" if folder == here else f", with PYTHONPATH={found}"
    return f"; it is part of a package: --perf-model={'.'.join(parts)}:{what}{where}"


def from_where(module: str, missing: str | None = None) -> str:
    """From where a `module` that is not found could be imported. `missing` is what of it Python did not find."""
    if hint := _where(missing or module):
        return hint
    for folder in Path.cwd().parents:
        path = folder.joinpath(*module.split("."))
        if folder != CHECKOUT and (path.is_dir() or path.with_name(f"{path.name}.py").is_file()):
            return f"run from {folder}, which contains it, or add that folder to PYTHONPATH"
    return "run from the folder that contains it, or add that folder to PYTHONPATH"


def _where(module: str) -> str:
    """What to do where the module that was not found lies in the folder src, or is misspelt; "" if neither."""
    package, _, last = module.rpartition(".")
    found = file_of(package) if package else None
    folder = found.parent if found is not None and found.name == "__init__.py" else found
    if folder is not None and folder.is_dir() and CHECKOUT not in folder.parents:  # not Stepwatch's own `data`
        close = difflib.get_close_matches(last, [one.name for one in pkgutil.iter_modules([str(folder)])], n=1)
        return f"did you mean {package}.{close[0]}?" if close else f"there is no {last} in {folder}"
    first = Path("src", module.partition(".")[0])
    return "set PYTHONPATH=src" if first.is_dir() or first.with_suffix(".py").is_file() else ""


def _from_file(name: str, place: str) -> ModuleType:
    """The module in the file `place`. Its folder is searched for what it imports."""
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        files = [one.stem for one in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UnknownModel(f"{name}: there is no file {path}{_meant(path.stem, files, '.py')}")
    if path.suffix != ".py":
        raise RecipeError(f"{name}: {path.name} is no Python file")
    known = sys.modules.get(path.stem)
    if known is not None and _is(known, path):
        return known
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if known is None:
        sys.modules[path.stem] = module  # for pickle, and for what imports it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if known is None:
            del sys.modules[path.stem]
        raise
    return module


def _is(module: ModuleType, path: Path) -> bool:
    return getattr(module, "__file__", None) is not None and Path(str(module.__file__)).resolve() == path


@contextlib.contextmanager
def guarded(name: str, doing: str = "importing it") -> Iterator[None]:
    """Around a user's code: it cannot end this process, wait for input, or print without end.

    Raises RecipeError where it tried to end the process.
    """
    printed = io.StringIO()
    try:
        with Path(os.devnull).open() as nothing, _stdin(nothing), contextlib.redirect_stdout(printed):
            yield
    except SystemExit as error:
        raise RecipeError(f"{name}: {doing} ended the program, with exit code {error.code!r}, at {_line(error)}; "
                          'put what is run as a program below `if __name__ == "__main__":`') from error  # fmt: skip
    except KeyboardInterrupt as error:
        frame = _frame(error)
        if frame is None or "raise KeyboardInterrupt" not in (frame.line or ""):  # the user has pressed Ctrl-C
            raise
        raise RecipeError(f"{name}: {doing} raised KeyboardInterrupt, at {_line(error)}") from error
    finally:
        text = printed.getvalue()
        if text:
            more = f"… and {len(text) - MOST_PRINTED:,} more characters\n" if len(text) > MOST_PRINTED else ""
            sys.stdout.write(text[:MOST_PRINTED] + more)


@contextlib.contextmanager
def _stdin(stream: io.TextIOBase | Any) -> Iterator[None]:
    before, sys.stdin = sys.stdin, stream
    try:
        yield
    finally:
        sys.stdin = before


@contextlib.contextmanager
def put_back(found: list[str]) -> Iterator[None]:
    """Undo what the block changes of torch's global settings; `found` gets a text for each change."""
    settings: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "torch.set_num_threads": (torch.get_num_threads, torch.set_num_threads),
        "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "torch.set_default_device": (torch.get_default_device, lambda _: torch.set_default_device(None)),
        "torch.set_grad_enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
        "torch.use_deterministic_algorithms": (
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms,
        ),
    }  # fmt: skip
    before = {name: read() for name, (read, _) in settings.items()}
    try:
        yield
    finally:
        for name, (read, write) in settings.items():
            if (now := read()) != before[name]:
                found.append(f"{name}({now})")
                write(before[name])


def raised(error: BaseException) -> str:
    """`error` and the user's line, such as `ZeroDivisionError: division by zero, at /home/me/nets.py:3`."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}, at {error.filename}:{error.lineno}"
    text, place = f"{type(error).__name__}: {error}", _line(error)
    if IN_WORKER in text:  # a DataLoader repeats the traceback of its worker process as text
        *_, text = text.strip().splitlines()
        found = [
            f"{file}:{line}" for file, line in re.findall(r'File "(.*)", line (\d+)', str(error)) if is_users(file)
        ]
        place = found[-1] if found else ""
    text = " ".join(text.split())
    return f"{text}, at {place}" if place else text


def is_users(file: str) -> bool:
    """Whether `file` is the user's code, and neither Stepwatch's nor a library's."""
    return not file.startswith("<") and not any(part in file for part in NOT_USERS)


def _frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of the user's code that raised `error`; None if there is none."""
    lines = [line for line in traceback.extract_tb(error.__traceback__) if is_users(line.filename)]
    return lines[-1] if lines else None


def _line(error: BaseException) -> str:
    frame = _frame(error)
    return "" if frame is None else f"{frame.filename}:{frame.lineno}"
