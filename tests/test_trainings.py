"""The trainings of docs/trainings.md, run as a user would run them: in their own folder, in a process of its own."""

import importlib.util
import json
import re
import sys

import pytest

from tests.conftest import PERF, ROOT

PAGE = (ROOT / "docs" / "trainings.md").read_text()
EXAMPLE = re.compile(r"^## [^\n]*`(\w+\.py:\w+)`\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(EXAMPLE.findall(PAGE))
QUICK = ("--perf-device=cpu", "--perf-profile=smoke", "--perf-passes=1", "--perf-rounds=1", "--perf-batch-size=16")
FEW = "training_step or inference or (epoch and (resident or dataloader))"


def measured(torch_process, folder, names, *more):
    """The benchmarks of one run of these trainings in `folder`, by network and name, and what was printed."""
    command = [sys.executable, "-m", "pytest", PERF, f"--perf-model={','.join(names)}", "-p", "no:cacheprovider"]
    done = torch_process.run([*command, *QUICK, *more], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (folder / ".benchmarks").rglob("*.json")  # it is kept in the user's folder
    found = {}
    for one in json.loads(record.read_text())["benchmarks"]:
        info = one["extra_info"]
        found[info["model"], info["benchmark"], info["pipeline"]] = info
    return found, done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory, torch_process):
    folder = tmp_path_factory.mktemp("user")
    names = [name for name in EXAMPLES if "lightning" not in EXAMPLES[name]]
    for name in names:
        (folder / name.partition(":")[0]).write_text(EXAMPLES[name])
    # With several threads, an epoch beside other programs takes longer than the smoke profile lets it, and is skipped.
    found, printed = measured(torch_process, folder, names, "-k", FEW, "--perf-threads=1")
    return names, found, printed


def test_each_is_measured(run):
    names, found, _ = run
    assert len(names) == 9
    for name in names:
        for kind, pipeline in (("training_step", None), ("epoch", "resident"), ("epoch", "dataloader")):
            assert (name, kind, pipeline) in found
        assert ((name, "inference", None) in found) is (name != "gan.py:Gan")  # it has neither `loss` nor `predict`


@pytest.mark.parametrize(
    ("name", "loss", "optimizer"),
    [
        ("language.py:Language", "loss(batch)", "SGD (lr 0.01), as the training gives none"),
        ("sentences.py:Sentences", "loss of the network", "Adam (lr 0.01)"),
        ("table.py:Table", "loss(batch)", "Adam (lr 0.001)"),
        ("gan.py:Gan", "step(batch)", "Adam (lr 0.0002) and Adam (lr 0.0002)"),
        ("loop.py:Loop", "step(batch)", "AdamW (lr 0.001, weight decay 0.01)"),
    ],
)
def test_the_record_says_what_was_trained_with(run, name, loss, optimizer):
    _, found, printed = run
    said = found[name, "training_step", None]["training"]
    assert (said["loss"], said["optimizer"]) == (loss, optimizer)
    assert said.get("scheduler") == ("CosineAnnealingLR" if name == "loop.py:Loop" else None)
    assert f"{name}: {loss if loss.startswith('loss') else f'loss {loss}'}, optimizer" in printed


def test_a_unit_is_counted(run):
    _, found, _ = run
    info = found["language.py:Language", "training_step", None]
    assert (info["unit"], info["units_per_sample"]) == ("tokens", 32)


def test_a_users_data_is_what_an_epoch_trains_on(run):
    _, found, _ = run
    info = found["files.py:Files", "epoch", "dataloader"]
    assert (info["data"], info["samples_per_iteration"]) == ("own", 1_600)  # 100 batches of 16 of its 2,000 samples


LIGHTNING = importlib.util.find_spec("lightning") is None


@pytest.mark.skipif(LIGHTNING, reason="lightning is not installed")
def test_a_lightning_module_is_measured(tmp_path, torch_process):
    name = "module.py:Module"
    (tmp_path / "module.py").write_text(EXAMPLES[name])
    found, _ = measured(torch_process, tmp_path, [name], "-k", FEW)
    assert found[name, "epoch", "resident"]["training"] == {
        "loss": "training_step(batch, 0)", "optimizer": "Adam (lr 0.001)", "scheduler": "StepLR per epoch",
    }  # fmt: skip


@pytest.mark.parametrize(("library", "name"), [("timm", "timm:resnet18"), ("transformers", "hf:distilbert")])
def test_a_network_of_a_library_is_measured(tmp_path, torch_process, library, name):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    found, _ = measured(torch_process, tmp_path, [name], "-k", "training_step", "--perf-batch-size=1")
    assert found[name, "training_step", None]["parameters"] > 10e6
