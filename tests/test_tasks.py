"""A user's own training: what it may bring, and that it trains as it is written."""

import builtins
import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from model import FirstState, RecipeError, Task, TaskStep, TrainingStep, UsersStep, load_recipe, train_epoch
from model.task_step import facts
from perf.harness.machine.devices import Device
from perf.harness.measurement.learned import loss_and_problem, quality
from perf.harness.measurement.rounds import MeasurementError
from perf.harness.measurement.side_by_side.slices import sliced
from perf.harness.record.extra_info import BETWEEN
from perf.harness.report import render
from perf.harness.workload import own_data
from perf.harness.workload.contract import check_contract
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.workload import Workload, load_data, unable
from tests.conftest import ROOT, settled
from tests.report_runs import MACHINE, benchmark, run
from tests.user_code import BATCH, NET

pytest_plugins = ["pytester"]

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


@pytest.mark.parametrize(
    ("returned", "loss", "said"),
    [
        (torch.tensor(0.5), 0.5, "step(batch)"),
        (0.5, 0.5, "step(batch)"),
        (None, 0.0, "not known, as step(batch) returns no tensor or number"),
        ({"loss": 0.5}, 0.0, "not known, as step(batch) returns no tensor or number"),
    ],
)
def test_the_loss_of_a_whole_step_is_what_it_returns(returned, loss, said):
    class Returns(Whole):
        def step(self, batch):
            super().step(batch)
            return returned

    step = step_of(Returns)
    assert facts(step)["loss"] == "step(batch)", "before it was called, as in a benchmark of inference"
    assert step(Adds().batch(4)).item() == loss
    assert facts(step)["loss"] == said


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
    assert Task("mine", Module, Module()).unused() == [
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
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    assert facts(TrainingStep(model, still, functional.cross_entropy))["optimizer"] == "SGD (lr 0)"
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 50)  # it warms up, and has begun to
    assert facts(TrainingStep(model, optimizer, functional.cross_entropy)) == found


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
        ("def compute_loss(self, output, target): ...", "`compute_loss`: did you mean `loss`?"),
        ("def criterion(self, output, target): ...", "`criterion`: did you mean `loss`?"),
        ("def make_optim(self): ...", "`make_optim`: did you mean `optimizer`?"),
        ("def make_optimizer(self): ...", "`make_optimizer`: did you mean `optimizer`?"),
        ("accumulate_grad_batches = 4", "`accumulate_grad_batches`: write `step(batch)`"),
    ],
)  # fmt: skip
def test_what_looks_like_a_member_and_is_not_used_is_named(written, text, unused):
    name = written(NET + BATCH + "    " + text)
    assert unused in load_recipe(f"{name}Net").unused


HELD = """
import torch
from torch import nn

class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.loss_fn = nn.Linear(4, 1), nn.MSELoss()
        self.optim = torch.optim.Adam(self.net.parameters())
    def forward(self, x): return self.net(x)
    def batch(self, size): return torch.randn(size, 4), torch.randn(size, 1)
"""


@pytest.mark.parametrize(
    ("more", "unused"),
    [
        ("", ("Adam: nothing steps it; return it from `configure_optimizers`, or write `step`",
              "MSELoss: nothing calls it; write `loss(batch)`")),
        ("    def loss(self, a, b): ...\n    def configure_optimizers(self): return self.optim", ()),
        ("    def step(self, batch): ...", ()),
    ],
)  # fmt: skip
def test_a_loss_or_an_optimizer_that_nothing_uses_is_named(written, more, unused):
    assert load_recipe(f"{written(HELD + more)}Held").unused == unused


@pytest.mark.parametrize(
    "text",
    [
        "batch_first = True\n    loss_scale = 2.0",  # no functions
        "def loss(self, batch): return self.common_loss(batch)\n    def common_loss(self, batch): ...",
        "def training_step(self, batch, index): ...\n    def compute_loss(self, batch): ...",
        "def step(self, batch): ...\n    def make_optimizer(self): ...",
    ],
)
def test_a_function_that_a_training_calls_itself_is_not_named(written, text):
    name = written(NET + BATCH + "    " + text)
    assert load_recipe(f"{name}Net").unused == ()


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("    def configure_optimizer(self): ...", "`configure_optimizer`: did you mean `configure_optimizers`?"),
        ("def make(): return Net()\nmake.optimiser = None", "`optimiser`: did you mean `optimizer`?"),
        ("    def make_batch(self, size): ...", "`make_batch`: did you mean `batch`?"),
    ],
)
def test_so_it_is_for_a_network_for_images(written, text, unused):
    recipe = load_recipe(written(NET + text) + ("make" if text.startswith("def make") else "Net"))
    assert recipe.task is None
    assert recipe.unused == (unused,)


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


def test_a_compiled_whole_step_computes_the_same(traced, written, digits_root):
    losses = {}
    for execution in ("eager", "compile"):
        work = workload(written, WHOLE_STEP, Mode(execution), digits_root)
        torch.compiler.reset()
        with work.mode.active():
            trainee = work.trainee()
            losses[execution] = [trainee.step(*batch).item() for batch in work.batches(3)]
    assert losses["compile"] == pytest.approx(losses["eager"], rel=1e-5)


@pytest.mark.parametrize(("execution", "precision"), [("eager", "fp32"), ("eager", "bf16"), ("compile", "bf16")])
def test_tiny_lm_learns_in_each_mode(traced, execution, precision):
    recipe = load_recipe("tiny_lm")
    data = own_data.of_batches(recipe.task().member("batch"), 0, 256)
    work = Workload(recipe, SimpleNamespace(train=data), Device("cpu"), 4, None, 0, Mode(execution, precision))
    torch.compiler.reset()
    with work.mode.active():
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


WHOLE = """
import torch
from torch import nn

class Net:
    def __init__(self):
        self.network = nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)

    def batch(self, size):
        return torch.randn(size, 3)

    def step(self, batch):
        self.optimizer.zero_grad()
        (-self.network(batch).mean()).backward()
        self.optimizer.step()
"""
LOSS = "\n    def loss(self, batch): return "


@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        ("", ""),  # there is none that could be wrong
        (LOSS + "self.network(batch).mean()", ""),  # it rises, as it may
        (LOSS + "self.network(batch).mean() / (self.network.bias < 9).sum()", "the loss is not finite: "),
    ],
)
def test_a_gate_takes_a_whole_step_for_right_as_a_plain_run_does(written, digits_root, loss, problem):
    work = replace(workload(written, WHOLE + loss, Mode(), digits_root), batch_size=8)
    made = sliced("training_step", work)
    made.steps(200, lambda: None)
    assert made.problem(200).startswith(problem) and bool(made.problem(200)) is bool(problem)
    assert (unable(work.recipe) == {}) is bool(loss)
    made.close()


STEP_OF_A_MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.parameters(), 0.1)

    def batch(self, size):
        return {"state": torch.randn(size, 3), "reward": torch.rand(size, 1)}

    def step(self, batch):
        self.optimizer.zero_grad()
        (-self.actor(batch["state"]) * batch["reward"]).mean().backward()
        self.optimizer.step()
"""


@pytest.mark.parametrize("more", ["", "\n    def forward(self, state): return self.actor(state)"])
def test_a_module_with_a_step_of_its_own_is_asked_for_no_output(written, digits_root, more):
    """As an agent that learns by rewards: its step need not call what the module itself computes, if it does."""
    work = workload(written, STEP_OF_A_MODULE + more, Mode(), digits_root)
    check_contract(work.recipe, work.data.train, 16)
    assert list(unable(work.recipe)) == ["inference"]
    assert work.trainee().fresh.has_loss is False


INF = float("inf")


@pytest.mark.parametrize(("last", "problem"), [(1.0 - 1e-8, True), (1.0, True), (1.0 - 1e-6, False)])
def test_a_loss_that_falls_by_no_more_than_rounding_does_not_fall(last, problem):
    trainee = SimpleNamespace(fresh=SimpleNamespace(has_loss=True), step=lambda: None, mean_loss=lambda batches: last)
    found, says = loss_and_problem(trainee, [()], 1.0, last, 8)
    assert (found, says.startswith("the loss does not fall: ")) == (last, problem)


@pytest.mark.parametrize(
    ("steps", "falls_at", "step_s", "problem"),
    [
        (8, 20, 0.0, ""), (8, 300, 0.0, "256"), (8, 100, 1.0, "18"),
        (1, 20, 0.0, ""), (1, 300, 0.0, "257"), (256, 260, 0.0, "256"), (2, 300, 1.0, "12"),  # a slow step has made few
        (1, 300, 4.0, ""),  # and may make too few even then
    ],
)  # fmt: skip
def test_a_loss_that_rose_by_chance_is_asked_again_after_more_steps_but_not_for_ever(steps, falls_at, step_s, problem):
    made = [steps]

    def mean_loss(batches):
        assert batches == [(1,), (2,)]
        return 0.9 if made[0] >= falls_at else 1.01

    trainee = SimpleNamespace(
        fresh=SimpleNamespace(has_loss=True), step=lambda number: made.append(made.pop() + 1), mean_loss=mean_loss
    )
    last, found = loss_and_problem(trainee, [(1,), (2,)], 1.0, 1.01, steps, clock=lambda: step_s * made[0])
    expected = f"the loss does not fall: 1 at first, 1.01 after {problem} steps"
    assert found.startswith(expected) if problem else found == ""
    assert last == (0.9 if made[0] >= falls_at else 1.01)


def test_a_loss_that_is_not_finite_after_more_steps_is_a_problem():
    trainee = SimpleNamespace(fresh=SimpleNamespace(has_loss=True), step=lambda: None, mean_loss=lambda batches: INF)
    last, found = loss_and_problem(trainee, [()], 1.0, 1.5, 2)
    assert (last, found) == (INF, "the loss is not finite: 1 at first, inf at last")
    assert loss_and_problem(trainee, (), 1.0, 1.5, 8) == (1.5, "")  # --benchmark-disable


def test_what_ends_the_program_in_count_or_metrics_is_refused_with_its_line(written, digits_root):
    ends = "\n    unit = 'tokens'\n    def count(self, batch): raise SystemExit(3)\n    metrics = count\n"
    work = workload(written, GATED + ends, Mode(), digits_root)
    with pytest.raises(RecipeError, match=r"Net: `count\(batch\)` raised SystemExit: 3, at .*\.py:\d+$"):
        work.unit  # noqa: B018
    with pytest.raises(MeasurementError, match=r"Net: `metrics\(batches\)` raised SystemExit: 3, at .*\.py:\d+$"):
        quality(work, work.trainee())


def test_a_metric_that_no_record_can_keep_is_said_and_the_others_are_kept(written, digits_root):
    text = (
        GATED + "\n    def metrics(self, batches):\n        return {'good': len(batches) / 64, 'bad': float('nan')}\n"
    )
    work = workload(written, text, Mode(), digits_root)
    with pytest.warns(UserWarning, match=r"Net: `metrics\(batches\)` gives nan for 'bad', which no record can keep$"):
        assert quality(work, work.trainee()) == {"metrics": {"good": 0.5}}


def test_a_report_counts_what_the_task_counts_and_shows_its_metrics():
    info = {
        "model": "mine.py:Net", "unit": "tokens", "units_per_sample": 128.0, "samples_per_iteration": 16,
        "parameters": 10, "trained_parameters": 7, "metrics": {"perplexity": 6.185}, "epochs": 5,
    }  # fmt: skip
    unused = f"`metric`: did you mean `metrics`?{BETWEEN}Adam: nothing steps it; write `step`"
    info["training"] = {"loss": "loss(batch)", "optimizer": "Adam (lr 0.1)", "unused": unused}
    trained = benchmark("training_run", "cpu", 16, "resident", 2.0, **info)
    text = render([run(trained, **MACHINE)], width=120)
    assert re.search(r"tokens/s.*perplexity", text)
    assert re.search(r"16 +resident +cpu .* 1,020 .* 6\.1[89]", text)  # 16 samples of 128 tokens in 2 s
    assert "training  mine.py:Net: loss(batch), optimizer Adam (lr 0.1), 7 parameters trained" in text
    assert "counted in tokens (128 per sample)" in " ".join(text.split())
    for line in ("`metric`: did you mean `metrics`?", "Adam: nothing steps it; write `step`"):
        assert f" mine.py:Net, not used: {line}\n" in text
    both = run(benchmark("epoch", "cpu", 16, "resident"), trained)
    rows = json.loads(render([both], format="json"))
    assert [(row["unit"], row["units_per_s"], row["metrics.perplexity"]) for row in rows] == [
        (None, None, None), ("tokens", 1024, 6.185),
    ]  # fmt: skip
    assert render([both], format="csv").splitlines()[0].split(",") == list(rows[0])
