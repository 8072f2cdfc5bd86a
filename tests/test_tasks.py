"""A user's own training: what it may bring, what is refused beforehand and how, and that it trains as it is written."""

import builtins
import itertools
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from data import DataError, NotResident, Order
from model import FirstState, RecipeError, Task, TaskStep, TrainingStep, UsersStep, load_recipe, train_epoch
from model.__main__ import main
from model.imports import raised
from model.nesting import joined, length, mapped, rows, tensors
from model.task import facts
from perf.harness.machine.devices import Device
from perf.harness.measurement.side_by_side.slices import sliced
from perf.harness.report import render
from perf.harness.workload import own_data
from perf.harness.workload.contract import check_contract
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.workload import Workload, load_data
from tests.conftest import ROOT, STEP, settled
from tests.report_runs import MACHINE, benchmark, run

pytest_plugins = ["pytester"]

HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional\n"
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(784, 64)
        self.b = nn.Linear(64, 10)
    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))))
"""

BATCH = "    def batch(self, size):\n        return torch.rand(size, 784), torch.arange(size) % 10\n"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a user's file, and returns the beginning of the name of its models."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(HEAD + text)
        return f"{name}:"

    return write


# Nestings.


class Pair(SimpleNamespace):
    """No container that is known: it stays as it is."""


LEAVES = st.builds(lambda n: torch.full((4, n), float(n)), st.integers(1, 3))
NESTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
    ),
    max_leaves=6,
)


@given(NESTS)
def test_a_mapped_batch_has_the_same_nesting_and_the_original_stays(batch):
    before = [tensor.clone() for tensor in tensors(batch)]
    doubled = mapped(lambda tensor: tensor * 2, batch)
    assert type(doubled) is type(batch)
    for one, other, old in zip(tensors(doubled), tensors(batch), before, strict=True):
        assert one.equal(other * 2)
        assert other.equal(old)


@given(NESTS)
def test_rows_of_joined_batches_are_those_of_the_parts(batch):
    other = mapped(lambda tensor: -tensor, batch)
    whole = joined([batch, other])
    assert length(whole) == 8
    for one, first, second in zip(
        tensors(rows(whole, torch.tensor([1, 6]))), tensors(batch), tensors(other), strict=True
    ):
        assert one.equal(torch.stack([first[1], second[2]]))


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([torch.ones(2, 3), torch.ones(2, 4)], "differ in shape"),
        ([[torch.ones(2)], [torch.ones(2), torch.ones(2)]], "same nesting"),
        ([{"a": torch.ones(2), "b": torch.tensor(1.0)}], "no dimension for the samples"),
        (["text"], "consist of tensors"),
    ],
)
def test_what_does_not_become_one_batch_says_why(parts, why):
    with pytest.raises(ValueError, match=why):
        joined(parts)


# Trainings.


class Adds:
    """A regression with an optimizer, a scheduler and a counter."""

    def __init__(self):
        self.model = nn.Linear(3, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, 0.5)
        self.steps = 0

    def batch(self, size):
        x = torch.randn(size, 3)
        return x, x.sum(1, keepdim=True)

    def loss(self, batch):
        return functional.mse_loss(self.model(batch[0]), batch[1])


class Whole(Adds):
    """The same, with the step written out."""

    def step(self, batch):
        self.steps += 1
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss


class Configured(Adds):
    def __init__(self):
        super().__init__()
        del self.optimizer, self.scheduler

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def step_of(kind):
    torch.manual_seed(0)
    task = Task("mine", kind, kind())
    return (TaskStep if task.step is None else UsersStep)(task)


def test_a_step_and_the_same_one_made_of_loss_and_optimizers_give_the_same_losses():
    torch.manual_seed(1)
    batches = [Adds().batch(8) for _ in range(6)]
    whole, made = step_of(Whole), step_of(Configured)
    assert [whole(batch).item() for batch in batches] == [made(batch).item() for batch in batches]


@pytest.mark.parametrize("kind", [Whole, Configured])
def test_everything_comes_back_to_its_first_state(kind):
    step = step_of(kind)
    weights = {name: tensor.clone() for name, tensor in step.model.state_dict().items()}
    first = FirstState(step)
    torch.manual_seed(1)
    batches = [Adds().batch(8) for _ in range(5)]
    losses = [step(batch).item() for batch in batches]
    step.model.load_state_dict(weights)
    first.restore()
    assert step.task.made.steps == 0
    assert step.optimizer.param_groups[0]["lr"] == 0.1
    assert [step(batch).item() for batch in batches] == losses


def test_a_scheduler_by_epochs_steps_at_the_end_of_each():
    class ByEpochs(Configured):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    step = step_of(ByEpochs)
    for _ in range(2):
        train_epoch(step, [(Adds().batch(4),)] * 3)
    assert step.optimizer.param_groups[0]["lr"] == pytest.approx(0.025)


class Module(nn.Module):
    """As Lightning has it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch, index):
        return {"loss": functional.mse_loss(self.layer(batch[0]), batch[1]), "index": index}

    def configure_optimizers(self):
        one = torch.optim.Adam([self.layer.weight], lr=0.1)
        return [{"optimizer": one}, {"optimizer": torch.optim.SGD([self.layer.bias], lr=0.2)}]

    def train_dataloader(self):
        return torch.utils.data.DataLoader([1])

    def validation_step(self, batch, index): ...


def test_lightnings_conventions_are_understood_without_lightning():
    step = step_of(Module)
    batch = Adds().batch(4)
    assert step(batch).item() == pytest.approx(functional.mse_loss(torch.zeros(1), torch.zeros(1)).item(), abs=20)
    assert [type(one).__name__ for one in step.optimizers] == ["Adam", "SGD"]
    assert step.task.unused() == [
        "the batch size, order and workers of `train_dataloader`: --perf-batch-size and the pipelines say",
        "`validation_step`: write `metrics(batches)`",
    ]


def test_the_report_has_the_settings_of_the_optimizers():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.2}], momentum=0.9
    )
    found = facts(TrainingStep(model, optimizer, functional.cross_entropy))
    assert found == {"loss": "cross_entropy", "optimizer": "SGD (lr 0.1 or 0.2, momentum 0.9)"}


def test_a_dict_is_a_batch_of_hugging_face():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, inputs, labels):
            output = self.layer(inputs)
            return SimpleNamespace(loss=functional.mse_loss(output, labels), logits=output)

        def batch(self, size):
            x, y = Adds().batch(size)
            return {"inputs": x, "labels": y}

    step = step_of(Network)
    batch = step.task.made.batch(4)
    assert step(batch).item() == pytest.approx(functional.mse_loss(torch.zeros(1), torch.zeros(1)).item(), abs=20)
    assert step.predict(batch).logits.shape == (4, 1)


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("def optimizers(self): return torch.optim.SGD(self.parameters(), 1)\n    def optimizer(self, p): ...",
         "`optimizer`: `optimizers` is there"),
        ("def get_batches(self): ...\n    def metric(self, batches): ...", "`metric`: did you mean `metrics`?"),
        ("unit = 'tokens'", "`unit`: there is no `count(batch)`"),
        ("def collate(self, samples): ...", "`collate`: there is no `dataset`"),
        ("def validation_step(self, batch, index): ...", "`validation_step`: write `metrics(batches)`"),
    ],
)  # fmt: skip
def test_what_looks_like_a_member_and_is_not_used_is_named(written, text, unused):
    name = written(NET + BATCH + "    " + text)
    assert unused in load_recipe(f"{name}Net").task().unused()


METHODS = {
    "a method with self": "    def optimizer(self): return torch.optim.AdamW(self.parameters(), 0.1)",
    "a method of parameters": "    def optimizer(self, parameters): return torch.optim.AdamW(parameters, 0.1)",
    "a function in the class": "    optimizer = lambda parameters: torch.optim.AdamW(parameters, 0.1)",
    "several": "    def optimizers(self): return torch.optim.AdamW(self.parameters(), 0.1)",
}


@pytest.mark.parametrize("how", METHODS)
def test_a_network_for_images_trains_as_its_methods_say(written, how):
    text = (
        NET + METHODS[how] + "\n    batch_sizes = [16]\n    def loss(self, logits, labels): return logits.sum() * 2\n"
    )
    recipe = load_recipe(f"{written(text)}Net")
    step = recipe.training(torch.device("cpu"))
    assert recipe.batch_sizes == (16,)
    assert not recipe.brings_data
    assert type(step.optimizer) is torch.optim.AdamW
    images, labels = torch.rand(4, 784), torch.zeros(4).long()
    assert step.forward(images, labels).equal(step.model(images).sum() * 2)
    check_contract(recipe, None, 4)


def test_an_update_every_few_steps_is_a_training(written, digits_root):
    text = (
        NET
        + BATCH
        + """
    steps = 0
    def step(self, batch):
        self.steps += 1
        loss = functional.cross_entropy(self(batch[0]), batch[1])
        loss.backward()
        if self.steps % 4 == 0:
            with torch.no_grad():
                for parameter in self.parameters(): parameter -= 0.01 * parameter.grad
            self.zero_grad()
        return loss
"""
    )
    recipe = load_recipe(f"{written(text)}Net")
    check_contract(recipe, load_data(recipe, settled(digits_root, data="auto")).train, 4)


def test_an_optimizer_that_cannot_be_made_is_refused_with_the_users_line(written):
    name = written(NET + "    def optimizer(self, parameters): return torch.optim.SGD(parameters, rate=1)")
    with pytest.raises(
        RecipeError, match=r"mine\.py:Net: making its optimizers raised TypeError: .*, at .*mine\.py:\d+"
    ):
        load_recipe(f"{name}Net").training(torch.device("cpu"))


# Data.


def split(count=10, **more):
    return own_data.of_dataset([(torch.tensor([float(i)]), i) for i in range(count)], None, 0, None, **more)


def test_a_users_samples_come_in_the_same_order_through_any_pipeline():
    cpu = torch.device("cpu")
    from data import open_pipeline

    found = {}
    for kind in ("dataloader", "workers", "resident"):
        with open_pipeline(kind, split(), batch_size=4, device=cpu, seed=3, workers=1) as pipeline:
            found[kind] = [batch[0][1].tolist() for batch in pipeline.epoch(1)]
    assert found["dataloader"] == found["workers"] == found["resident"]
    assert sorted(itertools.chain.from_iterable(found["resident"])) == list(range(10))


def test_made_batches_are_the_same_for_the_same_seed_and_differ_from_each_other():
    made = own_data.of_batches(lambda size: torch.randn(size, 2), 5, 100)
    first, second = (next(made.full(4))[0] for _ in range(2))
    stream = made.full(4)
    assert first.equal(second)
    assert not next(stream)[0].equal(next(stream)[0])
    sizes = [len(batch) for batch in made.first(10).loader(Order(10, 4))]
    assert sizes == [4, 4, 2]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        number = 0
        while True:
            yield torch.tensor([number])
            number += 1


def test_a_stream_without_end_has_epochs_with_one():
    stream = own_data.of_dataset(Endless(), None, 0, 20)
    assert len(stream) == 20
    assert [len(batch) for batch in stream.loader(Order(20, 8))] == [8, 8, 4]
    workers = stream.loader(Order(20, 8), num_workers=2)
    assert sum(len(batch) for batch in workers) == 20


@pytest.mark.parametrize(
    ("dataset", "says"),
    [([], "the data set is empty: its len"), (iter([]), "the data set is empty: iter"), (7, "must return a data set")],
)
def test_a_data_set_that_is_none_is_refused(dataset, says):
    with pytest.raises(DataError, match=re.escape(says)):
        own_data.of_dataset(dataset, None, 0, None)


def test_a_data_set_shorter_than_a_batch_is_refused():
    with pytest.raises(DataError, match="10 samples, fewer than a batch of 16"):
        next(split().full(16))


@pytest.mark.parametrize(
    ("samples", "says"),
    [([torch.ones(3), torch.ones(4)], "stack"), ([["a"], ["b"]], "cannot become one")],
)
def test_samples_that_do_not_become_tensors_are_not_resident(samples, says):
    uneven = own_data.of_dataset(samples, None, 0, None)
    with pytest.raises((NotResident, RuntimeError), match=says):
        uneven.gatherer(torch.device("cpu"))


def test_a_digest_is_of_the_samples(digits_root):
    assert own_data.digest(split()) == own_data.digest(split())
    assert own_data.digest(split()) != own_data.digest(split(11))


# Refusals: what is wrong, and the line that begins what to write.

REFUSED = {
    "loss of many": (
        NET + "def make(): return Net()\nmake.loss = nn.CrossEntropyLoss(reduction='none')",
        "make",
        "the loss of step 1 at batch size 2 must be one number, not a Tensor (2,)",
        "return losses.mean()",
    ),
    "loss without gradient": (
        NET + BATCH + "    def loss(self, batch): return self(batch[0]).sum().detach()",
        "Net",
        "the loss of step 1 at batch size 2 has no gradient",
        "return loss  # without",
    ),
    "loss that is no number": (
        NET + BATCH + "    def loss(self, batch): return 1.0",
        "Net",
        "must be one number, not float",
        "return loss  # a tensor",
    ),
    "loss not finite": (
        NET + BATCH + "    def loss(self, batch): return self(batch[0]).sum() / 0",
        "Net",
        "is not finite",
        None,
    ),
    "nothing trainable": (
        NET + "def make(): return Net().requires_grad_(False)",
        "make",
        "no parameters to train",
        "parameter.requires_grad = True",
    ),
    "no optimizer": (
        NET + BATCH + "    def optimizers(self): return 'Adam'",
        "Net",
        "`optimizers()` must return",
        "def optimizers",
    ),
    "no optimizer of a factory": (
        NET + "def make(): return Net()\nmake.optimizer = lambda p: None",
        "make",
        "must return an optimizer, not None",
        "make.optimizer",
    ),
    "in place": (
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(784, 10)\n    def forward(self, x):\n"
        "        x.sub_(0.1307).div_(0.3081)\n        return super().forward(x.flatten(1))",
        "Net",
        "step 1 at batch size 2 changes its batch in place",
        "x = (x - 0.1307)",
    ),
    "double": (NET + "def make(): return Net().double()", "make", "fails on images", None),
    "default double": (
        "torch.set_default_dtype(torch.float64)\n" + NET,
        "Net",
        "it sets torch.set_default_dtype(torch.float64)",
        "# without torch.set_default_dtype",
    ),
    "half of a task": (
        NET + BATCH + "def make(): return Net().bfloat16()\n",
        "make",
        "is in torch.bfloat16",
        "return network.float()",
    ),
    "lazy": (
        "def make(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))",
        "make",
        "it has lazy modules",
        "network = …",
    ),
    "closure": (
        NET + "def make(): return Net()\nmake.optimizer = lambda p: torch.optim.LBFGS(p, lr=0.1)",
        "make",
        "LBFGS needs a function that computes the loss again",
        "def step(self, batch):",
    ),
    "exit": (NET + "raise SystemExit(0)", "Net", "importing it ended the program, with exit code 0, at ", None),
    "command line": (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('x')\np.parse_args()",
        "Net",
        "importing it ended the program",
        None,
    ),
    "interrupt": ("raise KeyboardInterrupt", "Net", "importing it raised KeyboardInterrupt", None),
    "input": ("input()", "Net", "EOFError", None),
    "argument": (
        "class Net(nn.Linear):\n    def __init__(self, size): super().__init__(784, size)",
        "Net",
        "the factory raised TypeError",
        None,
    ),
    "stateful": (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.r = nn.LSTM(28, 32, batch_first=True); self.o = nn.Linear(32, 10); self.h = None\n"
        "    def forward(self, x):\n        y, h = self.r(x.squeeze(1), self.h)\n"
        "        self.h = tuple(t.detach() for t in h)\n        return self.o(y[:, -1])",
        "Net",
        "step 1 at batch size 16 raised RuntimeError",
        "def forward(self, x):",
    ),
    "evaluation": (
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(784, 10)\n    def forward(self, x):\n"
        "        y = super().forward(x.flatten(1))\n        return y if self.training else (y, y)",
        "Net",
        "in evaluation, the network returns a tuple of 2",
        "def forward(self, x):",
    ),
    "dict": (
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(784, 10)\n    def forward(self, x):\n"
        "        return {'logits': super().forward(x.flatten(1))}",
        "Net",
        "not dict (a dict with logits)",
        "def loss(self, batch):",
    ),
    "step that trains nothing": (
        NET + BATCH + "    def step(self, batch): return self(batch[0]).sum()",
        "Net",
        "32 steps change no parameter",
        "loss.backward()",
    ),
    "dict and a loss of two": (
        NET
        + "    def batch(self, size): return {'x': torch.rand(size, 784)}\n    def loss(self, output, target): ...\n",
        "Net",
        "`loss` takes output and target, and the batch is a dictionary",
        "def loss(self, batch):",
    ),
    "two networks": (
        NET + "class Two:\n    def __init__(self): self.a, self.b = Net(), Net()\n" + BATCH,
        "Two",
        "does not say how to train them",
        "def loss(self, batch):",
    ),
    "three parts": (
        NET + "    def batch(self, size): return torch.rand(size, 784), 1, 2\n",
        "Net",
        "the batch is no pair (input, target), but a tuple of 3",
        "def loss(self, batch):",
    ),
    "plateau": (
        NET + BATCH + "    def configure_optimizers(self):\n        o = torch.optim.SGD(self.parameters(), 0.1)\n"
        "        return [o], [torch.optim.lr_scheduler.ReduceLROnPlateau(o)]",
        "Net",
        "waits for a metric",
        "return [optimizer]",
    ),
    "data that raises": (
        NET + "    def dataset(self): raise OSError('no such disk')",
        "Net",
        "its data cannot be read: OSError",
        None,
    ),
    "uneven data": (
        NET + "    def dataset(self): return [torch.ones(784), torch.ones(783)]",
        "Net",
        "its data cannot be read: RuntimeError: stack expects each tensor to be equal size",
        "def collate(self, samples):",
    ),
    "a batch of 10 GB": (
        NET + "    def batch(self, size): raise torch.OutOfMemoryError('out of memory')",
        "Net",
        "a batch of its data does not fit into memory",
        None,
    ),
    "empty data": (NET + "    def dataset(self): return []", "Net", "the data set is empty", None),
    "sizes": (NET + BATCH + "    batch_sizes = 8", "Net", "`batch_sizes` must be whole numbers", None),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused_with_the_lines_to_write(written, digits_root, case):
    text, attribute, says, line = REFUSED[case]
    before = torch.get_default_dtype(), torch.get_num_threads(), sys.stdin
    with pytest.raises((RecipeError, DataError)) as refusal:
        recipe = load_recipe(written(text) + attribute)
        own = load_data(recipe, settled(digits_root, data="auto")).train if recipe.brings_data else None
        check_contract(recipe, own, 16)
    said = str(refusal.value).splitlines()
    assert said[0].startswith(f"mine.py:{attribute}: ")
    assert says in said[0]
    assert (len(said) > 1) == (line is not None)
    if line is not None:
        assert said[0].endswith("; write:")
        assert said[1].startswith(f"    {line}")
    assert (torch.get_default_dtype(), torch.get_num_threads(), sys.stdin) == before


def test_a_refusal_of_what_ends_the_program_names_the_line(written):
    name = written("x = 1\nraise SystemExit(3)")
    with pytest.raises(RecipeError, match=r"with exit code 3, at .*mine\.py:5; put what is run as a program below"):
        load_recipe(f"{name}Net")


def test_what_is_changed_at_import_is_put_back_and_said(written):
    name = written("torch.set_num_threads(3)\ntorch.set_grad_enabled(False)\n" + NET)
    threads = torch.get_num_threads()
    recipe = load_recipe(f"{name}Net")
    assert recipe.put_back == ("torch.set_num_threads(3)", "torch.set_grad_enabled(False)")
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads
    check_contract(recipe, None, 4)


def test_what_a_constructor_changes_is_put_back_and_said_too(written):
    made = "def make():\n    torch.set_num_threads(3)\n    return Net()\n"
    assert load_recipe(written(NET + made) + "make").put_back == ("torch.set_num_threads(3)",)
    made = "def wide():\n    torch.set_default_dtype(torch.float64)\n    return Net()\n"
    with pytest.raises(RecipeError, match=r"it sets torch\.set_default_dtype"):
        load_recipe(written(NET + made, "other.py") + "wide")


def test_what_does_not_become_resident_is_skipped_with_the_reason(perf, pytester):
    text = HEAD + NET + "    def batch(self, size): return torch.rand(size, 784), torch.tensor(1.0)\n"
    text += "    def loss(self, batch): return (self(batch[0]) * batch[1]).square().sum() * 1e-3\n"
    (pytester.path / "mine.py").write_text(text)
    epoch = STEP.with_name("test_epoch.py")
    result = perf(epoch, "--perf-device=cpu", "--perf-model=mine.py:Net", "--perf-data=auto", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *resident: the mini-batches cannot become one: a tensor has no dimension*"])


@pytest.mark.parametrize("option", ["--data=digits", "--pipeline=workers"])
def test_the_command_ignores_nothing_that_a_task_cannot_use(option, capsys):
    assert main(["--model=tiny_lm", option]) == 4
    assert f"tiny_lm brings its own data: leave out {option}" in capsys.readouterr().err


def test_megabytes_that_are_printed_at_import_are_cut_short(written, capsys):
    load_recipe(written("print('x' * 5_000_000)\n" + NET) + "Net")
    printed = capsys.readouterr().out
    assert len(printed) < 3000
    assert "and 4,998,001 more characters" in printed


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.py:Net", "there is no file "),
        ("folder/:Net", "there is no file "),
        ("mine.py:", "is not of the form"),
        ("mine.py:missing", "has no 'missing'"),
        ("mine.py:net", "has no 'net'; did you mean Net?"),
        ("mime.py:Net", "mime.py; did you mean mine.py?"),
        ("notes.txt/x:Net", "there is no file "),
    ],
)
def test_a_file_that_is_none_is_refused(written, name, says):
    written(NET)
    with pytest.raises(RecipeError, match=re.escape(says)):
        load_recipe(name)


def test_an_error_in_the_users_code_is_one_line_and_no_other_case_is_lost(perf, pytester):
    """The data set raises at a sample that not every batch size reaches in its first batches."""
    text = HEAD + NET + "    def forward(self, x):\n        if len(x) == 32: raise ValueError('not 32')\n"
    (pytester.path / "mine.py").write_text(text + "        return self.b(torch.relu(self.a(x.flatten(1))))\n")
    result = perf(STEP, "--perf-device=cpu", "--perf-model=mine.py:Net", "--perf-batch-size=16,32,64")
    result.assert_outcomes(passed=2, failed=1)
    line = text.count("\n")
    result.stdout.fnmatch_lines([f"mine.py:Net: ValueError: not 32, at {pytester.path}/mine.py:{line}"])
    assert "Traceback" not in result.stdout.str()


def test_what_a_loaders_worker_raised_has_the_users_line():
    text = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "/x/site-packages/torch/utils/data/_utils/worker.py", line 3, in loop\n    data = f()\n'
        '  File "/home/me/mine.py", line 12, in __getitem__\n    raise ValueError("broken")\nValueError: broken\n'
    )
    assert raised(ValueError(text)) == "ValueError: broken, at /home/me/mine.py:12"


def test_records_and_settings_are_those_of_the_folder_in_which_pytest_is_called(perf, pytester):
    (pytester.path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nperf_batch_size = 8\n")
    result = perf(STEP, "--collect-only", "-q", "--perf-device=cpu", quick=False)
    result.stdout.fnmatch_lines(["*test_training_step[[]cpu-bs8]"])
    (pytester.path / "pytest.ini").write_text("[pytest]\nperf_batch_sizes = 4\naddopts = --nonsense\n")
    result = perf(STEP, "--collect-only", "-q", quick=False)
    result.stderr.fnmatch_lines([f"ERROR: {pytester.path}/pytest.ini: there is no option perf_batch_sizes; *"])
    (pytester.path / "pytest.ini").write_text("[pytest\n")
    assert perf(STEP, "--collect-only", quick=False).ret == pytest.ExitCode.USAGE_ERROR


# Modes.


def workload(written, text, mode, digits_root):
    recipe = load_recipe(written(text) + "Net")
    data = load_data(recipe, settled(digits_root, data="auto"))
    return Workload(recipe, data, Device("cpu"), 16, None, 0, mode)


WHOLE_STEP = NET + BATCH + """
    def __init_subclass__(cls): ...
    def loss(self, batch): return functional.cross_entropy(self(batch[0]), batch[1])
    def step(self, batch):
        self.optimizer = getattr(self, "optimizer", None) or torch.optim.SGD(self.parameters(), 0.1)
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        return loss
"""  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (Mode("eager", "bf16"), "the task's own `step` decides"),
        (Mode("cudagraph"), "a whole `step` cannot be captured"),
    ],
)
def test_what_a_whole_step_cannot_do_is_skipped_with_the_reason(written, digits_root, mode, says):
    with pytest.raises(Unsupported, match=says):
        workload(written, WHOLE_STEP, mode, digits_root).trainee()


def test_a_compiled_whole_step_computes_the_same(written, digits_root):
    losses = {}
    for execution in ("eager", "compile"):
        work = workload(written, WHOLE_STEP, Mode(execution), digits_root)
        with work.mode.active(anew=True):
            trainee = work.trainee()
            losses[execution] = [trainee.step(*batch).item() for batch in work.batches(3)]
    assert losses["compile"] == pytest.approx(losses["eager"], rel=1e-5)


@pytest.mark.parametrize(("execution", "precision"), [("eager", "fp32"), ("eager", "bf16"), ("compile", "bf16")])
def test_tiny_lm_learns_in_each_mode(execution, precision):
    recipe = load_recipe("tiny_lm")
    data = own_data.of_batches(recipe.task().member("batch"), 0, 256)
    work = Workload(recipe, SimpleNamespace(train=data), Device("cpu"), 8, None, 0, Mode(execution, precision))
    with work.mode.active(anew=True):
        trainee = work.trainee()
        assert trainee.parameters == 478_720
        batches = work.batches(4)
        first = trainee.mean_loss(batches)
        for batch in batches * 2:
            trainee.step(*batch)
        assert trainee.mean_loss(batches) < first - 0.2
    assert first == pytest.approx(5.6, abs=0.3)


# Packages that are called as Stepwatch's.


def test_a_users_packages_may_be_called_model_data_and_perf(tmp_path, torch_process):
    for name in ("model", "data", "perf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"NAME = 'the user\\'s {name}'\n")
    (tmp_path / "model" / "nets.py").write_text(
        "import torch\nfrom torch import nn\nfrom data import NAME\nimport perf\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self):\n        super().__init__(4, 2)\n        print(NAME, perf.NAME)\n"
        "    def batch(self, size):\n        from .late import WIDTH\n"
        "        return torch.rand(size, WIDTH), torch.arange(size) % 2\n"
    )
    (tmp_path / "model" / "late.py").write_text("from data import NAME\nWIDTH = 4 if 'user' in NAME else 5\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from model import load_recipe\n"
        "from perf.harness.workload.contract import check_contract\n"
        "from perf.harness.workload.own_data import of_batches\n"
        "recipe = load_recipe('model.nets:Net')\n"
        "check_contract(recipe, of_batches(recipe.task().member('batch'), 0, 64), 4)\n"
        "import data, model.nets\n"
        "print(data.NAME, model.nets.Net.__name__)\n"
    )
    done = torch_process.run([sys.executable, "-c", script, ROOT], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the user's data the user's perf\n")
    assert done.stdout.endswith("the user's data Net\n")


def test_without_such_packages_imports_are_as_python_has_them(written):
    before = builtins.__import__
    load_recipe(written(NET) + "Net")
    assert builtins.__import__ is before
    assert sys.modules["model"].__file__ == str(ROOT / "model" / "__init__.py")


# The gate.

GATED = (
    NET
    + """
    calls = []
    def dataset(self):
        self.calls.append("dataset")
        return [(torch.ones(784) * (i % 2), i % 10) for i in range(64)]
    def collate(self, samples):
        self.calls.append("collate")
        return torch.utils.data.default_collate(samples)
    def loss(self, batch):
        self.calls.append("loss")
        return functional.cross_entropy(self(batch[0]), batch[1])
"""
)


@pytest.mark.parametrize(
    ("name", "pipeline", "ran"),
    [
        ("training_step", None, {"loss"}),
        ("epoch", "dataloader", {"loss", "collate"}),
        ("epoch", "resident", {"loss"}),
        ("input_pipeline", "dataloader", {"collate"}),
        ("inference", None, {"loss"}),
    ],
)
def test_what_the_gate_times_is_the_users_own_code(written, digits_root, name, pipeline, ran):
    work = replace(workload(written, GATED, Mode(), digits_root), pipeline=pipeline, batch_size=8)
    made = sliced(name, work)
    module = sys.modules["mine"]
    module.Net.calls.clear()
    made.steps(4, lambda: None)
    assert ran <= set(module.Net.calls) <= ran | {"dataset"}
    assert module.Net.calls.count(sorted(ran)[-1]) == 4
    made.close()


def test_a_report_counts_what_the_task_counts_and_shows_its_metrics():
    info = {
        "model": "mine.py:Net", "unit": "tokens", "units_per_sample": 128.0, "samples_per_iteration": 16,
        "parameters": 10, "trained_parameters": 7, "metrics": {"perplexity": 6.185}, "epochs": 5,
    }  # fmt: skip
    unused = "`metric`: did you mean `metrics`?"
    info["training"] = {"loss": "loss(batch)", "optimizer": "Adam (lr 0.1)", "unused": unused}
    text = render([run(benchmark("training_run", "cpu", 16, "resident", 2.0, **info), **MACHINE)], width=120)
    assert re.search(r"tokens/s.*perplexity", text)
    assert re.search(r"16 +resident +cpu .* 1,020 .* 6\.1[89]", text)  # 16 samples of 128 tokens in 2 s
    assert "training  mine.py:Net: loss loss(batch), optimizer Adam (lr 0.1), 7 parameters trained" in text
    assert "counted in tokens" in text
    assert "mine.py:Net, not used: `metric`: did you mean `metrics`?" in text
