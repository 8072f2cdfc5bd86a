"""Looks into a user's object: which members it has, what they need, and what else is in its attributes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

# An attribute of one of these names that cannot be called, such as a counter `step`, is no member.
CALLED = ("batch", "step", "training_step", "predict", "train_dataloader", "configure_optimizers")
# Modules whose classes have members of their own, which are no members of a task.
LIBRARIES = ("torch.", "lightning.", "pytorch_lightning.", "lightning_fabric.", "transformers.", "timm.", "builtins")


def has(place: object, name: str) -> bool:
    """Whether `place` has a member `name` of its own, and not one of a library's class such as LightningModule."""
    if name in CALLED and not callable(getattr(place, name, None)):
        return False
    if isinstance(place, type):  # what a class has as a function needs an object
        found = getattr(place, name, None)
        return found is not None and not inspect.isfunction(found) and _by_user(place, name)
    if not hasattr(place, name):
        return False
    return name in getattr(place, "__dict__", {}) or _registered(place, name) or _by_user(type(place), name)


def _registered(place: object, name: str) -> bool:
    return isinstance(place, nn.Module) and any(
        name in getattr(place, kind) for kind in ("_modules", "_parameters", "_buffers")
    )


def _by_user(kind: type, name: str) -> bool:
    """Whether the class that defines `name` is not a library's."""
    owner = next((base for base in kind.__mro__ if name in base.__dict__), None)
    return owner is not None and not f"{owner.__module__}.".startswith(LIBRARIES)


def own_names(place: object) -> set[str]:
    """The public names that the user's own classes define, and those set on a function."""
    kind = place if isinstance(place, type) else type(place)
    names = {name for base in kind.__mro__ if not f"{base.__module__}.".startswith(LIBRARIES) for name in vars(base)}
    if inspect.isfunction(place):
        names = set(vars(place))
    return {name for name in names if not name.startswith("_")}


def required(function: Callable[..., Any]) -> int:
    """How many arguments `function` needs; of a module, its `forward`."""
    target = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # written in C
        return 2
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters)


def attributes(made: object) -> list[object]:
    """The attributes of `made`, and what is in those that are lists, tuples or dictionaries."""
    found: list[object] = []
    for name, value in list(vars(made).items()) if hasattr(made, "__dict__") else []:
        if name.startswith("_") and isinstance(made, nn.Module):
            continue
        if isinstance(value, Mapping):
            found += value.values()
        elif isinstance(value, list | tuple):
            found += value
        else:
            found.append(value)
    return found


def described(value: object) -> str:
    """What `value` is, in a few words: `tuple of 3`, `Tensor (64, 10)`, `dict with logits`."""
    if isinstance(value, Tensor):
        return f"a Tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {', '.join(map(str, list(value)[:5])) or 'nothing'}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def binds(function: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    """Whether `function` takes these named arguments, as far as its signature says."""
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError:
        return False
    except ValueError:  # it has none
        pass
    return True


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function, also of a partial one; of any other object that can be called, that of its class."""
    found = function.func if hasattr(function, "func") else function
    return str(getattr(found, "__name__", type(found).__name__))
