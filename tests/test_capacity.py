"""The search for the largest batch that fits, against allocators that are told; and the batch size that suffices."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.measurement.capacity import Largest, largest, sufficient

limits = st.integers(1, 10**7)
starts = st.integers(1, 5000)


class Allocator:
    """Up to `limit` samples fit; `luck(size)` may let one of these fail. Remembers what was tried."""

    def __init__(self, limit, luck=lambda size: True):
        self.limit, self.luck, self.tried, self.fitted = limit, luck, [], set()

    def __call__(self, size):
        assert size >= 1
        found = size <= self.limit and self.luck(size)
        self.tried.append((size, found))
        self.fitted |= {size} if found else set()
        return found


class Fragmenting(Allocator):
    """After a larger size has failed, a tenth of the memory is in the way of the next one, once."""

    def __call__(self, size):
        before = self.tried[-1] if self.tried else (0, True)
        blocked = not before[1] and before[0] > size and size > 0.9 * self.limit
        self.luck = lambda size: not blocked
        return super().__call__(size)


def close(size, limit):
    return limit - max(1, 0.02 * limit) <= size <= limit


@given(limits, starts)
def test_it_finds_the_largest_batch_within_2_percent(limit, start):
    fits = Allocator(limit)
    found = largest(fits, start, 10**8)
    assert close(found.size, limit)
    assert limit < found.refused
    assert fits.tried[-1] == (found.size, True)


@given(limits, starts)
def test_a_fragmenting_allocator_hides_nothing(limit, start):
    fits = Fragmenting(limit)
    found = largest(fits, start, 10**8)
    assert close(found.size, limit)
    assert fits.tried[-1] == (found.size, True)


@given(limits, starts, st.integers(0, 10**6))
def test_whatever_a_noisy_allocator_does_the_result_has_just_been_seen_to_fit(limit, start, seed):
    chance = random.Random(seed)
    fits = Allocator(limit, lambda size: size < 0.8 * limit or chance.random() < 0.5)
    found = largest(fits, start, 10**8)
    assert found.size <= limit
    assert found.size == 0 or fits.tried[-1] == (found.size, True)
    assert found.size >= 0.5 * limit or limit < 10


@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_an_allocator_that_fails_by_chance_at_any_size_ends_the_search(seed, share):
    chance = random.Random(seed)
    fits = Allocator(10**6, lambda size: chance.random() < share)
    found = largest(fits, 64, 10**7)
    assert found.size == 0 or found.size in fits.fitted
    assert len(fits.tried) < 500


@given(starts, st.integers(1, 10**6))
def test_where_everything_fits_it_is_the_most(start, most):
    assert largest(Allocator(10**9), start, most) == Largest(most, None)


@given(starts)
def test_where_nothing_fits_it_is_0(start):
    assert largest(lambda size: False, start, 10**6) == Largest(0, 1)


def test_it_doubles_and_then_bisects():
    fits = Allocator(1000)
    assert largest(fits, 256, 10**6) == Largest(992, 1008)
    sizes = [size for size, _ in fits.tried]
    assert sizes == [256, 512, 1024, 1024, 768, 896, 960, 992, 1008, 1008, 992]


def test_what_fits_no_more_at_the_end_gives_way_to_a_lower_one():
    """A device that has shrunk meanwhile."""
    fits = Allocator(1000)
    fits.luck = lambda size: len(fits.tried) < 10 or size <= 900
    found = largest(fits, 256, 10**6)
    assert found == Largest(859, 935)
    assert fits.tried[-1] == (859, True)


@pytest.mark.parametrize(
    ("rates", "size"),
    [
        ({64: 100.0}, 64),
        ({64: 100.0, 128: 200.0, 256: 300.0, 512: 310.0, 1024: 312.0}, 256),
        ({64: 100.0, 128: 104.0, 256: 108.0}, 64),
        ({64: 100.0, 128: 102.0, 256: 200.0, 512: 201.0}, 256),  # where it grows later, it has not ended
        ({64: 100.0, 128: 200.0, 256: 150.0, 512: 205.0}, 128),  # a dip and its end are no growth
        ({64: 100.0, 128: 90.0}, 64),
        ({128: 105.0, 64: 100.0}, 128),
    ],
)
def test_a_batch_suffices_from_which_on_throughput_no_longer_grows(rates, size):
    assert sufficient(rates) == size


def test_where_no_throughput_is_known_nothing_suffices():
    with pytest.raises(ValueError, match="no throughput"):
        sufficient({})
