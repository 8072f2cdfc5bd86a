"""In: a folder of the four MNIST files. Out: two splits. We check every byte before the files are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from data.errors import DataError
from data.idx import read_idx
from data.sets import ImageDataset, Split

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
    return _split(root, train=True), _split(root, train=False)


def _split(root: Path, *, train: bool) -> Split:
    files = FILES[:2] if train else FILES[2:]
    images, labels = (torch.from_numpy(read_idx(raw_folder(root) / name)) for name in files)
    return Split(images, labels.long(), partial(_by_sample, root, train))


def _by_sample(root: Path, train: bool, images: Tensor, labels: Tensor) -> ImageDataset:
    """Read the files once more, sample by sample. Raises DataError if they have changed since they were verified."""
    from data.by_sample import mnist

    try:
        return mnist(root, train, images, labels)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"the files in {raw_folder(root)} were verified and read, and have since been deleted or changed. "
            "Run again, and leave them in place meanwhile."
        ) from error
