"""In: a folder of the four MNIST files. Out: two splits. We check every byte before torchvision reads the files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torchvision import datasets

from data.errors import DataError
from data.sets import Split, reference_transform

FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""The names that `torchvision.datasets.MNIST` reads, unpacked."""

BLOCK_BYTES: Final = 1 << 20
"""Read at once: large enough to be fast, small enough to stay in cache."""


@dataclass(frozen=True)
class Content:
    """The content of a file: its size in bytes, and the md5 of these bytes in hex."""

    size: int
    md5: str

    def __str__(self) -> str:
        return f"{self.size} bytes with md5 {self.md5}"


class MNIST(datasets.MNIST):  # type: ignore[misc]  # torchvision has no type stubs
    """`torchvision.datasets.MNIST`, read only from its raw files.

    Older versions of torchvision wrote a `processed` folder, and torchvision still silently prefers that folder to the
    raw files. This class never looks there. Its name is MNIST because torchvision names the data folder after it.
    """

    @property
    def processed_folder(self) -> str:
        """The raw folder, which contains no processed file."""
        return str(self.raw_folder)


def raw_folder(root: Path) -> Path:
    """The folder of the four files under a data root, as torchvision chooses it."""
    return root / "MNIST" / "raw"


def content(blocks: Iterable[bytes]) -> Content:
    """The size and md5 of bytes that arrive in blocks."""
    size, md5 = 0, hashlib.md5(usedforsecurity=False)
    for block in blocks:
        size += len(block)
        md5.update(block)
    return Content(size, md5.hexdigest())


def file_content(path: Path) -> Content:
    """The size and md5 of a file."""
    with path.open("rb") as file:
        return content(iter(lambda: file.read(BLOCK_BYTES), b""))


def verify(path: Path, expected: Content, remedy: str) -> None:
    """Raise DataError unless the file has exactly the `expected` content; the message ends with `remedy`."""
    try:
        found = file_content(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). {remedy}") from error
    if found != expected:
        raise DataError(f"{path} is damaged: expected {expected}, found {found}. {remedy}")


def digest(contents: Mapping[str, Content]) -> str:
    """Twelve hex digits that identify the four files together."""
    return content(contents[name].md5.encode() for name in FILES).md5[:12]


def read_splits(root: Path) -> tuple[Split, Split]:
    """The training and test split from the four files under `root`. The caller has verified the files."""
    train, test = (Split(MNIST(root, train=part, transform=reference_transform())) for part in (True, False))
    return train, test
