"""In: a device. Out: the speed of one of its components, repetition by repetition; a probe loads nothing else."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from perf.harness.machine.cpu import last_level_bytes
from perf.harness.machine.devices import Device, synchronizer
from perf.harness.machine.memory import available_bytes, free_bytes
from perf.harness.measurement.calls import device_timer, laps, warm_up
from perf.harness.measurement.checks.faults import flip_bit, foreign_load
from perf.harness.workload.modes.captured import capture_cuda
from perf.harness.workload.modes.precision import float32_products

T = TypeVar("T")
Fault = Callable[[Callable[[], object]], Callable[[], object]]

# Short measurements find the best shape. A new measurement finds its rate: the best of twelve noisy rates is too high.
SHAPE_S, SHAPE_LEAST, RATE_S, RATE_LEAST = 0.15, 3, 2.0, 20
# After a product that takes this long, no larger one is tried: twenty of them must fit into a few seconds.
LONGEST_S = 0.1
WARM_LEAST_S, WARM_MOST_S = 0.1, 1.0
# (rows, columns, inner dimension): squares, and the flat and the deep products of the layers of a network.
CPU_SHAPES = (
    (256, 256, 256), (512, 512, 512), (768, 768, 768), (1024, 1024, 1024), (1536, 1536, 1536), (2048, 2048, 2048),
    (4096, 512, 512), (512, 4096, 512), (512, 512, 4096), (128, 2048, 2048), (1024, 256, 1024), (64, 1024, 1024),
)  # fmt: skip
ACCELERATOR_SHAPES = (
    (2048, 2048, 2048), (4096, 4096, 4096), (6144, 6144, 6144), (8192, 8192, 8192), (12288, 12288, 12288),
    (16384, 16384, 16384), (8192, 8192, 1024), (8192, 1024, 8192), (1024, 8192, 8192), (4096, 11008, 4096),
    (16384, 4096, 4096), (4096, 4096, 16384),
)  # fmt: skip
# For the share of a training step: the last is large enough for the rate, and small enough for any memory. The first
# are for a CPU that has no units for a dtype, and takes minutes for the last.
CPU_SQUARES, ACCELERATOR_SQUARES, SQUARE_S = (64, 256, 512, 1024), (64, 256, 1024, 2048, 4096), 0.03
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# The least for a CPU, whose caches may need more; and four times the largest cache of an accelerator (256 MB, MI300X).
CPU_BYTES, ACCELERATOR_BYTES = 256 * 2**20, 2**30
CACHES = 4  # McCalpin's rule: each array at least four times as large as the last-level caches together
ACCELERATOR_COPY_BYTES = 512 * 2**20
# Half a second on a link of 50 GB/s: the link wakes up in this time, and NVML answers.
LINK_BYTES, LINK_COPIES, LINK_LOOKS = 256 * 2**20, 20, 5
LAUNCHES, LAUNCH_BLOCK, QUEUED = 20_000, 1_000, 100
# The dtype and the shape that keep a CPU (False) or an accelerator (True) busy; and the time of one rate [s].
SUSTAINED = {False: ("fp32", (1024, 1024, 1024)), True: ("bf16", (8192, 8192, 8192))}
WINDOW_S = 0.5
# The shape, and the time [s], with which it is measured what one busy core does.
ONE_BUSY, ONE_BUSY_S = (512, 512, 512), 0.5


@dataclass(frozen=True)
class Measured:
    """Rates or times, one per repetition. `note` says what was measured; `calls` is the number of calls, if needed.

    `details` are further results of the same measurement.
    """

    values: tuple[float, ...]
    note: str = ""
    calls: int = 0
    details: Mapping[str, float] = field(default_factory=dict)


def matmul(device: Device, dtype: str, fault: Fault | None = None) -> Measured:
    """The rate of matrix products of random numbers, in the fastest of twelve fixed shapes [FLOP/s].

    On an accelerator, the operands of the larger shapes exceed its caches. A multiply-add counts as two operations.
    """
    shapes = ACCELERATOR_SHAPES if device.asynchronous else CPU_SHAPES
    with float32_products(tf32=dtype == "tf32"):
        found: dict[tuple[int, int, int], list[float]] = {}
        for shape in sorted(shapes, key=_flop):
            found[shape] = _product_s(device, dtype, shape, fault, SHAPE_S, SHAPE_LEAST)
            if statistics.median(found[shape]) > LONGEST_S:  # a CPU without bf16 units takes a hundred times longer
                break
        best = max(found, key=lambda shape: _flop(shape) / statistics.median(found[shape]))
        times = _product_s(device, dtype, best, fault, RATE_S, RATE_LEAST)
    return Measured(tuple(_flop(best) / time for time in times), "×".join(map(str, best)))


@functools.cache
def product_rate(device: Device, dtype: str) -> float:
    """The rate of matrix products [FLOP/s] in the fastest of a few squares: short, and once for a process.

    A square that would take longer than LONGEST_S at the rate so far is not tried.
    """
    best = 0.0
    with float32_products(tf32=dtype == "tf32"):
        for size in ACCELERATOR_SQUARES if device.asynchronous else CPU_SQUARES:
            flop = _flop((size, size, size))
            if best and flop / best > LONGEST_S:
                break
            times = _product_s(device, dtype, (size, size, size), None, SQUARE_S, SHAPE_LEAST)
            best = max(best, flop / statistics.median(times))
    return best


def _flop(shape: tuple[int, int, int]) -> float:
    rows, columns, inner = shape
    return 2.0 * rows * columns * inner


def _product_s(
    device: Device, dtype: str, shape: tuple[int, int, int], fault: Fault | None, most_s: float, least: int
) -> list[float]:
    rows, columns, inner = shape
    left = torch.randn(rows, inner, device=device.torch_device, dtype=DTYPES[dtype])
    right = torch.randn(inner, columns, device=device.torch_device, dtype=DTYPES[dtype])
    out = torch.empty(rows, columns, device=device.torch_device, dtype=DTYPES[dtype])
    return _times(device, lambda: torch.mm(left, right, out=out), fault, most_s, least)


def copy_once(target: Tensor, source: Tensor, fault: Fault | None, most_s: float) -> float:
    """The median rate of copies in the memory of a CPU in `most_s` seconds, bytes read and written [B/s]."""
    times = _times(Device("cpu"), lambda: target.copy_(source), fault, most_s, SHAPE_LEAST)
    return 2 * target.nbytes / statistics.median(times)


def product_once(device: Device, dtype: str, shape: tuple[int, int, int], fault: Fault | None, most_s: float) -> float:
    """The median rate of one product in `most_s` seconds [FLOP/s]."""
    return _flop(shape) / statistics.median(_product_s(device, dtype, shape, fault, most_s, SHAPE_LEAST))


def slower_beside_one(device: Device) -> float:
    """By what share matrix products are slower while a planted program keeps one core busy: 0.5 is half as fast."""

    def rate() -> float:
        return product_once(device, "fp32", ONE_BUSY, None, ONE_BUSY_S)

    free = rate()
    with foreign_load(1):
        return max(0.0, 1 - rate() / free)


def cpu_bytes() -> int:
    """How large an array must be that the caches of all sockets together do not help, if the memory has room for it."""
    return min(max(CPU_BYTES, CACHES * (last_level_bytes() or 0)), max(CPU_BYTES, available_bytes() // 4))


def memory(device: Device, pattern: str, fault: Fault | None = None) -> Measured:
    """The bytes read and written in a second by `copy` (a = b) or `triad` (a = b + s·c) (McCalpin 1995)."""
    most = ACCELERATOR_BYTES if device.asynchronous else cpu_bytes()
    if device.asynchronous and (free := free_bytes(device)) is not None:
        most = min(most, free // 4)  # a card of 4 GB has less than three times 1 GiB to give
    count = most // 4
    first, second, third = (torch.ones(count, device=device.torch_device) for _ in range(3))
    calls: dict[str, tuple[Callable[[], Tensor], int]] = {
        "copy": (lambda: first.copy_(second), 2),
        "triad": (lambda: torch.add(second, third, alpha=1.5, out=first), 3),
    }
    call, passes = calls[pattern]
    times = _times(device, call, fault, RATE_S, RATE_LEAST)
    return Measured(tuple(passes * 4 * count / time for time in times), f"{4 * count // 2**20} MiB each")


def operation_start(device: Device, quantile: str, fault: Fault | None = None) -> Measured:
    """The time of one tiny operation, from the call until it is done: the `p50` or `p99` of each 1,000 of 20,000 [s].

    `queued` and `graph`: a hundredth of the time of a hundred operations with one wait at their end, which are started
    one by one or by a CUDA graph.
    """
    tensor = torch.zeros(1, device=device.torch_device)

    def hundred() -> Tensor:
        for _ in range(QUEUED):
            tensor.add_(1.0)
        return tensor

    if quantile in ("queued", "graph"):
        queue = hundred if quantile == "queued" else capture_cuda(hundred, lambda: None)[0]
        times = _times(device, queue, fault, RATE_S, LAUNCHES // QUEUED)
        return Measured(tuple(time / QUEUED for time in times))
    times = _times(device, lambda: tensor.add_(1.0), fault, 0.0, LAUNCHES)
    of = {"p50": 0.50, "p99": 0.99}[quantile]
    blocks = [sorted(times[i : i + LAUNCH_BLOCK]) for i in range(0, len(times), LAUNCH_BLOCK)]
    return Measured(tuple(block[int(of * (len(block) - 1))] for block in blocks))


def why_not_pinned(device: Device) -> str:
    """Why torch cannot pin memory of the host for `device`; empty if it can."""
    try:
        torch.empty(1, pin_memory=True)
    except RuntimeError as error:  # NotImplementedError is one, too
        said = str(error).strip().split("\n")[0].rstrip(".")
        return f"torch pins no memory for {device.name}: {said[:200]}"
    return ""


def copy(
    device: Device, direction: str, memory: str, fault: Fault | None = None, corrupt: bool = False
) -> tuple[Measured, int]:
    """The bytes copied in a second to the device (`in`) or from it (`out`), and how many of them arrived wrong.

    The `memory` of the host is `pinned` or `pageable`. `corrupt` flips one bit of a copied byte.
    """
    size = ACCELERATOR_COPY_BYTES if device.asynchronous else cpu_bytes()
    here = torch.empty(size // 8, dtype=torch.int64, pin_memory=memory == "pinned").random_().view(torch.uint8)
    there = here.to(device.torch_device, copy=True)
    source, target = (here, there) if direction == "in" else (there, here)
    expected = source.cpu().clone()
    target.zero_()
    times = _times(device, lambda: target.copy_(source, non_blocking=True), fault, RATE_S, RATE_LEAST)
    if corrupt:
        flip_bit(target, size // 3, 5)
    wrong = int((target.cpu() != expected).sum())
    return Measured(tuple(size / time for time in times), f"{size // 2**20} MiB"), wrong


def under_copies(device: Device, look: Callable[[], T]) -> list[T]:
    """What `look` returns, LINK_LOOKS times, while bytes are copied to `device`: an idle PCIe link runs slowly."""
    here = torch.empty(LINK_BYTES, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(here, device=device.torch_device)
    found = []
    for _ in range(LINK_LOOKS):
        for _ in range(LINK_COPIES):
            there.copy_(here, non_blocking=True)
        found.append(look())
        synchronizer(device)()
    return found


def sustained(
    device: Device, seconds: float, fault: Callable[[int], int], clock: Callable[[], float] = time.perf_counter
) -> Measured:
    """The rates of a matrix product in the last third of `seconds`, divided by the median rate in the first third.

    `fault(percent)` is how many times a call computes the product after that percentage of the time.
    """
    found = hot_rate(device, seconds, fault, clock)
    third = max(1, len(found.values) // 3)
    early = statistics.median(found.values[:third])
    return replace(found, values=tuple(rate / early for rate in found.values[-third:]))


def hot_rate(
    device: Device, seconds: float, fault: Callable[[int], int], clock: Callable[[], float] = time.perf_counter
) -> Measured:
    """The rates of a matrix product that is computed for `seconds` without a pause, in windows of WINDOW_S [FLOP/s]."""
    dtype, shape = SUSTAINED[device.asynchronous]
    rows, columns, inner = shape
    left = torch.randn(rows, inner, device=device.torch_device, dtype=DTYPES[dtype])
    right = torch.randn(inner, columns, device=device.torch_device, dtype=DTYPES[dtype])
    out = torch.empty(rows, columns, device=device.torch_device, dtype=DTYPES[dtype])
    timer = device_timer(synchronizer(device), clock)
    begin = timer()
    rates: list[float] = []
    calls = 0

    def product() -> None:
        for _ in range(fault(int(100 * (timer() - begin) / seconds))):
            torch.mm(left, right, out=out)

    while timer() - begin < seconds:
        times = laps(product, timer, most_s=WINDOW_S, least=1)
        rates.append(_flop(shape) / statistics.median(times))
        calls += len(times)
    return Measured(tuple(rates), f"{seconds:.0f} s of {dtype} products", calls)


def _times(device: Device, call: Callable[[], object], fault: Fault | None, most_s: float, least: int) -> list[float]:
    timed = fault(call) if fault else call
    timer = device_timer(synchronizer(device))
    warm_up(timed, timer, least_s=min(WARM_LEAST_S, most_s), most_s=min(WARM_MOST_S, most_s))
    return laps(timed, timer, most_s=most_s, least=least)
