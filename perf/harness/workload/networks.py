"""In: the settings. Out: each network of the run, with its recipe, its batch sizes and its data set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from data import DataSet
from model import Recipe, RecipeError, load_recipe
from perf.harness.machine.devices import Device
from perf.harness.machine.memory import available_bytes, bounded_memory
from perf.harness.options import Settings, SettingsError
from perf.harness.workload.contract import check_contract
from perf.harness.workload.own_data import OwnSplit
from perf.harness.workload.workload import data_name, default_batch_sizes, load_data, takes_mnist

BYTES_PER_PARAMETER = 8  # a weight and its gradient in float32; an optimizer may need as much again


@dataclass(frozen=True)
class Network:
    """One network of the run. `data` is None until `prepared` reads it."""

    recipe: Recipe
    batch_sizes: tuple[int, ...]
    data_name: str
    data: DataSet | None = None


def networks(settings: Settings) -> dict[str, Network]:
    """The networks by name, in the order in which the user listed them. Raises RecipeError and DataError."""
    with _bounded():
        recipes = [load_recipe(name) for name in settings.models]
    for recipe in recipes:
        _check_size(recipe)
    taken = any(map(takes_mnist, recipes))
    return {
        recipe.name: Network(
            recipe, settings.batch_sizes or default_batch_sizes(recipe), data_name(recipe, settings, elsewhere=taken)
        )
        for recipe in recipes
    }


def _bounded() -> contextlib.AbstractContextManager[None]:
    """A user's network that needs more memory than is free fails with an error, instead of ending this process.

    Not where there is an accelerator: a user's code may start its driver, which maps more memory than it uses.
    """
    return contextlib.nullcontext() if torch.accelerator.is_available() else bounded_memory(Device("cpu"))


def _check_size(recipe: Recipe) -> None:
    """Raise RecipeError if a network is known to be too large for this machine, before it is made."""
    if recipe.parameters is None:
        return
    least, available = recipe.parameters * BYTES_PER_PARAMETER, available_bytes()
    if least > available:
        raise RecipeError(
            f"{recipe.name} has {recipe.parameters:,} parameters: weights and gradients take {least / 2**30:,.0f} GiB, "
            f"and {available / 2**30:.0f} GiB of memory are free here; take a smaller one, or write it as a task with "
            "a smaller configuration"
        )


def unseen(settings: Settings) -> dict[str, Network]:
    """The networks by name for a process that runs no code of the user's, and so does not know what they are.

    Raises RecipeError for the name of a network that is nobody's.
    """
    for name in settings.models:
        if ":" not in name:
            load_recipe(name)
    return {name: Network(Recipe(name, _unseen), settings.batch_sizes or (), settings.data) for name in settings.models}


def _unseen() -> nn.Module:
    raise RuntimeError("this process does not run the networks")


def prepared(wanted: Mapping[str, Network], settings: Settings, *, tried: bool = False) -> dict[str, Network]:
    """Run each network once, unless it is `tried` elsewhere, and read its data.

    Networks with the same input shape and classes share one data set. Raises DataError, RecipeError and SettingsError.
    """
    read: dict[object, DataSet] = {}
    made = {}
    for name, network in wanted.items():
        recipe = network.recipe
        shape = name if recipe.brings_data else (recipe.input_shape, recipe.classes)
        data = read[shape] = read[shape] if shape in read else load_data(recipe, settings)
        of = "" if recipe.brings_data else f" of {data.name}"
        if (largest := max(network.batch_sizes)) > len(data.train):
            raise SettingsError(
                f"batch size {largest} is more than the {len(data.train):,} training samples{of} that "
                f"{recipe.name} has in the profile {settings.profile.name}; take a smaller one: --perf-batch-size=N"
            )
        if not tried:
            own = data.train if isinstance(data.train, OwnSplit) else None
            with _bounded():
                check_contract(recipe, own, network.batch_sizes[0])
        made[name] = replace(network, data=data)
    return made


def joined(names: Iterable[str]) -> str:
    """The distinct names, separated by commas."""
    return ",".join(dict.fromkeys(names))


def data_record(wanted: Iterable[Network]) -> dict[str, Any]:
    """The value of `perf.data` in a record: one data set, or a list `sets` if the networks use several.

    Before the data is read, the value has only the names.
    """
    wanted = list(wanted)
    record = {"name": joined(network.data_name for network in wanted)}
    found = {network.data.digest: network.data for network in wanted if network.data is not None}
    sets = [
        {
            "name": data.name,
            "digest": data.digest,
            "train_samples": len(data.train),
            **({} if data.test is data.train else {"test_samples": len(data.test)}),
            "note": data.note,
        }
        for data in found.values()
    ]
    return record | (sets[0] if len(sets) == 1 else {"sets": sets} if sets else {})
