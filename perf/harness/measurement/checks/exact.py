"""In: a device. Out: the errors of its results against float64, and a digest of their bits."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from data import Batch
from perf.harness.measurement.checks.probes import DTYPES
from perf.harness.workload.modes.precision import float32_products
from perf.harness.workload.workload import Trainee

Op = Callable[[Sequence[Tensor]], Tensor]

# Odd, so that each position has its own weight modulo 2^64 (the fraction of the golden ratio, Knuth 6.4).
WEIGHT = 0x9E3779B97F4A7C15 - 2**64


@dataclass(frozen=True)
class Accuracy:
    """How exact one result is.

    `error` is the largest error of an element, in units of eps, relative to the exact element or, if that is larger,
    to the root mean square of all elements. `bar` is the largest `error` allowed. `bad` counts the elements that are
    not finite.
    """

    name: str
    error: float
    bar: float
    bad: int
    elements: int


@dataclass(frozen=True)
class Operation:
    """`call` on random operands of `shapes`. Its errors, forward and backward, may reach a bar, in units of eps.

    The bar is `fp32` in float32, and `half` in bf16 and fp16, whose sums are in float32. The bar is four times the
    largest error seen on CPUs over seeds and numbers of threads, and at least 16. TF32 instead of float32 has errors
    of thousands of eps.
    """

    call: Op
    shapes: tuple[tuple[int, ...], ...]
    fp32: float
    half: float

    def bar(self, dtype: str) -> float:
        return self.fp32 if dtype == "fp32" else self.half


def _network(x: Sequence[Tensor]) -> Tensor:
    """Two layers as large as those of the reference program, but with a smooth activation function.

    The gradient of ReLU jumps if a sum rounds to the other side of 0, which is not an error of the device.
    """
    hidden = functional.gelu(functional.linear(x[0], x[1] / 28))
    return functional.log_softmax(functional.linear(hidden, x[2] / 11), dim=-1)


OPERATIONS = {
    "matmul": Operation(lambda x: x[0] @ x[1], ((512, 1024), (1024, 512)), fp32=100, half=16),
    "conv2d": Operation(
        lambda x: functional.conv2d(x[0], x[1], padding=1), ((8, 32, 28, 28), (64, 32, 3, 3)), fp32=300, half=16
    ),
    "layer_norm": Operation(lambda x: functional.layer_norm(x[0], x[0].shape[-1:]), ((512, 1024),), fp32=16, half=16),
    "softmax": Operation(lambda x: functional.log_softmax(x[0], dim=-1), ((512, 1000),), fp32=50, half=40),
    "sum": Operation(lambda x: x[0].sum(dim=-1), ((512, 4096),), fp32=16, half=16),
    "gelu": Operation(lambda x: functional.gelu(x[0]), ((512, 1024),), fp32=56, half=16),
    "network": Operation(_network, ((64, 784), (128, 784), (10, 128)), fp32=160, half=40),
}


def accuracies(
    device: torch.device, dtype: str, seed: int, fault: Callable[[Tensor], None] | None = None
) -> list[Accuracy]:
    """How exact each operation is, forward and backward, on `device` in `dtype`, against the CPU in float64.

    Both start from the same rounded operands, so the rounding of the input is not counted as an error.
    """
    found = []
    for name, operation in OPERATIONS.items():
        generator = torch.Generator().manual_seed(seed)
        rounded = [torch.randn(shape, generator=generator).to(DTYPES[dtype]) for shape in operation.shapes]
        exact = _with_gradients(operation.call, [operand.double() for operand in rounded])
        with float32_products(tf32=False):
            results = _with_gradients(operation.call, [operand.to(device) for operand in rounded])
        if fault is not None and name == "matmul":
            fault(results[0])
        for place, (result, right) in enumerate(zip(results, exact, strict=True)):
            part = f"{name} gradient {place}" if place else name
            found.append(_accuracy(part, result.detach().cpu(), right.detach(), operation.bar(dtype)))
    return found


def _with_gradients(op: Op, operands: Sequence[Tensor]) -> list[Tensor]:
    leaves = [operand.detach().requires_grad_() for operand in operands]
    result = op(leaves)
    # The weights of the gradient are powers of two: exact in every format, and different from element to element.
    weights = (2.0 ** (torch.arange(result.numel(), device=result.device) % 3)).to(result.dtype).view(result.shape)
    return [result, *torch.autograd.grad(result, leaves, weights)]


def _accuracy(name: str, result: Tensor, exact: Tensor, bar: float) -> Accuracy:
    bad = int((~result.isfinite()).sum())
    typical = exact.square().mean().sqrt()
    errors = (result.double() - exact).abs() / torch.maximum(exact.abs(), typical)
    error = errors.max().item() / torch.finfo(result.dtype).eps if not bad else math.inf
    return Accuracy(name, error, bar, bad, result.numel())


def digest(tensors: Iterable[Tensor]) -> int:
    """A digest of 64 bits: the sum of all words of `tensors`, each multiplied by a weight of its place, modulo 2^64.

    The sum is exact in any order. Unlike an exclusive or, it changes with two equal bit flips or two swapped elements.
    """
    total = 0
    for place, tensor in enumerate(tensors):
        words = tensor.detach().contiguous().view(-1).view(_WORD[tensor.element_size()]).to(torch.int64)
        weights = torch.arange(1, words.numel() + 1, device=words.device, dtype=torch.int64) * WEIGHT | 1
        total = (total + (2 * place + 1) * int((words * weights).sum().item())) % 2**64
    return total


_WORD = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Let torch choose only operations that give the same bits again, where it has them: cuDNN has others, too."""
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings(), cudnn.flags(cudnn.enabled, benchmark=False, deterministic=True):
        warnings.simplefilter("ignore")  # of operations that have no such variant: the check itself finds them
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def trained_digest(
    trainee: Trainee, batches: Sequence[Batch], between: Callable[[int, Trainee], None] | None = None
) -> int:
    """The digest of gradients and weights after a training step on each of `batches`, from the trainee's first state.

    `between(number, trainee)` is called in each step, between the backward pass and the update.
    """
    trainee.restore()
    trainee.model.train()
    step = trainee.step
    with deterministic():
        for number, batch in enumerate(batches):
            step.zero_grad()
            step.backward(step.forward(*batch))
            if between is not None:
                between(number, trainee)
            step.update()
    parameters = list(trainee.model.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return digest([*gradients, *trainee.model.state_dict().values()])
