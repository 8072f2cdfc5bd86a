"""Numbers in, short texts with units out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.report import quantities
from perf.harness.statistics.intervals import Ratio


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (quantities.seconds(999.6e-6), "1.00 ms"),
        (quantities.seconds(999.4e-6), "999 µs"),
        (quantities.seconds(1e-3), "1.00 ms"),
        (quantities.seconds(1e-6), "1.00 µs"),
        (quantities.seconds(1e-9), "1.00 ns"),
        (quantities.seconds(8.614), "8.61 s"),
        (quantities.seconds(4321), "4,320 s"),
        (quantities.seconds(3e-12), "0.00300 ns"),
        (quantities.size(79.2 * 2**30), "79.2 GiB"),
        (quantities.size(12), "12.0 B"),
        (quantities.size(2**20), "1.00 MiB"),
        (quantities.size(2**30), "1.00 GiB"),
        (quantities.size(1023.9 * 2**20), "1.00 GiB"),
        (quantities.rate(85432), "85,400"),
        (quantities.rate(9.9949e6), "9,990,000"),
        (quantities.rate(1.97e7), "19.7 M"),
        (quantities.large(611_000, "FLOP"), "611 kFLOP"),
        (quantities.count(101770), "101,770"),
        (quantities.batch(4096), "4096"),
        (quantities.counted(1, "process", "processes"), "1 process"),
        (quantities.counted(2, "process", "processes"), "2 processes"),
        (quantities.counted(1000, "gate"), "1,000 gates"),
        (quantities.percent(0.931), "93%"),
        (quantities.percent(0.0994), "9.9%"),
        (quantities.percent(0.0996), "10%"),
        (quantities.percent(0.0001), "<0.1%"),
        (quantities.percent(0), "0%"),
        (quantities.times(12.34), "12.3×"),
        (quantities.ratio(Ratio(12.34, 12.1, 12.6)), "12.3× [12.1, 12.6]"),
        (quantities.ratio(Ratio(2.0)), "2.00×"),
    ],
)
def test_numbers_have_three_digits_and_the_unit_that_fits(text, expected):
    assert text == expected


SCALES = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


@given(st.floats(min_value=1e-15, max_value=1e9))
def test_a_time_reads_back_as_it_was(value):
    number, unit = quantities.seconds(value).split(" ")
    assert float(number.replace(",", "")) * SCALES[unit] == pytest.approx(value, rel=0.0051)
    assert unit in ("s", "ns") or 1 <= float(number) < 1000


def test_the_largest_numbers_are_survived():
    assert quantities.significant(1.797e308) == "1.00e+300"
    assert (
        quantities.size(1.797e308)
        and quantities.seconds(1.797e308)
        and quantities.percent(1e308)
        and quantities.batch(1e308)
    )


@given(st.floats(min_value=5e-324, max_value=1e300))
def test_any_number_has_at_most_nine_characters_and_reads_back(value):
    text = quantities.significant(value)
    assert len(text) <= 9
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_a_clock_is_in_megahertz():
    assert [quantities.megahertz(clock) for clock in (1.755e9, 345e6)] == ["1,755 MHz", "345 MHz"]
