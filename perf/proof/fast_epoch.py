"""How close is an epoch to the time of its arithmetic alone? Measures the reference loop, and data on the device.

    python perf/proof/fast_epoch.py [--data-root DIR] [--pairs 5] [--threads N]

All run on the CPU, with batches of 64: epochs of the same network over the same data, measured in turns in one process,
after one of each to warm up. `reference` is the usual program, a DataLoader that transforms sample by sample.
`resident` has the data on the device. `compiled` is `resident` with `--perf-execution=compile`. `arithmetic` is only
the matrix products of an epoch. torch's profiler then shows where the time of 100 steps goes.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

import data
from model import load_recipe
from perf.harness.machine.devices import Device
from perf.harness.measurement.parity import parity
from perf.harness.workload.modes.execution import epoch
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.workload import Workload
from perf.proof.usage import parser, positive

BATCH_SIZE, STEPS, TOP = 64, 100, 7
BASES = ("reference", "resident", "arithmetic")
# (rows, inner dimension, columns) of the products of one step: two layers forward, the gradients of their weights, and
# the gradient of the second layer's input.
PRODUCTS = ((64, 784, 128), (64, 128, 10), (10, 64, 128), (64, 10, 128), (128, 64, 784))


def arithmetic(steps: int) -> Callable[[], None]:
    """A function that computes the matrix products of `steps` steps, and nothing else."""
    operands = [(torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)) for m, k, n in PRODUCTS]

    def products() -> None:
        for _ in range(steps):
            for left, right, out in operands:
                torch.mm(left, right, out=out)

    return products


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def profiled(name: str, work: Workload) -> None:
    """Print which operations take the time of 100 steps, in this process only."""
    few = replace(work, data=work.data.subset(STEPS * BATCH_SIZE, BATCH_SIZE))
    trainee = few.trainee()
    with few.open(few.data.train) as pipeline:
        epoch(trainee.step, pipeline, 0)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            wall_s = seconds(lambda: epoch(trainee.step, pipeline, 0))
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    rows = [
        (event.key[:60], event.count // STEPS, f"{event.self_cpu_time_total / STEPS:.1f}") for event in events[:TOP]
    ]
    calls = sum(event.count for event in events) / STEPS
    print(f"\n{name}: {wall_s / STEPS * 1e6:,.0f} µs a step while profiled, {calls:.0f} operations a step")
    print(tabulate(rows, headers=("operation", "calls", "µs a step")))


def main(arguments: Sequence[str]) -> int:
    options = parser(__doc__)
    options.add_argument("--data-root", type=Path, default=Path(data.__file__).parent)
    options.add_argument("--pairs", type=positive, default=5)
    options.add_argument("--threads", type=positive, default=torch.get_num_threads())
    given = options.parse_args(arguments)
    torch.set_num_threads(given.threads)
    recipe = load_recipe("simple_nn")
    try:
        images = data.load("auto", given.data_root)
    except data.DataError as error:
        options.error(str(error))
    base = Workload(recipe, images, Device("cpu"), BATCH_SIZE, "dataloader", 0)
    works = {
        "reference": base,
        "resident": replace(base, pipeline="resident"),
        "compiled": replace(base, pipeline="resident", mode=Mode("compile")),
    }
    samples, steps = len(base.data.train), -(-len(base.data.train) // BATCH_SIZE)
    threads = f"{given.threads} thread{'s' * (given.threads != 1)}"
    print(f"{base.data.name}, {samples:,} samples, {threads}, torch {torch.__version__}")
    with works["compiled"].mode.active():
        agreed = parity(works["compiled"], time.perf_counter)
        print(f"losses over {agreed.steps} steps: {agreed.difference:.1e} from eager's at most")
        times = taken_in_turns(works, steps, given.pairs)
        rows = [
            (str(turn + 1), *(f"{one[turn]:.3f}" for one in times.values()), *map(_shown, ratios(times, turn)))
            for turn in range(given.pairs)
        ]
        medians = [
            statistics.median(column) for column in zip(*(ratios(times, i) for i in range(given.pairs)), strict=True)
        ]
        rows.append(("median", *(f"{statistics.median(one):.3f}" for one in times.values()), *map(_shown, medians)))
        titles = ("pair", *(f"{name} [s]" for name in times), *(f"{name} ÷ compiled" for name in BASES))
        print(tabulate(rows, headers=titles, disable_numparse=True))
        for name, work in works.items():
            profiled(name, work)
    return 0


def taken_in_turns(works: dict[str, Workload], steps: int, pairs: int) -> dict[str, list[float]]:
    """The times of the epochs [s] by name, without the first one of each, which warms up."""

    def prepared(work: Workload) -> Callable[[], object]:
        trainee, pipeline = work.trainee(), work.open(work.data.train)
        return lambda: epoch(trainee.step, pipeline, 0)

    epochs = {"arithmetic": arithmetic(steps)} | {name: prepared(work) for name, work in works.items()}
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for turn in range(pairs + 1):
        for name, one in epochs.items():
            took_s = seconds(one)
            if turn:
                times[name].append(took_s)
    return times


def ratios(times: dict[str, list[float]], turn: int) -> list[float]:
    return [times[name][turn] / times["compiled"][turn] for name in BASES]


def _shown(ratio: float) -> str:
    return f"{ratio:.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
