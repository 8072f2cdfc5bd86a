"""The errors of a model that cannot be used, and the lines to write instead."""

from collections.abc import Mapping


class RecipeError(Exception):
    """A model that cannot be used: `str()` says which model, why, and what to do."""


class UnknownModel(RecipeError):
    """There is no model with this name."""


class Refused(RecipeError):
    """A training that cannot be measured as it is: why, and the lines to write instead."""

    def __init__(self, why: str, *lines: str) -> None:
        super().__init__("\n".join([f"{why}; write:", *(f"    {line}" for line in lines)]) if lines else why)


LOSS_LINES = (
    "def loss(self, batch):",
    "    x, y = batch",
    "    return torch.nn.functional.cross_entropy(self.model(x), y)",
)


def loss_lines(output: object) -> tuple[str, ...]:
    """LOSS_LINES for a method of a network whose output is `output`: they take the logits out of it."""
    part = ""
    if isinstance(output, Mapping) and output:
        part = f"[{next((key for key in output if key == 'logits'), next(iter(output)))!r}]"
    elif isinstance(output, list | tuple) and output:
        part = "[0]"
    elif hasattr(output, "logits"):
        part = ".logits"
    return *LOSS_LINES[:-1], LOSS_LINES[-1].replace("self.model(x)", f"self(x){part}")


OPTIMIZER_LINES = (
    "def optimizers(self):",
    "    return torch.optim.AdamW(self.model.parameters(), lr=1e-3)",
)
STEP_LINES = (
    "def step(self, batch):",
    "    self.optimizer.zero_grad()",
    "    loss = …",
    "    loss.backward()",
    "    self.optimizer.step()",
    "    return loss",
)
CLOSURE_LINES = (
    "def step(self, batch):",
    "    def closure():",
    "        self.optimizer.zero_grad()",
    "        loss = …",
    "        loss.backward()",
    "        return loss",
    "    return self.optimizer.step(closure)",
)
LAZY_LINES = (
    "network = …",
    "network(torch.zeros(2, …))  # a batch of two: the lazy modules become real ones",
    "return network",
)
