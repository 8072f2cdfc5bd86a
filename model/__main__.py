"""`python -m model`: train the reference network, or another one, then print how good it is and the training time."""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

if __package__ in (None, ""):  # called as `python STEPWATCH/model`, from any folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch.utils.data import DataLoader, IterableDataset

from data import PIPELINES, DataError, load, open_pipeline
from model.errors import RecipeError
from model.imports import raised
from model.nesting import mapped
from model.recipes import Recipe, load_recipe
from model.task import LEARNING_RATE
from model.task_step import TaskStep, metrics, whole
from model.training import Batches, TrainingStep, evaluate, train_epoch

DATA_ROOT = Path(__file__).resolve().parent.parent / "data"
# An epoch of a task that only makes mini-batches.
MADE_BATCHES = 100
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
    number = partial(at_least, int, 1)
    number.__name__ = "whole number"  # type: ignore[attr-defined]  # argparse quotes it: "invalid whole number value"
    parser.add_argument(
        "--device", default="", help="cpu, cuda, cuda:1, mps, … (default: an accelerator if there is one, else cpu)"
    )
    parser.add_argument("--model", default="simple_nn", metavar="NAME",
                        help="a network or a training, as in --perf-model (default: simple_nn)")  # fmt: skip
    parser.add_argument("--data", default="auto", choices=["auto", "mnist", "digits"], help="(default: auto)")
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT, metavar="DIR", help="(default: data/)")
    parser.add_argument("--epochs", type=number, default=5, metavar="N", help="(default: 5)")
    parser.add_argument("--batch-size", type=number, default=64, metavar="N", help="(default: 64)")
    parser.add_argument("--lr", type=partial(at_least, float, 0.0), metavar="RATE",
                        help=f"learning rate (default: that of the training; of our own {LEARNING_RATE})")  # fmt: skip
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
    try:
        device = torch.device(name) if name else best
    except RuntimeError:
        raise RuntimeError("no device has this name; use cpu, cuda, cuda:1, mps or xpu") from None
    try:
        torch.zeros(1, device=device).sum().item()
    except (AssertionError, NotImplementedError) as error:  # a build without CUDA raises the first; `meta` the second
        raise RuntimeError(str(error) or f"{device} is not usable here") from error
    return device


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def fresh_step(options: argparse.Namespace, recipe: Recipe) -> TrainingStep:
    torch.manual_seed(options.seed)
    step = recipe.training(options.device)
    for group in (group for one in step.optimizers for group in one.param_groups if options.lr is not None):
        group["lr"] = options.lr
    return step


def train(options: argparse.Namespace, step: TrainingStep, epoch: Callable[[int], Batches]) -> float:
    """Train and print each loss. Returns the last one; the printed time covers only training, until all is done."""
    device, seconds, loss = options.device, 0.0, torch.tensor(math.nan)
    for number in range(options.epochs):
        synchronize(device)
        start = time.perf_counter()
        loss = train_epoch(step, epoch(number))
        synchronize(device)
        seconds += time.perf_counter() - start
        print(f"Epoch [{number + 1}/{options.epochs}], Loss: {loss.item():.4f}", flush=True)
    options.seconds = seconds
    return loss.item()


def train_on_images(options: argparse.Namespace, recipe: Recipe) -> float:
    """Train a network for images of 1×28×28, or raise RecipeError. Returns the last loss."""
    if (recipe.input_shape, recipe.classes) != ((1, 28, 28), 10):
        raise RecipeError(f"{recipe.name} takes other images than 1×28×28 in 10 classes: measure it with pytest perf/")
    data = load(options.data, options.data_root.expanduser())
    print(f"Data: {data.name}" + (f" ({data.note})" if data.note else ""), flush=True)
    step = fresh_step(options, recipe)
    pipeline = partial(open_pipeline, options.pipeline, batch_size=options.batch_size, device=options.device)
    with pipeline(data.train, seed=options.seed) as training:
        loss = train(options, step, training.epoch)
        measured = print_metrics(step, training.epoch)
    network = step.task.network if isinstance(step, TaskStep) else step.model
    if network is not None and not measured:
        with pipeline(data.test, seed=options.seed) as test:
            accuracy = evaluate(network, test.epoch())
        print(f"Accuracy on the {len(data.test):,} test images: {accuracy:.2%}")
    took(options, f", {options.pipeline} pipeline")
    return loss


def train_task(options: argparse.Namespace, recipe: Recipe) -> float:
    """Train a task on the data that it brings. Returns the last loss."""
    for flag, typed, default in (("--data", options.data, "auto"), ("--pipeline", options.pipeline, "resident")):
        if typed != default:
            raise RecipeError(f"{recipe.name} brings its own data: leave out {flag}={typed}")
    step = fresh_step(options, recipe)
    assert isinstance(step, TaskStep)
    step.model.train()
    found = step.task.data()

    def epoch(number: int) -> Batches:
        if isinstance(found, tuple):
            dataset, collate = found
            shuffled = not isinstance(dataset, IterableDataset)
            batches: Iterable[Any] = DataLoader(dataset, options.batch_size, shuffle=shuffled, collate_fn=collate)
        else:
            batches = (found(options.batch_size) for _ in range(MADE_BATCHES))
        return ((mapped(lambda tensor: tensor.to(options.device), batch),) for batch in batches)

    loss = train(options, step, epoch)
    print_metrics(step, epoch)
    took(options)
    return loss


def print_metrics(step: TrainingStep, epoch: Callable[[int], Batches]) -> bool:
    """Print what the training's own `metrics(batches)` gives, or raise RecipeError. Returns whether it gave any."""
    found = metrics(step, map(whole, epoch(0))) if isinstance(step, TaskStep) else {}
    for name, value in found.items():
        print(f"{name}: {value:.4g}")
    return bool(found)


def took(options: argparse.Namespace, how: str = "") -> None:
    print(f"Training time: {options.seconds:.2f} s ({options.epochs} epochs on {options.device}{how})")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        recipe = load_recipe(options.model)
        for name in recipe.unused:
            print(f"python -m model: {recipe.name}, not used: {name}", file=sys.stderr)
        loss = (train_task if recipe.brings_data else train_on_images)(options, recipe)
        if not math.isfinite(loss):
            rate = LEARNING_RATE if options.lr is None else options.lr
            print(f"python -m model: the loss is not finite; try a lower --lr than {rate:g}", file=sys.stderr)
            return 1
    except (DataError, RecipeError) as error:
        print(f"python -m model: {error}", file=sys.stderr)
        return WRONG_USE
    except torch.OutOfMemoryError as error:
        print(f"python -m model: out of memory at batch size {options.batch_size}: {str(error).splitlines()[0]}",
              file=sys.stderr)  # fmt: skip
        return 1
    except Exception as error:
        if ":" not in options.model:
            raise
        print(f"python -m model: {options.model} raised {raised(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
