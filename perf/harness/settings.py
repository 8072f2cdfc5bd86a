"""In: the texts of the `--perf-*` options and of their ini twins. Out: one frozen `Settings`.

`OPTIONS` states each name, default and help text once; pytest's help and the README's table derive from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data import NAMES, PIPELINES
from perf.harness.axes import EXECUTIONS, PRECISIONS
from perf.harness.gate.verdict import effect
from perf.harness.qualify.faults import KINDS as FAULTS

QUALIFY = "qualify"
SECONDS = {"s": 1, "m": 60, "h": 3600}
LONGEST_S = 24 * 3600
BYTES = {"MB": 1000**2, "GB": 1000**3, "TB": 1000**4, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class SettingsError(Exception):
    """A wrong option: `str()` says what is wrong, where it came from, and what is right."""


@dataclass(frozen=True)
class Profile:
    """How much is measured: the samples of the data set (None: all), and for how long [s].

    A case gets `case_s` of timed rounds, or `min_rounds` of them where that takes longer, but not beyond `long_s`.
    `defaults` are those of options that the user does not name. Of networks of large images, the benchmarks
    `small_only` are left out; on a CPU, every one whose call takes longer than `longest_s`.
    """

    name: str
    train_samples: int | None
    test_samples: int | None
    case_s: float
    min_rounds: int
    long_s: float
    defaults: Mapping[str, str] = field(default_factory=dict)
    small_only: tuple[str, ...] = ()
    longest_s: float = math.inf


PROFILES = {
    profile.name: profile
    for profile in (
        # 100 batches of 64: enough for a falling loss; 3 rounds are the fewest with an interval worth reading.
        Profile("smoke", 6_400, 1_000, case_s=0.5, min_rounds=3, long_s=4.0),
        # 4 s give a step of 1 ms its 20 blocks of 100 rounds, and the whole suite its 5 minutes on 2 cores.
        Profile("standard", None, None, case_s=4.0, min_rounds=5, long_s=30.0),
        # The data of the smoke run: the checks train, but do not learn.
        Profile("qualify", 6_400, 1_000, case_s=0.5, min_rounds=3, long_s=4.0),
        # A second each, for there are hundreds of cases. Of random images, an epoch says nothing that a step does not.
        Profile("full", None, None, case_s=1.0, min_rounds=3, long_s=10.0, longest_s=30.0,
                defaults={"model": "simple_nn,small_cnn,resnet18,resnet50,vit_b_16",
                          "execution": ",".join(EXECUTIONS), "precision": ",".join(PRECISIONS)},
                small_only=("inference", "input_pipeline", "epoch", "training_run")),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Every option, resolved. None means: chosen by the suite (the batch sizes by the model, the rounds by time)."""

    devices: tuple[str, ...]
    batch_sizes: tuple[int, ...] | None
    pipelines: tuple[str, ...] | None
    executions: tuple[str, ...]
    precisions: tuple[str, ...]
    models: tuple[str, ...]
    data: str
    data_root: Path
    rounds: int | None
    threads: int | None
    memory_limit: int | None
    seed: int
    require_devices: tuple[str, ...]
    profile: Profile
    against: str | None
    against_python: str | None
    gate: str
    min_effect: float
    time_budget_s: float
    inconclusive: str
    quick: bool
    full: bool
    spec: Path | None
    checks: tuple[str, ...] | None
    inject: Mapping[str, str]
    require_checks: tuple[str, ...]

    @property
    def model(self) -> str:
        """The networks, as typed: one, or several with commas between them."""
        return ",".join(self.models)

    @property
    def qualifies(self) -> bool:
        """Whether the machine is to be qualified, and not measured."""
        return self.profile.name == QUALIFY

    @property
    def paired(self) -> bool:
        """Whether base and head are to be measured side by side."""
        return self.gate != "off" and (self.against is not None or self.against_python is not None)

    def as_record(self) -> dict[str, str | int | None]:
        """What a record keeps: flat, and without paths, which differ between machines."""
        return {
            "devices": ",".join(self.devices),
            "batch_sizes": ",".join(map(str, self.batch_sizes)) if self.batch_sizes else None,
            "pipelines": ",".join(self.pipelines) if self.pipelines else None,
            "executions": ",".join(self.executions),
            "precisions": ",".join(self.precisions),
            "model": self.model,
            "data": self.data,
            "rounds": self.rounds,
            "threads": self.threads,
            "memory_limit": self.memory_limit,
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


def _checks(text: str) -> tuple[str, ...]:
    return _choices(text, tuple(FAULTS))


def _faults(text: str) -> dict[str, str]:
    """`CHECK:KIND,…` as a dictionary."""
    found = {}
    for item in _items(text):
        check, _, kind = item.partition(":")
        if kind not in FAULTS.get(check, ()):
            known = ", ".join(f"{name}:{one}" for name, kinds in FAULTS.items() for one in kinds)
            raise ValueError(f"{item!r} is none of {known}")
        found[check] = kind
    return found


def _yes(text: str) -> bool:
    if text.strip() != "yes":
        raise ValueError(f"{text!r} is not yes; leave it out otherwise")
    return True


def _file(text: str) -> Path:
    if not text.strip():
        raise ValueError("is empty; name a file")
    return Path(text).expanduser()


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    return _choices(text, choices)[0] if "," not in text else _reject_list(text)


def _reject_list(text: str) -> str:
    raise ValueError(f"{text!r} is a list; give one value")


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()


def _duration(text: str) -> float:
    """`90s`, `10m` or `1h` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not 0 < (seconds := float(found[1]) * SECONDS[found[2]]) <= LONGEST_S:
        raise ValueError(f"{text!r} is not a time, written like 90s, 10m or 1h, of 24h at most")
    return seconds


def _size(text: str) -> int:
    """`2GB`, `1.5GiB` or `512MiB` in bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MGT]i?B)", text.strip())
    if found is None or not 1 <= (size := float(found[1]) * BYTES[found[2]]) < 2**63:
        raise ValueError(f"{text!r} is not an amount of memory, written like 2GB, 2GiB or 512MiB")
    return int(size)


@dataclass(frozen=True)
class Option:
    """One option: `--perf-NAME` on the command line, `perf_NAME` in an ini file. `default` is text, as typed; an option
    without `metavar` takes no value on the command line, and `yes` in an ini file."""

    name: str
    metavar: str | None
    default: str | None
    help: str
    parse: Callable[[str], object]

    @property
    def flag(self) -> str:
        return f"--perf-{self.name}"

    @property
    def usage(self) -> str:
        """As on the command line: `--perf-data=NAME`."""
        return f"{self.flag}={self.metavar}" if self.metavar else self.flag

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
    Option("execution", "LIST", "eager", "how the step runs: eager, compile (torch.compile), cudagraph",
           lambda text: _choices(text, EXECUTIONS)),
    Option("precision", "LIST", "fp32", "what the step computes in: fp32, tf32, bf16, fp16",
           lambda text: _choices(text, PRECISIONS)),
    Option("model", "LIST", "simple_nn",
           "networks: simple_nn, small_cnn, a torchvision classification model (resnet18, …), or your own "
           "package.module:factory",
           _items),
    Option("data", "NAME", "auto", "mnist, digits (embedded), or auto: mnist where its files are present",
           lambda text: _one_of(text, NAMES)),
    Option("data-root", "DIR", None, "folder of the data sets (default: data/ in the project)", _folder),
    Option("profile", "NAME", "standard", "smoke: a subset, for a first look; standard: the whole data set; "
           "qualify: is the machine healthy?; full: simple_nn, small_cnn, resnet18, resnet50 and vit_b_16 in every "
           "execution and precision, or in those that are named; hours on a CPU",
           lambda text: PROFILES[_one_of(text, tuple(PROFILES))]),
    Option("rounds", "N", None, "timed rounds per case (default: as many as fit into the profile's time)",
           lambda text: _whole(text, 1)),
    Option("threads", "N", None, "threads of torch on the CPU (default: torch's own choice)",
           lambda text: _whole(text, 1)),
    Option("memory-limit", "SIZE", None,
           "what training may take in largest_batch: 2GB, 2GiB, 512MiB (default: all of a GPU's memory; on a CPU "
           "it is skipped, as memory is)", _size),
    Option("seed", "N", "0", "seed of weights, shuffling and random images", lambda text: _whole(text, 0)),
    Option("require-device", "LIST", None, "exit with 4 before anything is measured where one of these is absent",
           _devices),
    Option("against", "REF|DIR", None,
           "gate: measure a git ref, or another checkout, side by side with the working tree", _text),
    Option("against-python", "EXE", None, "gate: measure base with this Python, which may have another torch", _text),
    Option("gate", "MODE", "fail",
           "what a SLOWER benchmark does: fail, warn, or off (then --perf-against is ignored)",
           lambda text: _one_of(text, ("off", "warn", "fail"))),
    Option("min-effect", "SHARE", "2.5%", "the smallest slowdown that matters; twice of it is ruled out by SAME",
           effect),
    Option("time-budget", "TIME", "10m", "how long the gate may take; what is undecided then is INCONCLUSIVE",
           _duration),
    Option("inconclusive", "MODE", "warn", "INCONCLUSIVE, where nothing failed: warn exits with 10, fail with 1",
           lambda text: _one_of(text, ("warn", "fail"))),
    Option("quick", None, None, "qualify: at most two minutes on a device (the default)", _yes),
    Option("full", None, None, "qualify: ten minutes of sustained load", _yes),
    Option("spec", "FILE", None, "qualify: hold each metric against this reference, too", _file),
    Option("check", "LIST", None, "qualify: only these checks (default: all)", _checks),
    Option("require-check", "LIST", None, "qualify: a check that cannot be judged here is a failure", _checks),
    Option("inject", "LIST", None, "qualify: plant faults, CHECK:KIND, to see the check fail", _faults),
)  # fmt: skip


def resolve(
    command_line: Mapping[str, str | None], ini: Mapping[str, str], ini_file: str, default_data_root: Path
) -> Settings:
    """The settings from the texts by option name; the command line wins over the ini file.

    `ini_file` names where the ini values came from. Raises SettingsError for a wrong value.
    """
    values: dict[str, Any] = {}  # each option's parser gives the type of its field
    defaults: Mapping[str, str] = {}
    for option in sorted(OPTIONS, key=lambda option: option.name != "profile"):  # it has defaults for the others
        text, origin = defaults.get(option.name, option.default), "default"
        if ini.get(option.name):
            text, origin = ini[option.name], f"{option.ini} in {ini_file}"
        if (given := command_line.get(option.name)) is not None:
            text, origin = given, option.flag
        try:
            values[option.name] = None if text is None else option.parse(text)
        except ValueError as error:
            raise SettingsError(f"{origin}: {error}") from None
        defaults = values["profile"].defaults
    return Settings(
        devices=values["device"],
        batch_sizes=values["batch-size"],
        pipelines=values["pipeline"],
        executions=values["execution"],
        precisions=values["precision"],
        models=values["model"],
        data=values["data"],
        data_root=values["data-root"] or default_data_root,
        rounds=values["rounds"],
        threads=values["threads"],
        memory_limit=values["memory-limit"],
        seed=values["seed"],
        require_devices=values["require-device"] or (),
        profile=values["profile"],
        against=values["against"],
        against_python=values["against-python"],
        gate=values["gate"],
        min_effect=values["min-effect"],
        time_budget_s=values["time-budget"],
        inconclusive=values["inconclusive"],
        quick=values["quick"] or False,
        full=values["full"] or False,
        spec=values["spec"],
        checks=values["check"],
        inject=values["inject"] or {},
        require_checks=values["require-check"] or (),
    )
