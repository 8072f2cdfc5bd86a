"""A user's packages may be called `model` and `data`, as Stepwatch's are, wherever the file of the training lies."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

NET = "import torch\nfrom data.reviews import WORDS\n\n\ndef net():\n    return torch.nn.Linear(WORDS, 10)\n"
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from model import load_recipe
print(load_recipe({name!r}).build().in_features, type(load_recipe("small_cnn").build()).__module__)
"""


@pytest.mark.parametrize("name", ["net.py:net", "model/net.py:net", "nets/deep/net.py:net", "model.net:net"])
def test_a_file_finds_the_packages_of_its_repository_and_stepwatch_its_own(tmp_path, name):
    for path, text in {
        "data/__init__.py": "", "data/reviews.py": "WORDS = 7\n", "model/__init__.py": "", "model/net.py": NET,
        "nets/deep/net.py": NET, "net.py": NET,
    }.items():  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    script = SCRIPT.format(root=str(ROOT), name=name)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["7", "model.networks"], done.stderr
