"""Mini-batches in any nesting of dict, list, tuple and dataclass: their tensors, their length, and a changed copy."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor


def tensors(value: object) -> Iterator[Tensor]:
    """The tensors in `value`, in order. What is neither a tensor nor a container is left out."""
    if isinstance(value, Tensor):
        yield value
    else:
        for part in _parts(value):
            yield from tensors(part)


def mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A copy of `value` in which `function(tensor)` replaces each tensor. Everything else is the same object."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, MutableMapping):
        made = copy.copy(value)  # also the dictionaries of libraries, whose constructors take other arguments
        for key, part in value.items():
            made[key] = mapped(function, part)
        return made
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(function, part) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(mapped(function, part) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(changed, field.name, mapped(function, getattr(value, field.name)))  # it may be frozen
        return changed
    return value


def length(batch: object) -> int:
    """The number of samples in `batch`: the length of its first tensor. 1 if that has no length, or if there is none.

    In a list of images (C, H, W) this is the number of channels: use it only where all mini-batches are alike.
    """
    first = next(tensors(batch), None)
    return len(first) if first is not None and first.dim() else 1


def rows(value: Any, indices: Tensor) -> Any:
    """A copy of `value` that holds, of each tensor (N, …), the rows with these `indices`, int64 (B,)."""
    return mapped(lambda tensor: tensor.index_select(0, indices), value)


def joined(values: list[Any]) -> Any:
    """One value whose tensors are those of `values`, one behind the other. Raises ValueError if they do not fit.

    The values must have the same nesting, and tensors (B, …) of the same shapes but for B, which is the same number in
    all tensors of one value.
    """
    found = [list(tensors(value)) for value in values]
    first = found[0]
    if not first or any(len(one) != len(first) for one in found):
        raise ValueError("they do not all consist of tensors in the same nesting")
    for one in found:
        if any(tensor.dim() == 0 or len(tensor) != len(one[0]) for tensor in one):
            raise ValueError("a tensor has no dimension for the samples")
        if any(tensor.shape[1:] != other.shape[1:] for tensor, other in zip(one, first, strict=True)):
            raise ValueError("their tensors differ in shape")
    together = iter([torch.cat(column) for column in zip(*found, strict=True)])
    return mapped(lambda _: next(together), values[0])


def _parts(value: object) -> Iterator[object]:
    """What `value` directly contains, if it is a container."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield getattr(value, field.name)
