"""The bytes and operations of what is known by hand: copies, sums, products, views, updates, a whole training step."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from model import TrainingStep
from perf.harness.measurement.traffic import work
from perf.harness.verdict.limits import Limit
from perf.harness.verdict.roofline import Work, step_details

N = 1_000
ROWS, COLUMNS, INNER = 3, 5, 7
A, B, C = torch.randn(N), torch.randn(N), torch.randn(N)
LEFT, RIGHT = torch.randn(ROWS, INNER), torch.randn(INNER, COLUMNS)
GRADED = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
for one in GRADED:
    one.grad = torch.ones_like(one)
TABLE = torch.randn(10, 20)
PRODUCT = 4 * (ROWS * INNER + INNER * COLUMNS + ROWS * COLUMNS)
F32 = 4 * N


@pytest.mark.parametrize(
    ("call", "expected", "ops"),
    [
        (lambda: A.clone(), 2 * F32, 1),
        (lambda: A.copy_(B), 2 * F32, 1),
        (lambda: A + B, 3 * F32, 1),
        (lambda: A * A, 2 * F32, 1),  # one operand, read once
        (lambda: A.add_(1.0), 2 * F32, 1),
        (lambda: A.add_(B), 3 * F32, 1),
        (lambda: torch.add(A, B, out=C), 3 * F32, 1),
        (lambda: A.zero_(), F32, 1),
        (lambda: A.fill_(1.0), F32, 1),
        (lambda: torch.zeros_like(A), F32, 1),
        (lambda: torch.zeros(N), F32, 1),
        (lambda: A.new_zeros(N), F32, 1),
        (lambda: A.relu().relu_(), 4 * F32, 2),
        (lambda: LEFT @ RIGHT, PRODUCT, 1),
        (lambda: LEFT @ RIGHT.t().contiguous().t(), PRODUCT + 2 * 4 * INNER * COLUMNS, 2),
        (lambda: torch.addmm(TABLE[0, :COLUMNS], LEFT, RIGHT), PRODUCT + 4 * COLUMNS, 1),
        (lambda: A.sum(), F32 + 4, 1),
        (lambda: A.to(torch.float64), 3 * F32, 1),
        (lambda: A[0].item(), 4, 1),
        (lambda: A[0].expand(N) + A, 4 + 2 * F32, 1),  # what is repeated is one element
    ],
)  # fmt: skip
def test_what_is_read_and_written_is_counted(call, expected, ops):
    found = work(call)
    assert (found.bytes, found.ops) == (expected, ops)


@pytest.mark.parametrize(
    "call",
    [
        lambda: TABLE.view(200), lambda: TABLE.t(), lambda: TABLE[2:4, ::3], lambda: TABLE.expand(5, 10, 20),
        lambda: TABLE.detach(), lambda: TABLE.reshape(20, 10).permute(1, 0), lambda: TABLE.split(5), lambda: None,
        lambda: torch.empty(N), lambda: torch.empty_like(A), lambda: A.new_empty(3), lambda: A.contiguous(),
        lambda: torch.ops.aten._unsafe_view(TABLE, [200]),
    ],
)  # fmt: skip
def test_what_only_looks_at_a_tensor_moves_nothing(call):
    found = work(call)
    assert (found.bytes, found.ops) == (0, 0)


@pytest.mark.parametrize("foreach", [True, False])
def test_an_update_reads_weights_and_gradients_and_writes_weights(foreach):
    weights = [nn.Parameter(torch.randn(N)) for _ in range(4)]
    for weight in weights:
        weight.grad = torch.ones(N)
    optimizer = torch.optim.SGD(weights, lr=0.1, foreach=foreach)
    found = work(optimizer.step)
    assert (found.bytes, found.ops) == (4 * 3 * F32, 1 if foreach else 4)


def test_a_training_step_is_the_sum_of_its_operations():
    """A linear layer, 7 to 5, with a bias, on 3 samples."""
    model = nn.Linear(INNER, COLUMNS)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), functional.cross_entropy)
    images, labels = torch.randn(ROWS, INNER), torch.tensor([0, 1, 2])
    found = work(lambda: step(images, labels))
    batch, weight, bias, logits, label = ROWS * INNER, INNER * COLUMNS, COLUMNS, ROWS * COLUMNS, 2 * ROWS  # of 4 bytes
    elements = (
        (batch + weight + bias + logits)  # forward
        + (logits + logits)  # log softmax
        + (logits + label + 1 + 1)  # the loss, and the weight that it was divided by
        + 1  # its gradient, ones
        + (1 + logits + label + 1 + logits)  # backward of the loss
        + (logits + logits + logits)  # backward of log softmax
        + (logits + batch + weight)  # the gradient of the weights
        + (logits + bias)  # and of the bias
        + 3 * (weight + bias)  # the update
    )
    assert found.bytes == 4 * elements
    assert found.ops == 10
    assert found.flop == 2 * 2 * ROWS * COLUMNS * INNER  # forward, and the gradient of the weights


def test_products_and_convolutions_are_counted_and_nothing_elementwise():
    images, kernels = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    found = work(lambda: (functional.conv2d(images, kernels, padding=1).relu(), LEFT @ RIGHT))
    assert found.convolution_flop == 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3)
    assert found.flop == found.convolution_flop + 2 * ROWS * COLUMNS * INNER


def test_what_is_called_is_called_once_and_returns_to_normal():
    calls = []
    work(lambda: calls.append(1))
    assert calls == [1]
    assert work(lambda: None) == work(lambda: None)


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.out = layer, nn.Linear(48, 10)

    def forward(self, images):
        return self.out(self.layer(images)[0][:, -1])


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: Rows(nn.LSTM(28, 48, batch_first=True))(torch.randn(2, 28, 28)).sum().backward(), ("LSTM",)),
        (lambda: nn.Bilinear(4, 5, 6)(torch.randn(2, 4), torch.randn(2, 5)), ("Bilinear",)),
        (lambda: torch.mv(LEFT, RIGHT[:, 0].contiguous()), ("matrix by vector",)),
        (lambda: torch.fft.rfft(A), ("FFT",)),
        (lambda: torch.cdist(LEFT, LEFT), ("cdist",)),
        (lambda: torch.linalg.inv(torch.eye(3)), ("linear algebra",)),
        (lambda: nn.utils.clip_grad_norm_(GRADED, 1.0), ()),
        (lambda: nn.utils.clip_grad_norm_(GRADED, 1.0, foreach=False), ()),
        (lambda: torch.ops.stepwatch_test.twice(A), ("stepwatch_test::twice",)),
    ],
)
def test_what_the_counter_of_torch_does_not_see_is_named(call, names):
    with torch.library._scoped_library("stepwatch_test", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")
        assert work(call).uncounted == names


@pytest.mark.parametrize(
    "layer",
    [
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout()),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.LogSoftmax(dim=1)),
        nn.Sequential(nn.Flatten(2), nn.Flatten(0, 1), nn.GRU(784, 8)),  # step by step on a CPU, in products
    ],
)
def test_what_the_counter_sees_is_counted(layer):
    found = work(lambda: layer(torch.randn(2, 1, 28, 28)))
    assert found.uncounted == () and found.flop > 0


def test_a_step_that_is_not_counted_has_no_place_under_the_roofline():
    seen = Limit(1e12, "a datasheet", certain=True)
    details = step_details(Work(3840, 0, 1000, 5, ("LSTM",)), 1.0, seen, seen, None)
    assert details["uncounted"] == "LSTM"
    unknown = {
        "flop_per_step",
        "bytes_per_step",
        "flop_per_byte",
        "achieved_flop_per_s",
        "share_of_possible",
        "bound_by",
    }
    assert {key for key in unknown if details[key] is not None} == set()
