"""Try every architecture of torchvision: two training steps at batch 2 on the CPU, or the reason why not.

`python perf/proof/zoo.py [NAME …]` prints one line for each, and how many were trained. A network whose first step
takes longer than LONGEST_S makes no second one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torchvision import models

from model import Batch, RecipeError, load_recipe
from perf.proof.usage import parser

BATCH, LONGEST_S, LIMIT_S = 2, 30.0, 180.0


def tried(name: str) -> str:
    """What training `name` shows: the time of a step and its loss, or why it cannot be trained."""
    try:
        recipe = load_recipe(name)
    except RecipeError as error:
        return f"skipped: {str(error).removeprefix(f'{name}: ')}"
    torch.manual_seed(0)
    step = recipe.training(torch.device("cpu"))
    step.model.train()
    batch: Batch
    if recipe.task is not None:
        batch = (recipe.task().member("batch")(BATCH),)
    else:
        batch = torch.randn(BATCH, *recipe.input_shape), torch.randint(recipe.classes, (BATCH,))
    start = time.perf_counter()
    loss = step(*batch).item()
    took = time.perf_counter() - start
    if took < LONGEST_S:
        start = time.perf_counter()
        loss = step(*batch).item()
        took = time.perf_counter() - start
    parameters = sum(one.numel() for one in step.model.parameters())
    return f"trained: {took:7.2f} s a step, loss {loss:8.3f}, {parameters / 1e6:6.1f} M parameters"


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("names", metavar="NAME", nargs="*")
    arguments.add_argument("--one", help=argparse.SUPPRESS)  # what this script starts
    given = arguments.parse_args()
    if given.one:
        print(tried(given.one))
        return 0
    names = given.names or models.list_models()
    found = []
    for name in names:
        command = [sys.executable, __file__, "--one", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
            said = (
                done.stdout.strip() or f"FAILED: {(done.stderr.strip() or f'exit {done.returncode}').splitlines()[-1]}"
            )
        except subprocess.TimeoutExpired:
            said = f"skipped: it takes more than {LIMIT_S:.0f} s"
        found.append(said)
        print(f"{name:40s} {said}", flush=True)
    kinds = [said.partition(":")[0] for said in found]
    print(", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)))
    return 1 if "FAILED" in kinds else 0


if __name__ == "__main__":
    sys.exit(main())
