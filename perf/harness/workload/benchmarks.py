"""The definition of each benchmark, which the run, the gate, the qualification and the report all use.

To add a benchmark, add its definition here and a file `perf/test_<name>.py` that measures it. This module does not
import torch, because the report uses it, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from data import Batch
    from perf.harness.workload.workload import Trainee

# What a network does with one mini-batch (images, labels). For an epoch, it must be a `model.TrainingStep`.
Step = Callable[..., Any]


@dataclass(frozen=True)
class Definition:
    """One benchmark. `DEFINITIONS` is the order in which benchmarks run and appear in the report.

    `axes` are what its cases differ in. `step` prepares a network and returns what the network does with one
    mini-batch. `step` is None if no network computes, or if the benchmark makes its own step. With `streams`, the
    mini-batches come from an input pipeline; without it, they are on the device. From `step` and `streams`, the gate
    cuts the benchmark into single steps. `not_gated` says why the gate does not judge a benchmark.

    `timed` is False if the times are no result. `fills_memory` is True if it may take all memory of the device. With
    `all_at_once`, the device of a case is a kind, such as `cuda`: all devices of this kind. If `collects` is False,
    Python collects garbage only between rounds, because a round may take just a millisecond. `bound` is how the report
    finds what takes the time: from the fixed cost of a `call`, from the phases of an `epoch`, or not at all. With
    `large_images`, the profile `full` also runs the benchmark for networks of large images.
    """

    name: str
    title: str
    axes: tuple[str, ...]
    step: Callable[[Trainee], Step] | None = None
    streams: bool = False
    not_gated: str = ""
    timed: bool = True
    fills_memory: bool = False
    all_at_once: bool = False
    collects: bool = True
    bound: Literal["call", "epoch", ""] = ""
    large_images: bool = False

    @property
    def trains(self) -> bool:
        """Whether its step is a training step."""
        return self.step is _train

    def on(self, trainee: Trainee, batches: Sequence[Batch]) -> Callable[[], object]:
        """A function that makes a step on the next of `batches`. A run times it as one call, the gate as one step."""
        assert self.step is not None
        step, turn = self.step(trainee), itertools.cycle(batches)

        def on_next() -> object:
            return step(*next(turn))

        return on_next


def _train(trainee: Trainee) -> Step:
    trainee.model.train()
    return trainee.step


def _infer(trainee: Trainee) -> Step:
    trainee.model.eval()
    return trainee.infer


MODES: Final = ("execution", "precision")
MEMORY: Final = "it measures memory, not time"
DEFINITIONS: Final = (
    Definition("training_step", "Training step", ("device", "batch_size", *MODES),
               step=_train, collects=False, bound="call", large_images=True),
    Definition("inference", "Inference", ("device", "batch_size", *MODES), step=_infer, collects=False, bound="call"),
    Definition("epoch", "Epoch", ("device", "batch_size", "pipeline", *MODES),
               step=_train, streams=True, bound="epoch"),
    Definition("input_pipeline", "Input pipeline", ("device", "batch_size", "pipeline"), streams=True),
    Definition("training_run", "Training run", ("device",),
               step=_train, streams=True, not_gated="the gate judges the epoch benchmark instead"),
    Definition("memory", "Memory", ("device", "batch_size", *MODES), not_gated=MEMORY, timed=False, fills_memory=True,
               large_images=True),
    Definition("largest_batch", "Largest batch", ("device", *MODES),
               not_gated=MEMORY, timed=False, fills_memory=True, large_images=True),
    Definition("together", "All devices at once", ("device", "batch_size"), step=_train,
               not_gated="the gate judges each device alone", timed=False, all_at_once=True),
)  # fmt: skip
BY_NAME: Final = {definition.name: definition for definition in DEFINITIONS}


def place(name: str) -> int:
    """The place of the benchmark `name` in the order; unknown names come last."""
    return list(BY_NAME).index(name) if name in BY_NAME else len(BY_NAME)


def title(name: str) -> str:
    """The title of the benchmark `name`; for an unknown benchmark, its name in words."""
    return BY_NAME[name].title if name in BY_NAME else name.replace("_", " ").capitalize()


def timed(name: str | None) -> bool:
    """Whether the times of the benchmark `name` are a result. This is True for an unknown name."""
    return name not in BY_NAME or BY_NAME[name].timed


def endless(epochs: Callable[[int], Iterable[Any]]) -> Iterator[Any]:
    """The items of `epochs(0)`, `epochs(1)`, `epochs(2)`, … one after the other, without end."""
    return itertools.chain.from_iterable(epochs(number) for number in itertools.count())
