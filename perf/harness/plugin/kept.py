"""In: a run, above all one that decides (a gate, a qualification). Out: the file of its record, also on a full disk."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from perf.harness.plugin import stock
from perf.harness.plugin.state import kept_in
from perf.harness.record import RecordError, Run
from perf.harness.record.read import parse
from perf.harness.record.run import PARTIAL
from perf.harness.record.store import claim, keep, plain, try_folder


def check_folder(config: pytest.Config) -> None:
    """Try to write, before anything is measured, where the record goes. Raises pytest.UsageError if that fails."""
    try:
        try_folder(kept_in(config)[0])
    except RecordError as error:
        raise pytest.UsageError(
            f"{error}, so the record of this run would be lost; free space there, make it writable, or choose another "
            "folder with --benchmark-storage=FOLDER"
        ) from None


class DecidingRecord:
    """The record of one run that decides: `<kind>_<time>_<random>.json`, and the file of `--benchmark-json`, if any.

    While the run goes on, and if it did not finish, the name of the file begins with PARTIAL. What cannot be written is
    kept in another folder, and the summary says so.
    """

    def __init__(self, config: pytest.Config, kind: str) -> None:
        self._config, self._kind = config, kind
        self._wanted = stock.take_json(config)
        self._document: Mapping[str, Any] | None = None
        self._kept: Path | None = None
        self._problems: list[str] = []

    @cached_property
    def _place(self) -> tuple[Path, str]:
        folder, stamp = kept_in(self._config)
        return folder, f"{self._kind}_{stamp}.json"

    def write(self, complete: bool, last: bool = True) -> None:
        """Write what is known now. Only the `last` write of a run goes to another folder if it must."""
        self._document = plain(stock.document(self._config))
        folder, name = self._place
        self._problems = []
        before, path = self._kept, folder / (name if complete else f"{PARTIAL}{name}")
        if self._put(path):
            self._kept = path
            if before not in (None, path):
                assert before is not None
                _remove(before)
        elif last:
            self._kept = keep_elsewhere(path.name, self._document)
        if self._wanted is not None and last:
            self._put(self._wanted, new=False)

    def _put(self, path: Path, *, new: bool = True) -> bool:
        """Whether the document could be written to `path`. A `new` file never replaces that of another run."""
        assert self._document is not None
        try:
            if new and path != self._kept:
                _keep_new(path, self._document)
            else:
                keep(path, self._document)
        except RecordError as error:
            self._problems.append(str(error))
            return False
        return True

    def run(self) -> Run | None:
        """The run as it is recorded; None if nothing was recorded. It needs no file."""
        if self._document is None:
            return None
        return parse(json.dumps(self._document), str(self._kept or self._place[1]))

    def lines(self, advice: str = "") -> list[str]:
        """Where the record is, and what could not be written."""
        if self._kept is None or self._kept.parent != self._place[0]:
            return kept_instead(self._problems, self._kept, advice)
        return [*self._problems, f"Kept as {self._kept}{advice}"]


def keep_elsewhere(name: str, document: Mapping[str, Any]) -> Path | None:
    """Write a record, whose own folder cannot be written, to the first other folder that can; None if none can."""
    for path in _elsewhere(name):
        with contextlib.suppress(RecordError):
            _keep_new(path, document)
            return path
    return None


def kept_instead(problems: Sequence[str], path: Path | None, advice: str = "") -> list[str]:
    """Why a record is not where it belongs, and where it is; `path` is None if it is lost."""
    lost = "The record is lost: no other folder can be written either. Copy what is printed above."
    return [*problems, lost if path is None else f"Kept as {path} instead{advice}"]


def _keep_new(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file that does not exist yet, as a whole or not at all. Raises RecordError."""
    claim(path)
    try:
        keep(path, document)
    except RecordError:
        _remove(path)
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _elsewhere(name: str) -> Iterator[Path]:
    """Where the record may go if its own folder is full: for temporary files, home, and the current folder."""
    for folder in (tempfile.gettempdir, Path.home, Path.cwd):
        with contextlib.suppress(OSError, RuntimeError):  # there is no such folder
            yield Path(folder()) / name
