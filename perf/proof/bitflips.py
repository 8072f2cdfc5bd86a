"""What catches a single flipped bit: a digest, the loss, or the accuracy? Plants flips in a training, and counts.

    python perf/proof/bitflips.py [FLIPS] [SEED]

The reference network learns the drawn digits, always from the same weights and in the same order, on one thread of the
CPU. In each training, one bit is flipped after the backward pass of a random step: a random bit of a random element of
a random tensor, in the weights and in the gradients by turns. The result is compared with the training without a flip.
The digest, which is that of the replay check, catches any difference in the last gradients and weights. The loss
catches a flip if the final training loss differs by more than 0.1%, or is not a number. The accuracy catches a flip if
the final test accuracy differs by more than half a point.
"""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tabulate import tabulate

import data
from model import evaluate
from perf.harness.measurement.checks.exact import trained_digest
from perf.harness.measurement.checks.faults import flip_bit
from perf.harness.options import resolve
from perf.harness.workload.plan import Plan
from perf.harness.workload.workload import Trainee, Workload
from perf.proof.usage import parser, positive

STEPS, BATCH_SIZE, BITS = 300, 64, 32
LOSS, POINTS = 0.001, 0.5
PLACES = ("weights", "gradients")

BetweenSteps = Callable[[int, Trainee], None]


@dataclass(frozen=True)
class Trained:
    """The result of a training: `loss` is the mean over the training batches, `accuracy` is on the test set [%]."""

    digest: int
    loss: float
    accuracy: float


def trainer(work: Workload) -> Callable[[BetweenSteps | None], Trained]:
    """A function that makes one whole training, always from the same state. Its argument plants a flip."""
    trainee, batches = work.trainee(), work.batches(STEPS)
    distinct = batches[: len(work.data.train) // BATCH_SIZE]

    def train(between: BetweenSteps | None) -> Trained:
        digest = trained_digest(trainee, batches, between)
        with work.open(work.data.test, "resident") as test:
            return Trained(digest, trainee.mean_loss(distinct), 100 * evaluate(trainee.model, test.epoch(0)))

    return train


def flip(place: str, chance: random.Random) -> BetweenSteps:
    step, bit = chance.randrange(STEPS), chance.randrange(BITS)
    which, where = chance.random(), chance.random()

    def between(number: int, trainee: Trainee) -> None:
        if number != step:
            return
        parameters = list(trainee.model.parameters())
        parameter = parameters[int(which * len(parameters))]
        tensor = parameter.data if place == "weights" else parameter.grad
        assert tensor is not None
        flip_bit(tensor, int(where * tensor.numel()), bit)

    return between


def caught(clean: Trained, found: Trained) -> tuple[bool, bool, bool]:
    """Whether the digest, the loss and the accuracy catch a flip. The loss catches it if it is not a number."""
    return (
        found.digest != clean.digest,
        not abs(found.loss - clean.loss) <= LOSS * clean.loss,
        round(abs(found.accuracy - clean.accuracy), 6) > POINTS,
    )


def main(flips: int, seed: int) -> int:
    torch.set_num_threads(1)
    options = {"device": "cpu", "data": "digits", "profile": "qualify"}
    plan = Plan.of(resolve(options, {}, "", Path(data.__file__).resolve().parent)).prepared()
    train = trainer(plan.workload("cpu", BATCH_SIZE, None))
    began = time.perf_counter()
    clean, again = train(None), train(None)
    same = clean == again
    print(f"{STEPS} steps of {BATCH_SIZE}: loss {clean.loss:.4f}, accuracy {clean.accuracy:.1f}%")
    print(f"two trainings without a flip: {'the same digest' if same else 'DIFFERENT DIGESTS'} {clean.digest:016x}")
    if not same:
        return 1
    chance = random.Random(seed)
    seen: dict[str, list[tuple[bool, bool, bool]]] = {place: [] for place in PLACES}
    for number in range(flips):
        place = PLACES[number % len(PLACES)]
        seen[place].append(caught(clean, train(flip(place, chance))))
    seen["both"] = [one for place in PLACES for one in seen[place]]
    titles = ("planted in", "flips", "digest", "loss", "accuracy", "no trace left")
    print("\n" + tabulate([row(place, found) for place, found in seen.items()], headers=titles))
    print(f"\n{time.perf_counter() - began:.0f} s, seed {seed}, torch {torch.__version__}")
    return 0


def row(place: str, found: list[tuple[bool, bool, bool]]) -> list[str | int]:
    """A row of the table: the flips that each of the three caught, and the flips that none caught."""
    return [place, len(found), *(sum(one[i] for one in found) for i in range(3)), sum(not any(one) for one in found)]


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("flips", metavar="FLIPS", type=positive, nargs="?", default=200)
    arguments.add_argument("seed", metavar="SEED", type=int, nargs="?", default=0)
    sys.exit(main(**vars(arguments.parse_args())))
