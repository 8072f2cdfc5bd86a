"""Which data set a name stands for, and why."""

import gzip
import os
import socket

import pytest

from data import DataError, load, resolve
from data import choose as choosing
from data import digits as cache
from data.folder import FILES
from tests.conftest import draw_few


@pytest.fixture(autouse=True)
def small_digits_and_no_network(monkeypatch):
    draw_few(monkeypatch)
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("went to the network"))


def put(folder, *names, content=b"whatever"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content)


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path):
    for function in (resolve, load):
        with pytest.raises(DataError, match="unknown data set 'mnits': choose one of auto, mnist, digits"):
            function("mnits", tmp_path)


def test_a_name_that_says_it_all_stands_for_itself(tmp_path):
    assert [resolve(name, tmp_path) for name in ("mnist", "digits")] == ["mnist", "digits"]


def test_auto_is_mnist_only_where_all_four_files_are(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    assert resolve("auto", tmp_path) == "digits"
    put(raw, *FILES[:3])
    assert resolve("auto", tmp_path) == "digits"
    put(raw, f"{FILES[3]}.gz")
    assert resolve("auto", tmp_path) == "mnist"


def test_resolving_reads_and_makes_nothing(tmp_path, monkeypatch):
    put(tmp_path / "MNIST" / "raw", *FILES)
    monkeypatch.setattr("pathlib.Path.open", lambda *_, **__: pytest.fail("opened a file"))
    assert resolve("auto", tmp_path) == "mnist"
    assert resolve("auto", tmp_path / "nowhere") == "digits"
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


def test_auto_takes_the_digits_where_nothing_is_and_says_so(tmp_path):
    digits = load("auto", tmp_path)
    assert (digits.name, digits.note) == ("digits", f"no MNIST in {tmp_path / 'MNIST' / 'raw'}")


def test_auto_says_which_file_is_missing(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    put(raw, FILES[0], f"{FILES[1]}.gz", FILES[3])
    digits = load("auto", tmp_path)
    assert digits.name == "digits"
    assert digits.note == f"MNIST in {raw} is incomplete: {FILES[2]} (or .gz) is missing"


def test_auto_says_that_files_in_the_wrong_place_must_be_moved(tmp_path):
    put(tmp_path, *FILES[:2], *(f"{name}.gz" for name in FILES[2:]))
    digits = load("auto", tmp_path)
    assert digits.name == "digits"
    names = f"{FILES[0]}, {FILES[1]}, {FILES[2]}.gz, {FILES[3]}.gz"
    assert digits.note == f"MNIST files lie in {tmp_path}: move {names} to {tmp_path / 'MNIST' / 'raw'}"


def test_auto_says_which_files_are_in_the_wrong_place_and_which_are_nowhere(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    put(raw, FILES[0])
    put(tmp_path, FILES[0], f"{FILES[1]}.gz")
    assert load("auto", tmp_path).note == (
        f"MNIST files lie in {tmp_path}: move {FILES[1]}.gz to {raw}, and add {FILES[2]}, {FILES[3]} (or .gz)"
    )


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "gz"])
def test_auto_does_not_fall_back_from_damaged_files(tmp_path, packed):
    raw = tmp_path / "MNIST" / "raw"
    names = [f"{name}.gz" for name in FILES] if packed else FILES
    put(raw, *names, content=gzip.compress(b"short") if packed else b"short")
    with pytest.raises(DataError, match=f"{names[0]} is damaged: .*expected 47040016 bytes .* found 5 bytes"):
        load("auto", tmp_path)
    assert not (tmp_path / "digits").exists()


def test_digits_that_were_asked_for_need_no_note(tmp_path):
    put(tmp_path / "MNIST" / "raw", *FILES)
    digits = load("digits", tmp_path)
    assert (digits.name, digits.note) == ("digits", "")


@pytest.mark.parametrize("name", ["auto", "mnist", "digits"])
def test_a_root_that_is_a_file_is_refused(tmp_path, name):
    put(tmp_path, "root")
    with pytest.raises(DataError, match=r"cannot use the data root .*--perf-data-root=DIR .*--data-root=DIR"):
        load(name, tmp_path / "root")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match=r"Permission denied.*choose another one"):
        load("digits", tmp_path)


def test_a_full_disk_is_refused_in_one_line_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_idx", full)
    with pytest.raises(DataError, match=r"No space left on device.*Free disk space.*choose another data root"):
        load("digits", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == [".staging", "digits.lock"]


def test_the_names_are_those_that_can_be_loaded(tmp_path):
    assert [resolve(name, tmp_path) for name in choosing.NAMES] == ["digits", "mnist", "digits"]
