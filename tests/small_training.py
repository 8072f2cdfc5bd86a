"""A small training in any mode; captures without CUDA."""

import torch
from torch import nn

from data import random_images
from model import Recipe
from perf.harness.machine.devices import Device
from perf.harness.workload.modes import captured
from perf.harness.workload.modes.mode import PLAIN
from perf.harness.workload.workload import Workload

CPU = torch.device("cpu")


DATA = random_images((1, 28, 28), 10, 640, 64, seed=0)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


def anywhere(optimizer, **options):
    """`optimizer` as it is without CUDA: it does not insist on CUDA where it is said to be captured."""

    class Anywhere(optimizer):
        def step(self):
            for group in self.param_groups:
                group["capturable"] = False
            super().step()

    return lambda parameters: Anywhere(parameters, **options)


CAPTURED = [
    momentum,
    *(anywhere(getattr(torch.optim, name), lr=1e-3) for name in ("Adam", "NAdam", "RAdam", "Rprop", "ASGD", "Adagrad")),
    anywhere(torch.optim.RMSprop, lr=1e-3, momentum=0.9, centered=True),
]


def workload(mode=PLAIN, batch_size=32, seed=0, optimizer=momentum, pipeline=None):
    recipe = Recipe("tiny", network, optimizer=optimizer)
    return Workload(recipe, DATA, Device("cpu"), batch_size, pipeline, seed, mode)


def ticks():
    return 0.0


def lasting():
    """A clock by which each step takes 40 s."""
    now = iter(range(0, 100_000, 40))
    return lambda: float(next(now))


def fake_capture(call, undo):
    """Captures on the CPU as CUDA does: it warms up and undoes that; a replay writes its result to one place."""
    for _ in range(captured.WARM_STEPS):
        result = call()
    undo()
    place = torch.zeros_like(result)
    return (lambda: place.copy_(call())), place
