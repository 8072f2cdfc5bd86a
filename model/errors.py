"""The errors of a model that cannot be used, and the lines to write instead."""

from collections.abc import Iterable, Mapping


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


# What the target of a loss is called in a batch that is a dictionary.
TARGETS = ("labels", "label", "targets", "target", "y")


def loss_lines(batch: object) -> list[str]:
    """`LOSS_LINES` that take input and target out of this `batch`; what has no target learns its input."""
    keys: Iterable[object] = ()
    if isinstance(batch, Mapping):
        keys = sorted(batch, key=lambda key: key in TARGETS)  # the target comes last
    elif isinstance(batch, list | tuple):
        keys = range(len(batch))
    first, *others = [f"batch[{key!r}]" for key in keys] or ["batch"]
    begin, _, end = LOSS_LINES
    if others:
        return [begin, f"    x, y = {first}, {others[-1]}", end]
    return [begin, f"    x = {first}", end.replace("cross_entropy", "mse_loss").replace("y)", "x)")]


def of_network(lines: Iterable[str], output: object = None) -> list[str]:
    """`lines` for the class of the network itself. From its `output`, which is no tensor, they take the logits."""
    part = ""
    if isinstance(output, Mapping) and output:
        part = f"[{'logits' if 'logits' in output else next(iter(output))!r}]"
    elif isinstance(output, list | tuple) and output:
        part = "[0]"
    elif hasattr(output, "logits"):
        part = ".logits"
    return [line.replace("self.model(x)", f"self(x){part}").replace("self.model.", "self.") for line in lines]


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
CUDA_LINES = ("self.model = MyNetwork()  # without .cuda() or .to(…): each case moves it to its device",)
META_LINES = ("self.model = MyNetwork()  # on the CPU",)
LAZY_LINES = (
    "network = …",
    "network(torch.zeros(2, …))  # a batch of two: the lazy modules become real ones",
    "return network",
)
