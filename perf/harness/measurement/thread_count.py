"""In: networks and batch sizes. Out: the times of their training steps on the CPU, with several numbers of threads.

Run as a script, in a process of its own: what a network does to it ends nothing else. The request comes on stdin, and
the times go to stdout.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
# With the same time, fewer threads are better: they wait less for each other, and other programs disturb them less.
NEARLY = 1.05
# The time for one number of threads and one batch size [s]; half of it warms up. Three rounds show a busy moment.
TRY_S, ROUNDS = 0.4, 3


def thread_counts(cores: int) -> list[int]:
    """The numbers of threads to try: powers of 2, and all `cores`."""
    return sorted({cores, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)})


def fewest(times: Mapping[int, Iterable[float]]) -> int:
    """The fewest threads that train nearly as fast as the best number; `times` [s] by the number of threads."""
    means = {threads: math.exp(statistics.fmean(map(math.log, found))) for threads, found in times.items()}
    best = min(means.values())
    return min(threads for threads, mean in means.items() if mean <= NEARLY * best)


def step_s(step: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The median time of the steps in the second half of TRY_S, of one at least [s]. The first half warms up."""
    from perf.harness.measurement.calls import laps

    laps(step, clock, most_s=TRY_S / 2, least=1)
    return statistics.median(laps(step, clock, most_s=TRY_S / 2, least=1))


def _steps(models: Iterable[str], sizes: Iterable[int] | None) -> Iterator[tuple[str, Callable[[], object]]]:
    """A training step of each network at each batch size, by its name, on random images or its own data.

    Raises RecipeError.
    """
    import torch

    from model import load_recipe
    from perf.harness.workload.workload import default_batch_sizes, own_data

    for name in models:
        recipe = load_recipe(name)
        step = recipe.training(torch.device("cpu"))
        step.model.train()
        for size in sizes or default_batch_sizes(recipe):
            if recipe.brings_data:
                batch = next(own_data(recipe, 0, size, size).train.full(size))  # type: ignore[attr-defined]
            else:
                batch = torch.rand(size, *recipe.input_shape) - 0.5, torch.arange(size) % recipe.classes
            yield f"{name} at batch {size}", lambda step=step, batch=batch: step(*batch)  # type: ignore[misc]


def main() -> int:
    asked = json.load(sys.stdin)
    sys.path[:0] = [str(CHECKOUT), *asked["path"]]
    import perf  # noqa: F401  # before torch

    with contextlib.redirect_stdout(sys.stderr):  # what a user's module prints is not the answer
        answer = _times(asked)
    print(json.dumps(answer))
    return 0


def _times(asked: dict[str, Any]) -> dict[str, Any]:
    """The `steps` by name, the `times` of each [s] by the number of threads, and the allocator that was `loaded`.

    `asked` has the names of `models`, batch `sizes` or None, the `path` to import from, and the numbers of `threads` to
    try; None: from one to as many as there are cores, in ROUNDS rounds.
    """
    import torch

    from perf.harness.machine.affinity import cores
    from perf.harness.machine.cpu import loaded_allocator, physical_cores

    most = min(torch.get_num_threads(), physical_cores(cores()) or torch.get_num_threads())
    times: dict[int, list[float]] = {threads: [] for threads in asked["threads"] or thread_counts(most)}
    steps = []
    for name, step in _steps(asked["models"], asked["sizes"]):
        steps.append(name)
        tried: dict[int, list[float]] = {threads: [] for threads in times}
        rounds = 1 if asked["threads"] else ROUNDS
        for _ in range(rounds):  # in turns: what becomes slower meanwhile, becomes so for all
            for threads, found in tried.items():
                torch.set_num_threads(threads)
                found.append(step_s(step))
        for threads, found in tried.items():
            times[threads].append(min(found))
    return {"steps": steps, "times": times, "loaded": loaded_allocator()}


if __name__ == "__main__":
    sys.exit(main())
