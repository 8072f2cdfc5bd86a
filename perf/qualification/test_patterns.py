"""Does the memory keep what is written to it?"""

import pytest

from perf.harness.machine.devices import Device
from perf.harness.measurement.checks import faults, patterns
from perf.harness.measurement.checks.attempt import Attempt

# With --perf-full, one pattern and its complement take a second for each GiB on two cores, and walking ones have 64.
FULL_S = (64 + 1 + 1) / 3 * patterns.tested_bytes(Device("cpu"), True) / 2**30


@pytest.mark.check(*patterns.PATTERNS, seconds=2, full=FULL_S)
def test_patterns(check: Attempt) -> None:
    """How many words differ from what was written to them [words].

    1 GiB is tested, or twice the caches of the CPU if that is more, or a quarter of the free memory if that is less;
    with --perf-full, half of the free memory, and walking ones at each place of each word, which can take an hour on a
    large machine. Walking ones find bits that stick, a word's own address finds two addresses of one word, random
    numbers find the rest. Only memory that the system gives to a program is tested, and ECC corrects errors before a
    program sees them.
    """
    plant = {"stuck": faults.stuck_bit, "alias": faults.one_word_for_two}.get(check.fault)
    found = patterns.wrong_words(check.device, check.variant, check.plan.settings.full, plant)
    said = f"{found.words * patterns.WORD_BYTES // 2**20} MiB"
    check.at_most(found.wrong, "words", 0, "memory keeps what is written to it", found.first, said)
