"""Options: each has one default, an ini twin, and a refusal that names where a wrong value came from."""

from pathlib import Path

import pytest

from perf.harness.settings import OPTIONS, PROFILES, SettingsError, resolve

ROOT = Path("somewhere")


def settle(ini=None, **typed):
    return resolve({name.replace("_", "-"): text for name, text in typed.items()}, ini or {}, "pytest.ini", ROOT)


def test_the_defaults_are_the_reference_comparison():
    settings = settle()
    assert settings.devices == ("cpu", "cuda")
    assert (settings.model, settings.data, settings.data_root) == ("simple_nn", "auto", ROOT)
    assert settings.profile is PROFILES["standard"]
    assert (settings.batch_sizes, settings.pipelines, settings.rounds, settings.threads) == (None,) * 4
    assert settings.seed == 0
    assert settings.require_devices == ()


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
        ("device", "gpu", "--perf-device: 'gpu' is not a device"),
        ("device", "cpu:1", "--perf-device: 'cpu:1' is not a device"),
        ("device", "meta", "--perf-device: 'meta' is not a device"),
        ("device", "cpu,,cuda", "--perf-device: has an empty item"),
        ("require_device", "gpu", "--perf-require-device: 'gpu' is not a device"),
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
        ("seed", "-1", "--perf-seed: -1 is out of range; it must be 0 or more"),
        ("data_root", " ", "--perf-data-root: is empty; name a folder"),
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


def test_every_option_says_its_default_in_its_help():
    for option in OPTIONS:
        assert "default" in option.full_help or option.name == "require-device"
        assert option.ini == option.flag.removeprefix("--").replace("-", "_")


def test_settings_in_a_record_are_flat_and_without_paths():
    record = settle(batch_size="64,512").as_record()
    assert record["batch_sizes"] == "64,512"
    assert all(isinstance(value, str | int | None) for value in record.values())
    assert str(ROOT) not in record.values()
