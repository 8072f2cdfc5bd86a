"""What a step of each benchmark is when it is measured in visits. In: a workload. Out: steps that go on for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from data import Batch
from model import train_epoch
from perf.harness.measurement.bench import training_problem
from perf.harness.measurement.side_by_side.visit import Mark, Steps
from perf.harness.workload.workload import Trainee, Workload, endless, rotate

# Batches whose mean loss is compared before and after; as in the epoch's own benchmark.
LOSS_BATCHES = 8
# Does something on each call, planted by a self-test; the subject itself plants nothing.
Extra = Callable[[], None]


@dataclass
class Subject:
    """One benchmark of one side, ready for visits; `close` gives back what it holds."""

    steps: Steps
    trainee: Trainee | None = None
    loss_batches: list[Batch] = field(default_factory=list)
    loss_first: float | None = None
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def problem(self, steps: int) -> str:
        """What is wrong with the results after `steps` steps, or nothing."""
        if self.trainee is None:
            return ""
        if self.loss_first is not None:
            return training_problem(self.loss_first, self.trainee.mean_loss(self.loss_batches), steps)
        finite = self.trainee.infer(*self.loss_batches[0]).isfinite().all().item()
        return "" if finite else "the network's output is not finite"

    def close(self) -> None:
        self.held.close()


def training_step(work: Workload, extra: Extra | None) -> Subject:
    trainee, batches = work.trainee(), work.batches()
    subject = _trained(Subject(repeated(rotate(slowed(trainee.step, extra), batches))), trainee, batches)
    trainee.model.train()
    return subject


def inference(work: Workload, extra: Extra | None) -> Subject:
    trainee, batches = work.trainee(), work.batches()
    trainee.model.eval()
    return Subject(repeated(rotate(slowed(trainee.infer, extra), batches)), trainee, batches[:1])


def epoch(work: Workload, extra: Extra | None, extra_input: Extra | None) -> Subject:
    """The epoch in slices: what `train_epoch` does from asking for one batch to asking for the next."""
    with contextlib.ExitStack() as held:
        stream = delayed(endless(held.enter_context(work.full_batches())), extra_input)
        trainee = work.trainee()
        step = trainee.step
        if extra is not None:
            step.forward = slowed(step.forward, extra)  # type: ignore[method-assign]

        def steps(count: int, mark: Mark) -> None:
            train_epoch(step, marked(stream, count, mark))

        subject = _trained(Subject(steps), trainee, work.batches(LOSS_BATCHES))
        subject.held = held.pop_all()
    return subject


def input_pipeline(work: Workload, extra_input: Extra | None) -> Subject:
    with contextlib.ExitStack() as held:
        stream = delayed(endless(held.enter_context(work.full_batches())), extra_input)
        return Subject(repeated(lambda: next(stream)), held=held.pop_all())


KINDS = ("training_step", "inference", "input_pipeline", "epoch")


def build(kind: str, work: Workload, extra: Extra | None = None, extra_input: Extra | None = None) -> Subject:
    """The subject of a benchmark of KINDS; `extra` is called in each step, `extra_input` with each batch loaded."""
    if kind == "training_step":
        return training_step(work, extra)
    if kind == "inference":
        return inference(work, extra)
    if kind == "epoch":
        return epoch(work, extra, extra_input)
    return input_pipeline(work, extra_input)


def _trained(subject: Subject, trainee: Trainee, batches: list[Batch]) -> Subject:
    subject.trainee = trainee
    subject.loss_batches = batches[:LOSS_BATCHES]
    subject.loss_first = trainee.mean_loss(subject.loss_batches)
    return subject


def repeated(call: Callable[[], object]) -> Steps:
    def steps(count: int, mark: Mark) -> None:
        mark()
        for _ in range(count):
            call()
            mark()

    return steps


def marked(stream: Iterator[Batch], count: int, mark: Mark) -> Iterator[Batch]:
    """The next `count` of `stream`, with a mark each time that one is asked for, and at the end."""
    for _ in range(count):
        mark()
        yield next(stream)
    mark()


def slowed(call: Callable[..., Any], extra: Extra | None) -> Callable[..., Any]:
    """`call`, with `extra` called before it each time."""
    if extra is None:
        return call

    def both(*arguments: Any) -> Any:
        extra()
        return call(*arguments)

    return both


def delayed(stream: Iterator[Batch], extra: Extra | None) -> Iterator[Batch]:
    """`stream`, with `extra` called before each batch is loaded."""
    if extra is None:
        return stream

    def both() -> Iterator[Batch]:
        while True:
            extra()
            yield next(stream)

    return both()
