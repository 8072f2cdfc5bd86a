"""In: a workload. Out: what its training step takes of a device's memory, and which batch sizes can be trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from data import Batch
from model import TrainingStep
from perf.harness import devices
from perf.harness.measure import Clock, warm_up
from perf.harness.modes.execution import executed
from perf.harness.modes.precision import in_precision
from perf.harness.workload import MINIMAL_BATCH, Workload

# Of each batch size that fits, the throughput: long enough for its best block of steps.
RATE_LEAST_S, RATE_MOST_S = 0.1, 0.5
# Somebody waits for it. A try is two steps at least: one before, and one for the throughput.
SEARCH_S, STEPS_OF_A_TRY = 120.0, 2
# Kernels that count elements in 32 bits fail beyond this, however much memory there is.
MOST_ELEMENTS = 2**31 - 1
OUT_OF_MEMORY = "out of memory"


def fresh_step(work: Workload) -> TrainingStep:
    """A fresh network's training step, without the copy of the weights that a benchmark keeps for the way back."""
    torch.manual_seed(work.seed)
    device = work.device.torch_device
    model = work.recipe.build().to(device)
    model.train()
    step = TrainingStep(model, work.recipe.optimizer(model.parameters()), work.recipe.loss)
    return executed(in_precision(step, work.mode.precision, device), work.mode.execution)


def repeated(batch: Batch, size: int) -> Batch:
    """`size` samples on the device, those of `batch` in turn."""
    images, labels = batch
    turn = torch.arange(size, device=labels.device) % len(labels)
    return images[turn], labels[turn]


@dataclass(frozen=True)
class Account:
    """Bytes, None where unknown; what `account` says of them."""

    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int | None
    peak_bytes: int | None


def account(work: Workload, batch: Batch) -> Account:
    """What a training step on `batch` takes, once the optimizer has its state.

    Weights are parameters and buffers. Activations are all that a step takes at its peak beyond what was there before
    it (weights, the optimizer's state, the batch) and beyond the gradients: what forward keeps for backward, the
    gradients of that, and what operations need meanwhile; of a CUDA graph, which keeps them between steps, they are
    not known. The peak is all of them and the batch.

    On an accelerator these are bytes of torch's allocator. On a CPU, peak and activations are pages of the process,
    and of few activations a part is hidden in pages that it had already.
    """
    device = work.device
    devices.free(device)
    before = devices.used_bytes(device)
    step = fresh_step(work)
    batch = repeated(batch, len(batch[1]))
    step(*batch)
    gradients = _bytes(p.grad for p in step.model.parameters() if p.grad is not None)
    step.optimizer.zero_grad(set_to_none=True)
    devices.free(device)
    there = devices.used_bytes(device)
    step(*batch)
    peak = devices.peak_bytes(device)
    apart = work.mode.execution != "cudagraph" and peak is not None and there is not None
    return Account(
        weight_bytes=_bytes([*step.model.parameters(), *step.model.buffers()]),
        gradient_bytes=gradients,
        optimizer_bytes=_bytes(v for s in step.optimizer.state.values() for v in s.values() if isinstance(v, Tensor)),
        activation_bytes=max(0, (peak or 0) - (there or 0) - gradients) if apart else None,
        peak_bytes=None if peak is None or before is None else peak - before,
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


class Tries:
    """Training at one batch size after the other, each with a fresh network on a clean device.

    `rates` [samples/s] are of the sizes that fit; `problems` say of the others why not.
    """

    def __init__(self, work: Workload, timer: Clock) -> None:
        self.most = MOST_ELEMENTS // math.prod(work.recipe.input_shape)
        self.rates: dict[int, float] = {}
        self.problems: dict[int, str] = {}
        self._work, self._timer, self._begin = work, timer, timer()
        self._samples = work.batches(1)[0]

    def fits(self, size: int) -> bool:
        """Whether a network can be trained at batch size `size`. Raises what is no lack of memory at the first size."""
        if size < MINIMAL_BATCH:
            return False
        if self._late(size):
            self.problems[size] = f"its search would take more than {SEARCH_S:.0f} s"
            return False
        try:
            self.rates[size] = self._rate(size)
        except (RuntimeError, MemoryError) as error:
            lacking = devices.is_out_of_memory(error)
            if not lacking and not self.rates:
                raise
            self.problems[size] = OUT_OF_MEMORY if lacking else str(error).split("\n")[0]
        else:
            return True
        finally:
            if self._work.mode.execution == "compile":
                torch.compiler.reset()  # of one function, torch keeps a few compiled shapes and no more
            devices.free(self._work.device)  # here the traceback is gone, and with it the tensors in its frames
        return False

    def _rate(self, size: int) -> float:
        """The throughput of steps after the first, in which the optimizer makes its state [samples/s]."""
        call = self.training(size)
        call()
        return size / warm_up(call, self._timer, least_s=RATE_LEAST_S, most_s=RATE_MOST_S).call_s

    def training(self, size: int) -> Callable[[], object]:
        """A fresh network's step at batch size `size`."""
        step, batch = fresh_step(self._work), repeated(self._samples, size)
        return lambda: step(*batch)

    def _late(self, size: int) -> bool:
        """Whether a size that is larger than all before would be tried for too long."""
        known = max(self.rates, default=size)
        if size <= known:
            return False
        expected_s = STEPS_OF_A_TRY * size / self.rates[known]
        return self._timer() - self._begin + expected_s > SEARCH_S

    def doublings(self, start: int, size: int) -> dict[int, float]:
        """The throughput at `start`, at twice of it, and so on, up to `size`; at `size` where that is below `start`."""
        found, step = {}, start
        while step <= size:
            found[step] = self.rates[step]
            step *= 2
        return found or {size: self.rates[size]}
