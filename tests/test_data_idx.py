"""IDX files: what is written is what torchvision and we read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets.mnist import read_image_file, read_label_file

from data.idx import read_idx, write_idx

sides = st.integers(1, 9)


@given(count=sides, height=sides, width=sides, seed=st.integers(0, 99))
def test_images_come_back_from_torchvisions_reader(tmp_path_factory, count, height, width, seed):
    images = np.random.RandomState(seed).randint(0, 256, (count, height, width), np.uint8)
    path = tmp_path_factory.getbasetemp() / "images-idx3-ubyte"
    write_idx(path, images)
    assert np.array_equal(read_image_file(str(path)).numpy(), images)
    assert np.array_equal(read_idx(path), images)


@given(labels=st.lists(st.integers(0, 255), min_size=1, max_size=300))
def test_labels_come_back_from_torchvisions_reader(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "labels-idx1-ubyte"
    write_idx(path, np.array(labels, np.uint8))
    assert read_label_file(str(path)).tolist() == read_idx(path).tolist() == labels


def test_a_view_is_written_in_its_own_order(tmp_path):
    turned = np.arange(6, dtype=np.uint8).reshape(1, 2, 3).transpose(0, 2, 1)
    write_idx(tmp_path / "turned", turned)
    assert np.array_equal(read_image_file(str(tmp_path / "turned")).numpy(), turned)


def test_anything_but_bytes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not int64"):
        write_idx(tmp_path / "wide", np.zeros(3, np.int64))
