"""In: the texts of the `--perf-*` options and of their ini twins. Out: one frozen `Settings`.

`OPTIONS` states each name, default and help text once; pytest's help and the README's table derive from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data import NAMES, PIPELINES


class SettingsError(Exception):
    """A wrong option: `str()` says what is wrong, where it came from, and what is right."""


@dataclass(frozen=True)
class Profile:
    """How much is measured: the samples of the data set (None: all), and for how long [s].

    A case gets `case_s` of timed rounds, or `min_rounds` of them where that takes longer, but not beyond `long_s`.
    """

    name: str
    train_samples: int | None
    test_samples: int | None
    case_s: float
    min_rounds: int
    long_s: float


PROFILES = {
    profile.name: profile
    for profile in (
        # 100 batches of 64: enough for a falling loss; 3 rounds are the fewest with an interval worth reading.
        Profile("smoke", 6_400, 1_000, case_s=0.5, min_rounds=3, long_s=4.0),
        # 4 s give a step of 1 ms its 20 blocks of 100 rounds, and the whole suite its 5 minutes on 2 cores.
        Profile("standard", None, None, case_s=4.0, min_rounds=5, long_s=30.0),
    )
}


@dataclass(frozen=True)
class Settings:
    """Every option, resolved. None means: chosen by the suite (the batch sizes by the model, the rounds by time)."""

    devices: tuple[str, ...]
    batch_sizes: tuple[int, ...] | None
    pipelines: tuple[str, ...] | None
    model: str
    data: str
    data_root: Path
    rounds: int | None
    threads: int | None
    seed: int
    require_devices: tuple[str, ...]
    profile: Profile

    def as_record(self) -> dict[str, str | int | None]:
        """What a record keeps: flat, and without paths, which differ between machines."""
        return {
            "devices": ",".join(self.devices),
            "batch_sizes": ",".join(map(str, self.batch_sizes)) if self.batch_sizes else None,
            "pipelines": ",".join(self.pipelines) if self.pipelines else None,
            "model": self.model,
            "data": self.data,
            "rounds": self.rounds,
            "threads": self.threads,
            "seed": self.seed,
            "profile": self.profile.name,
        }


def _items(text: str) -> tuple[str, ...]:
    items = tuple(dict.fromkeys(item.strip() for item in text.split(",")))
    if not all(items):
        raise ValueError("has an empty item; write the items with commas between them")
    return items


def _whole(text: str, minimum: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None
    if not minimum <= number < 2**63:
        raise ValueError(f"{text} is out of range; it must be {minimum} or more")
    return number


def _devices(text: str) -> tuple[str, ...]:
    for name in (items := _items(text)):
        try:
            valid = name in ("all", "cpu") or torch.device(name).type not in ("cpu", "meta")
        except RuntimeError:
            valid = False
        if not valid:
            raise ValueError(f"{name!r} is not a device; use cpu, cuda, cuda:1, mps, xpu or all")
    return items


def _choices(text: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    for item in (items := _items(text)):
        if item not in choices:
            raise ValueError(f"{item!r} is not one of {', '.join(choices)}")
    return items


def _batch_sizes(text: str) -> tuple[int, ...]:
    return tuple(_whole(item, 1) for item in _items(text))


def _folder(text: str) -> Path:
    if not text.strip():
        raise ValueError("is empty; name a folder")
    return Path(text).expanduser()


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    return _choices(text, choices)[0] if "," not in text else _reject_list(text)


def _reject_list(text: str) -> str:
    raise ValueError(f"{text!r} is a list; give one value")


@dataclass(frozen=True)
class Option:
    """One option: `--perf-NAME` on the command line, `perf_NAME` in an ini file. `default` is text, as typed."""

    name: str
    metavar: str
    default: str | None
    help: str
    parse: Callable[[str], object]

    @property
    def flag(self) -> str:
        return f"--perf-{self.name}"

    @property
    def ini(self) -> str:
        return f"perf_{self.name.replace('-', '_')}"

    @property
    def full_help(self) -> str:
        return f"{self.help} (default: {self.default})" if self.default else self.help


OPTIONS = (
    Option("device", "LIST", "cpu,cuda",
           "devices to measure: cpu, cuda, cuda:1, mps, xpu, or all; an absent one is skipped with its reason",
           _devices),
    Option("batch-size", "LIST", None,
           "batch sizes (default: 64,512,4096; for images above 64×64 pixels 8,32)", _batch_sizes),
    Option("pipeline", "LIST", None,
           "input pipelines: dataloader, workers, resident (default: all at the first batch size, then "
           "resident; given: all of them at every batch size)",
           lambda text: _choices(text, PIPELINES)),
    Option("model", "NAME", "simple_nn",
           "simple_nn, a torchvision classification model (resnet18, …), or your own package.module:factory",
           str.strip),
    Option("data", "NAME", "auto", "mnist, digits (embedded), or auto: mnist where its files are present",
           lambda text: _one_of(text, NAMES)),
    Option("data-root", "DIR", None, "folder of the data sets (default: data/ in the project)", _folder),
    Option("profile", "NAME", "standard", "smoke: a subset, for a first look; standard: the whole data set",
           lambda text: PROFILES[_one_of(text, tuple(PROFILES))]),
    Option("rounds", "N", None, "timed rounds per case (default: as many as fit into the profile's time)",
           lambda text: _whole(text, 1)),
    Option("threads", "N", None, "threads of torch on the CPU (default: torch's own choice)",
           lambda text: _whole(text, 1)),
    Option("seed", "N", "0", "seed of weights, shuffling and random images", lambda text: _whole(text, 0)),
    Option("require-device", "LIST", None, "exit with 4 before anything is measured where one of these is absent",
           _devices),
)  # fmt: skip


def resolve(
    command_line: Mapping[str, str | None], ini: Mapping[str, str], ini_file: str, default_data_root: Path
) -> Settings:
    """The settings from the texts by option name; the command line wins over the ini file.

    `ini_file` names where the ini values came from. Raises SettingsError for a wrong value.
    """
    values: dict[str, Any] = {}  # each option's parser gives the type of its field
    for option in OPTIONS:
        text, origin = option.default, "default"
        if ini.get(option.name):
            text, origin = ini[option.name], f"{option.ini} in {ini_file}"
        if (given := command_line.get(option.name)) is not None:
            text, origin = given, option.flag
        try:
            values[option.name] = None if text is None else option.parse(text)
        except ValueError as error:
            raise SettingsError(f"{origin}: {error}") from None
    return Settings(
        devices=values["device"],
        batch_sizes=values["batch-size"],
        pipelines=values["pipeline"],
        model=values["model"],
        data=values["data"],
        data_root=values["data-root"] or default_data_root,
        rounds=values["rounds"],
        threads=values["threads"],
        seed=values["seed"],
        require_devices=values["require-device"] or (),
        profile=values["profile"],
    )
