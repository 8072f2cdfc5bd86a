"""The project from which pytest was called: the folder to which records belong, and its settings in an ini file."""

from __future__ import annotations

import os
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import iniconfig
import pytest

from perf.harness.options import OPTIONS

CHECKOUT = Path(__file__).resolve().parents[3]
# The files in which a project may keep pytest's settings, in pytest's order, each with the sections of which the first
# that is there counts.
FILES = {
    "pytest.toml": ("pytest",), ".pytest.toml": ("pytest",), "pytest.ini": ("pytest",), ".pytest.ini": ("pytest",),
    "pyproject.toml": ("tool.pytest.ini_options", "tool.pytest"), "tox.ini": ("pytest",), "setup.cfg": ("tool:pytest",),
}  # fmt: skip


def home(config: pytest.Config) -> Path:
    """The folder to which records belong: the checkout, or the folder in which pytest was called if it is elsewhere."""
    called = config.invocation_params.dir
    return config.rootpath if CHECKOUT in (called, *called.parents) else called


def folders(config: pytest.Config, data_root: Path) -> dict[str, Path]:
    """The folders whose paths may say whose machine it is, by the names that an anonymous record has for them."""
    user = os.path.expanduser("~")  # noqa: PTH111  where there is no home, this is "~", and no error
    named = {"DATA": data_root, "STEPWATCH": CHECKOUT, "REPOSITORY": home(config), "~": Path(user)}
    return {name: path for name, path in named.items() if path.is_absolute()}


def settings(config: pytest.Config) -> tuple[dict[str, str], str]:
    """The values of the ini file, by the name of the option, and the file's name.

    pytest reads Stepwatch's own file. If it was called from another project, that project's file counts. Raises
    pytest.UsageError for a file that cannot be read, or a name that is no option.
    """
    if not _is_elsewhere(config):
        return {option.name: config.getini(option.ini) for option in OPTIONS}, str(config.inipath or "the ini file")
    given, file = _first(home(config))
    _check_typed(given, file)
    known = {option.ini: option.name for option in OPTIONS}
    for name in given:
        if name.startswith("perf_") and name not in known:
            raise pytest.UsageError(f"{file}: there is no option {name}; docs/options.md lists all of them")
    # What is typed as -o perf_…=… counts first.
    found = {option.name: config.getini(option.ini) or _text(given.get(option.ini, "")) for option in OPTIONS}
    return found, str(file or "the ini file")


def header(config: pytest.Config) -> list[str]:
    """A line for pytest's header, where pytest names another ini file than the one that counts."""
    file = _first(home(config))[1] if _is_elsewhere(config) else None
    return [f"ini file  {file}"] if file else []


def search(config: pytest.Config) -> None:
    """Search the project's `pythonpath` in this process and in those that it starts, as pytest does it for its tests.

    Raises pytest.UsageError for a file that cannot be read.
    """
    given, file = _first(home(config)) if _is_elsewhere(config) else ({}, None)
    if file is None or not (folders := _words(given, "pythonpath", file)):
        return
    found = [str((file.parent / folder).resolve()) for folder in folders]
    sys.path[:0] = found
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*found, *filter(None, [before])])
    config.add_cleanup(partial(_forget, found, before))


def _forget(folders: Sequence[str], before: str | None) -> None:
    """Search `folders` no longer, and give PYTHONPATH the value `before`."""
    sys.path[:] = [folder for folder in sys.path if folder not in folders]
    if before is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = before


def values(file: Path) -> dict[str, str]:
    """The values of one ini file by their names in it. Raises pytest.UsageError for a file that cannot be read."""
    return {name: _text(value) for name, value in _counting(_sections(file), FILES.get(file.name, ())).items()}


def _is_elsewhere(config: pytest.Config) -> bool:
    """Whether pytest was called from another project, and has read Stepwatch's own file."""
    file = config.inipath and config.inipath.resolve()  # the user may have come through a link
    return file is not None and file.parent == CHECKOUT and home(config) != config.rootpath


def _check_typed(given: Mapping[str, Any], file: Path | None) -> None:
    """Refuse options of Stepwatch in the project's `addopts`, which pytest does not read from here."""
    for word in _words(given, "addopts", file):
        if word.startswith("--perf-"):
            name, _, value = word.removeprefix("--").partition("=")
            setting = f"{name.replace('-', '_')} = {value or 'yes'}"
            raise pytest.UsageError(f"{file}: addopts has {word}, and does not count here; write {setting} instead")


def _words(given: Mapping[str, Any], name: str, file: Path | None) -> list[str]:
    """The words of a setting that may be a list, or a text as it is typed. Raises pytest.UsageError."""
    value = given.get(name, "")
    try:
        return [str(one) for one in value] if isinstance(value, list) else shlex.split(str(value))
    except ValueError as error:
        raise pytest.UsageError(f"{file}: {name}: {error}") from None


def _first(folder: Path) -> tuple[Mapping[str, Any], Path | None]:
    """pytest's settings in the first file of `folder`, or of a folder above it, that has any."""
    for place in (folder, *folder.parents):
        for name, counting in FILES.items():
            if not (file := place / name).is_file():
                continue
            found = _sections(file)
            _check_sections(file, found, counting)
            if values := _counting(found, counting):
                return values, file
    return {}, None


def _sections(file: Path) -> Mapping[str, Mapping[str, Any]]:
    """The sections of an ini file, or the tables of a TOML file by their dotted names; that of the whole file is ""."""
    try:
        if file.suffix != ".toml":
            return dict(iniconfig.IniConfig(str(file)).sections)
        return dict(_tables("", tomllib.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, iniconfig.ParseError) as error:
        raise pytest.UsageError(f"{file}: {error}") from None


def _tables(name: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield name, table
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _tables(f"{name}.{key}".lstrip("."), value)


def _counting(found: Mapping[str, Mapping[str, Any]], counting: Sequence[str]) -> Mapping[str, Any]:
    return next((found[section] for section in counting if section in found), {})


def _check_sections(file: Path, found: Mapping[str, Mapping[str, Any]], counting: Sequence[str]) -> None:
    """Refuse options of Stepwatch in a section that pytest does not read."""
    known = {option.ini for option in OPTIONS}
    for section, values in found.items():
        if section not in counting and (lost := next((name for name in values if name in known), None)):
            where = f"in [{section}]" if section else "above all sections"
            raise pytest.UsageError(f"{file}: {lost} is {where}, where it does not count: put it into [{counting[0]}]")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
