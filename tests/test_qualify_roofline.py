"""The roofline: what limits allow, what binds a step, and which limits it is held against."""

import pytest

from perf.harness.record.check import Check, CheckVerdict
from perf.harness.verdict.limits import Limit
from perf.harness.verdict.roofline import BoundBy, Work, measured_limit, roofline, step_details

PEAK, BANDWIDTH = 1_000.0, 100.0  # FLOP/s and bytes/s: they meet at 10 FLOP/byte
DATASHEET = Limit(5_000.0, "datasheet")


def work(flop, bytes_, ops=1):
    return Work(flop, 0, bytes_, ops)


def test_below_the_ridge_the_memory_is_the_limit_and_above_it_the_peak():
    low, ridge, high = (roofline(work(flop, 100), 10.0, PEAK, BANDWIDTH) for flop in (100, 1_000, 10_000))
    assert [one.possible_flop_per_s for one in (low, ridge, high)] == [100.0, 1_000.0, 1_000.0]
    assert [one.flop_per_byte for one in (low, ridge, high)] == [1.0, 10.0, 100.0]


@pytest.mark.parametrize(
    ("flop", "bytes_", "seconds", "share", "bound"),
    [
        (10_000, 100, 10.0, 1.0, BoundBy.COMPUTE), (10_000, 100, 25.0, 0.4, BoundBy.COMPUTE),
        (1_000, 1_000, 10.0, 1.0, BoundBy.MEMORY), (1_000, 1_000, 29.0, 10 / 29, BoundBy.MEMORY),
        (10_000, 100, 31.0, 10 / 31, BoundBy.OVERHEAD), (1_000, 1_000, 31.0, 10 / 31, BoundBy.OVERHEAD),
        (1_000, 1_000, 30.0, 1 / 3, BoundBy.MEMORY), (10_000, 1_000, 10.0, 1.0, BoundBy.COMPUTE),
        (1_000, 1_000, 5.0, 2.0, BoundBy.CACHES),
        (0, 1_000, 20.0, 0.5, BoundBy.MEMORY),  # no FLOP at all: the share is one of times
    ],
)  # fmt: skip
def test_the_share_and_what_binds(flop, bytes_, seconds, share, bound):
    found = roofline(work(flop, bytes_), seconds, PEAK, BANDWIDTH)
    assert found.share == pytest.approx(share)
    assert found.bound is bound
    assert found.achieved_flop_per_s == flop / seconds
    if flop:
        assert found.achieved_flop_per_s / found.possible_flop_per_s == pytest.approx(share)


@pytest.mark.parametrize(
    ("ops", "seconds", "bound"),
    [
        (60, 100.0, BoundBy.LAUNCHES), (49, 100.0, BoundBy.OVERHEAD), (60, 119.0, BoundBy.LAUNCHES),
        (60, 120.0, BoundBy.OVERHEAD), (60, 121.0, BoundBy.OVERHEAD),
        (9, 15.0, BoundBy.MEMORY),  # the memory explains more of it
    ],
)  # fmt: skip
def test_launches_bind_where_they_take_more_than_half_of_the_time(ops, seconds, bound):
    assert roofline(work(1, 1_000, ops), seconds, PEAK, BANDWIDTH, launch_s=1.0).bound is bound


def test_a_short_step_of_many_operations_needs_no_time_of_a_launch():
    found = roofline(work(10**9, 10**6, ops=1_000), 2e-3, 1e12, 1e11)
    assert (found.share, found.bound) == (0.5, BoundBy.COMPUTE)


@pytest.mark.parametrize(
    ("flop", "bytes_", "seconds", "peak", "bandwidth"),
    [(1, 0, 1.0, 1.0, 1.0), (1, 1, 0.0, 1.0, 1.0), (1, 1, 1.0, 0.0, 1.0), (1, 1, 1.0, 1.0, -1.0)],
)
def test_what_is_nothing_is_refused(flop, bytes_, seconds, peak, bandwidth):
    with pytest.raises(ValueError, match="above 0"):
        roofline(work(flop, bytes_), seconds, peak, bandwidth)


def check(verdict=CheckVerdict.PASS, value=900.0, device="cuda"):
    return Check("matmul", device, verdict, "fp32", value)


@pytest.mark.parametrize("verdict", [CheckVerdict.PASS, CheckVerdict.FAIL, CheckVerdict.UNSUPPORTED])
def test_what_this_run_measured_on_the_device_is_the_limit(verdict):
    others = [check(value=1.0, device="cpu"), Check("matmul", "cuda", verdict, "bf16", 2.0)]
    found = measured_limit([*others, check(verdict)], "cuda", "matmul fp32", DATASHEET)
    assert found == Limit(900.0, "matmul fp32 of this run", certain=False)


@pytest.mark.parametrize("checks", [[], [check(CheckVerdict.INCONCLUSIVE)], [check(value=None)], [check(device="cpu")]])
def test_where_it_did_not_the_physical_limit_is_or_none(checks):
    assert measured_limit(checks, "cuda", "matmul fp32", DATASHEET) is DATASHEET
    assert measured_limit(checks, "cuda", "matmul fp32", None) is None


def test_a_record_keeps_all_of_it():
    found = step_details(work(1_000, 1_000, 7), 20.0, Limit(PEAK, "a"), Limit(BANDWIDTH, "b"), Limit(0.1, "c"))
    assert found == {
        "flop_per_step": 1_000, "bytes_per_step": 1_000, "ops_per_step": 7, "flop_per_byte": 1.0,
        "achieved_flop_per_s": 50.0, "peak_flop_per_s": PEAK, "peak_source": "a", "memory_bytes_per_s": BANDWIDTH,
        "memory_source": "b", "launch_s": 0.1, "uncounted": "", "possible_flop_per_s": 100.0, "share_of_possible": 0.5,
        "bound_by": "memory",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("done", "peak", "memory"),
    [(work(1, 1), None, DATASHEET), (work(1, 1), DATASHEET, None), (work(0, 0), DATASHEET, DATASHEET)],
)
def test_without_a_limit_or_bytes_there_is_no_share(done, peak, memory):
    found = step_details(done, 1.0, peak, memory, None)
    assert [found[key] for key in ("possible_flop_per_s", "share_of_possible", "bound_by")] == [None] * 3
