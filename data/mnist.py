"""The real MNIST: find, unpack or download the files under a data root, and verify them before reading."""

from __future__ import annotations

import gzip
import socket
import textwrap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Final

from data.errors import DataError
from data.folder import BLOCK_BYTES, FILES, Content, content, digest, raw_folder, read_splits, verify
from data.sets import DataSet
from data.staging import left_over, staging

PUBLISHED: Final = dict(
    zip(
        FILES,
        (
            Content(47040016, "6bbc9ace898e44ae57da46a324031adb"),
            Content(60008, "a25bea736e30d166cdddb491f175f624"),
            Content(7840016, "2646ac647ad5339dbf082846283269ea"),
            Content(10008, "27ae3e4e09519cfbb04c329615203637"),
        ),
        strict=True,
    )
)
"""The files of the MNIST database (LeCun, Cortes, Burges), unpacked: their `.gz` wrappers may be packed anew."""

_SOCKET_TIMEOUT_S: Final = 20.0  # we give up on a server that sends nothing for this long


def missing(root: Path) -> list[str]:
    """The files that `<root>/MNIST/raw` has neither unpacked nor as `.gz`."""
    return [name for name in FILES if not _found(raw_folder(root), name)]


def absence(root: Path) -> str:
    """One sentence that says why MNIST is not complete under `root`, and which misplaced files to move."""
    raw, lacking = raw_folder(root), missing(root)
    misplaced = {name: path.name for name in lacking if (path := _found(root, name))}
    if misplaced:
        rest = [name for name in lacking if name not in misplaced]
        add = f", and add {', '.join(rest)} (or .gz)" if rest else ""
        return f"MNIST files lie in {root}: move {', '.join(misplaced.values())} to {raw}{add}"
    if len(lacking) < len(FILES):
        return f"MNIST in {raw} is incomplete: {', '.join(lacking)} (or .gz) is missing"
    return f"no MNIST in {raw}"


def load_mnist(root: Path, *, download: bool) -> DataSet:
    """Load MNIST from `<root>/MNIST/raw`; with `download`, missing files are downloaded.

    Raises DataError if files are missing, cannot be downloaded or are damaged, and OSError if `root` cannot be written.
    """
    raw = raw_folder(root)
    if left_over(root, "mnist") or not all((raw / name).is_file() for name in FILES):
        _complete(root, raw, download=download)
    for name, expected in PUBLISHED.items():
        verify(raw / name, expected, "Delete it and run again, or put the published file there.")
    train, test = read_splits(root)
    return DataSet("mnist", "", digest(PUBLISHED), 10, (1, 28, 28), train, test)


def _found(folder: Path, name: str) -> Path | None:
    """The file called `name` in a folder: unpacked if it exists, otherwise as `.gz`, otherwise None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _complete(root: Path, raw: Path, *, download: bool) -> None:
    """Unpack packed files and download missing ones. Each file appears in `raw` complete or not at all."""
    lacking = missing(root)
    if lacking and not download:
        raise DataError(f"{absence(root)}. {_where_to_put(lacking, raw)}")
    with staging(root, "mnist") as work:
        raw.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            path = _found(raw, name)
            if path and path.suffix == ".gz":
                _unpack(path, work / name, PUBLISHED[name])
                (work / name).replace(raw / name)
        lacking = missing(root)  # another process may have downloaded the files while this one waited
        if lacking:
            _download(work, lacking, raw, root)
            for name in lacking:
                (raw_folder(work) / name).replace(raw / name)


def _unpack(packed: Path, unpacked: Path, expected: Content) -> None:
    """Unpack one `.gz`. Raises DataError unless the result is exactly the published bytes."""
    problem = ""

    def copied() -> Iterator[bytes]:
        nonlocal problem
        with gzip.open(packed) as source, unpacked.open("wb") as target:
            left = expected.size + 1  # one byte too many already proves that the file is wrong
            try:
                while left and (block := source.read(min(left, BLOCK_BYTES))):
                    left -= target.write(block)
                    yield block
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                problem = f" before this: {error}"

    found = content(copied())
    if problem or found != expected:
        raise DataError(
            f"{packed} is damaged: unpacked, expected {expected}, found {found}{problem}. "
            "Delete it and run again, or put the published file there."
        )


def _download(work: Path, lacking: list[str], raw: Path, root: Path) -> None:
    """Let torchvision download MNIST into `work`. A failure becomes a DataError that says what to do by hand."""
    from data.by_sample import MNIST

    try:
        with _socket_timeout(_SOCKET_TIMEOUT_S):
            MNIST(work, download=True)
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise DataError(
            f"MNIST could not be downloaded ({reason}); {absence(root)}. {_where_to_put(lacking, raw)}"
        ) from error


def _where_to_put(lacking: list[str], raw: Path) -> str:
    return (
        f"Put {', '.join(lacking)} (unpacked, or each as .gz) into {raw}, or choose the data set 'digits', "
        "which needs no download."
    )


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Limit every wait for a server to `seconds`, because torchvision does not limit all of them."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
