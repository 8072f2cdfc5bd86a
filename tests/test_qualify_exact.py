"""Errors against float64, digests, and the faults that are planted to be found by them."""

import dataclasses
import math
import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.measurement.checks import exact, faults

CPU = torch.device("cpu")
words = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_each_operation_is_judged_forward_and_backward(dtype):
    found = exact.accuracies(CPU, dtype, seed=0)
    names = [one.name for one in found]
    assert len(names) == len(set(names)) == sum(1 + len(one.shapes) for one in exact.OPERATIONS.values())
    assert {"matmul", "matmul gradient 1", "matmul gradient 2", "softmax gradient 1"} <= set(names)
    assert all(one.bad == 0 and 0 <= one.error < one.bar / 2 for one in found)


def test_float32_is_judged_in_all_of_its_bits(monkeypatch):
    """torch computes convolutions of float32 in 10 bits on a GPU, unless it is told not to."""
    seen = []

    def look(operands):
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return operands[0] * 2

    monkeypatch.setattr(exact, "OPERATIONS", {"look": exact.Operation(look, ((2, 3),), 1.0, 1.0)})
    before = torch.backends.cudnn.allow_tf32
    exact.accuracies(CPU, "fp32", 0)
    assert seen[1] == ("highest", False)  # the second is the device's
    assert torch.backends.cudnn.allow_tf32 is before


@pytest.mark.parametrize("name", ["matmul", "conv2d", "network"])
def test_products_in_10_bits_are_beyond_their_bar(name, monkeypatch):
    """What TF32 does to the operands, planted in float32."""
    operation = exact.OPERATIONS[name]

    def coarse(operands):
        if operands[0].dtype is torch.float32:
            short = [(operand.detach().view(torch.int32) & ~0x1FFF).view(torch.float32) for operand in operands]
            operands = [operand + (few - operand).detach() for operand, few in zip(operands, short, strict=True)]
        return operation.call(operands)

    monkeypatch.setattr(exact, "OPERATIONS", {name: dataclasses.replace(operation, call=coarse)})
    assert any(one.error > one.bar for one in exact.accuracies(CPU, "fp32", 0))


def test_the_error_is_in_units_of_eps_of_a_typical_element():
    right = torch.full((4, 4), 2.0, dtype=torch.float64)
    result = right.float()
    result[1, 1] += 3 * 2.0 * torch.finfo(torch.float32).eps
    assert exact._accuracy("a", result, right, 1.0).error == pytest.approx(3.0)


def test_what_is_not_finite_is_counted():
    result = torch.ones(10)
    result[2], result[5] = math.nan, math.inf
    found = exact._accuracy("a", result, torch.ones(10, dtype=torch.float64), 1.0)
    assert (found.bad, found.elements, found.error) == (2, 10, math.inf)


@given(words, st.data())
def test_a_digest_sees_every_flipped_bit(values, data):
    tensor = torch.tensor(values, dtype=torch.float32)
    before = exact.digest([tensor])
    index = data.draw(st.integers(0, len(values) - 1))
    faults.flip_bit(tensor, index, data.draw(st.integers(0, 31)))
    assert exact.digest([tensor]) != before


@given(words, st.integers(0, 31), st.data())
def test_a_digest_sees_the_same_flip_at_two_places(values, bit, data):
    """An exclusive or over the words does not."""
    tensor = torch.tensor([*values, 1.0], dtype=torch.float32)
    before = exact.digest([tensor])
    first = data.draw(st.integers(0, len(values) - 1))
    for index in (first, len(values)):
        faults.flip_bit(tensor, index, bit)
    assert exact.digest([tensor]) != before


def test_a_digest_sees_order_places_and_the_sign_of_zero():
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])
    assert exact.digest([a]) != exact.digest([b])
    assert exact.digest([a, b]) != exact.digest([b, a])
    assert exact.digest([torch.zeros(3)]) != exact.digest([-torch.zeros(3)])


def test_a_digest_is_of_the_bits_and_not_of_the_memory():
    a = torch.arange(12.0).view(3, 4)
    assert exact.digest([a]) == exact.digest([a.t().contiguous().t()]) == exact.digest([a.clone()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_a_digest_takes_every_dtype_of_a_network(dtype):
    assert exact.digest([torch.ones(5, dtype=dtype)]) != exact.digest([torch.zeros(5, dtype=dtype)])


@pytest.mark.parametrize(
    ("dtype", "bits"), [(torch.float32, 32), (torch.bfloat16, 16), (torch.float64, 64), (torch.uint8, 8)]
)
def test_a_bit_is_flipped_and_flipped_back(dtype, bits):
    tensor = torch.arange(6).to(dtype).view(2, 3)
    for bit in range(bits):
        before = tensor.clone()
        faults.flip_bit(tensor, 4, bit)
        words = {8: torch.uint8, 16: torch.int16, 32: torch.int32, 64: torch.int64}[bits]
        differ = before.view(words) != tensor.view(words)
        assert differ.sum() == 1 and differ[1, 1]
        faults.flip_bit(tensor, 4, bit)
        assert torch.equal(before.view(words), tensor.view(words))


def test_a_twice_done_call_is_done_twice():
    calls = []
    assert faults.twice(lambda: calls.append(1) or len(calls))() == 2


def test_a_replay_uses_operations_that_give_the_same_bits_and_leaves_torch_as_it_was():
    def chosen():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        )

    before, seen = chosen(), []
    torch.backends.cudnn.benchmark = True
    try:
        with pytest.raises(ZeroDivisionError), exact.deterministic():
            seen.append(chosen())
            raise ZeroDivisionError
        assert chosen() == (*before[:3], True)
    finally:
        torch.backends.cudnn.benchmark = before[3]
    assert seen == [(True, True, True, False)]


def test_each_step_of_a_replay_is_deterministic():
    seen = []
    step = types.SimpleNamespace(
        zero_grad=lambda: None, forward=lambda: None, update=lambda: None,
        backward=lambda loss: seen.append(torch.are_deterministic_algorithms_enabled()),
    )  # fmt: skip
    model = torch.nn.Linear(1, 1)
    trainee = types.SimpleNamespace(restore=lambda: None, model=model, step=step)
    exact.trained_digest(trainee, [(), ()])
    assert seen == [True, True] and not torch.are_deterministic_algorithms_enabled()
