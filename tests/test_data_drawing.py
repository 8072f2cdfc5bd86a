"""The drawing: the same bits everywhere, ten digits, and paper around them."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.drawing import draw
from data.strokes import STYLES

PROJECT = Path(__file__).resolve().parents[1]


def md5(arrays):
    return hashlib.md5(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_the_number_of_threads_does_not_change_a_bit():
    assert md5(draw(1100, 7, threads=1)) == md5(draw(1100, 7, threads=2)) == md5(draw(1100, 7, threads=5))


def test_the_instruction_set_of_the_processor_does_not_change_a_bit():
    numpy_core = pytest.importorskip("numpy._core._multiarray_umath", reason="numpy 1 keeps its features elsewhere")
    optional = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__.get(name)]
    if not optional:
        pytest.skip("numpy has one instruction set on this processor")
    script = (
        "import hashlib, sys, types; sys.modules['data'] = data = types.ModuleType('data'); data.__path__ = ['data']; "
        "from data.drawing import draw; images, labels = draw(300, 7); "  # without torch, which is slow to import
        "print(hashlib.md5(images.tobytes() + labels.tobytes()).hexdigest())"
    )
    env = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(optional)}
    plain = subprocess.run([sys.executable, "-c", script], env=env, cwd=PROJECT, capture_output=True, text=True)
    assert plain.stdout.strip() == md5(draw(300, 7)), plain.stderr


def test_another_seed_draws_other_digits():
    images, labels = draw(300, 1)
    others, other_labels = draw(300, 2)
    assert not np.array_equal(labels, other_labels)
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in others}


def test_a_longer_run_begins_as_a_shorter_one_of_whole_chunks():
    images, labels = draw(500, 3)
    more, more_labels = draw(750, 3)
    assert np.array_equal(more[:500], images)
    assert np.array_equal(more_labels[:500], labels)


def test_every_digit_is_drawn_about_equally_often():
    _, labels = draw(5000, 4)
    assert len(STYLES) == 10
    assert np.bincount(labels, minlength=10).min() > 400


def test_the_ink_is_about_as_much_as_mnists_and_the_border_is_paper():
    images, _ = draw(5000, 5)
    assert 0.11 < images.mean() / 255 < 0.15  # MNIST: 0.131
    assert 0.27 < images.std() / 255 < 0.34  # MNIST: 0.308
    assert (images[:, [0, -1]] == 0).mean() > 0.95
    assert images.max() == 255


def test_a_failure_in_a_thread_is_not_lost(monkeypatch):
    monkeypatch.setattr("data.drawing._draw_chunk", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw(10, 0)
