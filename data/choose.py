"""In: a data set's name, a data root. Out: the data set; for "auto", MNIST if its files exist, else the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from data.digits import home_of, load_digits
from data.errors import DataError, system_errors_explained
from data.folder import raw_folder
from data.mnist import absence, load_mnist, missing
from data.sets import DataSet
from data.staging import workshop

NAMES: Final = ("auto", "mnist", "digits")
"""What a user may ask for."""


def resolve(name: str, root: Path) -> str:
    """Return "mnist" or "digits"; for "auto", the files under `root` decide. Raises DataError if `name` is unknown."""
    if name not in NAMES:
        raise DataError(f"unknown data set {name!r}: choose one of {', '.join(NAMES)}")
    if name != "auto":
        return name
    with system_errors_explained(root):
        return "digits" if missing(root) else "mnist"


def places(root: Path) -> list[Path]:
    """The files and folders under the data root `root` that are Stepwatch's; they need not exist."""
    return [raw_folder(root).parent, home_of(root), workshop(root)]


def load(name: str, root: Path, *, download: bool = True) -> DataSet:
    """Load and verify the data set called `name`. Raises DataError, also if `root` cannot be read or written.

    "auto" never downloads. If MNIST files are damaged, "auto" raises an error and does not take the digits. Only
    "mnist" with `download` uses the network, and only if files are missing.
    """
    chosen = resolve(name, root)
    with system_errors_explained(root):
        if chosen == "mnist":
            return load_mnist(root, download=download)
        return load_digits(root, note=absence(root) if name == "auto" else "")
