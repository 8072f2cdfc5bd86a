"""Parts of files as users write them."""

HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional\n"
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(784, 64)
        self.b = nn.Linear(64, 10)
    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))))
"""

BATCH = "    def batch(self, size):\n        return torch.rand(size, 784), torch.arange(size) % 10\n"
