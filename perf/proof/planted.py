"""Does the gate find about a tenth more time in each part of a user's own training: loss, step, data set, collate?

    python perf/proof/planted.py    # three minutes on 2 cores; nothing else should run

A repository with a training of its own is made in a temporary folder, and each part is slowed down in turn. The exit
code is 1 if the gate misses one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from perf.proof.usage import parser

ROOT = Path(__file__).resolve().parents[2]
TRAINING = """
import time
import torch

SLOW = ""


def slow(part, seconds):
    if part == SLOW:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 4096

    def __getitem__(self, index):
        slow("dataset", 1e-7)
        return torch.full((64,), float(index % 7)), index % 7


def collate(rows):
    slow("collate", 2.5e-5)
    return torch.utils.data.default_collate(rows)


class WithLoss:
    def __init__(self):
        layers = [torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers, torch.nn.Linear(512, 7))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.collate = collate

    def dataset(self):
        return Rows()

    def loss(self, batch):
        slow("loss", 2e-4)
        return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])


class WithStep(WithLoss):
    def step(self, batch):
        slow("step", 2e-4)
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        return loss
"""
# Each part, the training that has it, and the benchmark that must be SLOWER.
PARTS = (
    ("loss", "WithLoss", "training_step"),
    ("step", "WithStep", "training_step"),
    ("dataset", "WithLoss", "input_pipeline and dataloader"),
    ("collate", "WithLoss", "input_pipeline and dataloader"),
)


def main() -> int:
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mine.py").write_text(TRAINING)
        identity = ("-c", "user.name=proof", "-c", "user.email=proof@example.org")
        for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "base"]):
            subprocess.run(["git", *identity, *command], cwd=folder, check=True)
        for part, training, benchmark in PARTS:
            (folder / "mine.py").write_text(TRAINING.replace('SLOW = ""', f'SLOW = "{part}"'))
            gate = [
                sys.executable,
                "-m",
                "pytest",
                str(ROOT / "perf"),
                f"--perf-model=mine.py:{training}",
                "-k",
                benchmark,
            ]
            gate += ["--perf-against=HEAD", "--perf-device=cpu", "--perf-batch-size=64", "-p", "no:cacheprovider"]
            done = subprocess.run(gate, cwd=folder, capture_output=True, text=True, check=False)
            row = [line for line in done.stdout.splitlines() if "→" in line and line.endswith("SLOWER")]
            missed += not (row and done.returncode == 1)
            print(f"{part:<8}", *(row or [f"MISSED, exit code {done.returncode}"]), flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    parser(__doc__).parse_args()
    sys.exit(main())
