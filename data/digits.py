"""The embedded default data set: drawn once into a cache of four files in MNIST's format, verified at each load.

The cache is `<root>/digits/`. It has a manifest, and the files are where `torchvision.datasets.MNIST(<root>/digits)`
reads them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from data.drawing import SIDE, draw
from data.errors import DataError
from data.folder import FILES, Content, digest, file_content, raw_folder, read_splits, verify
from data.idx import write_idx
from data.sets import DataSet
from data.staging import left_over, staging

VERSION: Final = 1
"""Of the drawing: raised whenever its bits change, so that older caches are made again."""

_SIZES_AND_SEEDS: Final = ((60_000, 1), (10_000, 2))  # training and test split: as large as MNIST's, with other seeds
_MANIFEST: Final = "manifest.json"


def load_digits(root: Path, note: str = "") -> DataSet:
    """Load the drawn digits. If `root` has none, or those of another version, draw them first.

    Raises DataError if a cached file was changed or is missing, and OSError if `root` cannot be written.
    """
    home = home_of(root)
    if left_over(root, "digits") or _version(home) != VERSION:
        _make(root, home)
    contents = _read_manifest(home)[1]
    for name, expected in contents.items():
        verify(raw_folder(home) / name, expected, _remedy(home))
    train, test = read_splits(home)
    return DataSet("digits", note, digest(contents), 10, (1, SIDE, SIDE), train, test)


def home_of(root: Path) -> Path:
    """The folder of the drawn digits under a data root."""
    return root / "digits"


def _make(root: Path, home: Path) -> None:
    """Draw the digits, then rename the whole folder into place, so that a reader never finds half a cache."""
    with staging(root, "digits") as work:
        if _version(home) == VERSION:  # another process made the cache while this one waited
            return
        _write(work / "new")
        if home.exists():
            home.rename(work / "old")
        (work / "new").rename(home)


def _write(home: Path) -> None:
    """Draw both splits into `home`, and write the size and md5 of each file into the manifest."""
    raw = raw_folder(home)
    raw.mkdir(parents=True)
    arrays = [array for count, seed in _SIZES_AND_SEEDS for array in draw(count, seed)]
    for name, array in zip(FILES, arrays, strict=True):
        write_idx(raw / name, array)
    files = {name: asdict(file_content(raw / name)) for name in FILES}
    (home / _MANIFEST).write_text(json.dumps({"version": VERSION, "files": files}, indent=2) + "\n")


def _version(home: Path) -> int | None:
    """The version of the cache in `home`; None if there is no cache. Raises DataError if the manifest is damaged."""
    return _read_manifest(home)[0] if home.exists() else None


def _read_manifest(home: Path) -> tuple[int, dict[str, Content]]:
    """The version of a cache, and the expected content of its files if the version is VERSION. Raises DataError."""
    path = home / _MANIFEST
    try:
        manifest = json.loads(path.read_text())
        version = int(manifest["version"])
        if version != VERSION:
            return version, {}  # the manifest of another version may have another form
        return version, {name: Content(**manifest["files"][name]) for name in FILES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is missing or damaged. {_remedy(home)}") from error


def _remedy(home: Path) -> str:
    return f"Delete the folder {home} and run again: the digits are drawn again in a few seconds."
