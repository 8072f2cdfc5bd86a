"""A user's packages may be called `model` and `data`, as Stepwatch's are, wherever the file of the training lies."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

NET = "import torch\nfrom data.reviews import WORDS\n\n\ndef net():\n    return torch.nn.Linear(WORDS, 10)\n"
TASKS = """
import torch
from data.reviews import WORDS


class Ones(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from torch.ones(64, WORDS)


class Made:
    def __init__(self):
        self.model = torch.nn.Linear(WORDS, 2)

    def batch(self, size):
        return torch.ones(size, WORDS)

    def loss(self, batch):
        return self.model(batch).sum()


class Stream(Made):
    batch = None

    def dataset(self):
        return Ones()


class Listed(Made):
    batch = None

    def dataset(self):
        return torch.utils.data.TensorDataset(torch.ones(64, WORDS))
"""
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from model import load_recipe
print(load_recipe({name!r}).build().in_features, type(load_recipe("small_cnn").build()).__module__)
"""
SPAWNED = """
import multiprocessing
import sys
if __name__ == "__main__":
    sys.path.insert(0, {root!r})
    import torch
    from data import open_pipeline
    from data.synthetic import random_images
    from model import load_recipe
    from perf.harness.workload.own_data import of_batches, of_dataset
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(["torch"])
    tasks = [load_recipe(f"net.py:{{name}}").task() for name in ("Listed", "Stream", "Made")]
    splits = [
        random_images((1, 8, 8), 2, 64, 2, seed=0).train,
        *(of_dataset(*task.data(), seed=0, most=None) for task in tasks[:2]),
        of_batches(tasks[2].data(), seed=0, most=64),
    ]
    for split in splits:
        with open_pipeline("workers", split, batch_size=32, device=torch.device("cpu"), seed=0, workers=1) as pipeline:
            print(type(split).__name__, len(list(pipeline.epoch())))
"""


def in_fresh_process(command, cwd):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def ran(folder, script, net, run):
    """What `script` prints in a project with packages of these names and the file `net`."""
    for path, text in {
        "data/__init__.py": "", "data/reviews.py": "WORDS = 7\n", "model/__init__.py": "", "model/net.py": net,
        "nets/deep/net.py": net, "net.py": net, "run.py": script,
    }.items():  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    done = run([sys.executable, "-m", "run"], cwd=folder)
    assert not done.returncode, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", ["net.py:net", "model/net.py:net", "nets/deep/net.py:net", "model.net:net"])
def test_a_file_finds_the_packages_of_its_repository_and_stepwatch_its_own(tmp_path, name, torch_process):
    found = ran(tmp_path, SCRIPT.format(root=str(ROOT), name=name), NET, torch_process.run)
    assert found == ["7", "model.networks"]


def test_worker_processes_find_them_too_where_they_are_no_forks(tmp_path):
    """On Linux, Python starts such processes by default from 3.14 on; on other systems, it always has."""
    found = ran(tmp_path, SPAWNED.format(root=str(ROOT)), NET + TASKS, in_fresh_process)
    assert found == ["Split", "2", "OwnSamples", "2", "OwnStream", "2", "MadeBatches", "2"]
