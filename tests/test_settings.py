"""Options: each has one default, an ini twin, and a refusal that names where a wrong value came from."""

from pathlib import Path

import pytest

from perf.harness.options import OPTIONS, PROFILES, SettingsError, resolve

ROOT = Path("somewhere")


def settle(ini=None, **typed):
    return resolve({name.replace("_", "-"): text for name, text in typed.items()}, ini or {}, "pytest.ini", ROOT)


def test_the_defaults_are_the_reference_comparison():
    settings = settle()
    assert settings.devices == ("cpu", "cuda")
    assert (settings.models, settings.data, settings.data_root) == (("simple_nn",), "auto", ROOT)
    assert settings.profile is PROFILES["standard"]
    assert (settings.batch_sizes, settings.pipelines, settings.rounds, settings.threads) == (None,) * 4
    assert settings.seed == 0
    assert settings.require_devices == ()
    assert (settings.gate, settings.inconclusive, settings.paired) == ("fail", "warn", False)
    assert (settings.min_effect, settings.time_budget_s) == (0.025, 600.0)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("1.5m", 90.0), ("1h", 3600.0)])
def test_a_time_has_a_unit(text, seconds):
    assert settle(time_budget=text).time_budget_s == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("2GiB", 2**31), ("512MiB", 2**29), ("1.5 GB", 1_500_000_000)]
)
def test_an_amount_of_memory_has_a_unit(text, size):
    assert settle(memory_limit=text).memory_limit == size
    assert settle({"memory-limit": text}).as_record()["memory_limit"] == size
    assert settle().memory_limit is None


def test_a_gate_that_is_off_is_no_gate():
    assert settle(against="main").paired
    assert settle(against_python="python3").paired
    assert not settle(against="main", gate="off").paired


def test_the_command_line_wins_over_the_ini_file():
    settings = settle({"seed": "3", "rounds": "7"}, seed="5")
    assert (settings.seed, settings.rounds) == (5, 7)


def test_lists_keep_their_order_and_lose_their_duplicates():
    settings = settle(device="cuda:1, cpu,cuda:1", batch_size="512,64,512", pipeline="resident,workers")
    assert settings.devices == ("cuda:1", "cpu")
    assert settings.batch_sizes == (512, 64)
    assert settings.pipelines == ("resident", "workers")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("device", "gpu:x", "--perf-device: 'gpu:x' is not a device"),
        ("device", "cpu:1", "--perf-device: 'cpu:1' is not a device"),
        ("device", "meta", "--perf-device: 'meta' is not a device"),
        ("device", "cpu,,cuda", "--perf-device: has an empty item"),
        ("require_device", "cpu:1", "--perf-require-device: 'cpu:1' is not a device"),
        ("batch_size", "64,big", "--perf-batch-size: 'big' is not a whole number"),
        ("batch_size", "0", "--perf-batch-size: 0 is out of range; it must be 1 or more"),
        ("batch_size", "", "--perf-batch-size: has an empty item"),
        ("pipeline", "fast", "--perf-pipeline: 'fast' is not one of dataloader, workers, resident"),
        ("data", "cifar", "--perf-data: 'cifar' is not one of auto, mnist, digits"),
        ("data", "mnist,digits", "--perf-data: 'mnist,digits' is a list; give one value"),
        ("profile", "quick", "--perf-profile: 'quick' is not one of smoke, standard"),
        ("rounds", "1.5", "--perf-rounds: '1.5' is not a whole number"),
        ("rounds", "0", "--perf-rounds: 0 is out of range"),
        ("threads", "-1", "--perf-threads: -1 is out of range"),
        ("threads", "none", "--perf-threads: 'none' is neither a whole number nor auto"),
        ("precision_target", "0.05%", "--perf-precision-target: '0.05%' is not a share from 0.1% to 50%"),
        ("precision_target", "2", "--perf-precision-target: '2' is not a share from 0.1% to 50%"),
        ("seed", "-1", "--perf-seed: -1 is out of range; it must be 0 or more"),
        ("data_root", " ", "--perf-data-root: is empty; name a folder"),
        ("against", " ", "--perf-against: is empty"),
        ("gate", "on", "--perf-gate: 'on' is not one of off, warn, fail"),
        ("min_effect", "2.5", "--perf-min-effect: '2.5' is not a share from 0.5% to 50%, written like 2.5%"),
        ("min_effect", "0.1%", "--perf-min-effect: '0.1%' is not a share"),
        ("min_effect", "nan%", "--perf-min-effect: 'nan%' is not a share"),
        ("time_budget", "10", "--perf-time-budget: '10' is not a time; write it like 90s, 10m or 1h"),
        ("time_budget", "0m", "--perf-time-budget: '0m' is not a time"),
        ("memory_limit", "2", "--perf-memory-limit: '2' is not an amount of memory; write it like 2GB, 2GiB or 512MiB"),
        ("memory_limit", "0GB", "--perf-memory-limit: '0GB' is not an amount of memory"),
        ("memory_limit", "-1GB", "--perf-memory-limit: '-1GB' is not an amount of memory"),
        ("memory_limit", f"{'9' * 30}GB", "is not an amount of memory"),
        ("inconclusive", "on", "--perf-inconclusive: 'on' is not one of pass, warn, fail"),
        ("seed", "9" * 30, "is out of range"),
    ],
)
def test_a_wrong_value_is_refused_with_its_origin(name, text, says):
    with pytest.raises(SettingsError) as refusal:
        settle(**{name: text})
    assert says in str(refusal.value)


def test_a_tilde_is_the_home_folder():
    assert settle(data_root="~/sets").data_root == Path.home() / "sets"


def test_a_wrong_ini_value_names_the_ini_file():
    with pytest.raises(SettingsError, match=r"^perf_batch_size in pytest\.ini: 'x' is not a whole number$"):
        settle({"batch-size": "x"})


# Nothing is done where these are not given.
NO_DEFAULT = (
    "summary",
    "require-device",
    "tuned-cpu",
    "against",
    "against-python",
    "against-setup",
    "base-model",
    "full",
    "spec",
    "require-check",
    "expect-devices",
    "busy-limit",
    "anonymous",
    "inject",
)


def test_every_option_says_its_default_in_its_help():
    for option in OPTIONS:
        assert "default" in option.full_help or option.name in NO_DEFAULT
        assert option.ini == option.flag.removeprefix("--").replace("-", "_")


def test_settings_in_a_record_are_flat_and_without_paths():
    record = settle(batch_size="64,512").as_record()
    assert record["batch_sizes"] == "64,512"
    assert all(isinstance(value, str | int | None) for value in record.values())
    assert str(ROOT) not in record.values()
