"""In: a device. Out: how many words of its memory do not keep what is written to them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from perf.harness.machine.cpu import last_level_bytes
from perf.harness.machine.devices import Device
from perf.harness.machine.memory import available_bytes, free_bytes

WORD_BITS = 64
WORD_BYTES = WORD_BITS // 8
BLOCK_BYTES = 64 * 2**20
# A usual run tests a quarter of the free memory, but at most QUICK_BYTES, or CACHES times what the CPU's caches hold:
# they would answer for less. --perf-full tests half of it.
QUICK_BYTES, QUICK_SHARE, FULL_SHARE, CACHES = 2**30, 0.25, 0.5, 2
# The multiplier of a linear congruential generator modulo 2^64 (Knuth, MMIX), and an odd increment.
MULTIPLIER, INCREMENT = 6364136223846793005, 1442695040888963407
PATTERNS = ("walking", "address", "random")

Plant = Callable[[list[Tensor]], None]
Write = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Wrong:
    """How many of `words` were `wrong`. `first` says where the first of them is, and what was wrong there."""

    words: int
    wrong: int
    first: str = ""


def wrong_words(device: Device, pattern: str, full: bool, plant: Plant | None = None) -> Wrong:
    """Write a pattern to all words of the tested memory, then read them all. `plant` damages what was written.

    `walking`: a single one in each word, one place further in each next word; with `full`, each of the 64 places in
    each word. `address`: the word's own number. `random`: numbers that look random. Then the complement of each.
    """
    blocks = _blocks(device, full)
    words = sum(block.numel() for block in blocks)
    for write in _writers(pattern, full):
        for number, block in enumerate(blocks):
            write(block, number * (BLOCK_BYTES // WORD_BYTES))
        if plant is not None:
            plant(blocks)
        wrong, first = _compare(blocks, write)
        if wrong:
            return Wrong(words, wrong, first)
    return Wrong(words, 0)


def tested_bytes(device: Device, full: bool) -> int:
    """How much memory is tested [bytes], at least one block."""
    free = (free_bytes(device) if device.asynchronous else available_bytes()) or 0
    cached = 0 if device.asynchronous else CACHES * (last_level_bytes() or 0)
    most = int(FULL_SHARE * free) if full else min(max(QUICK_BYTES, cached), int(QUICK_SHARE * free))
    return max(1, most // BLOCK_BYTES) * BLOCK_BYTES


def _blocks(device: Device, full: bool) -> list[Tensor]:
    count = tested_bytes(device, full) // BLOCK_BYTES
    return [torch.empty(BLOCK_BYTES // WORD_BYTES, dtype=torch.int64, device=device.torch_device) for _ in range(count)]


def _compare(blocks: list[Tensor], write: Write) -> tuple[int, str]:
    """How many words are not what `write` writes, and where the first of them is."""
    wrong, first = 0, ""
    expected = torch.empty_like(blocks[0])
    for number, block in enumerate(blocks):
        start = number * (BLOCK_BYTES // WORD_BYTES)
        write(expected, start)
        if torch.equal(block, expected):  # `!=` makes a tensor, which took half of the time
            continue
        differ = block != expected
        here = int(differ.sum())
        if not first:
            at = int(differ.nonzero()[0])
            bits = int(block[at] ^ expected[at]) % 2**WORD_BITS
            first = f"word {start + at}: bits {bits:#x} differ"
        wrong += here
    return wrong, first


def _writers(pattern: str, full: bool) -> Iterator[Write]:
    """The functions that fill a block, of which `start` is the number of the first word."""
    shifts = range(WORD_BITS if full else 1)
    walking: list[Write] = [functools.partial(_walking, shift=shift) for shift in shifts]
    writers: dict[str, list[Write]] = {"walking": walking, "address": [_numbers], "random": [_random]}
    for write in writers[pattern]:
        yield write
        yield lambda block, start, write=write: write(block, start).bitwise_not_()  # type: ignore[misc]


def _numbers(block: Tensor, start: int) -> Tensor:
    return torch.arange(start, start + block.numel(), out=block)


def _random(block: Tensor, start: int) -> Tensor:
    return _numbers(block, start).mul_(MULTIPLIER).add_(INCREMENT).mul_(MULTIPLIER)


def _walking(block: Tensor, start: int, *, shift: int) -> Tensor:
    ones = torch.ones(WORD_BITS, dtype=torch.int64, device=block.device)
    places = torch.arange(shift, shift + WORD_BITS, device=block.device) % WORD_BITS
    block.view(-1, WORD_BITS).copy_(ones << places)
    return block
