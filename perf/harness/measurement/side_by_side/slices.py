"""In: the name of a benchmark and a workload. Out: the same program cut into steps, which a gate runs in visits."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from data import Batch
from model import TrainingStep
from perf.harness.measurement.learned import loss_and_problem
from perf.harness.measurement.side_by_side.visit import MarkStep, RunSteps
from perf.harness.workload.benchmarks import BY_NAME, Definition, endless
from perf.harness.workload.cycle import cycle
from perf.harness.workload.modes.execution import steps_in_unit, train, units
from perf.harness.workload.workload import Trainee, Workload, finite

# Extra work that a self-test plants: it is called in each step or at each load. Any other gate plants nothing.
ExtraWork = Callable[[], None]


@dataclass
class Sliced:
    """One benchmark of one side, ready for visits; `close` releases its resources.

    Each of the `steps` is a cycle of so many: all that a training does before it does the same again.
    """

    steps: RunSteps
    cycle: int = 1
    trainee: Trainee | None = None
    loss_batches: list[Batch] = field(default_factory=list)
    loss_first: float | None = None
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def problem(self, steps: int) -> str:
        """What is wrong with the results after `steps` steps; empty if nothing is wrong."""
        if self.trainee is None:
            return ""
        if self.loss_first is not None:
            loss_last = self.trainee.mean_loss(self.loss_batches)
            return loss_and_problem(self.trainee, self.loss_batches, self.loss_first, loss_last, steps)[1]
        return "" if finite(self.trainee.infer(*self.loss_batches[0])) else "the network's output is not finite"

    def close(self) -> None:
        self.held.close()


def sliced(name: str, work: Workload, extra: ExtraWork | None = None, extra_input: ExtraWork | None = None) -> Sliced:
    """The benchmark `name` cut into steps. `extra` is called in each step, `extra_input` at each load of a batch."""
    definition = BY_NAME[name]
    with contextlib.ExitStack() as held:
        trainee = None if definition.step is None else work.trainee()
        batches: list[Batch] = []
        found = cycle(trainee, work.batch_of_cycle()) if trainee is not None and definition.trains else 1
        if trainee is None:
            stream = delayed(endless(held.enter_context(work.full_batches()).epoch), extra_input)
            steps = repeated(lambda: next(stream))
        elif definition.streams:
            batches = work.batches(work.loss_batches)
            steps = _epochs(definition, work, trainee, held, found, extra, extra_input)
        else:
            batches = work.batches()
            steps = repeated(slowed(definition.on(trainee, batches), extra), found)
        made = Sliced(steps, found, trainee, batches[: work.loss_batches])
        if trainee is not None and trainee.model.training:
            made.loss_first = trainee.mean_loss(made.loss_batches)
        made.held = held.pop_all()
    return made


def _epochs(
    definition: Definition,
    work: Workload,
    trainee: Trainee,
    held: contextlib.ExitStack,
    of: int,
    extra: ExtraWork | None,
    extra_input: ExtraWork | None,
) -> RunSteps:
    """Epoch after epoch, cut into steps: from one request for a unit to the one after `of`. All have the same size."""
    assert definition.step is not None
    step = definition.step(trainee)
    assert isinstance(step, TrainingStep)  # only a training step has epochs
    pipeline = held.enter_context(work.full_batches(steps_in_unit(step, work.pipeline)))
    stream = delayed(delayed(endless(lambda number: units(step, pipeline, number)), extra_input), extra)

    def steps(count: int, mark: MarkStep) -> None:
        train(step, pipeline, marked(stream, count, mark, of))

    return steps


def repeated(call: Callable[[], object], of: int = 1) -> RunSteps:
    def steps(count: int, mark: MarkStep) -> None:
        mark()
        for _ in range(count):
            for _ in range(of):
                call()
            mark()

    return steps


def marked(stream: Iterator[Any], count: int, mark: MarkStep, of: int = 1) -> Iterator[Any]:
    """The next `count` times `of` items of `stream`, with a mark at every `of`-th request, and one at the end."""
    for _ in range(count):
        mark()
        yield from itertools.islice(stream, of)
    mark()


def slowed(call: Callable[[], object], extra: ExtraWork | None) -> Callable[[], object]:
    """`call`, with `extra` called before it each time."""
    if extra is None:
        return call

    def both() -> object:
        extra()
        return call()

    return both


def delayed(stream: Iterator[Any], extra: ExtraWork | None) -> Iterator[Any]:
    """`stream`, with `extra` called at each request for an item."""
    if extra is None:
        return stream

    def both() -> Iterator[Any]:
        while True:
            extra()
            yield next(stream)

    return both()
