"""The real MNIST: unpacked and verified byte by byte, and a clear word when it cannot be had.

Most tests publish a tiny MNIST of their own in place of the real one; the real files are tested where they lie in
`shared/mnist` beside the project.
"""

import gzip
import hashlib
import shutil
import socket
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from data import DataError, load
from data import mnist as real
from data.folder import FILES, Content
from data.idx import write_idx

SHARED = Path(__file__).resolve().parents[2] / "shared" / "mnist"
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = FILES


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The unpacked bytes of a tiny MNIST by name, published in place of the real one."""
    random = np.random.RandomState(0)
    contents = {}
    for name, shape in zip(FILES, [(30, 28, 28), (30,), (10, 28, 28), (10,)], strict=True):
        write_idx(tmp_path / name, random.randint(0, 10, shape, np.uint8))
        contents[name] = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
    expected = {name: Content(len(data), hashlib.md5(data).hexdigest()) for name, data in contents.items()}
    monkeypatch.setattr(real, "PUBLISHED", expected)
    return contents


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


def put(folder, contents, *, packed=False):
    for name, data in contents.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)


@pytest.fixture
def no_network(monkeypatch):
    """A download fails at once, as without a network; the tries are counted."""
    tries = []

    def fail(url, **_):
        tries.append((url, socket.getdefaulttimeout()))
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    return tries


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "gz"])
def test_files_that_are_there_are_read(tmp_path, raw, published, packed, no_network):
    put(raw, published, packed=packed)
    mnist = load("mnist", tmp_path)
    assert (mnist.name, mnist.note, mnist.classes, mnist.shape) == ("mnist", "", 10, (1, 28, 28))
    assert mnist.train.images.numpy().tobytes() == published[IMAGES][16:]
    assert mnist.test.labels.tolist() == list(published[TEST_LABELS][8:])
    assert isinstance(mnist.train.dataset, torchvision.datasets.MNIST)
    assert {path.name for path in tmp_path.iterdir()} == ({".staging", "MNIST"} if packed else {"MNIST"})
    assert not no_network


def test_a_sample_is_normalized_to_minus_one_and_one(tmp_path, raw, published):
    put(raw, published)
    image, label = load("mnist", tmp_path).train.dataset[3]
    pixels = np.frombuffer(published[IMAGES][16:], np.uint8).reshape(-1, 1, 28, 28)[3]
    assert image.dtype == torch.float32
    assert image.equal((torch.from_numpy(pixels.copy()).float() / 255 - 0.5) / 0.5)
    assert label == published[LABELS][8 + 3]


def test_files_that_change_while_a_run_uses_them_are_named(tmp_path, raw, published):
    put(raw, published)
    mnist = load("mnist", tmp_path)
    (raw / IMAGES).unlink()
    (raw / TEST_LABELS).write_bytes(b"\0\0")
    for split in (mnist.train, mnist.test):
        with pytest.raises(DataError, match=f"{raw} were verified and read, and have since been deleted or changed"):
            split.dataset  # noqa: B018  # reading it is the test


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-2], lambda data: b"\1" + data[1:]], ids=["truncated", "altered"]
)
def test_a_damaged_file_is_named_with_what_was_expected_and_found(tmp_path, raw, published, name, damage):
    put(raw, published)
    bad = damage(published[name])
    (raw / name).write_bytes(bad)
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert str(error.value) == (
        f"{raw / name} is damaged: "
        f"expected {len(published[name])} bytes with md5 {hashlib.md5(published[name]).hexdigest()}, "
        f"found {len(bad)} bytes with md5 {hashlib.md5(bad).hexdigest()}. "
        "Delete it and run again, or put the published file there."
    )


def corrupt(packed):
    middle = len(packed) // 2
    return packed[:middle] + bytes(byte ^ 0xFF for byte in packed[middle : middle + 20]) + packed[middle + 20 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda packed: packed[: len(packed) // 2], "before this: Compressed file ended", id="truncated"),
        pytest.param(corrupt, "before this: ", id="corrupt"),
        pytest.param(lambda packed: b"<html>not found</html>", "Not a gzipped file", id="not a gz"),
        pytest.param(lambda packed: b"", "found 0 bytes", id="empty"),
        pytest.param(lambda _: gzip.compress(b"something else"), "found 14 bytes", id="of another file"),
        pytest.param(lambda _: gzip.compress(bytes(10**6)), f"found {30 * 784 + 17} bytes", id="of something huge"),
    ],
)
def test_a_damaged_gz_is_named_and_leaves_nothing_unpacked(tmp_path, raw, published, damage, reason):
    put(raw, published, packed=True)
    path = raw / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert f"{path} is damaged: unpacked, expected {len(published[IMAGES])} bytes with md5 " in str(error.value)
    assert reason in str(error.value)
    assert "Delete it and run again" in str(error.value)
    assert sorted(path.name for path in raw.iterdir()) == sorted(f"{name}.gz" for name in FILES)
    assert not (tmp_path / ".staging/mnist").exists()


def test_a_gz_beside_a_verified_file_is_not_looked_at(tmp_path, raw, published):
    put(raw, published)
    (raw / f"{IMAGES}.gz").write_bytes(b"not a gz")
    assert len(load("mnist", tmp_path).train) == 30


def test_torchvisions_old_processed_folder_does_not_win_over_the_raw_files(tmp_path, raw, published):
    put(raw, published)
    processed = tmp_path / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)), processed / name)
    assert len(torchvision.datasets.MNIST(tmp_path).data) == 5
    assert len(load("mnist", tmp_path).train) == 30


def test_missing_files_are_downloaded_by_torchvision_and_put_in_place(tmp_path, raw, published, monkeypatch):
    def fetch(url, download_root, filename, md5):
        name = filename.removesuffix(".gz")
        (Path(download_root) / name).write_bytes(published[name])

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fetch)
    put(raw, {IMAGES: published[IMAGES]})
    assert len(load("mnist", tmp_path).test) == 10
    assert sorted(path.name for path in raw.iterdir()) == sorted(FILES)
    assert not (tmp_path / ".staging/mnist").exists()


def test_a_download_of_other_bytes_is_refused(tmp_path, published, monkeypatch):
    def fetch(url, download_root, filename, md5):
        name = filename.removesuffix(".gz")
        (Path(download_root) / name).write_bytes(published[name][:-1] + b"\7" if name == LABELS else published[name])

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fetch)
    with pytest.raises(DataError, match=f"{LABELS} is damaged"):
        load("mnist", tmp_path)


def test_a_failed_download_says_which_files_to_put_where(tmp_path, raw, published, no_network):
    put(raw, {IMAGES: published[IMAGES]})
    put(raw, {LABELS: published[LABELS]}, packed=True)
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert "no route to host" in str(error.value)
    assert f"Put {TEST_IMAGES}, {TEST_LABELS} (unpacked, or each as .gz) into {raw}" in str(error.value)
    assert "'digits', which needs no download" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "failure",
    [TimeoutError("timed out"), ConnectionResetError(104, "reset"), RuntimeError("File not found or corrupted.")],
)
def test_any_failure_to_download_is_a_data_error(tmp_path, monkeypatch, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    with pytest.raises(DataError, match=f"MNIST could not be downloaded \\({type(failure).__name__}"):
        load("mnist", tmp_path)


def test_a_download_waits_a_bounded_time_and_restores_the_sockets_default(tmp_path, no_network):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(7.0)
    try:
        with pytest.raises(DataError):
            load("mnist", tmp_path)
        assert socket.getdefaulttimeout() == 7.0
    finally:
        socket.setdefaulttimeout(before)
    assert {timeout for _, timeout in no_network} == {20.0}


def test_nothing_is_downloaded_when_that_is_not_allowed(tmp_path, no_network):
    with pytest.raises(DataError, match=f"no MNIST in .*raw. Put {IMAGES}, .*{TEST_LABELS} .*digits"):
        load("mnist", tmp_path, download=False)
    assert not no_network
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path, raw, published):
    put(raw, published)
    (tmp_path / ".staging/mnist").mkdir(parents=True)
    load("mnist", tmp_path)
    assert not (tmp_path / ".staging/mnist").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real MNIST is not in {SHARED}")
def test_the_real_files_are_unpacked_verified_and_read(tmp_path, raw):
    for path in SHARED.glob("*.gz"):
        shutil.copy(path, raw)
    mnist = load("auto", tmp_path, download=False)
    assert (mnist.name, mnist.note) == ("mnist", "")
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert round(mnist.train.images.float().mean().item() / 255, 4) == 0.1307
    with (raw / LABELS).open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(DataError, match=f"{LABELS} is damaged: expected 60008 bytes .* found 50000 bytes"):
        load("auto", tmp_path, download=False)
