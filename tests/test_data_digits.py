"""The drawn digits' cache: pinned bits, made whole or not at all, never used when damaged."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from data import DataError, load
from data import digits as cache
from tests.conftest import draw_few

# Change these only together with data.digits.VERSION.
PINNED = {
    "train-images-idx3-ubyte": "18722c37a4dad041c434bdc855c58c1c",
    "train-labels-idx1-ubyte": "5369eddd45e797ff1aa3fa6ebe7ef3e9",
    "t10k-images-idx3-ubyte": "522f0d3dd65c25d883366c82529330b6",
    "t10k-labels-idx1-ubyte": "702894bbb1835026130f3e207181f178",
}

FORK = multiprocessing.get_context("fork")  # a child begins at once, with what was planted in this process
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12


@pytest.fixture
def small(monkeypatch):
    draw_few(monkeypatch)


@pytest.fixture(scope="module")
def small_cache(tmp_path_factory):
    """A root with a small cache, made once; to be copied."""
    root = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        draw_few(patch)
        cache.load_digits(root)
    return root


@pytest.fixture
def root(small_cache, tmp_path, small):
    return Path(shutil.copytree(small_cache, tmp_path / "root"))


def age(root, version=cache.VERSION - 1):
    (root / "digits" / "manifest.json").write_text(json.dumps({"version": version, "layout": "of its own"}))


def visible(root):
    """What lies in a root, and in its work folder, but for the lock, which stays."""
    here = [*root.iterdir(), *root.glob(".staging/*")]
    return sorted(path.name for path in here if path.name not in (".staging", "digits.lock"))


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(calls, function):
    """`function`, until it was called so often."""
    left = iter(range(calls))
    return lambda *args, **kwargs: die() if next(left, None) is None else function(*args, **kwargs)


def test_the_digits_are_the_same_everywhere(digits_root):
    manifest = json.loads((digits_root / "digits" / "manifest.json").read_text())
    assert manifest["version"] == 1
    assert {name: file["md5"] for name, file in manifest["files"].items()} == PINNED


def test_there_are_as_many_as_in_mnist_and_torchvision_reads_them(digits_root):
    digits = load("digits", digits_root)
    for split, train, count in ((digits.train, True, 60_000), (digits.test, False, 10_000)):
        assert isinstance(split.dataset, MNIST)
        plain = MNIST(digits_root / "digits", train=train)
        assert len(plain) == count
        assert split.images.equal(plain.data)
        assert split.labels.equal(plain.targets) and split.labels.dtype == plain.targets.dtype
    assert (digits.name, digits.note, digits.classes, digits.shape) == ("digits", "", 10, (1, 28, 28))


def test_the_digits_are_made_once(root, monkeypatch):
    monkeypatch.setattr(cache, "draw", lambda *_: pytest.fail("drawn again"))
    assert len(cache.load_digits(root).train) == 60
    assert visible(root) == ["digits"]


@pytest.mark.parametrize("version", [cache.VERSION - 1, cache.VERSION + 1], ids=["older", "newer"])
def test_a_cache_of_another_version_is_made_again(root, version):
    raw = root / "digits" / "MNIST" / "raw"
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"an older drawing")
    age(root, version)
    assert len(cache.load_digits(root).test) == 30
    assert visible(root) == ["digits"]
    assert json.loads((root / "digits" / "manifest.json").read_text())["version"] == cache.VERSION


def test_the_same_digits_have_the_same_digest_and_others_another(root, tmp_path, monkeypatch):
    first = cache.load_digits(root).digest
    assert first == cache.load_digits(root).digest
    assert len(bytes.fromhex(first)) == 6
    monkeypatch.setattr(cache, "_SIZES_AND_SEEDS", ((60, 1), (30, 3)))
    assert cache.load_digits(tmp_path / "other").digest != first


@pytest.mark.parametrize("name", PINNED)
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-1], id="truncated"),
        pytest.param(lambda content: content[:-1] + bytes([content[-1] ^ 1]), id="altered"),
        pytest.param(lambda content: content + b"\0", id="longer"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_delete(root, name, damage):
    path = root / "digits" / "MNIST" / "raw" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        cache.load_digits(root)
    assert str(path) in str(error.value)
    assert f"Delete the folder {root / 'digits'} and run again" in str(error.value)


def test_a_lost_file_is_named(root):
    path = root / "digits" / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte cannot be read \(No such file"):
        cache.load_digits(root)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "files": {}}', '{"version": null}'])
def test_a_damaged_manifest_is_named(root, text):
    (root / "digits" / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest.json is missing or damaged. Delete the folder"):
        cache.load_digits(root)


def test_a_folder_that_is_not_ours_is_never_deleted(tmp_path, small):
    theirs = tmp_path / "digits" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("three years of work")
    with pytest.raises(DataError, match=r"manifest.json is missing"):
        cache.load_digits(tmp_path)
    assert theirs.read_text() == "three years of work"


@forks
@pytest.mark.parametrize("older", [False, True], ids=["no cache", "an older cache"])
@pytest.mark.parametrize(
    ("place", "name", "calls"),
    [
        pytest.param(cache, "draw", 0, id="before drawing"),
        pytest.param(cache, "write_idx", 2, id="between two files"),
        pytest.param(cache, "asdict", 0, id="before the manifest"),
        pytest.param(Path, "rename", 0, id="before the first rename"),
        pytest.param(Path, "rename", 1, id="before the second rename"),
        pytest.param(shutil, "rmtree", 0, id="before sweeping"),
    ],
)
def test_a_kill_at_any_moment_leaves_a_next_run_that_works_and_no_litter(
    root, tmp_path, monkeypatch, older, place, name, calls
):
    if older:
        age(root)
    else:
        root = tmp_path / "new"
    with monkeypatch.context() as plant:
        plant.setattr(place, name, die_after(calls, getattr(place, name)))
        child = FORK.Process(target=cache.load_digits, args=(root,))
        child.start()
    child.join()
    one_rename_is_enough = (name, calls, older) == ("rename", 1, False)
    assert child.exitcode == (0 if one_rename_is_enough else -signal.SIGKILL)
    assert len(cache.load_digits(root).train) == 60
    assert visible(root) == ["digits"]


@forks
def test_two_runs_at_once_both_succeed_and_draw_once(tmp_path, small, monkeypatch):
    start, drawn, draw = FORK.Barrier(2), FORK.Value("i", 0), cache.draw

    def counted(*args):
        with drawn.get_lock():
            drawn.value += 1
        time.sleep(0.1)  # time for the other one to come to the lock
        return draw(*args)

    def run():
        start.wait()
        assert len(cache.load_digits(tmp_path).train) == 60

    monkeypatch.setattr(cache, "draw", counted)
    children = [FORK.Process(target=run) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert drawn.value == 2  # once for each split
    assert visible(tmp_path) == ["digits"]
