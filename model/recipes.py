"""In: a name, as in `--perf-model=NAME`. Out: a `Recipe`: everything needed to train that network.

A name is one of our own networks (`simple_nn`, the reference network; `small_cnn`; `tiny_lm`), a model of torchvision
(`resnet18`, …), timm (`timm:NAME`) or transformers (`hf:NAME`), or a user's own `package.module:name` or
`path/to/file.py:name`. Weights are never downloaded. docs/your-model.md says what a user's own must do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from model import zoo
from model.errors import CUDA_LINES, RecipeError, Refused, UnknownModel
from model.imports import LIBRARIES, file_of, guarded, import_factory, is_file, put_back, raised
from model.language import TinyLM
from model.members import binds
from model.networks import SimpleNN, SmallCNN
from model.task import Parameters, Task, is_task, sgd
from model.task_step import TaskStep, UsersStep
from model.training import TrainingStep

T = TypeVar("T")

# Our own networks for images. The first one is the reference network.
NETWORKS: dict[str, type[nn.Module]] = {"simple_nn": SimpleNN, "small_cnn": SmallCNN}
# Our own trainings of other kinds.
TASKS: dict[str, Callable[[], object]] = {"tiny_lm": TinyLM}


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    `build()` gives a fresh module on the CPU. It maps float images (B, *input_shape) to logits (B, classes);
    `loss(logits, labels)` is a scalar; `optimizer(parameters)` returns the optimizer. `channels_last` is True if the
    convolutions run faster on tensor cores when the channels of each pixel lie side by side in memory.

    With `task`, the training is a user's own: `task()` gives a fresh one on the CPU, and has its own network, loss and
    optimizers; if `brings_data`, also its data. `batch_sizes` are those to measure if the user names none; None:
    those of its kind. `users` is True for a user's own code. `unused` says which of its members are not used, and
    why. `put_back` names torch's global settings that this code had changed. `parameters` is their number; None if
    it is not known before the network is made.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy
    optimizer: Callable[[Parameters], Optimizer] = sgd
    channels_last: bool = False
    task: Callable[[], Task] | None = None
    batch_sizes: tuple[int, ...] | None = None
    brings_data: bool = False
    users: bool = False
    unused: tuple[str, ...] = ()
    put_back: tuple[str, ...] = field(default=(), compare=False)
    parameters: int | None = None

    @property
    def ours(self) -> bool:
        """Whether Stepwatch knows this training: it is neither a user's own nor a library's that is found by name."""
        return ":" not in self.name

    def training(
        self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format
    ) -> TrainingStep:
        """The training step of a fresh network on `device`, with its weights in `memory_format`."""
        if self.task is not None:
            task = self.task()
            task.networks.to(device)
            return self._tried(lambda: (TaskStep if task.step is None else UsersStep)(task))
        model = self.build().to(device)
        if memory_format is not torch.contiguous_format:
            model = model.to(memory_format=memory_format)
        optimizer = self._tried(lambda: self.optimizer(model.parameters()))
        if not isinstance(optimizer, Optimizer):
            raise Refused(f"{self.name}: `optimizer(parameters)` must return an optimizer, not {optimizer!r}",
                          "make.optimizer = lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)")  # fmt: skip
        return TrainingStep(model, optimizer, self.loss)

    def _tried(self, make: Callable[[], T]) -> T:
        """What `make` returns. Raises RecipeError if the user's code raises anything."""
        try:
            return make()
        except RecipeError:
            raise
        except (Exception, SystemExit) as error:
            if not self.users:
                raise
            raise RecipeError(f"{self.name}: making its optimizers raised {raised(error)}") from error


def load_recipe(name: str) -> Recipe:
    """The recipe for `name`. Raises RecipeError if there is none, or if a user's factory breaks its contract."""
    if name in NETWORKS:
        return Recipe(name, NETWORKS[name])
    if name in TASKS:
        return _of_task(name, TASKS[name])
    library, _, rest = name.partition(":")
    if library in LIBRARIES and rest:
        return _of_zoo(name, zoo.of_library(library, rest))
    if ":" in name:
        return _users_recipe(name)
    if is_file(name):
        raise RecipeError(f"{name!r} does not say what in this file to train: {name}:NAME, a class or a function")
    try:
        return _of_zoo(name, zoo.of_torchvision(name, [*NETWORKS, *TASKS]))
    except UnknownModel:
        module, _, attribute = name.rpartition(".")
        if file_of(name) is not None:
            why = f"does not say what in this module to train: {name}:NAME, a class or a function"
        elif module and file_of(module) is not None:
            why = f"has no colon before what to train: did you mean {module}:{attribute}?"
        else:
            raise
        raise RecipeError(f"{name!r} {why}") from None


def _of_zoo(name: str, known: zoo.Known) -> Recipe:
    if known.task is not None:
        return replace(_of_task(name, known.task), parameters=known.parameters)
    assert known.build is not None
    return Recipe(name, known.build, known.input_shape, known.classes, channels_last=known.channels_last,
                  parameters=known.parameters)  # fmt: skip


def _of_task(name: str, factory: Callable[[], object]) -> Recipe:
    task = partial(_task, name, factory)
    sizes = _checked_sizes(name, getattr(factory, "batch_sizes", None))
    return Recipe(name, lambda: task().networks, task=task, batch_sizes=sizes, brings_data=True)


def _users_recipe(name: str) -> Recipe:
    """The recipe for a user's own training, or for a factory of networks for images, whose attributes replace the
    defaults of `Recipe`."""
    changed: list[str] = []
    with put_back(changed):
        factory = import_factory(name)
        _check_attributes(name, factory)
        made = _made(name, factory, changed)
    if dtype := next((one for one in changed if one.startswith("torch.set_default_dtype")), None):
        raise Refused(f"{name}: it sets {dtype}, so that its networks are not in float32, as all precisions need",
                      f"# without {dtype}")  # fmt: skip
    options: dict[str, Any] = {"users": True, "put_back": tuple(changed)}
    places = (made, factory)
    if (shape := _first(places, "input_shape")) is not None:
        options["input_shape"] = _checked_shape(name, shape)
    if (classes := _first(places, "classes")) is not None:
        options["classes"] = _checked_classes(name, classes)
    if is_task(factory, made):
        task = Task(name, factory, made)
        options |= {"batch_sizes": _checked_sizes(name, task.member("batch_sizes")), "brings_data": task.brings_data,
                    "unused": tuple(task.unused())}  # fmt: skip
        return Recipe(name, lambda: _task(name, factory).networks, task=partial(_task, name, factory), **options)
    options["batch_sizes"] = _checked_sizes(name, _first(places, "batch_sizes"))
    options |= {key: getattr(factory, key) for key in ("loss", "optimizer") if hasattr(factory, key)}
    options["unused"] = tuple(Task(name, factory, made).unused())  # a task refuses what cannot be trained
    return Recipe(name, partial(_made, name, factory), **options)


def _check_attributes(name: str, factory: object) -> None:
    """Raise RecipeError for an attribute of `factory` that cannot be used."""
    for key, check in {
        "input_shape": _checked_shape,
        "classes": _checked_classes,
        "batch_sizes": _checked_sizes,
    }.items():
        if hasattr(factory, key):
            check(name, getattr(factory, key))
    for key in ("loss", "optimizer"):
        if hasattr(factory, key) and not callable(getattr(factory, key)):
            raise RecipeError(f"{name}: `{key}` must be callable, not {getattr(factory, key)!r}")


def _task(name: str, factory: Callable[[], object]) -> Task:
    return Task(name, factory, _made(name, factory))


def _made(name: str, factory: Callable[[], Any], changed: list[str] | None = None) -> Any:
    """What `factory` returns. torch's global settings stay as they were; `changed` gets what it had changed of them."""
    try:
        with guarded(name, "making it"), put_back([] if changed is None else changed):
            return factory()
    except RecipeError:
        raise
    except Exception as error:
        place, _, attribute = name.rpartition(":")
        lines: tuple[str, ...] = ()
        if not binds(factory, {}):
            lines = ("def make():", f"    return {attribute}(…)", f"# and name it: {place}:make")
        elif "NVIDIA" in str(error) or "CUDA" in str(error):
            lines = CUDA_LINES
        raise Refused(f"{name}: the factory raised {raised(error)}", *lines) from error


def _first(places: tuple[object, ...], name: str) -> Any:
    return next((found for place in places if (found := getattr(place, name, None)) is not None), None)


def _checked_shape(name: str, shape: object) -> tuple[int, int, int]:
    match shape:
        case (int(channels), int(height), int(width)) if min(channels, height, width) > 0:
            return channels, height, width
    raise RecipeError(f"{name}: `input_shape` must be (channels, height, width) of one image, not {shape!r}")


def _checked_classes(name: str, classes: object) -> int:
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 2:
        raise RecipeError(f"{name}: `classes` must be an integer of 2 or more, not {classes!r}")
    return classes


def _checked_sizes(name: str, sizes: object) -> tuple[int, ...] | None:
    if sizes is None:
        return None
    if not isinstance(sizes, list | tuple) or not sizes or not all(isinstance(one, int) and one > 1 for one in sizes):
        raise RecipeError(f"{name}: `batch_sizes` must be whole numbers of 2 or more, such as (16, 64), not {sizes!r}")
    return tuple(sizes)
