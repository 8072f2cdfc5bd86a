"""In: a name, as in `--perf-model=NAME`. Out: a `Recipe`: everything needed to train that network.

A name is `simple_nn` (the reference network), `small_cnn`, a torchvision classification model (`resnet18`, …; weights
are never downloaded), or a user's own `package.module:factory`. docs/your-model.md says what such a factory must do.
"""

import difflib
import importlib
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from model.networks import SimpleNN, SmallCNN

# Our own networks. The first one is the reference network.
NETWORKS: dict[str, type[nn.Module]] = {"simple_nn": SimpleNN, "small_cnn": SmallCNN}
LEARNING_RATE = 0.01
IMAGENET_CLASSES = 1000
# Image sides [pixels] of torchvision's classification models, as published. All models not listed take 224.
SIDES = {"inception_v3": 299}
# Auxiliary heads return tuples, and help only in long trainings. Weights start from PyTorch's defaults.
AUXILIARY = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}

# Prefixes of torchvision's models that use patches and attention. All its other models use convolutions.
TRANSFORMERS = ("vit_", "swin_", "maxvit_")

# A user's package cannot have these names, because Stepwatch's own packages have them.
OWN_PACKAGES = ("model", "data", "perf")

Parameters = Iterable[nn.Parameter] | Iterator[nn.Parameter]


class RecipeError(Exception):
    """A model that cannot be used: `str()` says which model, why, and what to do."""


class UnknownModel(RecipeError):
    """There is no model with this name."""


def sgd(parameters: Parameters, lr: float = LEARNING_RATE) -> Optimizer:
    """The reference optimizer: SGD without momentum."""
    return torch.optim.SGD(parameters, lr=lr)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    `build()` gives a fresh module on the CPU. It maps float images (B, *input_shape) to logits (B, classes);
    `loss(logits, labels)` is a scalar; `optimizer(parameters)` returns the optimizer. `channels_last` is True if the
    convolutions run faster on tensor cores when the channels of each pixel lie side by side in memory.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy
    optimizer: Callable[[Parameters], Optimizer] = sgd
    channels_last: bool = False


def load_recipe(name: str) -> Recipe:
    """The recipe for `name`. Raises RecipeError if there is none, or if a user's factory breaks its contract."""
    if name in NETWORKS:
        return Recipe(name, NETWORKS[name])
    if ":" in name:
        return _user_recipe(name)
    return _torchvision_recipe(name)


def _torchvision_recipe(name: str) -> Recipe:
    from torchvision import models  # this import takes a second, and the reference network does not need it

    known = [model for model in models.list_models(module=models)]
    if name not in known:
        close = difflib.get_close_matches(name, [*NETWORKS, *known], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see torchvision.models.list_models()"
        raise UnknownModel(f"unknown model {name!r}: {hint} (write your own model as package.module:factory)")
    build = partial(
        models.get_model,
        name,
        weights=None,
        num_classes=IMAGENET_CLASSES,
        **AUXILIARY.get(name, {}),
    )
    side = SIDES.get(name, 224)
    return Recipe(
        name,
        build,
        input_shape=(3, side, side),
        classes=IMAGENET_CLASSES,
        channels_last=not name.startswith(TRANSFORMERS),
    )


def _user_recipe(name: str) -> Recipe:
    """The recipe for `package.module:factory`. The factory's attributes replace the defaults of `Recipe`."""
    factory = _import_factory(name)
    options: dict[str, Any] = {
        key: getattr(factory, key) for key in ("input_shape", "classes", "loss", "optimizer") if hasattr(factory, key)
    }
    if "input_shape" in options:
        options["input_shape"] = _checked_shape(name, options["input_shape"])
    classes = options.get("classes", 10)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 2:
        raise RecipeError(f"{name}: `classes` must be an integer of 2 or more, not {classes!r}")
    for key in ("loss", "optimizer"):
        if key in options and not callable(options[key]):
            raise RecipeError(f"{name}: `{key}` must be callable, not {options[key]!r}")
    return Recipe(name, partial(_built, name, factory), **options)


def _import_factory(name: str) -> Callable[[], Any]:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise RecipeError(f"{name!r} is not of the form package.module:factory")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if not isinstance(error, ModuleNotFoundError) or not f"{module_name}.".startswith(f"{error.name}."):
            raise RecipeError(f"{name}: importing {module_name!r} raised {_raised(error)}") from error
        package = module_name.split(".")[0]
        if package in OWN_PACKAGES:
            hint = f"a package called `{package}` is Stepwatch's own here: import the factory from one of another name"
        else:
            hint = "run from the folder that contains it, or add that folder to PYTHONPATH"
        raise UnknownModel(f"{name}: cannot import {module_name!r} ({error}); {hint}") from error
    factory = getattr(module, attribute, None)
    if factory is None:
        raise UnknownModel(f"{name}: {module_name!r} ({module.__file__}) has no {attribute!r}")
    if not callable(factory):
        raise RecipeError(f"{name}: {attribute!r} must be callable and return a torch.nn.Module, not {factory!r}")
    return factory  # type: ignore[no-any-return]


def _raised(error: Exception) -> str:
    """`error` and its place, such as `ZeroDivisionError: division by zero, at /home/me/nets.py:3`."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}, at {error.filename}:{error.lineno}"
    lines = [line for line in traceback.extract_tb(error.__traceback__) if not line.filename.startswith("<frozen ")]
    return f"{type(error).__name__}: {error}, at {lines[-1].filename}:{lines[-1].lineno}"


def _checked_shape(name: str, shape: object) -> tuple[int, int, int]:
    match shape:
        case (int(channels), int(height), int(width)) if min(channels, height, width) > 0:
            return channels, height, width
    raise RecipeError(f"{name}: `input_shape` must be (channels, height, width) of one image, not {shape!r}")


def _built(name: str, factory: Callable[[], Any]) -> nn.Module:
    try:
        module = factory()
    except Exception as error:
        raise RecipeError(f"{name}: the factory raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise RecipeError(f"{name}: the factory must return a torch.nn.Module, not {type(module).__name__}")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise RecipeError(f"{name}: the module has no parameters to train")
    return module
