"""A small language model, and sequences of tokens that it can learn to continue."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY, CONTEXT = 256, 128
WIDTH, HEADS, LAYERS = 128, 4, 2
# Each token is followed by one of so many others, all equally likely: the best possible loss is log(SUCCESSORS).
SUCCESSORS = 4


class Block(nn.Module):
    """Attention to the tokens before, then a network of two layers for each token; both add to their input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH)
        self.mixed = nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (B, T, WIDTH) to vectors of the same shape."""
        batch, length, _ = x.shape
        parts = self.queries_keys_values(self.first(x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.mixed(seen.transpose(1, 2).reshape(batch, length, WIDTH))
        deeper: Tensor = x + self.narrow(functional.gelu(self.wide(self.second(x))))
        return deeper


class TinyLM(nn.Module):
    """A decoder-only transformer with 478,720 parameters, which predicts the next of 256 tokens.

    The tokens come from a Markov chain, so that the loss falls from log 256 = 5.5 towards log 4 = 1.4.
    """

    unit = "tokens"
    batch_sizes = (16, 64)

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.place = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.output = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, VOCABULARY) for the token after each of `tokens`, int64 (B, T)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        logits: Tensor = self.output(self.norm(self.blocks(self.token(tokens) + self.place(places))))
        return logits

    def loss(self, batch: Tensor) -> Tensor:
        """The cross entropy of `batch`, int64 (B, CONTEXT + 1): each token but the first is predicted."""
        return functional.cross_entropy(self(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def predict(self, batch: Tensor) -> Tensor:
        logits: Tensor = self(batch[:, :-1])
        return logits

    def optimizer(self, parameters: object) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def batch(self, size: int) -> Tensor:
        """`size` sequences, int64 (size, CONTEXT + 1), on the CPU."""
        chain = torch.randint(VOCABULARY, (VOCABULARY, SUCCESSORS), generator=torch.Generator().manual_seed(0))
        tokens = [torch.randint(VOCABULARY, (size,))]
        for choice in torch.randint(SUCCESSORS, (CONTEXT, size)):
            tokens.append(chain[tokens[-1], choice])
        return torch.stack(tokens, dim=1)

    def count(self, batch: Tensor) -> int:
        """The tokens that are predicted."""
        return batch[:, 1:].numel()

    @torch.no_grad()
    def metrics(self, batches: list[Tensor]) -> dict[str, float]:
        losses = [self.loss(batch).item() for batch in batches]
        return {"perplexity": math.exp(sum(losses) / len(losses))}
