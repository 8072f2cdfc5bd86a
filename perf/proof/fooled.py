"""Ways in which a gate was green, or red, for the wrong reason: each in a repository of its own.

    python perf/proof/fooled.py [NAME …]

Each is made in a temporary folder, as a user would have it, and the gate runs on it. A line says what was done, what
the gate says, and the exit code. The script ends with 1 if one of them is not what it should be. All of them take about
ten minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from perf.proof.usage import parser

PERF = Path(__file__).resolve().parents[1]
NET = """
import torch
from torch import nn
{top}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.last = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU()), nn.Linear(128, 10)
        self.wasted = torch.ones(200, 200)
        {more}

    def forward(self, images):
        for _ in range({waste}):
            self.wasted @ self.wasted
        return self.last(self.body(images){cut})

def factory():
    return Net()

factory.input_shape, factory.classes = (1, 28, 28), 10
"""
WHOLE = """
import torch
from torch import nn

class Pair:
    def __init__(self):
        self.one, self.two, self.wasted = nn.Linear(64, 64), nn.Linear(64, 64), torch.ones(200, 200)
        self.optimizer = torch.optim.SGD([*self.one.parameters(), *self.two.parameters()], lr=1e-3)

    def batch(self, size):
        return torch.randn(size, 64)

    def step(self, batch):
        for _ in range({waste}):
            self.wasted @ self.wasted
        self.optimizer.zero_grad()
        (self.two(self.one(batch)) - batch).square().mean().backward()
        self.optimizer.step()
"""
TASK, IMPORT = "from nets import factory\n", "from common import WASTE"
STEP = ["-k", "training_step and bs64"]
OWN = ("--perf-data=auto", *STEP)  # it brings its data


def net(top: str = "", more: str = "", waste: object = 0, cut: str = "") -> str:
    """A network, with lines at the top and in its constructor, wasted work in each step, and a cut backbone."""
    return NET.format(top=top, more=more, waste=waste, cut=cut)


@dataclass(frozen=True)
class Row:
    """What was done: the files of base, and those that head changes. `says` is what the gate should say.

    `python` is run in the gate's process before anything else, as a `.pth` file would be; {root} is the project.
    """

    done: str
    base: Mapping[str, str]
    head: Mapping[str, str]
    says: tuple[str, int]
    model: str = "nets.py:factory"
    path: str = ""
    options: tuple[str, ...] = ()
    against: str = "main"
    message: str = "change"
    python: str = ""
    prepare: Callable[[Path], None] = field(default=lambda root: None)


def commit(root: Path, message: str) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", message)


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def main_goes_on(root: Path) -> None:
    """After the branch was made, `main` becomes slower."""
    git(root, "checkout", "-q", "main")
    (root / "nets.py").write_text(net(waste=3))
    commit(root, "others")
    git(root, "checkout", "-q", "change")


FINDER = """
import sys, importlib.util
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "nets":
            return importlib.util.spec_from_file_location(name, {root!r} + "/src/nets.py")
sys.meta_path.insert(0, Finder)
"""
HALF = """
import time
def half(clock):
    return lambda: clock() / 2
time.perf_counter, time.process_time = half(time.perf_counter), half(time.process_time)
import perf.harness.measurement.side_by_side.visit as visit
visit.host_visit.__defaults__ = (time.perf_counter, time.process_time)
"""
RUNTEST = """
import sys
for name, module in list(sys.modules.items()):
    if hasattr(module, "GatedItem"):
        module.GatedItem.runtest = lambda self: None
"""
ALL = ("--perf-profile=standard", "--perf-time-budget=60s", "--perf-batch-size=64,512,4096")
ROWS = {
    "src": Row("the package in src/, the benchmark in bench/", {"bench/task.py": TASK, "src/nets.py": net()},
               {"src/nets.py": net(waste=2)}, ("SLOWER", 1), "bench/task.py:factory", "src"),
    "monorepo": Row("a helper in another root of a monorepo",
                    {"ml/src/nets.py": net(IMPORT, waste="WASTE"), "libs/src/common.py": "WASTE = 0"},
                    {"libs/src/common.py": "WASTE = 2"}, ("SLOWER", 1), "ml/src/nets.py:factory", "libs/src"),
    "finder": Row("an editable install whose finder stands in front",
                  {"bench/task.py": TASK, "src/nets.py": net()}, {"src/nets.py": net(waste=2)}, ("SLOWER", 1),
                  "bench/task.py:factory", python=FINDER),
    "config": Row("a file by its relative path",
                  {"nets.py": net(waste="int(open('config.txt').read())"), "config.txt": "0"}, {"config.txt": "2"},
                  ("SLOWER", 1)),
    "namesake": Row("a package of the project that is called as one of Stepwatch's",
                    {"task.py": "from model.nets import factory\n", "model/__init__.py": "", "model/nets.py": net()},
                    {"model/nets.py": net(waste=2)}, ("SLOWER", 1), "task.py:factory", options=(*STEP,)),
    "exit": Row("the package ends the process at import", {"nets.py": net()},
                {"nets.py": net("import os; os._exit(0)")}, ("INVALID", 1)),
    "runtest": Row("head replaces the test item, and is slower", {"nets.py": net()},
                   {"nets.py": net(RUNTEST, waste=2)}, ("SLOWER", 1)),
    "clock": Row("head halves its clocks", {"nets.py": net()}, {"nets.py": net(HALF)}, ("INVALID", 1)),
    "budget": Row("all cases in 60 s: the training step is decided", {"nets.py": net()}, {"README": "words"},
                  ("training_step[cpu-bs64] SAME", 10), options=ALL),
    "pass": Row("no time to decide, and --perf-inconclusive=pass", {"nets.py": net()}, {"README": "words"},
                ("INCONCLUSIVE", 0), options=("--perf-inconclusive=pass", "--perf-time-budget=12s", *STEP)),
    "ready": Row("a generated file, made by --perf-against-setup",
                 {"nets.py": net(IMPORT, waste="WASTE"), ".gitignore": "common.py\n.benchmarks\n"},
                 {"common.py": "WASTE = 0"}, ("SAME", 0),
                 options=("--perf-against-setup=echo WASTE = 0 > common.py", *STEP)),
    "broken": Row("the first pull request with a model, which is broken", {"README": "words"},
                  {"nets.py": net(more="1 / 0")}, ("INVALID", 1)),
    "import": Row("head cannot be imported", {"nets.py": net()}, {"nets.py": net("import nowhere")}, ("INVALID", 1)),
    "stale": Row("a stale branch against main..., which became slower", {"nets.py": net()}, {"README": "words"},
                 ("SAME", 0), against="main...", options=(*STEP,), prepare=main_goes_on),
    "memory": Row("+400 MB held by the model", {"nets.py": net()},
                  {"nets.py": net(more="self.held = torch.zeros(100_000_000)")}, ("HEAVIER", 1), options=(*STEP,)),
    "frozen": Row("the backbone is frozen", {"nets.py": net()}, {"nets.py": net(cut=".detach()")}, ("INVALID", 1),
                  options=(*STEP,)),
    "whole": Row("a training with a whole step and no loss, as a GAN", {"nets.py": WHOLE.format(waste=0)},
                 {"nets.py": WHOLE.format(waste=2)}, ("SLOWER", 1), "nets.py:Pair", options=OWN),
    "same": Row("the same training on both sides", {"nets.py": WHOLE.format(waste=0)}, {"README": "words"}, ("SAME", 0),
                "nets.py:Pair", options=OWN),
    "accepted": Row("a slowdown that a commit accepts", {"nets.py": net()}, {"nets.py": net(waste=2)}, ("ACCEPTED", 0),
                    options=(*STEP,), message="twice\n\nPerf-Accept: training_step[*]: twice the work"),
}  # fmt: skip


def made(root: Path, row: Row) -> None:
    """The repository: base is on `main`, head on `change`."""
    git(root, "init", "-q", "-b", "main")
    for name, files in (("main", row.base), ("change", row.head)):
        if name == "change":
            git(root, "checkout", "-q", "-b", name)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        commit(root, row.message if name == "change" else "base")
    row.prepare(root)


def gated(root: Path, row: Row) -> tuple[str, int]:
    """What the gate prints in the repository `root`, and its exit code."""
    environment = {**os.environ, "PYTHONPATH": row.path}
    if row.python:
        installed = root.parent / "installed"
        installed.mkdir()
        (installed / "sitecustomize.py").write_text(row.python.format(root=str(root)))
        environment["PYTHONPATH"] = str(installed)
    command = [sys.executable, "-m", "pytest", str(PERF), f"--perf-model={row.model}", f"--perf-against={row.against}",
               "--perf-data=digits", "--perf-device=cpu", "-p", "no:cacheprovider", *row.options]  # fmt: skip
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr, done.returncode


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("names", metavar="NAME", nargs="*", help=f"some of {', '.join(ROWS)} (default: all)")
    wanted = arguments.parse_args().names or list(ROWS)
    if unknown := [name for name in wanted if name not in ROWS]:
        arguments.error(f"there is no {', '.join(unknown)}; there are {', '.join(ROWS)}")
    wrong = 0
    for name in wanted:
        row, begin = ROWS[name], time.monotonic()
        with tempfile.TemporaryDirectory(prefix="fooled-") as folder:
            root = Path(folder, "project")
            root.mkdir()
            made(root, row)
            text, code = gated(root, row)
        verdict, expected = row.says
        right = code == expected and re.search(re.escape(verdict).replace(r"\ ", ".* "), text) is not None
        wrong += not right
        counts = re.findall(r"^\d+ [A-Z]{3,}.*$", text, re.MULTILINE)
        said = counts[-1] if counts else (text.strip().splitlines() or ["nothing"])[-1]
        took = f"{time.monotonic() - begin:.0f} s"
        print(f"{'ok   ' if right else 'WRONG'} {name:9s} {row.done}: {said}, exit {code}, {took}", flush=True)
        if not right:
            print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
