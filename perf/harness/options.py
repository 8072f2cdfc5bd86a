"""In: the texts of the `--perf-*` options, from the command line and an ini file. Out: one frozen `Settings`.

`OPTIONS` defines each option once. Everything else comes from `OPTIONS`: pytest's help, the names in an ini file, the
table in `docs/options.md`, the `settings` of a record, and the options of a worker process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

EAGER, FP32 = "eager", "fp32"
EXECUTIONS: Final = (EAGER, "compile", "cudagraph")
"""Operation by operation; compiled by `torch.compile`; captured once as a CUDA graph, and replayed."""
PRECISIONS: Final = (FP32, "tf32", "bf16", "fp16")
"""All bits of float32; products with 10 bits of mantissa on tensor cores; autocast to bfloat16 or to float16."""
PIPELINES: Final = ("dataloader", "workers", "resident")
"""The names of `data.PIPELINES`, which needs torch; a test holds the two equal."""
AUTO_THREADS: Final = 0
"""Stands for the number that is chosen when the run begins, before anything else needs it."""
DATA_SETS: Final = ("auto", "mnist", "digits")
"""The names of `data.NAMES`, which needs torch; a test holds the two equal."""

QUALIFY, GATE = "qualify", "gate"
SECONDS = {"s": 1, "m": 60, "h": 3600}
LONGEST_S = 24 * 3600
YES, NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
BYTES = {"MB": 1000**2, "GB": 1000**3, "TB": 1000**4, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Two launches of the same code differ by about half a percent, so a smaller effect stays hidden. An effect above 50%
# needs no gate: a stopwatch shows it.
LEAST_EFFECT, MOST_EFFECT = 0.005, 0.5
MOST_MEMORY = 10.0
LEAST_TARGET = 0.001  # clocks alone change more from one second to the next
# The checks of a qualification in the order in which they run, each with the faults that `--perf-inject` can plant.
FAULTS: Final = {
    "preconditions": {"load": "another program keeps every core busy"},
    "matmul": {"slow": "each product is computed twice"},
    "memory": {"slow": "each pass over the memory is made twice"},
    "copies": {"slow": "each copy is made twice", "corrupt": "one bit is flipped on the way"},
    "launch": {"slow": "each operation is done twice"},
    "cores": {"slow": "on one core, each operation is done twice"},
    "numa": {
        "slow": "on one node, each operation is done twice; where there is one node, half of its cores count as one"
    },
    "patterns": {
        "stuck": "one bit of a word is always set",
        "alias": "what is written to one word is also written to another",
    },
    "disk": {"slow": "each read is made twice"},
    "sustained": {
        "late": "after half of the time, each product is computed twice",
        "throttle": "the device's answers say for a third of the time that it is too hot",
    },
    "numerics": {"bitflip": "one bit of a result is flipped", "nan": "one element of a result is NaN"},
    "replay": {
        "weight": "one bit of a weight is flipped in the middle of a replay",
        "gradient": "one bit of a gradient is flipped in the middle of a replay",
    },
    "convergence": {"slow": "the learning rate is halved"},
    "step": {"sleep": "the forward pass sleeps as long as a step takes"},
    "loader": {"sleep": "every pipeline sleeps before each batch"},
    "errors": {
        "ecc": "the device's counters show an uncorrected memory error",
        "xid": "the driver's answer says that the GPU has fallen off the bus (Xid 79)",
        "corrected": "the device's counters show 1,000 corrected memory errors",
        "replays": "the device's counters show 1,000 repeated PCIe transfers",
    },
    "clock": {
        "drift": "the time of day, or the device's own clock, runs faster by 1%",
        "source": "the kernel's answer says that it uses the clock hpet",
    },
}


class SettingsError(Exception):
    """A wrong option: `str()` says what is wrong, where the text came from, and what is right."""


@dataclass(frozen=True)
class Profile:
    """How much a run measures: the samples of the data set (None: all), and the time for each case [s].

    A case gets `case_s` of timed rounds, in `passes` passes. If `min_rounds` rounds take longer, the case gets that
    many, but at most about `long_s`.
    `defaults` are the texts of options that the user does not give. With `only_steps`, networks of large images get
    only the benchmarks marked `large_images`. A CPU skips each benchmark whose call takes longer than `longest_s`.
    All passes of a case together take about `whole_s`, start-up included (measured, reference network). Extra passes
    narrow the intervals to `precision_target`. With `kinds`, only these benchmarks run, at the first batch size, unless
    the user names others.
    """

    name: str
    train_samples: int | None
    test_samples: int | None
    case_s: float
    min_rounds: int
    long_s: float
    defaults: Mapping[str, str] = field(default_factory=dict)
    only_steps: bool = False
    longest_s: float = math.inf
    passes: int = 1
    whole_s: float = 0.0
    precision_target: float | None = None
    kinds: tuple[str, ...] = ()


PROFILES = {
    profile.name: profile
    for profile in (
        # 100 batches of 64 are enough for a falling loss. With fewer than 3 rounds, the interval is too wide to use.
        Profile("smoke", 6_400, 1_000, case_s=0.5, min_rounds=3, long_s=4.0, longest_s=20.0, passes=4,
                whole_s=2.2),
        # 4 s give a step of 1 ms about 800 rounds in each pass, and the whole suite takes four minutes on 2 cores.
        Profile("standard", None, None, case_s=4.0, min_rounds=5, long_s=30.0, passes=5, whole_s=12.0,
                precision_target=0.02),
        # The data of the smoke run: a launch must not read for longer than it measures.
        Profile(GATE, 6_400, 1_000, case_s=0.5, min_rounds=3, long_s=4.0, defaults={"time-budget": "3m"},
                kinds=("training_step", "inference", "input_pipeline")),
        # The data of the smoke run: enough for the checks, which train only to 80% accuracy or not at all.
        Profile("qualify", 6_400, 1_000, case_s=0.5, min_rounds=3, long_s=4.0),
        # One second each, because there are hundreds of cases. On random images, an epoch shows no more than a step.
        Profile("full", None, None, case_s=1.0, min_rounds=3, long_s=10.0, longest_s=30.0,
                defaults={"model": "simple_nn,small_cnn,tiny_lm,resnet18,resnet50,vit_b_16",
                          "execution": ",".join(EXECUTIONS), "precision": ",".join(PRECISIONS)},
                only_steps=True, passes=3, whole_s=5.0),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The resolved value of every option. None: not given, or the suite chooses (batch sizes by model, rounds by time).

    `texts` maps each option name to the text that the value comes from; `origins` maps each name to the text's place.
    """

    devices: tuple[str, ...]
    batch_sizes: tuple[int, ...] | None
    pipelines: tuple[str, ...] | None
    executions: tuple[str, ...]
    precisions: tuple[str, ...]
    models: tuple[str, ...]
    data: str
    data_root: Path
    profile: Profile
    rounds: int | None
    passes: int | None
    precision_target: float | None
    threads: int | None
    tuned_cpu: bool
    memory_limit: int | None
    seed: int
    require_devices: tuple[str, ...]
    against: str | None
    against_python: str | None
    against_setup: str | None
    base_model: str | None
    gate: str
    min_effect: float
    max_memory: float
    time_budget_s: float
    inconclusive: str
    summary: Path | None
    anonymous: bool
    quick: bool
    full: bool
    spec: Path | None
    checks: tuple[str, ...] | None
    require_checks: tuple[str, ...]
    expect_devices: int | None
    busy_limit: float | None
    inject: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict, compare=False)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def model(self) -> str:
        """The networks as typed: one, or several with commas between them."""
        return ",".join(self.models)

    @property
    def target(self) -> float | None:
        """The precision that a run aims at, as the user or the profile says; None: the time alone decides."""
        return self.precision_target or self.profile.precision_target

    @property
    def qualifies(self) -> bool:
        """Whether the run qualifies the machine instead of measuring."""
        return self.profile.name == QUALIFY

    @property
    def paired(self) -> bool:
        """Whether the run measures base and head side by side."""
        return self.gate != "off" and (self.against is not None or self.against_python is not None)

    def as_record(self) -> dict[str, str | int | float | None]:
        """The settings in a record: flat, and without paths, because paths differ between machines."""
        return {option.recorded: _recorded(getattr(self, option.field)) for option in OPTIONS if option.recorded}

    def with_threads(self, threads: int, origin: str) -> Settings:
        """These settings with a number of threads that no user has typed; `origin` says who chose it."""
        texts, origins = {**self.texts, "threads": str(threads)}, {**self.origins, "threads": origin}
        return replace(self, threads=threads, texts=texts, origins=origins)

    def for_worker(self, **changed: str) -> dict[str, str]:
        """The texts from which a worker process resolves the same settings; those in `changed` replace the others."""
        texts = {option.name: self.texts[option.name] for option in OPTIONS if option.name in self.texts}
        mine = {option.name for option in OPTIONS if option.parent_only}
        return {name: text for name, text in (texts | changed).items() if name not in mine}


def _recorded(value: object) -> str | int | float | None:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, Profile):
        return value.name
    assert value is None or isinstance(value, str | int | float)
    return value


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


def _threads(text: str) -> int:
    if text.strip() == "auto":
        return AUTO_THREADS
    if not re.fullmatch(r"\s*[+-]?\d+\s*", text):
        raise ValueError(f"{text!r} is neither a whole number nor auto")
    return _whole(text, 1)


def _devices(text: str) -> tuple[str, ...]:
    for name in (items := _items(text)):
        if not re.fullmatch(r"all|cpu|(?!all\b|cpu\b|meta\b)[a-z]+(:\d{1,4})?", name):
            raise ValueError(not_a_device(name))
    return items


def not_a_device(name: str) -> str:
    """The message for a `name` that has the wrong form, or that torch does not know."""
    return f"{name!r} is not a device; use cpu, cuda, cuda:1, mps, xpu or all"


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
    """Parse `CHECK:KIND,…` into a dictionary from check to kind."""
    found: dict[str, str] = {}
    for item in _items(text):
        check, _, kind = item.partition(":")
        if kind not in FAULTS.get(check, ()):
            known = ", ".join(f"{name}:{one}" for name, kinds in FAULTS.items() for one in kinds)
            raise ValueError(f"{item!r} is none of {known}")
        if check in found:
            raise ValueError(
                f"{check}:{found[check]} and {item} are faults of one check: plant them one after the other"
            )
        found[check] = kind
    return found


def _cores(text: str) -> float:
    """Parse a number of cores, above 0: `0.5`."""
    try:
        cores = float(text)
    except ValueError:
        cores = math.nan
    if not 0 < cores < math.inf:
        raise ValueError(f"{text!r} is not a number of cores above 0")
    return cores


def _flag(text: str) -> bool:
    """Parse yes or no, in the words that pytest accepts in an ini file."""
    word = text.strip().lower()
    if word not in (*YES, *NO):
        raise ValueError(f"{text!r} is neither yes nor no")
    return word in YES


def _file(text: str) -> Path:
    if not text.strip():
        raise ValueError("is empty; name a file")
    return Path(text).expanduser()


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    if "," in text:
        raise ValueError(f"{text!r} is a list; give one value")
    return _choices(text, choices)[0]


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()


def _duration(text: str) -> float:
    """Convert `90s`, `10m` or `1h` to seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not 0 < (seconds := float(found[1]) * SECONDS[found[2]]) <= LONGEST_S:
        raise ValueError(f"{text!r} is not a time; write it like 90s, 10m or 1h (24h at most)")
    return seconds


def _size(text: str) -> int:
    """Convert `2GB`, `1.5GiB` or `512MiB` to bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MGT]i?B)", text.strip())
    if found is None or not 1 <= (size := float(found[1]) * BYTES[found[2]]) < 2**63:
        raise ValueError(f"{text!r} is not an amount of memory; write it like 2GB, 2GiB or 512MiB")
    return int(size)


def _percent(text: str, least: float, most: float) -> float:
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not text.strip().endswith("%") or not least <= percent / 100 <= most:
        raise ValueError(f"{text!r} is not a share from {least:.1%} to {most:.0%}, written like 2.5%")
    return percent / 100


def effect(text: str) -> float:
    """A minimum effect as typed: `2.5%` is 0.025. Raises ValueError."""
    return _percent(text, LEAST_EFFECT, MOST_EFFECT)


@dataclass(frozen=True)
class Option:
    """One option: `--perf-NAME` on the command line, `perf_NAME` in an ini file.

    `default` is text, as typed. An option without `metavar` is a flag: it takes no value on the command line, and yes
    or no in an ini file. `parse` converts the text to the value of the field `field` of `Settings`; without a text, the
    value is `without`. `recorded` is the option's key in a record, or "" if a record does not keep the option. A worker
    process gets each option that is not `parent_only`.
    """

    name: str
    metavar: str | None
    default: str | None
    help: str
    parse: Callable[[str], object]
    field: str
    recorded: str = ""
    without: object = None
    parent_only: bool = False

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
           "devices to measure: cpu, cuda, cuda:1, mps, xpu, or all; an absent device is skipped with the reason",
           _devices, "devices", "devices"),
    Option("batch-size", "LIST", None,
           "batch sizes (default: 64,512,4096; for images above 64×64 pixels 8,32)",
           _batch_sizes, "batch_sizes", "batch_sizes"),
    Option("pipeline", "LIST", None,
           "input pipelines: dataloader, workers, resident; each at every batch size (default: all three at the first "
           "batch size, only resident at the others)",
           lambda text: _choices(text, PIPELINES), "pipelines", "pipelines"),
    Option("execution", "LIST", EAGER, "how the step runs: eager, compile (torch.compile), cudagraph",
           lambda text: _choices(text, EXECUTIONS), "executions", "executions"),
    Option("precision", "LIST", FP32, "the precision of the step: fp32, tf32, bf16, fp16",
           lambda text: _choices(text, PRECISIONS), "precisions", "precisions"),
    Option("model", "LIST", "simple_nn",
           "what to train: simple_nn, small_cnn, tiny_lm, a torchvision model (resnet18, …), timm:NAME, hf:NAME, or "
           "your own path/to/file.py:NAME or package.module:NAME",
           _items, "models", "model"),
    Option("data", "NAME", "auto", "data set: mnist, digits (embedded), or auto: mnist where its files are present",
           lambda text: _one_of(text, DATA_SETS), "data", "data"),
    Option("data-root", "DIR", None, "folder of the data sets (default: data/ in the project)", _folder, "data_root"),
    Option("profile", "NAME", "standard",
           "what to run. smoke: a subset, for a first look. standard: the whole data set. gate: step, inference and "
           "input, in three minutes (the default of --perf-against). qualify: is the machine healthy? full: simple_nn, "
           "small_cnn, tiny_lm, resnet18, resnet50 and vit_b_16 in every execution and precision; hours on a CPU",
           lambda text: PROFILES[_one_of(text, tuple(PROFILES))], "profile", "profile"),
    Option("rounds", "N", None,
           "timed rounds of each case: each pass makes an equal share, rounded up (default: as many as fit into the "
           "profile's time)",
           lambda text: _whole(text, 1), "rounds", "rounds"),
    Option("passes", "N", None,
           "number of passes over all cases, each in a new process; 1 runs in pytest's own process, for a "
           "debugger or a profiler (default: standard 5, smoke 4, full 3)",
           lambda text: _whole(text, 1), "passes", "passes", parent_only=True),
    Option("precision-target", "SHARE", None,
           "stop measuring a case when half its 95% interval is this share of its time, and make extra passes for the "
           "other cases while there is time (default: standard 2%, otherwise none)",
           lambda text: _percent(text, LEAST_TARGET, MOST_EFFECT), "precision_target", "precision_target"),
    Option("threads", "N|auto", None,
           "threads of torch on the CPU; auto: the fewest that train nearly as fast as the best number (default: "
           "torch's own choice)",
           _threads, "threads", "threads"),
    Option("tuned-cpu", None, None,
           "run the CPU as PyTorch's tuning guide says (physical cores of one NUMA node, tcmalloc or jemalloc if "
           "installed), and measure first what that is worth",
           _flag, "tuned_cpu", without=False, parent_only=True),
    Option("memory-limit", "SIZE", None,
           "memory limit for the benchmark largest_batch: 2GB, 2GiB, 512MiB (default: all memory of a GPU; "
           "without it, a CPU skips memory and largest_batch)",
           _size, "memory_limit", "memory_limit"),
    Option("seed", "N", "0", "seed of weights, shuffling and random images",
           lambda text: _whole(text, 0), "seed", "seed"),
    Option("require-device", "LIST", None, "exit with 4 before anything is measured if one of these is absent",
           _devices, "require_devices", without=(), parent_only=True),
    Option("against", "REF|DIR", None,
           "gate: measure a git ref, or another checkout, side by side with the working tree; REF... is the commit at "
           "which your branch left REF",
           _text, "against", parent_only=True),
    Option("against-python", "EXE", None,
           "gate: measure base with this Python, for example one with another torch",
           _text, "against_python", parent_only=True),
    Option("against-setup", "CMD", None,
           "gate: run this command in base's folder first, to make what no commit has: generated files, extensions",
           _text, "against_setup", parent_only=True),
    Option("base-model", "NAME", None, "gate: what to train in base, if it has another name there than in head",
           _text, "base_model", parent_only=True),
    Option("gate", "MODE", "fail",
           "what to do if a benchmark is SLOWER: fail, warn, or off (off also ignores --perf-against)",
           lambda text: _one_of(text, ("off", "warn", "fail")), "gate", parent_only=True),
    Option("min-effect", "SHARE", "2.5%",
           "the smallest slowdown that matters; SAME means: a slowdown of twice that size is ruled out",
           effect, "min_effect", parent_only=True),
    Option("max-memory", "SHARE", "5%",
           "how much more memory training may take before it is HEAVIER",
           lambda text: _percent(text, LEAST_EFFECT, MOST_MEMORY), "max_memory", parent_only=True),
    Option("time-budget", "TIME", "10m",
           "how long the gate may take (the profile gate: 3m); benchmarks still undecided then are INCONCLUSIVE",
           _duration, "time_budget_s", parent_only=True),
    Option("inconclusive", "MODE", "warn",
           "exit code if a benchmark is INCONCLUSIVE and nothing failed: pass gives 0, warn gives 10, fail gives 1",
           lambda text: _one_of(text, ("pass", "warn", "fail")), "inconclusive", parent_only=True),
    Option("summary", "FILE", None,
           "write the report as Markdown, for a reviewer or a ticket; under GitHub also to the summary of the job",
           _file, "summary", parent_only=True),
    Option("busy-limit", "CORES", None,
           "qualify: how many cores others may take before a slow result says nothing (default: 5% of the cores, or "
           "what slows matrix products by 8%, if that is less)",
           _cores, "busy_limit", without=None, parent_only=True),
    Option("anonymous", None, None, "leave the host name, serial numbers, addresses and paths out of the record",
           _flag, "anonymous", without=False),
    Option("quick", None, None, "qualify: about two minutes for each device (the default)",
           _flag, "quick", without=False, parent_only=True),
    Option("full", None, None, "qualify: ten minutes of sustained load, and half of the free memory tested",
           _flag, "full", without=False, parent_only=True),
    Option("spec", "FILE", None, "qualify: also compare each metric with this reference file",
           _file, "spec", parent_only=True),
    Option("check", "LIST", None, "qualify: only these checks (default: all)", _checks, "checks", parent_only=True),
    Option("require-check", "LIST", None, "qualify: fail if one of these checks cannot be judged here",
           _checks, "require_checks", without=(), parent_only=True),
    Option("expect-devices", "N", None, "qualify: NOT QUALIFIED if the machine has fewer GPUs (or other accelerators)",
           lambda text: _whole(text, 0), "expect_devices", without=None, parent_only=True),
    Option("inject", "LIST", None, "qualify: plant faults (CHECK:KIND,…) to see that the checks fail",
           _faults, "inject", without={}, parent_only=True),
)  # fmt: skip


def resolve(
    command_line: Mapping[str, str | None], ini: Mapping[str, str], ini_file: str, default_data_root: Path
) -> Settings:
    """Resolve the settings from texts by option name. The command line wins over the ini file.

    `ini_file` is the name of the ini file, for messages. Raises SettingsError for a wrong value.
    """
    values: dict[str, Any] = {}  # the parser of each option returns the type of its field
    texts: dict[str, str] = {}
    origins: dict[str, str] = {}
    defaults: Mapping[str, str] = {}
    for option in _profile_first(OPTIONS):
        text, origin = defaults.get(option.name, option.default), "default"
        if ini.get(option.name):
            text, origin = ini[option.name], f"{option.ini} in {ini_file}"
        if (given := command_line.get(option.name)) is not None:
            text, origin = given, option.flag
        try:
            values[option.field] = option.without if text is None else option.parse(text)
        except ValueError as error:
            raise SettingsError(f"{origin}: {error}") from None
        if text is not None:
            texts[option.name], origins[option.name] = text, origin
        defaults = values["profile"].defaults
    values["data_root"] = values["data_root"] or default_data_root
    return Settings(**values, texts=texts | {"data-root": str(values["data_root"])}, origins=origins)


def _profile_first(options: Iterable[Option]) -> list[Option]:
    """The options with the profile first, because the profile has defaults for the other options."""
    return sorted(options, key=lambda option: option.name != "profile")
