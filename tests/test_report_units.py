"""Numbers in, short texts with units out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.report import units
from perf.harness.statistics.intervals import Ratio


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.seconds(999.6e-6), "1.00 ms"),
        (units.seconds(999.4e-6), "999 µs"),
        (units.seconds(1e-3), "1.00 ms"),
        (units.seconds(1e-6), "1.00 µs"),
        (units.seconds(1e-9), "1.00 ns"),
        (units.seconds(8.614), "8.61 s"),
        (units.seconds(4321), "4,320 s"),
        (units.seconds(3e-12), "0.00300 ns"),
        (units.size(79.2 * 2**30), "79.2 GiB"),
        (units.size(12), "12.0 B"),
        (units.size(2**20), "1.00 MiB"),
        (units.rate(85432), "85,400"),
        (units.rate(9.9949e6), "9,990,000"),
        (units.rate(1.97e7), "19.7 M"),
        (units.large(611_000, "FLOP"), "611 kFLOP"),
        (units.count(101770), "101,770"),
        (units.batch(4096), "4096"),
        (units.percent(0.931), "93%"),
        (units.percent(0.0994), "9.9%"),
        (units.percent(0.0996), "10%"),
        (units.percent(0.0001), "<0.1%"),
        (units.percent(0), "0%"),
        (units.times(12.34), "12.3×"),
        (units.ratio(Ratio(12.34, 12.1, 12.6)), "12.3× [12.1, 12.6]"),
        (units.ratio(Ratio(2.0)), "2.00×"),
    ],
)
def test_numbers_have_three_digits_and_the_unit_that_fits(text, expected):
    assert text == expected


SCALES = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


@given(st.floats(min_value=1e-15, max_value=1e9))
def test_a_time_reads_back_as_it_was(value):
    number, unit = units.seconds(value).split(" ")
    assert float(number.replace(",", "")) * SCALES[unit] == pytest.approx(value, rel=0.0051)
    assert unit in ("s", "ns") or 1 <= float(number) < 1000


def test_the_largest_numbers_are_survived():
    assert units.significant(1.797e308) == "1.00e+300"
    assert units.size(1.797e308) and units.seconds(1.797e308) and units.percent(1e308) and units.batch(1e308)


@given(st.floats(min_value=5e-324, max_value=1e300))
def test_any_number_has_at_most_nine_characters_and_reads_back(value):
    text = units.significant(value)
    assert len(text) <= 9
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_a_clock_is_in_megahertz():
    assert [units.megahertz(clock) for clock in (1.755e9, 345e6)] == ["1,755 MHz", "345 MHz"]
