"""Batches of any nesting: dictionaries, lists, tuples and tensors."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.nesting import joined, length, mapped, rows, tensors


class Pair(SimpleNamespace):
    """No container that is known: it stays as it is."""


LEAVES = st.builds(lambda n: torch.full((4, n), float(n)), st.integers(1, 3))
NESTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
    ),
    max_leaves=6,
)


@given(NESTS)
def test_a_mapped_batch_has_the_same_nesting_and_the_original_stays(batch):
    before = [tensor.clone() for tensor in tensors(batch)]
    doubled = mapped(lambda tensor: tensor * 2, batch)
    assert type(doubled) is type(batch)
    for one, other, old in zip(tensors(doubled), tensors(batch), before, strict=True):
        assert one.equal(other * 2)
        assert other.equal(old)


@given(NESTS)
def test_rows_of_joined_batches_are_those_of_the_parts(batch):
    other = mapped(lambda tensor: -tensor, batch)
    whole = joined([batch, other])
    assert length(whole) == 8
    for one, first, second in zip(
        tensors(rows(whole, torch.tensor([1, 6]))), tensors(batch), tensors(other), strict=True
    ):
        assert one.equal(torch.stack([first[1], second[2]]))


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([torch.ones(2, 3), torch.ones(2, 4)], "differ in shape"),
        ([[torch.ones(2)], [torch.ones(2), torch.ones(2)]], "same nesting"),
        ([{"a": torch.ones(2), "b": torch.tensor(1.0)}], "no dimension for the samples"),
        (["text"], "consist of tensors"),
    ],
)
def test_what_does_not_become_one_batch_says_why(parts, why):
    with pytest.raises(ValueError, match=why):
        joined(parts)
