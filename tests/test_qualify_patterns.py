"""Patterns in memory: each planted fault is found by those that can find it, and sound memory by none."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.machine.devices import Device
from perf.harness.measurement.checks import faults, patterns

CPU = Device("cpu")
WORDS = 2**14


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Four blocks of WORDS words."""
    monkeypatch.setattr(patterns, "BLOCK_BYTES", 8 * WORDS)
    monkeypatch.setattr(patterns, "QUICK_BYTES", 4 * 8 * WORDS)
    monkeypatch.setattr(patterns, "last_level_bytes", lambda: None)
    monkeypatch.setattr(patterns, "available_bytes", lambda: 10**9)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pattern", patterns.PATTERNS)
def test_sound_memory_keeps_every_word(monkeypatch, pattern, full):
    monkeypatch.setattr(patterns, "available_bytes", lambda: 8 * 8 * WORDS)
    quick = 2 * WORDS  # a quarter of what is free, which is less than QUICK_BYTES
    assert patterns.wrong_words(CPU, pattern, full) == patterns.Wrong(4 * WORDS if full else quick, 0)


@pytest.mark.parametrize("pattern", patterns.PATTERNS)
def test_a_bit_that_sticks_is_found_by_all(pattern):
    found = patterns.wrong_words(CPU, pattern, False, faults.stuck_bit)
    assert found.wrong == 1
    assert found.first == f"word {3 * WORDS + 12_345}: bits 0x20000 differ"


@pytest.mark.parametrize(("pattern", "wrong"), [("walking", 0), ("address", 1), ("random", 1)])
def test_two_words_at_one_address_are_found_where_no_two_words_are_equal(pattern, wrong):
    assert patterns.wrong_words(CPU, pattern, False, faults.one_word_for_two).wrong == wrong


@given(word=st.integers(0, 4 * WORDS - 1), bit=st.integers(0, 63), pattern=st.sampled_from(patterns.PATTERNS))
def test_any_flipped_bit_of_any_word_is_found_where_it_is(word, bit, pattern):
    def flip(blocks):
        faults.flip_bit(blocks[word // WORDS], word % WORDS, bit)

    found = patterns.wrong_words(CPU, pattern, False, flip)
    assert (found.wrong, found.first) == (1, f"word {word}: bits {1 << bit:#x} differ")


@given(word=st.integers(0, 4 * WORDS - 1), bit=st.integers(0, 63), up=st.booleans())
def test_a_bit_that_sticks_at_either_value_is_found_by_walking_ones_and_their_complement(word, bit, up):
    mask = 1 << bit if bit < 63 else torch.iinfo(torch.int64).min

    def stick(blocks):
        block, at = blocks[word // WORDS], word % WORDS
        block[at] = block[at] | mask if up else block[at] & ~mask

    assert patterns.wrong_words(CPU, "walking", False, stick).wrong == 1


def test_walking_ones_walk():
    block = torch.empty(128, dtype=torch.int64)
    words = [word % 2**64 for word in patterns._walking(block, 0, shift=3).tolist()]
    assert words == [1 << (place + 3) % 64 for place in range(128)]
    _, complement = patterns._writers("walking", False)
    assert complement(block, 0)[0].item() % 2**64 == 2**64 - 2


def test_a_full_run_walks_through_every_place_of_every_word():
    words = []
    for write in patterns._writers("walking", True):
        words.append(write(torch.empty(64, dtype=torch.int64), 0)[5].item() % 2**64)
    assert {word for word in words if word.bit_count() == 1} == {1 << bit for bit in range(64)}
    assert {2**64 - 1 - word for word in words if word.bit_count() == 63} == {1 << bit for bit in range(64)}


def test_no_two_words_of_a_large_memory_have_one_random_number():
    write = next(patterns._writers("random", False))
    words = torch.cat([write(torch.empty(2**16, dtype=torch.int64), start) for start in (0, 2**16, 2**40)])
    assert len(words.unique()) == len(words)


@pytest.mark.parametrize(
    ("free", "full", "blocks"),
    [(10**9, False, 4), (10**9, True, 3814), (8 * 8 * WORDS, False, 2), (8 * WORDS, False, 1), (0, True, 1)],
)
def test_how_much_memory_is_tested(monkeypatch, free, full, blocks):
    monkeypatch.setattr(patterns, "available_bytes", lambda: free)
    monkeypatch.setattr(patterns, "free_bytes", lambda device: free)
    for device in (CPU, Device("cuda")):
        assert patterns.tested_bytes(device, full) == blocks * 8 * WORDS
    monkeypatch.setattr(patterns, "free_bytes", lambda device: None)
    assert patterns.tested_bytes(Device("mps"), False) == 8 * WORDS


@pytest.mark.parametrize(
    ("cached", "tested"),
    [(None, 2**30), (2**28, 2**30), (2**30, 2**31), (2**35, 2**34)],  # at most a quarter of 64 GiB
)
def test_more_is_tested_than_the_caches_of_the_cpu_hold(monkeypatch, cached, tested):
    for name, value in (("QUICK_BYTES", 2**30), ("BLOCK_BYTES", 2**20)):
        monkeypatch.setattr(patterns, name, value)
    monkeypatch.setattr(patterns, "available_bytes", lambda: 2**36)
    monkeypatch.setattr(patterns, "last_level_bytes", lambda: cached)
    assert patterns.tested_bytes(CPU, False) == tested
