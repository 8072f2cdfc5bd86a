"""Random images: any size, the same bits for the same arguments, and something to learn."""

import pytest
import torch
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from data import open_pipeline, random_images
from data import synthetic as making


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20), (4, 5, 6), (2, 1, 1), (3, 224, 224)])
def test_images_have_the_shape_that_was_asked_for(shape):
    made = random_images(shape, 3, 6, 4, seed=0)
    assert (made.name, made.note, made.classes, made.shape) == ("random", "", 3, shape)
    assert made.train.images.shape == (6, *shape)
    assert made.test.images.shape == (4, *shape)
    assert made.train.images.dtype == torch.uint8
    assert made.train.labels.dtype == torch.int64
    image, label = made.test.dataset[1]
    assert image.shape == shape
    assert image.dtype == torch.float32
    assert type(label) is int and label == made.test.labels[1]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_sample_takes_the_usual_transforms_in_any_number_of_channels(channels):
    made = random_images((channels, 8, 8), 2, 10, 1, seed=0)
    usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * channels, (0.5,) * channels)])
    for index, pixels in enumerate(made.train.images):
        channel_by_channel = torch.cat([transforms.ToTensor()(to_pil_image(plane)) for plane in pixels])
        assert made.train.dataset[index][0].equal(usual.transforms[1](channel_by_channel))


def test_the_same_arguments_make_the_same_set_and_others_another():
    made, again = (random_images((3, 8, 8), 5, 20, 10, seed=1) for _ in range(2))
    assert made.digest == again.digest
    assert made.train.images.equal(again.train.images)
    assert made.test.labels.equal(again.test.labels)
    for other in (((3, 8, 8), 5, 20, 10, 2), ((3, 8, 8), 5, 20, 11, 1), ((3, 8, 8), 4, 20, 10, 1)):
        assert random_images(*other).digest != made.digest
    assert not random_images((3, 8, 8), 5, 20, 10, seed=2).train.images.equal(made.train.images)


def test_every_class_occurs_equally_often_in_random_order():
    labels = random_images((1, 4, 4), 5, 50, 10, seed=0).train.labels
    assert labels.bincount().tolist() == [10] * 5
    assert not labels.equal(labels.sort().values)


def test_a_linear_network_learns_them_in_a_moment():
    made = random_images((3, 16, 16), 10, 1000, 500, seed=0)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def accuracy():
        pipeline = open_pipeline("resident", made.test, batch_size=500, device=torch.device("cpu"), seed=0)
        images, labels = next(pipeline.epoch())
        return (network(images).argmax(1) == labels).float().mean().item()

    assert accuracy() < 0.3
    pipeline = open_pipeline("resident", made.train, batch_size=50, device=torch.device("cpu"), seed=0)
    for epoch in range(3):
        for images, labels in pipeline.epoch(epoch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    assert accuracy() > 0.9


def test_no_two_images_are_alike():
    images = random_images((1, 8, 8), 2, 100, 1, seed=0).train.images
    assert len(images.flatten(1).unique(dim=0)) == 100


def test_they_are_made_a_chunk_at_a_time(monkeypatch):
    whole = random_images((1, 8, 8), 2, 10, 1, seed=0)
    monkeypatch.setattr(making, "_CHUNK_BYTES", 3 * 64)
    pieces, split = [], torch.split
    monkeypatch.setattr(torch, "split", lambda tensor, size: pieces.append(size) or split(tensor, size))
    assert len(random_images((1, 8, 8), 2, 10, 1, seed=0).train.images) == len(whole.train.images)
    assert set(pieces) == {3}


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    random_images((1, 8, 8), 2, 10, 1, seed=0)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    "arguments",
    [
        ((0, 8, 8), 2, 10, 1, 0),
        ((1, 8, -1), 2, 10, 1, 0),
        ((1, 8, 8), 0, 10, 1, 0),
        ((1, 8, 8), 2, 0, 1, 0),
        ((1, 8, 8), 2, 1, 1, -1),
    ],
)
def test_nonsense_is_refused_with_what_was_given(arguments):
    with pytest.raises(ValueError, match=r"at least 1 .*not shape="):
        random_images(*arguments)
