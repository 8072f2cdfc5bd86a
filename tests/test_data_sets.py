"""Data sets and their splits."""

import importlib
import sys

import pytest
import torch
from torchvision.datasets import MNIST

from data import load, random_images


@pytest.fixture(scope="module")
def digits(digits_root):
    return load("digits", digits_root)


def test_a_subset_is_the_first_samples_of_each_split(digits):
    small = digits.subset(200, 30)
    assert (len(small.train), len(small.test)) == (200, 30)
    assert small.train.images.equal(digits.train.images[:200])
    assert small.test.labels.equal(digits.test.labels[:30])
    assert (small.name, small.digest, small.classes, small.shape) == ("digits", digits.digest, 10, (1, 28, 28))


def test_a_subset_leaves_the_whole_as_it_was_and_reads_through_the_same_transforms(digits):
    small = digits.subset(5, 5)
    assert len(digits.train) == len(digits.train.dataset) == 60_000
    assert isinstance(small.train.dataset, MNIST)
    assert len(small.train.dataset) == 5
    for index in range(5):
        image, label = small.train.dataset[index]
        whole, same = digits.train.dataset[index]
        assert image.equal(whole)
        assert label == same
    with pytest.raises(IndexError):
        small.train.dataset[5]


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (-1, 5), (21, 5), (5, 11)])
def test_a_subset_of_no_samples_or_of_more_than_there_are_is_refused(sizes):
    with pytest.raises(ValueError, match=r"samples asked of a split that has 1 to \d+"):
        random_images((1, 4, 4), 2, 20, 10, seed=0).subset(*sizes)


def test_images_are_bytes_and_labels_are_long(digits):
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.shape == (60_000, 28, 28)
    assert digits.train.labels.dtype == torch.int64


def test_whole_tensors_need_no_torchvision_which_takes_seconds_to_import(digits_root, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "data"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    anew = importlib.import_module("data")
    digits = anew.load("digits", digits_root).subset(128, 1).train
    how = {"batch_size": 64, "device": torch.device("cpu"), "seed": 0}
    with anew.open_pipeline("resident", digits, **how) as pipeline:
        assert len(list(pipeline.epoch())) == 2
    with pytest.raises(ModuleNotFoundError, match="torchvision"):
        anew.open_pipeline("dataloader", digits, **how)
