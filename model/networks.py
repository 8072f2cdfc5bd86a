"""The reference network, and a small convolutional network."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SimpleNN(nn.Module):
    """Flatten to 784 → linear to 128 → ReLU → linear to 10: 101,770 parameters."""

    input_shape = (1, 28, 28)
    classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(28 * 28, 128)
        self.output = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 10) of `images` (B, 1, 28, 28), float."""
        logits: Tensor = self.output(torch.relu(self.hidden(images.flatten(1))))
        return logits


class SmallCNN(nn.Module):
    """Two blocks of 3×3 convolution → ReLU → 2×2 max-pool (32, then 64 channels), linear to 128 → ReLU → linear to 10.

    The network has 421,642 parameters.
    """

    input_shape = (1, 28, 28)
    classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 7 * 7, 128)
        self.output = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 10) of `images` (B, 1, 28, 28), float."""
        halved = functional.max_pool2d(torch.relu(self.first(images)), 2)
        halved = functional.max_pool2d(torch.relu(self.second(halved)), 2)
        logits: Tensor = self.output(torch.relu(self.hidden(halved.flatten(1))))
        return logits
