"""A user's own data: data sets, streams, and batches that are made."""

import itertools
import re

import pytest
import torch

from data import DataError, NotResident, Order
from perf.harness.workload import own_data


def split(count=10, **more):
    return own_data.of_dataset([(torch.tensor([float(i)]), i) for i in range(count)], None, 0, None, **more)


def test_a_users_samples_come_in_the_same_order_through_any_pipeline():
    cpu = torch.device("cpu")
    from data import open_pipeline

    found = {}
    for kind in ("dataloader", "workers", "resident"):
        with open_pipeline(kind, split(), batch_size=4, device=cpu, seed=3, workers=1) as pipeline:
            found[kind] = [batch[0][1].tolist() for batch in pipeline.epoch(1)]
    assert found["dataloader"] == found["workers"] == found["resident"]
    assert sorted(itertools.chain.from_iterable(found["resident"])) == list(range(10))


def test_made_batches_are_the_same_for_the_same_seed_and_differ_from_each_other():
    made = own_data.of_batches(lambda size: torch.randn(size, 2), 5, 100)
    first, second = (next(made.full(4))[0] for _ in range(2))
    stream = made.full(4)
    assert first.equal(second)
    assert not next(stream)[0].equal(next(stream)[0])
    sizes = [len(batch) for batch in made.first(10).loader(Order(10, 4))]
    assert sizes == [4, 4, 2]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        number = 0
        while True:
            yield torch.tensor([number])
            number += 1


def test_a_stream_without_end_has_epochs_with_one():
    stream = own_data.of_dataset(Endless(), None, 0, 20)
    assert len(stream) == 20
    assert [len(batch) for batch in stream.loader(Order(20, 8))] == [8, 8, 4]
    workers = stream.loader(Order(20, 8), num_workers=2)
    assert sum(len(batch) for batch in workers) == 20


@pytest.mark.parametrize(
    ("dataset", "says"),
    [([], "the data set is empty: its len"), (iter([]), "the data set is empty: iter"), (7, "must return a data set")],
)
def test_a_data_set_that_is_none_is_refused(dataset, says):
    with pytest.raises(DataError, match=re.escape(says)):
        own_data.of_dataset(dataset, None, 0, None)


def test_a_data_set_shorter_than_a_batch_is_refused():
    with pytest.raises(DataError, match="10 samples, fewer than a batch of 16"):
        next(split().full(16))


@pytest.mark.parametrize(
    ("samples", "says"),
    [([torch.ones(3), torch.ones(4)], "stack"), ([["a"], ["b"]], "cannot become one")],
)
def test_samples_that_do_not_become_tensors_are_not_resident(samples, says):
    uneven = own_data.of_dataset(samples, None, 0, None)
    with pytest.raises((NotResident, RuntimeError), match=says):
        uneven.gatherer(torch.device("cpu"))


def test_a_digest_is_of_the_samples(digits_root):
    assert own_data.digest(split()) == own_data.digest(split())
    assert own_data.digest(split()) != own_data.digest(split(11))
