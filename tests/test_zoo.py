"""Architectures of transformers and timm by name, with small modules in the place of these libraries."""

import importlib.machinery
import sys
import types

import psutil
import pytest
import torch
from torch import nn

from model import RecipeError, load_recipe
from perf.harness.options import resolve
from perf.harness.workload.networks import networks
from tests.conftest import STEP

pytest_plugins = ["pytester"]

HEADS = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForImageClassification")


class Config(types.SimpleNamespace):
    """A configuration of transformers: what it has depends on the architecture."""

    def get_text_config(self):
        return self


class Decoder(Config):
    pass


class Broken(Config):
    pass


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.weight = config, nn.Parameter(torch.zeros(config.width, config.width))

    def forward(self, input_ids, labels):
        if self.config.width == 3:
            raise ValueError("no language")
        return types.SimpleNamespace(loss=self.weight.sum() * 0.1, logits=labels)


KINDS = {
    "tiny": Config(vocab_size=5, width=2, use_cache=True),
    "huge": Config(vocab_size=5, width=10**6),
    "odd": Config(vocab_size=5, width=3),
    "writes": Decoder(vocab_size=5, width=2, is_encoder_decoder=True, pad_token_id=4),
    "begins": Decoder(vocab_size=5, width=2, is_encoder_decoder=True, pad_token_id=4, decoder_start_token_id=1),
    "broken": Broken(vocab_size=5),
    "neither": types.SimpleNamespace(),
}


def created(name, **_):
    """A network of timm. One reads a number while it is made, which needs memory."""
    if name == "reads":
        return nn.Linear(int(torch.ones(2).sum()), 3)
    return Net(KINDS[name])


@pytest.fixture(autouse=True)
def libraries(monkeypatch):
    """transformers and timm, as far as names are looked up in them."""
    of = dict(zip(HEADS, ({Config, Broken}, (), {Decoder}, ()), strict=True))
    heads = {head: types.SimpleNamespace(_model_mapping=kinds, from_config=Net) for head, kinds in of.items()}
    auto = types.SimpleNamespace(configuration_auto=types.SimpleNamespace(CONFIG_MAPPING_NAMES=dict.fromkeys(KINDS)))
    found = {
        "transformers": {
            "AutoConfig": types.SimpleNamespace(for_model=KINDS.__getitem__),
            "models": types.SimpleNamespace(auto=auto),
            **heads,
        },
        "timm": {
            "is_model": lambda name: True,
            "models": types.SimpleNamespace(get_pretrained_cfg=lambda name: None),
            "create_model": created,
        },
    }
    for name, attributes in found.items():
        made = types.ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(made).update(attributes)
        monkeypatch.setitem(sys.modules, name, made)


@pytest.mark.parametrize("name", ["hf:huge", "timm:huge"])
def test_a_network_that_cannot_fit_is_refused_before_it_is_made(name, digits_root):
    """A thousand billion weights: to make them here would end this process."""
    assert load_recipe(name).parameters == 10**12
    settings = resolve({"model": name, "device": "cpu"}, {}, "", digits_root)
    with pytest.raises(
        RecipeError, match=rf"{name} has 1,000,000,000,000 parameters: weights and gradients take 7,451"
    ):
        networks(settings)


def test_a_network_that_fits_is_made():
    recipe = load_recipe("hf:tiny")
    assert recipe.parameters == 4 and recipe.training(torch.device("cpu")).model.training


def test_a_network_that_cannot_be_made_without_memory_has_an_unknown_size():
    assert load_recipe("timm:reads").parameters is None


def test_a_default_configuration_that_makes_no_network_is_refused_by_its_name():
    with pytest.raises(RecipeError, match=r"hf:broken: .* \(AttributeError: .*width.*\); write it as a"):
        load_recipe("hf:broken")
    with pytest.raises(RecipeError, match="hf:neither: it is neither a language model nor"):
        load_recipe("hf:neither")


def test_a_decoder_begins_with_a_token_and_nothing_is_cached():
    for name in ("writes", "begins", "tiny"):
        load_recipe(f"hf:{name}")
    assert [KINDS[name].decoder_start_token_id for name in ("writes", "begins")] == [4, 1]
    assert not any(KINDS[name].use_cache for name in ("writes", "begins", "tiny"))


def test_an_architecture_that_cannot_be_trained_on_tokens_says_so_in_one_line(perf):
    result = perf(STEP, "--perf-device=cpu", "--perf-data=auto", "--perf-model=hf:odd", "--perf-batch-size=2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["hf:odd: ValueError: no language*; to train it in another way, write it as a task: *"])
    assert "Traceback" not in result.stdout.str() and "raise ValueError" not in result.stdout.str()


def test_a_network_of_a_user_that_does_not_fit_ends_no_process(tmp_path, monkeypatch, digits_root):
    (tmp_path / "large.py").write_text("from torch import nn\n\ndef net(): return nn.Linear(20_000, 20_000)\n")
    free = psutil.virtual_memory()._replace(available=2**28)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    settings = resolve({"model": f"{tmp_path}/large.py:net", "device": "cpu"}, {}, "", digits_root)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    with pytest.raises(RecipeError, match=r"large.py:net: the factory .* tried to allocate 1600000000"):
        networks(settings)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    assert networks(settings)  # its driver may map more memory than it uses
