"""In: a workload. Out: how much of a device's memory its training step takes, and which batch sizes can be trained."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from data import Batch
from model import TrainingStep
from model.nesting import mapped, tensors
from perf.harness.machine import memory
from perf.harness.machine.devices import Device
from perf.harness.machine.load import Clock
from perf.harness.measurement.calls import warm_up
from perf.harness.workload.contract import MINIMAL_BATCH
from perf.harness.workload.modes.execution import executed
from perf.harness.workload.modes.precision import in_precision
from perf.harness.workload.own_data import OwnSamples, OwnSplit, OwnStream
from perf.harness.workload.streams import seed_all
from perf.harness.workload.workload import Workload

# How long to measure the throughput of each batch size that fits [s]: long enough to find its fastest block of steps.
RATE_LEAST_S, RATE_MOST_S = 0.1, 0.5
# A user waits for the search, so its time is limited [s]. A try has at least three steps: the first step, a step to
# measure the memory, and a step to measure the throughput.
SEARCH_S, STEPS_OF_A_TRY = 120.0, 3
# Each size compiles anew. A search that compiles may take this many times as long, for what it does besides steps.
COMPILING = 5
# Kernels that count elements in 32 bits fail above this number, however much memory there is.
MOST_ELEMENTS = 2**31 - 1
OUT_OF_MEMORY = "out of memory"
# The log level that keeps the profiler's own log off the terminal.
SILENT = "99"


def fresh_step(work: Workload) -> TrainingStep:
    """The training step of a fresh network, without the copy of the weights that `Trainee` keeps to restore them."""
    seed_all(work.seed)
    device = work.device.torch_device
    step = work.recipe.training(device, work.memory_format)
    step.model.train()
    return executed(in_precision(step, work.mode.precision, device), work.mode.execution)


def repeated(batch: Batch, size: int) -> Batch:
    """`size` images and labels on the device: the samples of `batch`, again and again in order."""
    images, labels = batch
    turn = torch.arange(size, device=labels.device) % len(labels)
    return images[turn], labels[turn]


@dataclass(frozen=True)
class Account:
    """The memory of a training step [bytes], None if unknown. `account` explains the parts."""

    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int | None
    peak_bytes: int | None


def account(work: Workload, batch: Batch) -> Account:
    """The memory of torch's allocator that a training step on `batch` takes, once the optimizer has its state.

    Weights are parameters and buffers. Activations are what a step takes at its peak, without what was there before
    the step (weights, optimizer state, mini-batch) and without the gradients of the weights. So they are the
    tensors that forward keeps for backward, the gradients of these tensors, and the temporary memory of operations. If
    a compiled step includes the update, its activations include the gradients of the weights. The activations of a
    CUDA graph are unknown, because the graph keeps them between steps. The peak includes all parts and the mini-batch.
    """
    memory.free(work.device)
    before = memory.used_bytes(work.device)
    step = fresh_step(work)
    batch = mapped(torch.clone, batch)
    step(*batch)
    found = account_of(step, batch, work.device)
    if work.mode.execution == "cudagraph":
        found = replace(found, activation_bytes=None)
    if before is not None:  # on an accelerator, the peak includes what its libraries keep
        peak = memory.peak_bytes(work.device)
        found = replace(found, peak_bytes=None if peak is None else peak - before)
    return found


def account_of(step: TrainingStep, batch: Batch, device: Device) -> Account:
    """The memory of `step`, which has run before and runs once more here. `account` explains the parts."""
    gradients = _bytes(p.grad for p in step.model.parameters() if p.grad is not None)
    weights = _bytes([*step.model.parameters(), *step.model.buffers()])
    states = [state for one in step.optimizers for state in one.state.values()]
    optimizer = _bytes(value for state in states for value in state.values() if isinstance(value, Tensor))
    step.zero_grad()
    more = allocated_bytes(lambda: step(*batch), device)
    return Account(
        weight_bytes=weights,
        gradient_bytes=gradients,
        optimizer_bytes=optimizer,
        activation_bytes=None if more is None else max(0, more - gradients),
        peak_bytes=None if more is None else weights + optimizer + _bytes(tensors(batch)) + more,
    )


def allocated_bytes(call: Callable[[], object], device: Device) -> int | None:
    """The peak memory of torch's allocator during `call`, without what was in use before [bytes]; None if unknown.

    On a CPU, torch's profiler reports each allocation and each release. The memory of the process would show too
    little, because the process reuses pages that were freed before.
    """
    if device.asynchronous:
        memory.free(device)
        before = memory.used_bytes(device)
        call()
        peak = memory.peak_bytes(device)
        return None if peak is None or before is None else peak - before
    os.environ.setdefault("KINETO_LOG_LEVEL", SILENT)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        call()
    results = profiled.profiler.kineto_results if profiled.profiler else None
    changes = [] if results is None else [event.nbytes() for event in results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(changes), default=0)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


class Tries:
    """Tries to train at one batch size after another, each time with a fresh network on a clean device.

    `most_bytes` is the memory that a step may take on a CPU; an accelerator refuses more by itself. `rates` are the
    throughputs of the sizes that fit [samples/s]; `problems` say why the other sizes do not fit.
    """

    def __init__(self, work: Workload, timer: Clock, most_bytes: int | None = None) -> None:
        self._samples = work.batches(1)[0]
        largest = max((tensor.numel() for tensor in tensors(self._samples)), default=1)
        self.most = MOST_ELEMENTS * work.batch_size // max(1, largest)
        if isinstance(work.data.train, OwnSamples | OwnStream):
            self.most = min(self.most, len(work.data.train))
        self.rates: dict[int, float] = {}
        self.problems: dict[int, str] = {}
        self._most_bytes = None if work.device.asynchronous else most_bytes
        self._work, self._timer, self._begin = work, timer, timer()
        self._starting_s = 0.0  # what the first steps took, which compile

    def fits(self, size: int) -> bool:
        """Whether a network can be trained at batch size `size`.

        As long as no size has fit, an error that is not a lack of memory is raised.
        """
        if size < MINIMAL_BATCH:
            return False
        if limit_s := self._late(size):
            self.problems[size] = f"the search would take more than {limit_s:.0f} s"
            return False
        try:
            self.rates[size] = self._rate(size)
        except (RuntimeError, MemoryError) as error:
            lacking = memory.is_out_of_memory(error)
            if not lacking and (not self.rates or isinstance(error, torch.AcceleratorError)):
                raise
            self.problems[size] = OUT_OF_MEMORY if lacking else str(error).split("\n")[0]
        else:
            return True
        finally:
            if self._work.mode.execution == "compile":
                torch.compiler.reset()  # torch keeps only a few compiled shapes of a function
            memory.free(self._work.device)  # by now, the traceback and the tensors in its frames are gone
        return False

    def _rate(self, size: int) -> float:
        """The throughput of the steps after the first step, in which the optimizer creates its state [samples/s].

        Raises MemoryError if a step takes too much memory.
        """
        begin = self._timer()
        step, batch = self._fresh(size)
        step(*batch)
        self._starting_s += self._timer() - begin
        if self._most_bytes is not None:
            peak = account_of(step, batch, self._work.device).peak_bytes
            if peak is not None and peak > self._most_bytes:
                raise MemoryError(peak)
        return size / warm_up(lambda: step(*batch), self._timer, least_s=RATE_LEAST_S, most_s=RATE_MOST_S).call_s

    def training(self, size: int) -> Callable[[], object]:
        """A function that makes a training step of one fresh network, at batch size `size`."""
        step, batch = self._fresh(size)
        return lambda: step(*batch)

    def _fresh(self, size: int) -> tuple[TrainingStep, Batch]:
        if isinstance(self._work.data.train, OwnSplit):
            return fresh_step(self._work), replace(self._work, batch_size=size).batches(1)[0]
        return fresh_step(self._work), repeated(self._samples, size)

    def _late(self, size: int) -> float:
        """The limit that a try of `size` would exceed [s]; 0 if none, as for a size as large as one that fits."""
        known = max(self.rates, default=size)
        if size <= known:
            return 0.0
        expected_s, spent_s = STEPS_OF_A_TRY * size / self.rates[known], self._timer() - self._begin
        if self._work.mode.execution == "compile":
            if spent_s > COMPILING * SEARCH_S:
                return COMPILING * SEARCH_S
            spent_s -= self._starting_s
        return SEARCH_S if spent_s + expected_s > SEARCH_S else 0.0

    def doublings(self, start: int, size: int) -> dict[int, float]:
        """The throughput at `start`, twice `start`, and so on up to `size`; only at `size` if it is below `start`."""
        found, step = {}, start
        while step <= size:
            found[step] = self.rates[step]
            step *= 2
        return found or {size: self.rates[size]}
