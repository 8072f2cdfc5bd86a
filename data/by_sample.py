"""In: images in memory. Out: a data set that gives them one by one, as most beginners' programs read theirs.

Of this package, only this module imports torchvision, which takes longer to import than torch. What reads whole tensors
does not need it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch import Tensor
from torch.utils.data import Dataset
from torchvision import datasets, transforms
from torchvision.transforms.functional import to_pil_image

_PIL_CHANNELS: Final = (1, 3)  # the channels of the images that PIL supports: grey and RGB


def reference_transform() -> transforms.Compose:
    """Turn a PIL image into float32 (C, H, W) from -1 to 1."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])


class MNIST(datasets.MNIST):  # type: ignore[misc]  # torchvision has no type stubs
    """`torchvision.datasets.MNIST`, read only from its raw files.

    Older versions of torchvision wrote a `processed` folder, and torchvision still silently prefers that folder to the
    raw files. This class never looks there. Its name is MNIST because torchvision names the data folder after it.
    """

    @property
    def processed_folder(self) -> str:
        """The raw folder, which contains no processed file."""
        return str(self.raw_folder)


def mnist(root: Path, train: bool, images: Tensor, labels: Tensor) -> MNIST:
    """torchvision's data set of the files under `root`, limited to `images` and `labels`, the first of its samples."""
    dataset = MNIST(root, train=train, transform=reference_transform())
    dataset.data, dataset.targets = images, labels
    return dataset


class SyntheticImages(Dataset[tuple[Tensor, int]]):
    """Images in memory, read sample by sample as in `torchvision.datasets.MNIST`: PIL image, transforms, label.

    `data` is uint8 (N, C, H, W), `targets` int64 (N,). PIL supports only images of 1 or 3 channels. Other images get
    the same arithmetic directly on the tensor.
    """

    def __init__(self, data: Tensor, targets: Tensor) -> None:
        self.data = data
        self.targets = targets
        self._to_tensor = transforms.ToTensor()
        self._normalize = transforms.Normalize((0.5,), (0.5,))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A float32 (C, H, W) image from -1 to 1, and its label."""
        image = self.data[index]
        scaled = self._to_tensor(to_pil_image(image)) if len(image) in _PIL_CHANNELS else image.float().div(255)
        return self._normalize(scaled), int(self.targets[index])
