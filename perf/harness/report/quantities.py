"""In: seconds, bytes, counts, ratios. Out: short text for people. Units are scaled only here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perf.harness.statistics.intervals import Ratio

# Stands for a number that is not known.
NONE = "–"
# The ratio of a reference to itself.
ONE = "1×"
TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
JOULES = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"))
SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
# Numbers of this size and above are written with an exponent, so that no column becomes wider than the page.
PLAIN_LIMIT = 1e7
# The largest floats become infinite when they are rounded to three digits. None of our files has such a number.
MAX_NUMBER = 1e300


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits and thousands separators: 0.0123, 12.3, 12,300, 1.23e+08."""
    rounded = _rounded(value, digits)
    if rounded == 0:
        return "0"
    exponent = math.floor(math.log10(abs(rounded)))
    if abs(rounded) >= PLAIN_LIMIT or exponent < -digits:
        return f"{rounded:.{digits - 1}e}"
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def _rounded(value: float, digits: int) -> float:
    return float(f"{max(-MAX_NUMBER, min(MAX_NUMBER, value)):.{digits - 1}e}")


def seconds(value: float) -> str:
    """A time [s] in the largest unit in which it is 1 or more: 812 µs, 1.23 ms, 8.61 s."""
    return _scaled(value, TIMES)


def duration(value: float) -> str:
    """A time to wait [s]: 42 s, 2.5 min, 12 min."""
    if value < 100:
        return f"{value:.0f} s"
    minutes = f"{value / 60:.1f}" if value < 600 else f"{value / 60:.0f}"
    return f"{minutes.removesuffix('.0')} min"


def size(value: float) -> str:
    """An amount of memory [bytes]: 79.2 GiB."""
    return _scaled(value, SIZES)


def large(value: float, unit: str) -> str:
    """A large number of something, with a decimal prefix: 611 kFLOP."""
    number, prefix = _scaled(value, LARGE).split(" ")
    return f"{number} {prefix}{unit}"


def _scaled(value: float, scales: tuple[tuple[float, str], ...]) -> str:
    # Round before the unit is chosen: 999.9 µs is 1.00 ms.
    scale, unit = next(((s, u) for s, u in scales if _rounded(value / s, 3) >= 1), scales[-1])
    return f"{significant(value / scale)} {unit}"


def joules(value: float) -> str:
    """An energy [J] in the largest unit in which it is 1 or more: 3.20 mJ."""
    return _scaled(value, JOULES)


def megahertz(value: float) -> str:
    """A clock rate [Hz], as data sheets of GPUs write it: 1,755 MHz."""
    return f"{count(value / 1e6)} MHz"


def count(value: float) -> str:
    """A whole number with all its digits: 101,770."""
    return f"{value:,.0f}" if abs(value) < 1e12 else significant(value)


def counted(value: float, one: str, several: str = "") -> str:
    """A number of things: 1 core, 2 cores; `several` is the plural if it is not `one` plus s."""
    return f"{count(value)} {one if value == 1 else several or one + 's'}"


def batch(value: float) -> str:
    """A batch size, as it is written in the names of benchmarks: 4096."""
    return f"{value:.0f}" if abs(value) < 1e12 else significant(value)


def rate(value: float) -> str:
    """A number per second, without the unit: 85,400; from ten million on, 19.7 M."""
    return significant(value) if abs(value) < PLAIN_LIMIT else large(value, "")


def percent(share: float) -> str:
    """A share of a whole: 85%; below 10% with one digit after the point."""
    value = 100 * share
    if value >= 9.95 or value == 0:
        return f"{significant(value) if value >= 1000 else f'{value:.0f}'}%"
    return f"{value:.1f}%" if value >= 0.05 else "<0.1%"


def times(value: float) -> str:
    """A ratio: 12.3×."""
    return f"{significant(value)}×"


def spanned(values: Sequence[float]) -> str:
    """Ratios from the smallest to the largest: 2.15× to 4.32×."""
    least, most = times(min(values)), times(max(values))
    return least if least == most else f"{least} to {most}"


def ratio(value: Ratio) -> str:
    """A ratio and its interval: 12.3× [12.1, 12.6]."""
    if value.low is None or value.high is None:
        return times(value.point)
    return f"{times(value.point)} [{significant(value.low)}, {significant(value.high)}]"
