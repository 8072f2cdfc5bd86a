"""The probes count what they should: operations, bytes and wrong bytes, calls; on fake clocks where a time matters."""

import contextlib

import pytest
import torch

from perf.harness.machine import load
from perf.harness.machine.devices import Device
from perf.harness.measurement.calls import laps
from perf.harness.measurement.checks import faults, learning, probes

CPU = Device("cpu")


class Ticks:
    """A clock that advances by one second at each reading."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def squares(monkeypatch):
    """The time of a product by the size of its square [s], to be filled; and the sizes that were asked for."""
    taken, asked = {}, []

    def times(device, dtype, shape, fault, most_s, least):
        asked.append(shape[0])
        return [taken[shape[0]]] * 3

    monkeypatch.setattr(probes, "_product_s", times)
    probes.product_rate.cache_clear()
    yield taken, asked
    probes.product_rate.cache_clear()


def test_the_rate_for_a_share_is_that_of_the_fastest_square_and_measured_once(squares):
    taken, asked = squares
    taken |= {64: 1e-5, 256: 1e-4, 512: 1e-3, 1024: 4e-3}
    rate = probes.product_rate(CPU, "fp32")
    assert rate == pytest.approx(2 * 1024**3 / 4e-3) == probes.product_rate(CPU, "fp32")
    assert asked == list(probes.CPU_SQUARES)


def test_a_square_that_would_take_minutes_is_not_tried(squares):
    """A CPU without units for fp16 reaches 0.3 GFLOP/s."""
    taken, asked = squares
    taken[64] = 2 * 64**3 / 0.3e9
    assert probes.product_rate(CPU, "fp16") == pytest.approx(0.3e9)
    assert asked == [64]


def test_a_device_whose_small_products_are_bound_by_their_launch_is_tried_with_large_ones(squares):
    taken, asked = squares
    taken |= {64: 1e-5, 256: 1e-5, 1024: 6e-5, 2048: 4e-4, 4096: 3e-3}
    assert probes.product_rate(Device("cuda"), "fp32") == pytest.approx(2 * 4096**3 / 3e-3)
    assert asked == list(probes.ACCELERATOR_SQUARES)


@pytest.fixture
def timed(monkeypatch):
    """Every call takes 2 seconds; what was called is kept."""
    calls = []

    def laps(call, timer, *, most_s, least):
        call()
        calls.append((most_s, least))
        return [2.0] * 3

    monkeypatch.setattr(probes, "laps", laps)
    monkeypatch.setattr(probes, "warm_up", lambda *arguments, **rest: None)
    return calls


def test_laps_are_as_many_as_fit_and_no_fewer_than_wanted():
    assert len(laps(lambda: None, Ticks(), most_s=0.0, least=4)) == 4
    assert laps(lambda: None, Ticks(), most_s=7.0, least=1) == [1.0, 1.0, 1.0]


def test_a_product_is_two_operations_for_each_multiply_add(timed, monkeypatch):
    monkeypatch.setattr(probes, "CPU_SHAPES", ((2, 3, 5), (7, 3, 5)))
    monkeypatch.setattr(probes, "LONGEST_S", 3.0)
    found = probes.matmul(CPU, "fp32")
    assert found.values == (2 * 7 * 3 * 5 / 2.0,) * 3  # the fastest shape, measured anew
    assert found.note == "7×3×5"
    assert timed == [(probes.SHAPE_S, probes.SHAPE_LEAST)] * 2 + [(probes.RATE_S, probes.RATE_LEAST)]


def test_products_larger_than_one_that_takes_long_are_not_tried(timed, monkeypatch):
    """A CPU without bf16 units needs half a minute for each of the largest."""
    monkeypatch.setattr(probes, "CPU_SHAPES", ((7, 3, 5), (2, 3, 5)))
    monkeypatch.setattr(probes, "LONGEST_S", 1.0)
    assert probes.matmul(CPU, "bf16").note == "2×3×5"


@pytest.mark.parametrize(("dtype", "during"), [("tf32", "high"), ("fp32", "highest")])
def test_tf32_is_on_for_its_own_products_only(timed, monkeypatch, dtype, during):
    monkeypatch.setattr(probes, "CPU_SHAPES", ((2, 3, 5),))
    seen = []
    monkeypatch.setattr(probes, "warm_up", lambda *a, **k: seen.append(torch.get_float32_matmul_precision()))
    before = torch.get_float32_matmul_precision()
    probes.matmul(CPU, dtype)
    assert set(seen) == {during}
    assert torch.get_float32_matmul_precision() == before


def small_arrays(monkeypatch, size):
    monkeypatch.setattr(probes, "CPU_BYTES", size)
    monkeypatch.setattr(probes, "last_level_bytes", lambda: None)


@pytest.mark.parametrize(("pattern", "passes"), [("copy", 2), ("triad", 3)])
def test_bytes_read_and_bytes_written_are_both_counted(timed, monkeypatch, pattern, passes):
    small_arrays(monkeypatch, 4_000)
    assert probes.memory(CPU, pattern).values == (passes * 4_000 / 2.0,) * 3


def test_where_torch_pins_no_memory_the_reason_is_one_line(monkeypatch):
    def refused(*shape, pin_memory=False):
        raise NotImplementedError("no pinned memory here\nand more")

    assert "pins no memory" in probes.why_not_pinned(CPU) or torch.accelerator.is_available()
    monkeypatch.setattr(torch, "empty", refused)
    assert probes.why_not_pinned(Device("mps")) == "torch pins no memory for mps: no pinned memory here"
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory: None)
    assert probes.why_not_pinned(CPU) == ""


def test_on_a_small_card_the_three_arrays_fit_into_what_is_free(timed, monkeypatch):
    """On the meta device, which has no memory to fill."""
    free = [16_000]
    monkeypatch.setattr(probes, "free_bytes", lambda device: free[0])
    monkeypatch.setattr(probes, "ACCELERATOR_BYTES", 8_000)
    card = Device("meta")
    assert probes.memory(card, "copy").values == (2 * 4_000 / 2.0,) * 3
    for free[0] in (None, 10**9):
        assert probes.memory(card, "copy").values == (2 * 8_000 / 2.0,) * 3


@pytest.mark.parametrize(
    ("cache", "available", "size"),
    [(None, 2**40, 2**28), (32 * 2**20, 2**40, 2**28), (768 * 2**20, 2**40, 3 * 2**30), (768 * 2**20, 2**32, 2**30),
     (768 * 2**20, 2**20, 2**28)],
)  # fmt: skip
def test_arrays_are_four_times_all_last_level_caches_if_the_memory_has_room(monkeypatch, cache, available, size):
    monkeypatch.setattr(probes, "last_level_bytes", lambda: cache)
    monkeypatch.setattr(probes, "available_bytes", lambda: available)
    assert probes.cpu_bytes() == size
    assert probes.ACCELERATOR_BYTES >= 4 * 256 * 10**6


@pytest.mark.parametrize(("beside", "slower"), [(2.0, 0.5), (1.25, 0.2), (0.5, 0.0)])
def test_what_one_busy_core_does_is_measured_without_and_with_it(monkeypatch, beside, slower):
    busy = []

    @contextlib.contextmanager
    def foreign_load(cores):
        busy.append(cores)
        yield
        busy.pop()

    monkeypatch.setattr(probes, "foreign_load", foreign_load)
    monkeypatch.setattr(probes, "_product_s", lambda *arguments: [beside if busy == [1] else 1.0] * 3)
    assert probes.slower_beside_one(CPU) == pytest.approx(slower)
    assert busy == []


def test_a_copy_that_arrives_whole_has_no_wrong_bytes_and_a_planted_one_is_counted(timed, monkeypatch):
    small_arrays(monkeypatch, 4_096)
    found, wrong = probes.copy(CPU, "in", "pageable")
    assert (found.values, wrong) == ((4_096 / 2.0,) * 3, 0)
    assert probes.copy(CPU, "in", "pageable", corrupt=True)[1] == 1


def test_bytes_that_are_never_copied_are_found(timed, monkeypatch):
    small_arrays(monkeypatch, 4_096)
    _, wrong = probes.copy(CPU, "in", "pageable", fault=lambda call: lambda: None)
    assert 4_000 < wrong <= 4_096  # a byte that is 0 is 0 there, too


def test_launches_are_blocks_of_percentiles(monkeypatch):
    monkeypatch.setattr(probes, "LAUNCH_BLOCK", 100)
    monkeypatch.setattr(probes, "warm_up", lambda *arguments, **rest: None)
    monkeypatch.setattr(probes, "laps", lambda *arguments, **rest: [float(i % 100) for i in range(300)])
    assert probes.operation_start(CPU, "p50").values == (49.0,) * 3
    assert probes.operation_start(CPU, "p99").values == (98.0,) * 3


def test_a_launch_by_a_graph_is_its_share_of_a_replay(timed, monkeypatch):
    """On a fake: a graph that keeps the operations called while it captures, and replays none of them."""
    captured = []

    class Graph:
        def replay(self):
            captured.append("replayed")

    def capture(call, undo):
        assert call() is not None
        captured.append(call)
        undo()
        return Graph().replay, None

    monkeypatch.setattr(probes, "capture_cuda", capture)  # on a stream of the GPU that is tested
    found = probes.operation_start(CPU, "graph")
    assert found.values == (2.0 / probes.QUEUED,) * 3
    assert captured[1:] == ["replayed"]
    probes.operation_start(CPU, "graph", faults.twice)
    assert captured[-2:] == ["replayed"] * 2


def test_queued_launches_are_waited_for_at_their_end(timed, monkeypatch):
    tensor = torch.zeros(1)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: tensor)
    assert probes.operation_start(CPU, "queued").values == (2.0 / probes.QUEUED,) * 3
    assert tensor.item() == probes.QUEUED


def test_a_late_slowdown_is_a_ratio_below_one(monkeypatch):
    """Each window is one reading of laps; the clock runs a second at each reading."""
    speed = iter([1.0] * 20 + [2.0] * 20)
    monkeypatch.setattr(probes, "laps", lambda *arguments, **rest: [next(speed)])
    clock = Ticks()
    found = probes.sustained(CPU, 30.0, lambda percent: 1, clock)
    assert set(found.values) == {0.5}
    assert len(found.values) == 9  # a third of 29 windows
    assert found.note == "30 s of fp32 products"


def test_a_foreign_load_is_seen_while_it_lasts_and_gone_afterwards():
    with faults.foreign_load(1):
        busy = load.look(1.0).others_cores
    assert busy is None or busy > 0.5


@pytest.mark.parametrize(
    ("steps", "slower"),
    [
        ([190, 200, 210, 180, 190], False),
        ([400, 410, 390, 420, 400], True),
        ([206, 207, 205, 208, 204], False),  # certain, but less than 10%
        ([150, 150, 150, 150, 400], False),
        ([100] * 5, False),
    ],
)
def test_slower_than_usual_takes_both_certainty_and_size(steps, slower):
    reference = learning.usual("simple_nn", "digits").steps
    assert learning.slower_than_usual(steps, reference)[0] is slower


def test_healthy_seeds_are_seldom_called_slow():
    """Split the reference seeds in two again and again: at most 5% of the halves may be slower than the other."""
    import random

    rng = random.Random(0)
    for data in ("digits", "mnist"):
        steps = list(learning.usual("simple_nn", data).steps)
        found = 0
        for _ in range(300):
            rng.shuffle(steps)
            found += learning.slower_than_usual(steps[:5], steps[5:])[0]
        assert found / 300 <= 0.06


def test_of_another_network_nothing_is_known():
    assert learning.usual("resnet18", "random") is None
    assert len(learning.usual("simple_nn", "mnist").steps) == 20
