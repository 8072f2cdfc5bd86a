"""A user's own training: what cannot be measured is refused beforehand, with the lines to write."""

import os
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from data import DataError
from model import RecipeError, load_recipe
from model.__main__ import main
from model.imports import raised
from model.members import binds
from perf.harness.workload.contract import check_contract
from perf.harness.workload.workload import load_data
from tests.conftest import STEP, settled
from tests.user_code import BATCH, HEAD, NET

pytest_plugins = ["pytester"]

REFUSED = {
    "loss of many": (
        NET + "def make(): return Net()\nmake.loss = nn.CrossEntropyLoss(reduction='none')",
        "make",
        "the loss of step 1 at batch size 2 must be one number, not a Tensor (2,)",
        "return losses.mean()",
    ),
    "loss of the batch's parts": (
        NET + BATCH + "    def loss(self, x, y): return nn.functional.cross_entropy(self(x), y)",
        "Net",
        "; `loss(a, b)` gets the network's output and the target; for the whole batch",
        "def loss(self, batch):",
    ),
    "network that fails, with a loss of two arguments": (
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(784, 10)\n"
        "    def forward(self, x): return super().forward(x[:, :9])\n"
        + BATCH
        + "    def loss(self, output, y): return output.sum()",
        "Net",
        "step 1 at batch size 2 raised RuntimeError: ",
        None,
    ),
    "data by another name": (
        NET + "    def training_data(self): return [{'x': torch.rand(8)}]\n"
        "    def loss(self, batch): return self(batch['x']).sum()",
        "Net",
        "step 1 at batch size 2 (images and labels, as it has no dataset(), train_dataloader() or batch(size)) raised",
        None,
    ),
    "data of a network by another name": (
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(8, 1)\n"
        "    def bacth(self, size): return torch.rand(size, 8), torch.rand(size, 1)",
        "Net",
        "or batch(size) (not used: `bacth`: did you mean `batch`?): ",
        None,
    ),
    "batch of one size": (
        NET
        + "    def batch(self, size): return torch.rand(8, 784)\n    def loss(self, batch): return self(batch).sum()",
        "Net",
        "batch(2) and batch(4) return the same shapes ((8, 784)), so the rates would be wrong",
        "def batch(self, size):",
    ),
    "batch of one sample more": (
        NET + "    def batch(self, size): return torch.rand(size + 1, 784), torch.arange(size + 1) % 10",
        "Net",
        "batch(2) returns 3 samples ((3, 784), (3,)), and batch(4) returns 5, so the rates would be wrong",
        "def batch(self, size):",
    ),
    "a batch of 16 that ends the program": (
        NET + "    def batch(self, size):\n        if size == 16: raise SystemExit(3)\n"
        "        return torch.rand(size, 784), torch.arange(size) % 10",
        "Net",
        "a batch of 16 samples cannot be made: SystemExit: 3, at ",
        None,
    ),
    "network without values": (
        NET + BATCH + "def make(): return Net().to('meta')",
        "make",
        "its parameters are on the device meta, and have no values",
        "self.model = MyNetwork()  # on the CPU",
    ),
    "network that ends the program": (
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(784, 10)\n"
        "    def forward(self, x): raise SystemExit(3)",
        "Net",
        "or batch(size): SystemExit: 3, at ",
        None,
    ),
    "loss that ends the program": (
        NET + BATCH + "    def loss(self, batch): raise SystemExit(3)",
        "Net",
        "step 1 at batch size 2 raised SystemExit: 3, at ",
        None,
    ),
    "optimizer that ends the program": (
        NET + BATCH + "    def loss(self, batch): return self(batch[0]).sum()\n"
        "    def optimizers(self): raise SystemExit(3)",
        "Net",
        "making its optimizers raised SystemExit: 3, at ",
        None,
    ),
    "data that ends the program": (
        NET + "    def batch(self, size): raise SystemExit(3)\n    def loss(self, batch): return self(batch[0]).sum()",
        "Net",
        "its data cannot be read: SystemExit: 3, at ",
        None,
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
    "double": (
        NET + "def make(): return Net().double()",
        "make",
        "float32, which it gets as it has no dataset()",
        None,
    ),
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
        "def make():",
    ),
    "on a device": (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        raise RuntimeError('Found no NVIDIA driver on your system.')",
        "Net",
        "the factory raised RuntimeError: Found no NVIDIA driver on your system., at ",
        "self.model = MyNetwork()  # without .cuda()",
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
    "schedulers from `optimizers`": (
        NET + BATCH + "    def optimizers(self):\n        o = torch.optim.SGD(self.parameters(), 0.1)\n"
        "        return [o], [torch.optim.lr_scheduler.ExponentialLR(o, 0.9)]",
        "Net",
        "what returns schedulers, too, is called `configure_optimizers`",
        "def optimizers(self):",
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


@pytest.mark.parametrize("returned", ["{'features': x, 'logits': y}", "{'scores': y}", "(y, x)", "Output(y)"])
def test_the_lines_that_a_refusal_says_to_write_work_as_they_are(written, digits_root, returned):
    text = (
        "class Output:\n    def __init__(self, logits): self.logits = logits\n"
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(784, 10)\n    def forward(self, x):\n"
        f"        y = super().forward(x.flatten(1))\n        return {returned}\n"
    )
    with pytest.raises(RecipeError) as refusal:
        check_contract(load_recipe(f"{written(text)}Net"), None, 4)
    lines = "\n".join(str(refusal.value).splitlines()[1:])
    recipe = load_recipe(f"{written(text + lines, 'mended.py')}Net")
    check_contract(recipe, None, 4)


IMAGES, LABELS = "torch.rand(size, 784)", "torch.arange(size) % 10"


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (f"{{'x': {IMAGES}, 'y': {LABELS}}}", "the batch is a dict with x, y, and the network does not take that"),
        (f"{{'labels': {LABELS}, 'input_ids': {IMAGES}}}", "does not take that"),
        (f"{{'input': {IMAGES}}}", "what the network returns for it has no `loss`"),
        (f"({IMAGES}, 1, {LABELS})", "the batch is no pair (input, target), but a tuple of 3"),
        (IMAGES, "the batch is no pair (input, target), but a Tensor (2, 784)"),
    ],
)
def test_the_lines_for_a_batch_that_is_no_pair_work_as_they_are(written, digits_root, batch, says):
    wide = 784 if batch == IMAGES or "{'input'" in batch else 10  # what has no target is learnt itself
    text = (
        f"class Net(nn.Linear):\n    def __init__(self): super().__init__(784, {wide})\n"
        f"    def batch(self, size): return {batch}\n"
    )
    with pytest.raises(RecipeError) as refusal:
        contract(written(text), digits_root)
    first, *lines = str(refusal.value).splitlines()
    assert says in first and first.endswith("; write:")
    contract(written(text + "\n".join(lines), "mended.py"), digits_root)


def test_an_error_within_a_network_that_takes_its_batch_stays_what_it_is(written, digits_root):
    text = "class Net(nn.Linear):\n    def __init__(self): super().__init__(784, 10)\n"
    text += f"    def batch(self, size): return {{'x': {IMAGES}, 'y': {LABELS}}}\n"
    text += "    def forward(self, x, y): return len(3)\n"
    with pytest.raises(RecipeError, match=r"raised TypeError: object of type 'int' has no len\(\), at .*mine\.py:\d+$"):
        contract(written(text), digits_root)


@pytest.mark.parametrize(
    ("function", "arguments", "known"),
    [(lambda x: x, {"x": 1}, True), (lambda x: x, {"y": 1}, False), (torch.add, {"anything": 1}, True)],
)
def test_what_has_no_signature_is_taken_to_bind(function, arguments, known):
    assert binds(function, arguments) is known


def contract(module, digits_root):
    recipe = load_recipe(f"{module}Net")
    check_contract(recipe, load_data(recipe, settled(digits_root, data="auto")).train, 16)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (NET + "    def batch(self, size): return [torch.rand(size, 784)] * 3\n", "cross_entropy(self(x), y)"),
        (NET + BATCH + "    def optimizers(self): return None\n", "AdamW(self.parameters(), lr=1e-3)"),
        (f"{NET}class Task:\n    def __init__(self): self.model = Net()\n{BATCH}"
         "    def optimizers(self): return None\n",
         "AdamW(self.model.parameters(), lr=1e-3)"),
    ],
)  # fmt: skip
def test_a_network_itself_is_not_told_to_write_self_model(written, digits_root, text, line):
    with pytest.raises(RecipeError, match=re.escape(line)):
        recipe = load_recipe(written(text) + ("Task" if "class Task" in text else "Net"))
        check_contract(recipe, load_data(recipe, settled(digits_root, data="auto")).train, 16)


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


@pytest.mark.parametrize(
    ("took_s", "says"),
    [(4.9, ""), (62.0, "mine.py:Net: importing it took 62 s, and each process that measures it imports it again\n")],
)
def test_an_import_that_takes_long_is_said(written, capsys, monkeypatch, took_s, says):
    monkeypatch.setattr("model.imports.time", SimpleNamespace(perf_counter=iter((0.0, took_s)).__next__))
    load_recipe(written(NET) + "Net")
    assert capsys.readouterr().out == says


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


@pytest.mark.parametrize(
    ("folder", "packages", "says"),
    [
        ("src/mine/nets", ("src/mine", "src/mine/nets"), "--perf-model=mine.nets.net:Net, with PYTHONPATH=src"),
        ("mine", ("mine",), "--perf-model=mine.net:Net"),
        (".", (), "a file is in no package here: leave the dot out, as what lies beside the file is found"),
    ],
)
def test_a_file_that_imports_from_its_own_package_is_told_its_name_there(tmp_path, monkeypatch, folder, packages, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for package in packages:
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / folder / "net.py").write_text("from .other import Net\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(f"{folder}/net.py:Net")
    assert "raised ImportError: attempted relative import with no known parent package, at " in str(caught.value)
    assert str(caught.value).endswith(f"net.py:1; {'it is part of a package: ' * bool(packages)}{says}")


def test_a_file_of_another_name_is_not_meant(written, tmp_path, monkeypatch):
    written(NET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conftest.py").touch()
    with pytest.raises(RecipeError, match=r"there is no file .*nofile\.py$"):
        load_recipe("nofile.py:Net")


def test_an_error_in_the_users_code_is_one_line_and_no_other_case_is_lost(perf, pytester):
    """The data set raises at a sample that not every batch size reaches in its first batches."""
    text = HEAD + NET + "    def forward(self, x):\n        if len(x) == 32: raise ValueError('not 32')\n"
    (pytester.path / "mine.py").write_text(text + "        return self.b(torch.relu(self.a(x.flatten(1))))\n")
    result = perf(STEP, "--perf-device=cpu", "--perf-model=mine.py:Net", "--perf-batch-size=16,32,64")
    result.assert_outcomes(passed=2, failed=1)
    line = text.count("\n")
    result.stdout.fnmatch_lines([f"mine.py:Net: ValueError: not 32, at {pytester.path}/mine.py:{line}"])
    assert "Traceback" not in result.stdout.str()


def test_a_training_that_is_refused_gets_no_page(perf, pytester):
    text = HEAD + NET + BATCH + "    def loss(self, batch): raise ValueError('no')\n"
    (pytester.path / "mine.py").write_text(text)
    result = perf(STEP, "--perf-device=cpu", "--perf-model=mine.py:Net", "--perf-data=auto", "--perf-passes=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "mine.py:Net: step 1 at batch size 2 raised ValueError: no, at " in result.stderr.str()
    assert "PARTIAL" not in result.stdout.str() and "Nothing was measured" not in result.stdout.str()


def test_what_a_loaders_worker_raised_has_the_users_line():
    text = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "/x/site-packages/torch/utils/data/_utils/worker.py", line 3, in loop\n    data = f()\n'
        '  File "/home/me/mine.py", line 12, in __getitem__\n    raise ValueError("broken")\nValueError: broken\n'
    )
    assert raised(ValueError(text)) == "ValueError: broken, at /home/me/mine.py:12"


def test_what_was_raised_is_one_line():
    assert raised(ValueError("too many\n  of them")) == "ValueError: too many of them"


@pytest.mark.parametrize(
    ("file", "section", "where", "right"),
    [
        ("pytest.ini", "[tool:pytest]", "in [tool:pytest]", "pytest"),
        ("tox.ini", "[pytst]", "in [pytst]", "pytest"),
        ("setup.cfg", "[pytest]", "in [pytest]", "tool:pytest"),
        ("pyproject.toml", "[tool.stepwatch]", "in [tool.stepwatch]", "tool.pytest.ini_options"),
        ("pytest.toml", "", "above all sections", "pytest"),
    ],
)
def test_options_in_a_section_that_pytest_does_not_read_are_refused(perf, pytester, file, section, where, right):
    (pytester.path / file).write_text(f"{section}\nperf_model = 'mine.py:Net'\n")
    result = perf(STEP, "--collect-only", "-q", quick=False)
    said = f"{pytester.path / file}: perf_model is {where}, where it does not count: put it into [{right}]"
    assert result.stderr.str().strip() == f"ERROR: {said}"


@pytest.mark.parametrize(
    ("file", "section"),
    [("pytest.toml", "pytest"), ("pyproject.toml", "tool.pytest.ini_options"), ("pyproject.toml", "tool.pytest")],
)
def test_options_in_toml_count(perf, pytester, file, section):
    (pytester.path / file).write_text(f"[{section}]\nperf_batch_size = 8\n")
    result = perf(STEP, "--collect-only", "-q", "--perf-device=cpu", quick=False)
    result.stdout.fnmatch_lines(["*test_training_step[[]cpu-bs8]"])


def test_the_ini_file_that_counts_is_named(perf, pytester):
    (pytester.path / "tox.ini").write_text("[testenv]\ndeps = perf_model\n[pytest]\nperf_batch_size = 8\n")
    result = perf(STEP, "--collect-only", "--perf-device=cpu", quick=False)
    result.stdout.fnmatch_lines([f"ini file  {pytester.path}/tox.ini"])


def test_more_threads_than_cores_are_refused(perf, pytester, has_cores):
    has_cores(2)
    result = perf(STEP, "--perf-device=cpu", "--perf-threads=3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --perf-threads: 3 threads on 2 cores: give at most 2"])


def test_records_and_settings_are_those_of_the_folder_in_which_pytest_is_called(perf, pytester):
    (pytester.path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nperf_batch_size = 8\n")
    result = perf(STEP, "--collect-only", "-q", "--perf-device=cpu", quick=False)
    result.stdout.fnmatch_lines(["*test_training_step[[]cpu-bs8]"])
    (pytester.path / "pytest.ini").write_text("[pytest]\nperf_batch_sizes = 4\naddopts = --nonsense\n")
    result = perf(STEP, "--collect-only", "-q", quick=False)
    result.stderr.fnmatch_lines([f"ERROR: {pytester.path}/pytest.ini: there is no option perf_batch_sizes; *"])
    (pytester.path / "pytest.ini").write_text("[pytest\n")
    assert perf(STEP, "--collect-only", quick=False).ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("-ra --perf-batch-size=8", "addopts has --perf-batch-size=8, and does not count here; "
         "write perf_batch_size = 8 instead"),
        ("--perf-full", "addopts has --perf-full, *; write perf_full = yes instead"),
        ("-k 'unclosed", "/pytest.ini: addopts: No closing quotation"),
    ],
)  # fmt: skip
def test_options_that_a_project_has_for_every_run_are_not_ignored(perf, pytester, typed, says):
    (pytester.path / "pytest.ini").write_text(f"[pytest]\naddopts = {typed}\n")
    result = perf(STEP, "--collect-only", quick=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{says.replace('[', '[[]')}"])


@pytest.mark.parametrize(
    ("name", "setting"),
    [("pytest.ini", "[pytest]\npythonpath = lib src\n"),
     ("pyproject.toml", '[tool.pytest.ini_options]\npythonpath = ["lib", "src"]\n')],
)  # fmt: skip
def test_the_search_path_of_the_project_counts_in_every_process(perf, pytester, monkeypatch, name, setting):
    """Also if pytest is called in a folder below the file's."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (pytester.path / name).write_text(setting)
    package = pytester.mkdir("src") / "nets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text(HEAD + NET + "    def forward(self, x):\n"
                                     "        return self.b(torch.relu(self.a(x.flatten(1))))\n")  # fmt: skip
    monkeypatch.chdir(pytester.mkdir("below"))
    result = perf(STEP, "--perf-device=cpu", "--perf-model=nets.mine:Net", "--perf-passes=2")
    result.assert_outcomes(passed=1)
    assert "PYTHONPATH" not in os.environ and str(package.parent) not in sys.path
