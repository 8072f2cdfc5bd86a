"""`python -m model`: train the reference network, then print its accuracy and the training time."""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from torch.nn import functional

from data import PIPELINES, DataError, DataSet, load, open_pipeline
from model.networks import SimpleNN
from model.task import LEARNING_RATE, sgd
from model.training import TrainingStep, evaluate, train_epoch

DATA_ROOT = Path(__file__).resolve().parent.parent / "data"
WRONG_USE = 4  # pytest's exit code for a usage error
INTERRUPTED = 130  # the exit code that shells report for SIGINT: 128 + 2


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{self.prog}: {message}\n")


def at_least(kind: type[int] | type[float], minimum: float, text: str) -> int | float:
    number = kind(text)
    if not minimum <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be {minimum} or more, not {text}")
    return number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m model", description=__doc__)
    whole = partial(at_least, int, 1)
    whole.__name__ = "whole number"  # type: ignore[attr-defined]  # argparse quotes it: "invalid whole number value"
    parser.add_argument(
        "--device", default="", help="cpu, cuda, cuda:1, mps, … (default: an accelerator if there is one, else cpu)"
    )
    parser.add_argument("--data", default="auto", choices=["auto", "mnist", "digits"], help="(default: auto)")
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT, metavar="DIR", help="(default: data/)")
    parser.add_argument("--epochs", type=whole, default=5, metavar="N", help="(default: 5)")
    parser.add_argument("--batch-size", type=whole, default=64, metavar="N", help="(default: 64)")
    parser.add_argument("--lr", type=partial(at_least, float, 0.0), default=LEARNING_RATE, metavar="RATE",
                        help=f"learning rate (default: {LEARNING_RATE})")  # fmt: skip
    parser.add_argument("--pipeline", default="resident", choices=PIPELINES, help="(default: resident)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    options = parser.parse_args(arguments)
    try:
        options.device = usable_device(options.device)
    except RuntimeError as error:
        parser.error(f"--device={options.device}: {str(error).splitlines()[0]}")
    return options


def usable_device(name: str) -> torch.device:
    """The device called `name`, or the best device here if `name` is empty. Raises RuntimeError if the device fails."""
    best = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    device = torch.device(name) if name else best
    try:
        torch.zeros(1, device=device).sum().item()
    except (AssertionError, NotImplementedError) as error:  # a build without CUDA raises the first; `meta` the second
        raise RuntimeError(str(error) or f"{device} is not usable here") from error
    return device


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def train(options: argparse.Namespace, data: DataSet) -> float:
    """Train, print the results, and return the last loss. The time covers only training, until the device is done."""
    device = options.device
    torch.manual_seed(options.seed)
    model = SimpleNN().to(device)
    step = TrainingStep(model, sgd(model.parameters(), options.lr), functional.cross_entropy)
    pipeline = partial(open_pipeline, options.pipeline, batch_size=options.batch_size, device=device)
    seconds = 0.0
    with pipeline(data.train, seed=options.seed) as training:
        for epoch in range(options.epochs):
            synchronize(device)
            start = time.perf_counter()
            loss = train_epoch(step, training.epoch(epoch))
            synchronize(device)
            seconds += time.perf_counter() - start
            print(f"Epoch [{epoch + 1}/{options.epochs}], Loss: {loss.item():.4f}", flush=True)
    with pipeline(data.test, seed=options.seed) as test:
        accuracy = evaluate(model, test.epoch())
    print(f"Accuracy on the {len(data.test):,} test images: {accuracy:.2%}")
    print(f"Training time: {seconds:.2f} s ({options.epochs} epochs on {device}, {options.pipeline} pipeline)")
    return loss.item()


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        data = load(options.data, options.data_root.expanduser())
        print(f"Data: {data.name}" + (f" ({data.note})" if data.note else ""), flush=True)
        if not math.isfinite(train(options, data)):
            print(f"python -m model: the loss is not finite; try a lower --lr than {options.lr:g}", file=sys.stderr)
            return 1
    except DataError as error:
        print(f"python -m model: {error}", file=sys.stderr)
        return WRONG_USE
    except torch.OutOfMemoryError as error:
        print(f"python -m model: out of memory at batch size {options.batch_size}: {str(error).splitlines()[0]}",
              file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
