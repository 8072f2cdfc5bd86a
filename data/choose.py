"""From a data set's name and a data root to the data set: the real MNIST where it is, else the drawn digits."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from data.digits import load_digits
from data.errors import DataError, system_errors_explained
from data.mnist import absence, load_mnist, missing
from data.sets import DataSet

NAMES: Final = ("auto", "mnist", "digits")
"""What a user may ask for."""


def resolve(name: str, root: Path) -> str:
    """What `name` stands for here, "mnist" or "digits", by a look at which files exist; DataError if unknown."""
    if name not in NAMES:
        raise DataError(f"unknown data set {name!r}: choose one of {', '.join(NAMES)}")
    if name != "auto":
        return name
    with system_errors_explained(root):
        return "digits" if missing(root) else "mnist"


def load(name: str, root: Path, *, download: bool = True) -> DataSet:
    """The data set that `name` stands for, verified; see `load_mnist` and `load_digits` for the errors.

    "auto" never downloads, and never falls back from MNIST files that are damaged. Only "mnist" with `download`
    goes to the network, when files are missing.
    """
    chosen = resolve(name, root)
    with system_errors_explained(root):
        if chosen == "mnist":
            return load_mnist(root, download=download)
        return load_digits(root, note=absence(root) if name == "auto" else "")
