"""The input pipelines: the same batches, bit for bit, and nothing left behind."""

import gc
import multiprocessing
import os
import random
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data import PIPELINES, Split, load, open_pipeline, random_images, shuffle_order
from data.by_sample import SyntheticImages

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits(digits_root):
    return load("digits", digits_root).subset(150, 1).train


@pytest.fixture(autouse=True)
def no_process_stays():
    yield
    gc.collect()
    assert multiprocessing.active_children() == []


def numbered(samples):
    """A split whose labels are the samples' numbers."""
    images = random_images((1, 2, 2), 1, samples, 1, seed=0).train.images
    return Split(images, torch.arange(samples), SyntheticImages)


def pipeline_of(kind, split, batch_size=64, seed=0, **options):
    return open_pipeline(kind, split, batch_size=batch_size, device=CPU, seed=seed, **options)


def batches_of(kind, split, number=0, **options):
    with pipeline_of(kind, split, **options) as pipeline:
        return list(pipeline.epoch(number))


def same(these, those):
    return len(these) == len(those) and all(
        images.equal(others) and labels.equal(other_labels)
        for (images, labels), (others, other_labels) in zip(these, those, strict=True)
    )


class Fatal(SyntheticImages):
    """Kills the worker process that reads sample 5, as long as a file is there."""

    def __getitem__(self, index):
        if index == 5 and self.weapon.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Threads(SyntheticImages):
    """Labels are the number of torch threads where the sample is read."""

    def __getitem__(self, index):
        return super().__getitem__(index)[0], torch.get_num_threads()


# What comes out


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 64, 150, 1000])
def test_the_three_pipelines_give_the_same_bits(digits, batch_size, number):
    first, *others = (batches_of(kind, digits, number, batch_size=batch_size, seed=3) for kind in PIPELINES)
    assert all(same(first, other) for other in others)


@pytest.mark.parametrize("shape", [(3, 9, 7), (2, 5, 5)])
def test_so_they_do_for_images_of_several_channels(shape):
    split = random_images(shape, 3, 20, 1, seed=0).train
    first, *others = (batches_of(kind, split, batch_size=7) for kind in PIPELINES)
    assert first[0][0].shape == (7, *shape)
    assert all(same(first, other) for other in others)


def test_every_byte_value_is_normalized_as_torchvision_does():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    split = Split(every, torch.zeros(1, dtype=torch.int64), SyntheticImages)
    assert batches_of("resident", split)[0][0][0].equal(split.dataset[0][0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_normalizes_with_the_same_bits(digits):
    device = torch.device("cuda")
    with open_pipeline("resident", digits, batch_size=64, device=device, seed=0) as pipeline:
        on_gpu = [(images.cpu(), labels.cpu()) for images, labels in pipeline.epoch()]
    assert same(on_gpu, batches_of("dataloader", digits))


@pytest.mark.parametrize("kind", PIPELINES)
def test_batches_are_what_a_network_takes(digits, kind):
    (images, labels), *_, (last, last_labels) = batches_of(kind, digits)
    assert images.shape == (64, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert labels.shape == (64,)
    assert labels.dtype == torch.int64
    assert (len(last), len(last_labels)) == (22, 22)


@given(
    samples=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 2**40), number=st.integers(0, 1000)
)
def test_an_epoch_covers_every_sample_once_in_as_many_batches_as_it_says(samples, batch_size, seed, number):
    split = numbered(samples)
    for kind in ("dataloader", "resident"):
        with pipeline_of(kind, split, batch_size, seed) as pipeline:
            labels = [labels for _, labels in pipeline.epoch(number)]
        assert len(labels) == pipeline.batches
        assert {len(part) for part in labels[:-1]} <= {batch_size}
        assert sorted(torch.cat(labels).tolist()) == list(range(samples))


@pytest.mark.parametrize("batch_size", [1, 7, 30, 31])
def test_so_does_an_epoch_of_the_worker_processes(batch_size):
    labels = [labels for _, labels in batches_of("workers", numbered(30), batch_size=batch_size)]
    assert len(labels) == -(-30 // batch_size)
    assert sorted(torch.cat(labels).tolist()) == list(range(30))


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_pipeline_says_what_it_is(digits, kind):
    with pipeline_of(kind, digits) as pipeline:
        assert (pipeline.kind, pipeline.samples, pipeline.batch_size, pipeline.batches) == (kind, 150, 64, 3)


@pytest.mark.parametrize("kind", PIPELINES)
def test_batches_stay_valid_when_they_are_kept(digits, kind):
    with pipeline_of(kind, digits) as pipeline:
        copies, kept = [], []
        for images, labels in pipeline.epoch():
            copies.append((images.clone(), labels.clone()))
            kept.append((images, labels))
        list(pipeline.epoch(1))
    assert same(kept, copies)


@pytest.mark.parametrize("kind", PIPELINES)
def test_changing_a_batch_leaves_the_split_as_it_was(digits, kind):
    before = digits.images.clone(), digits.labels.clone()
    with pipeline_of(kind, digits, batch_size=1000) as pipeline:
        for images, labels in pipeline.epoch():
            images.zero_()
            labels.zero_()
    assert same([(digits.images, digits.labels)], [before])


# The order


def test_the_order_is_a_permutation_of_its_own_for_each_seed_and_epoch():
    orders = [tuple(shuffle_order(50, seed, epoch).tolist()) for seed in range(20) for epoch in range(20)]
    assert len(set(orders)) == 400
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert shuffle_order(50, 3, 4).equal(shuffle_order(50, 3, 4))


@pytest.mark.parametrize("kind", PIPELINES)
def test_epochs_differ_and_can_be_repeated(kind):
    with pipeline_of(kind, numbered(30), batch_size=8) as pipeline:
        orders = [torch.cat([labels for _, labels in pipeline.epoch(number)]).tolist() for number in (0, 1, 0)]
    assert orders[0] == orders[2] == shuffle_order(30, 0, 0).tolist()
    assert orders[1] == shuffle_order(30, 0, 1).tolist()


@pytest.mark.parametrize("kind", PIPELINES)
def test_the_global_generators_are_left_alone(digits, kind):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    batches_of(kind, digits)
    assert torch.get_rng_state().equal(before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


@pytest.mark.parametrize("kind", ["dataloader", "resident"])
def test_two_epochs_at_once_do_not_disturb_each_other(kind):
    with pipeline_of(kind, numbered(30), batch_size=8) as pipeline:
        both = list(zip(pipeline.epoch(0), pipeline.epoch(1), strict=True))
    for number in (0, 1):
        assert torch.cat([pair[number][1] for pair in both]).equal(shuffle_order(30, 0, number))


# Host and device


@pytest.mark.parametrize("kind", PIPELINES)
def test_host_batches_copied_to_the_device_are_the_epoch(digits, kind):
    with pipeline_of(kind, digits) as pipeline:
        copied = [pipeline.to_device(batch) for batch in pipeline.host_epoch(2)]
    assert same(copied, batches_of(kind, digits, 2))


def test_a_dataloaders_batches_are_on_the_host_before_and_on_the_device_after_the_copy(digits):
    meta = torch.device("meta")  # a device that needs no hardware
    with open_pipeline("dataloader", digits, batch_size=64, device=meta, seed=0) as pipeline:
        batch = next(pipeline.host_epoch())
        assert {tensor.device for tensor in batch} == {CPU}
        assert {tensor.device for tensor in pipeline.to_device(batch)} == {meta}
        assert {tensor.device for tensor in next(pipeline.epoch())} == {meta}


def test_a_resident_split_has_nothing_left_to_copy(digits):
    meta = torch.device("meta")
    with open_pipeline("resident", digits, batch_size=64, device=meta, seed=0) as pipeline:
        batch = next(pipeline.host_epoch())
        assert {tensor.device for tensor in batch} == {meta}
        assert pipeline.to_device(batch) is batch


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("mps", False), ("cuda", True), ("xpu", True)])
def test_worker_batches_are_pinned_for_an_accelerator_with_memory_of_its_own(digits, device, pinned):
    with open_pipeline("workers", digits, batch_size=64, device=torch.device(device), seed=0) as pipeline:
        assert pipeline._loader.pin_memory is pinned


# Worker processes


def test_workers_are_kept_from_epoch_to_epoch_and_gone_after_closing(digits):
    with pipeline_of("workers", digits, workers=2) as pipeline:
        list(pipeline.epoch(0))
        workers = {process.pid for process in multiprocessing.active_children()}
        list(pipeline.epoch(1))
        assert len(workers) == 2
        assert {process.pid for process in multiprocessing.active_children()} == workers
    assert multiprocessing.active_children() == []
    pipeline.close()


def test_every_worker_computes_on_one_thread():
    split = random_images((1, 4, 4), 1, 8, 1, seed=0).train
    batches = batches_of("workers", Split(split.images, split.labels, Threads), batch_size=1)
    assert {labels.item() for _, labels in batches} == {1}


def test_an_abandoned_epoch_does_not_leak_into_the_next_one(digits):
    with pipeline_of("workers", digits, batch_size=8) as pipeline:
        for _ in pipeline.epoch(0):
            break
        assert same(list(pipeline.epoch(1)), batches_of("resident", digits, 1, batch_size=8))


def test_an_epoch_that_another_one_ended_says_so(digits):
    with pipeline_of("workers", digits, batch_size=8) as pipeline:
        abandoned, current = pipeline.epoch(0), pipeline.epoch(1)
        next(abandoned)
        first = next(current)
        with pytest.raises(RuntimeError, match="this epoch ended when another one"):
            next(abandoned)
        assert same([first, *current], batches_of("resident", digits, 1, batch_size=8))


def test_closing_in_the_middle_of_an_epoch_stops_the_workers(digits):
    pipeline = pipeline_of("workers", digits, batch_size=8)
    epoch = pipeline.epoch()
    next(epoch)
    pipeline.close()
    assert multiprocessing.active_children() == []
    with pytest.raises(RuntimeError, match=r"or by close\(\)"):
        next(epoch)


def test_a_worker_that_dies_is_an_error_and_the_next_epoch_works(tmp_path):
    made = random_images((1, 4, 4), 1, 20, 1, seed=0).train
    split = Split(made.images, made.labels, Fatal)
    weapon = split.dataset.weapon = tmp_path / "weapon"
    weapon.touch()
    with pipeline_of("workers", split, batch_size=2) as pipeline:
        with pytest.raises(RuntimeError, match="worker"):
            list(pipeline.epoch())
        assert multiprocessing.active_children() == []
        weapon.unlink()
        assert same(list(pipeline.epoch()), batches_of("resident", made, batch_size=2))


# Mistakes


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_closed_pipeline_begins_no_epoch_and_can_be_closed_again(digits, kind):
    pipeline = pipeline_of(kind, digits)
    pipeline.close()
    pipeline.close()
    with pytest.raises(RuntimeError, match=f"this {kind} pipeline is closed"):
        pipeline.epoch()


def test_an_unknown_kind_is_refused_with_the_known_ones(digits):
    with pytest.raises(ValueError, match="'turbo': choose one of dataloader, workers, resident"):
        pipeline_of("turbo", digits)


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_batch_size_below_one_is_refused(digits, kind):
    with pytest.raises(ValueError, match="the batch size must be at least 1, not 0"):
        pipeline_of(kind, digits, batch_size=0)


def test_no_worker_processes_are_refused(digits):
    with pytest.raises(ValueError, match="at least 1 worker process, not 0"):
        pipeline_of("workers", digits, workers=0)
