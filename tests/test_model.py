"""The networks, the training step, the epoch, the evaluation, and what a model's name stands for."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from data import load
from model import Recipe, RecipeError, TrainingStep, UnknownModel, evaluate, load_recipe, train_epoch
from model.__main__ import main
from model.networks import SimpleNN, SmallCNN
from perf.harness.workload.contract import check_contract

ROOT = Path(__file__).resolve().parent.parent
SHARED_MNIST = ROOT.parent / "shared" / "mnist"


def batch(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 1, 28, 28, generator=generator), torch.randint(10, (size,), generator=generator)


def fresh_step(seed=0, dtype=torch.float32, lr=0.01):
    torch.manual_seed(seed)
    model = SimpleNN().to(dtype)
    return TrainingStep(model, torch.optim.SGD(model.parameters(), lr=lr), functional.cross_entropy)


def test_the_reference_network_is_784_128_10():
    assert [tuple(parameter.shape) for parameter in SimpleNN().parameters()] == [(128, 784), (128,), (10, 128), (10,)]


def test_the_small_convolutional_network_has_the_parameters_that_it_says_and_learns():
    assert f"{sum(parameter.numel() for parameter in SmallCNN().parameters()):,}" in SmallCNN.__doc__
    recipe = load_recipe("small_cnn")
    check_contract(recipe)
    model = recipe.build()
    step = TrainingStep(model, recipe.optimizer(model.parameters()), recipe.loss)
    losses = [step(*batch(64)).item() for _ in range(8)]
    assert losses == sorted(losses, reverse=True)


@given(size=st.integers(1, 65), seed=st.integers(0, 2**32))
def test_any_batch_gives_logits_of_its_size_and_a_finite_loss(size, seed):
    step = fresh_step(seed)
    images, labels = batch(size, seed)
    assert step.model(images).shape == (size, 10)
    loss = step(images, labels)
    assert loss.shape == ()
    assert loss.isfinite()
    assert not loss.requires_grad


@given(size=st.integers(1, 65), seed=st.integers(0, 2**32))
def test_gradients_agree_with_float64(size, seed):
    step, exact = fresh_step(seed), fresh_step(seed, torch.float64)
    exact.model.load_state_dict({name: value.double() for name, value in step.model.state_dict().items()})
    images, labels = batch(size, seed)
    assume(exact.model.hidden(images.double().flatten(1)).abs().min() > 1e-5)  # below it, ReLU may be open in one alone
    step.backward(step.forward(images, labels))
    exact.backward(exact.forward(images.double(), labels))
    for ours, theirs in zip(step.model.parameters(), exact.model.parameters(), strict=True):
        error = (ours.grad.double() - theirs.grad).norm() / theirs.grad.norm()
        assert error < 1e-5  # float32 has 6e-8; 784 additions lose a digit


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu"])
def test_the_cpu_and_other_devices_agree(device):
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or accelerator.type != device:
        pytest.skip(f"no {device} device here")
    here, there = fresh_step(), fresh_step()
    there.model.to(device)
    for number in range(5):
        images, labels = batch(64, number)
        torch.testing.assert_close(
            here(images, labels), there(images.to(device), labels.to(device)).cpu(), rtol=1e-4, atol=1e-4
        )


def test_a_step_is_the_plain_pytorch_of_any_tutorial():
    step = fresh_step()
    model = copy.deepcopy(step.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = batch(64)
    for _ in range(3):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        assert torch.equal(step(images, labels), loss.detach())
    assert all(torch.equal(a, b) for a, b in zip(step.model.parameters(), model.parameters(), strict=True))


def test_an_epoch_trains_on_every_batch_and_returns_the_mean_loss_per_sample():
    batches = [batch(64, 1), batch(64, 2), batch(7, 3)]
    step, same = fresh_step(lr=0.0), fresh_step(lr=0.0)
    per_sample = [functional.cross_entropy(same.model(images), labels, reduction="sum") for images, labels in batches]
    assert train_epoch(step, batches).item() == pytest.approx(sum(per_sample).item() / 135, rel=1e-5)


def test_an_epoch_lowers_the_loss():
    batches = [batch(64, number) for number in range(4)]
    step = fresh_step(lr=0.1)
    losses = [train_epoch(step, batches).item() for _ in range(5)]
    assert losses == sorted(losses, reverse=True)


def test_evaluation_counts_the_correct_ones_and_leaves_the_mode_alone():
    class Echo(nn.Module):
        """Says that every image is of class 3."""

        def forward(self, images):
            assert not self.training
            return functional.one_hot(torch.full((len(images),), 3), 10).float()

    model = Echo().train()
    labels = torch.tensor([3, 3, 3, 1])
    assert evaluate(model, [(torch.zeros(4, 1), labels), (torch.zeros(1, 1), labels[3:])]) == 3 / 5
    assert model.training


@pytest.mark.parametrize("work", [lambda: train_epoch(fresh_step(), []), lambda: evaluate(SimpleNN(), [])])
def test_no_batches_are_an_error_and_no_result(work):
    with pytest.raises(ValueError, match="needs at least one batch"):
        work()


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "squeezenet1_0"])
def test_a_torchvision_model_trains_on_what_its_recipe_says(name):
    recipe = load_recipe(name)
    assert recipe.input_shape == (3, 224, 224)
    model = recipe.build()
    step = TrainingStep(model, recipe.optimizer(model.parameters()), recipe.loss)
    loss = step(torch.randn(2, *recipe.input_shape), torch.tensor([0, recipe.classes - 1]))
    assert loss.isfinite()


def test_two_builds_of_a_recipe_share_nothing():
    recipe = load_recipe("simple_nn")
    first, second = recipe.build(), recipe.build()
    assert first is not second
    assert {p.data_ptr() for p in first.parameters()}.isdisjoint(p.data_ptr() for p in second.parameters())


def write_module(folder, monkeypatch, text):
    (folder / "mine.py").write_text(f"from torch import nn\nimport torch\n{text}\n")
    monkeypatch.syspath_prepend(folder)


def test_the_attributes_of_a_users_factory_are_its_recipe(tmp_path, monkeypatch):
    text = "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))\n"
    text += "make.input_shape = (3, 2, 2)\nmake.classes = 3\nmake.loss = nn.MultiMarginLoss()\n"
    text += "make.optimizer = lambda parameters: torch.optim.Adam(parameters, lr=0.5)"
    write_module(tmp_path, monkeypatch, text)
    recipe = load_recipe("mine:make")
    check_contract(recipe)
    model = recipe.build()
    assert (recipe.input_shape, recipe.classes) == ((3, 2, 2), 3)
    assert isinstance(recipe.loss, nn.MultiMarginLoss)
    assert isinstance(recipe.optimizer(model.parameters()), torch.optim.Adam)


def test_a_users_class_is_a_factory_too(tmp_path, monkeypatch):
    text = "class Net(nn.Linear):\n    input_shape = (1, 1, 4)\n    classes = 2\n"
    text += "    def __init__(self):\n        super().__init__(4, 2)\n"
    text += "    def forward(self, x):\n        return super().forward(x.flatten(1))"
    write_module(tmp_path, monkeypatch, text)
    check_contract(load_recipe("mine:Net"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet81", "unknown model 'resnet81': did you mean resnet18"),
        ("small_cnm", "unknown model 'small_cnm': did you mean small_cnn"),
        ("☃", "unknown model '☃': see torchvision.models.list_models()"),
        ("nets/mine.py", "'nets/mine.py' does not say what in this file to train: nets/mine.py:NAME"),
        ("xml.dom", "'xml.dom' does not say what in this module to train: xml.dom:NAME, a class or a function"),
        ("not_xml.no_such", "unknown model 'not_xml.no_such': see torchvision.models.list_models()"),
        ("nowhere.at_all:make", "cannot import 'nowhere.at_all'"),
        ("mine:", "is not of the form package.module:factory"),
        (":make", "is not of the form package.module:factory"),
        ("mine:missing", "has no 'missing'"),
        ("mine:nn", "'nn' must be callable"),
        ("mine:flat", "`input_shape` must be (channels, height, width)"),
        ("mine:single", "`classes` must be an integer of 2 or more, not 1"),
        ("mine:lossless", "`loss` must be callable, not 'mse'"),
        ("mine:broken", "the factory raised ValueError: boom"),
        ("mine:text", "must return a torch.nn.Module, or an object with one as an attribute, not str"),
        ("mine:frozen", "no parameters to train"),
        ("mine:wrong", "must return logits (2, 10), not (2, 5)"),
        ("mine:tuple_", "must return logits (2, 10), not tuple"),
        ("mine:picky", "the network fails on images (2, 1, 28, 28) float32"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_by_name(tmp_path, monkeypatch, name, says):
    text = """
def flat(): ...
flat.input_shape = (784,)
def single(): ...
single.classes = 1
def lossless(): ...
lossless.loss = "mse"
def broken(): raise ValueError("boom")
def text(): return "network"
def frozen(): return nn.ReLU()
def wrong(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 5))
def picky(): return nn.Linear(3, 10)
class Tuple(nn.Linear):
    def forward(self, images): return super().forward(images.flatten(1)), None
def tuple_(): return Tuple(784, 10)
"""
    write_module(tmp_path, monkeypatch, text)
    with pytest.raises(RecipeError) as refusal:
        check_contract(load_recipe(name))
    assert says in str(refusal.value)
    absent = ("unknown model", "cannot import", "has no")
    assert isinstance(refusal.value, UnknownModel) == any(text in says for text in absent)


@pytest.mark.parametrize(
    ("text", "raised"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def make(:", "SyntaxError: invalid syntax"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_module_that_fails_to_import_says_what_it_raised_and_where(tmp_path, monkeypatch, text, raised):
    write_module(tmp_path, monkeypatch, text)
    with pytest.raises(RecipeError) as refusal:
        load_recipe("mine:make")
    assert not isinstance(refusal.value, UnknownModel)
    line = (tmp_path / "mine.py").read_text().splitlines().index(text) + 1
    hint = "; install it or, if it is yours, add its folder to PYTHONPATH" if "ModuleNotFound" in raised else ""
    assert str(refusal.value) == f"mine:make: importing 'mine' raised {raised}, at {tmp_path}/mine.py:{line}{hint}"


def test_a_recipe_is_frozen():
    with pytest.raises(AttributeError):
        load_recipe("simple_nn").classes = 3
    assert Recipe("x", SimpleNN).input_shape == (1, 28, 28)


def test_a_run_of_a_users_training_says_what_of_it_is_not_used_and_where_it_fails(tmp_path, monkeypatch, capsys):
    text = (
        "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(8, 1)\n"
        "    def batch(self, size): return 1 / (size - 64)\n    def optimisers(self): ...\n"
    )
    write_module(tmp_path, monkeypatch, text)
    line = next(n for n, line in enumerate((tmp_path / "mine.py").read_text().splitlines(), 1) if "1 / " in line)
    assert main(["--model=mine:Net", "--device=cpu", "--epochs=1"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "python -m model: mine:Net, not used: `optimisers`: did you mean `optimizers`?",
        f"python -m model: mine:Net raised ZeroDivisionError: division by zero, at {tmp_path}/mine.py:{line}",
    ]


def test_the_reference_run_prints_losses_accuracy_and_time(digits_root, capsys):
    assert main([f"--data-root={digits_root}", "--data=digits", "--device=cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Data: digits"
    losses = [float(line.removeprefix(f"Epoch [{n}/5], Loss: ")) for n, line in enumerate(lines[1:6], start=1)]
    assert losses == sorted(losses, reverse=True)
    accuracy = float(lines[6].removeprefix("Accuracy on the 10,000 test images: ").removesuffix("%"))
    assert 90 <= accuracy < 100
    assert lines[7].startswith("Training time: ")
    assert lines[7].endswith(" s (5 epochs on cpu, resident pipeline)")


@pytest.mark.parametrize("package", ["above", "data"])
def test_a_module_in_a_folder_above_is_found_there(tmp_path, monkeypatch, package):
    (tmp_path / package).mkdir()
    (tmp_path / package / "nets.py").touch()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    says = f"run from {tmp_path}, which contains it, or add that folder to PYTHONPATH"
    with pytest.raises(RecipeError, match=f"{re.escape(says)}$"):
        load_recipe(f"{package}.nets:Net")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nets.deep:Net", "cannot import 'nets.deep' (No module named 'nets'); set PYTHONPATH=src"),
        ("train.py:Net", "No module named 'nets', at {}/train.py:1; set PYTHONPATH=src"),
        ("gone.py:Net", "No module named 'here.optim', at {0}/gone.py:1; there is no optim in {0}/here"),
        ("here.lossse:Net", "cannot import 'here.lossse' (No module named 'here.lossse'); did you mean here.loss?"),
        ("here.loss.deep:Net", "'here.loss' is not a package); set PYTHONPATH=src"),
        ("data.deep:Net", "(No module named 'data.deep'); set PYTHONPATH=src"),  # Stepwatch has a package of that name
        ("here.loss.Net", "'here.loss.Net' has no colon before what to train: did you mean here.loss:Net?"),
        ("alone.py:Net", "at {}/alone.py:1; install it or, if it is yours, add its folder to PYTHONPATH"),
    ],
)
def test_where_a_module_that_is_not_found_may_be_is_said(tmp_path, monkeypatch, place, says):
    (tmp_path / "src" / "nets").mkdir(parents=True)
    (tmp_path / "train.py").write_text("from nets.deep import Net\n")
    (tmp_path / "alone.py").write_text("from net import Net\n")
    (tmp_path / "gone.py").write_text("from here.optim import Net\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "src" / "data").mkdir()
    (tmp_path / "src" / "here").mkdir()  # it is found, so that the folder src is not what is missing
    for name in ("__init__", "loss"):
        (tmp_path / "here" / f"{name}.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecipeError, match=f"{re.escape(says.format(tmp_path))}$"):
        load_recipe(place)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ("def batch(self, size): return torch.rand(size, 4), torch.arange(size) % 3", "guessed: 0.25\n"),
        ("input_shape, classes = (1, 28, 28), 10\n"
         "    def forward(self, x): return super().forward(x.flatten(1)[:, :4])", "guessed: 0.25\n"),
        ("def batch(self, size): return torch.rand(size, 4), torch.arange(size) % 3\n    number = 'none'",
         "mine:Net: `metrics(batches)` raised ValueError: could not convert string to float: 'none'\n"),
    ],
)  # fmt: skip
def test_a_trainings_own_metrics_are_printed_or_what_they_raised(
    tmp_path, monkeypatch, digits_root, capsys, members, says
):
    outputs = 10 if "classes" in members else 3
    text = f"class Net(nn.Linear):\n    number = 0.25\n    {members}\n"
    text += f"    def __init__(self):\n        super().__init__(4, {outputs})\n"
    text += "    def metrics(self, batches): return {'guessed': self.number} if len(batches) == 32 else 1 / 0"
    write_module(tmp_path, monkeypatch, text)
    data = [f"--data-root={digits_root}", "--data=digits"] if "classes" in members else []
    code = main(["--model=mine:Net", "--epochs=1", "--device=cpu", "--batch-size=64", *data])
    out, err = capsys.readouterr()
    assert says in out + err and "Accuracy" not in out
    assert code == (4 if "raised" in says else 0)


def test_the_same_seed_gives_the_same_losses_through_any_pipeline(digits_root, capsys, monkeypatch):
    monkeypatch.setattr("model.__main__.load", lambda name, root: load(name, root).subset(6_400, 1_000))
    printed = []
    for pipeline in ("resident", "dataloader"):
        main(
            [
                f"--data-root={digits_root}",
                "--data=digits",
                "--epochs=1",
                "--device=cpu",
                f"--pipeline={pipeline}",
                "--batch-size=512",
            ]
        )
        printed.append(capsys.readouterr().out.splitlines()[1:3])
    assert printed[0] == printed[1]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--device=gpu", "--device=gpu: no device has this name; use cpu, cuda, cuda:1, mps or xpu"),
        ("--device=meta", "--device=meta:"),
        ("--epochs=0", "must be 1 or more, not 0"),
        ("--batch-size=many", "invalid whole number value: 'many'"),
        ("--lr=nan", "must be 0.0 or more, not nan"),
        ("--pipeline=fast", "invalid choice: 'fast'"),
        ("--data=cifar", "invalid choice: 'cifar'"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_4(option, says, capsys):
    with pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == 4
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_training_that_diverges_says_so_and_fails(digits_root, capsys):
    arguments = [f"--data-root={digits_root}", "--data=digits", "--epochs=1", "--lr=1e9", "--batch-size=4096"]
    assert main([*arguments, "--device=cpu"]) == 1
    assert "the loss is not finite; try a lower --lr than 1e+09" in capsys.readouterr().err


def test_the_folder_of_the_command_can_be_named_from_any_other(tmp_path):
    command = [sys.executable, ROOT / "model", "--epochs=0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (4, "python -m model: argument --epochs: must be 1 or more, not 0\n")


def test_the_command_runs_from_another_folder(digits_root, tmp_path, torch_process):
    command = [
        sys.executable,
        "-m",
        "model",
        "--epochs=1",
        "--data=digits",
        f"--data-root={digits_root}",
        "--batch-size=4096",
    ]
    done = torch_process.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "Epoch [1/1], Loss: " in done.stdout


def test_real_mnist_reaches_91_percent(mnist_root, capsys):
    assert main([f"--data-root={mnist_root}", "--data=mnist", "--device=cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[6].split(": ")[1].removesuffix("%")) >= 91
