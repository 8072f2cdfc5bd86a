"""Training and evaluation on `cuda` without a GPU: FakeTensorMode computes nothing, but knows each tensor's device."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from data import PIPELINES, load, open_pipeline
from model import TrainingStep, evaluate, train_epoch
from model.networks import SimpleNN

CUDA = torch.device("cuda", 0)
TWO_DEVICES = "two (different devices|devices,) (cuda:0|cpu)"
# The workers of a pipeline for a GPU pin their batches; torch says that it finds no GPU to pin them for.
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")


@pytest.fixture(scope="module")
def digits(digits_root):
    return load("digits", digits_root).subset(150, 1).train


def no_gpu():
    """Tensors made here hold no values. Tensors of the host that come in become fake ones, on the CPU."""
    return FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())


@pytest.fixture
def backward(monkeypatch):
    """torch built with CUDA asks the driver in each backward pass. Without a driver, gradients are made by hand."""
    with no_gpu():
        try:
            torch.ones(1, device=CUDA, requires_grad=True).sum().backward()
        except RuntimeError:
            monkeypatch.setattr(torch.autograd, "backward", lambda loss: make_gradients(loss.grad_fn))


def make_gradients(node):
    """Give each parameter that this node of the graph comes from a gradient beside it."""
    if hasattr(node, "variable"):
        node.variable.grad = torch.empty_like(node.variable)
    for before, _ in node.next_functions:
        if before is not None:
            make_gradients(before)


def pipeline_of(kind, digits):
    return open_pipeline(kind, digits, batch_size=64, device=CUDA, seed=0, workers=1)


def host_batches(kind, digits):
    """The batches before they are copied, read before the mode begins: worker processes would inherit the mode."""
    with pipeline_of(kind, digits) as pipeline:
        return list(pipeline.host_epoch(0))


def on_cuda(build):
    """A network that is built on the GPU: a parameter without values cannot move there later."""
    with CUDA:
        return build()


def step_of(network):
    return TrainingStep(network, torch.optim.SGD(network.parameters(), lr=0.01), torch.nn.functional.cross_entropy)


class Forgetful(torch.nn.Module):
    """A network with a tensor that is neither a parameter nor a buffer, and stays on the CPU."""

    def __init__(self):
        super().__init__()
        self.network, self.weight = SimpleNN(), torch.ones(10, device="cpu")

    def forward(self, images):
        return self.network(images) * self.weight


@pytest.mark.parametrize("kind", PIPELINES)
def test_an_epoch_and_an_evaluation_stay_on_the_gpu(kind, digits, backward):
    host = None if kind == "resident" else host_batches(kind, digits)
    with no_gpu(), pipeline_of(kind, digits) as pipeline:
        network = on_cuda(SimpleNN)
        batches = [pipeline.to_device(batch) for batch in host or pipeline.host_epoch(0)]
        loss = train_epoch(step_of(network), batches)
        accuracy = evaluate(network, batches)
    assert [len(labels) for _, labels in batches] == [64, 64, 22]
    assert {tensor.device for batch in batches for tensor in batch} == {CUDA}
    assert {parameter.grad.device for parameter in network.parameters()} == {CUDA}
    assert loss.device == CUDA
    assert isinstance(accuracy, torch.SymFloat)  # it has no value, but it is a number of the host


def test_a_network_that_leaves_a_tensor_on_the_cpu_fails(digits):
    with no_gpu(), pipeline_of("resident", digits) as pipeline:
        step = step_of(on_cuda(Forgetful))
        with pytest.raises(RuntimeError, match=TWO_DEVICES):
            train_epoch(step, pipeline.epoch())
        with pytest.raises(RuntimeError, match=TWO_DEVICES):
            evaluate(step.model, pipeline.epoch())


@pytest.mark.parametrize("forgotten", ["images", "labels"])
def test_a_pipeline_that_leaves_half_a_batch_on_the_cpu_fails(forgotten, digits):
    (images, labels), *_ = host_batches("dataloader", digits)
    with no_gpu():
        step = step_of(on_cuda(SimpleNN))
        batch = (images, labels.to(CUDA)) if forgotten == "images" else (images.to(CUDA), labels)
        with pytest.raises(RuntimeError, match=TWO_DEVICES):
            step(*batch)
