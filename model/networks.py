"""The reference network."""

import torch
from torch import Tensor, nn


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
