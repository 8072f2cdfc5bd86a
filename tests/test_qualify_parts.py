"""Cores, NUMA nodes, and the clock at which a core runs: on made-up machines and clocks."""

import contextlib
import functools
import itertools
import os
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.machine import cpu, effective_clock
from perf.harness.measurement.checks import faults, parts, probes
from perf.harness.verdict.checks import MetricValue

CORES = [0, 1, 2, 3]


class Machine:
    """Cores with a clock each [Hz]; the loop takes the time that it takes on the core on which the process runs."""

    def __init__(self, clocks):
        self.clocks, self.on, self.now, self.looked_at = clocks, [], 0.0, []

    @contextlib.contextmanager
    def bound_to(self, cores):
        self.on = list(cores)
        yield
        self.on = []

    def loop(self):
        (core,) = self.on
        self.now += effective_clock.TURNS * effective_clock.CYCLES / self.clocks[core]

    def __call__(self):
        return self.now


@pytest.fixture
def machine(monkeypatch):
    def of(**clocks):
        made = Machine({int(core[1:]): clock for core, clock in clocks.items()})
        monkeypatch.setattr(cpu, "bound_to", made.bound_to)
        monkeypatch.setattr(cpu, "one_of_each_core", list)
        monkeypatch.setattr(cpu, "alike", lambda cores: [list(cores)])
        monkeypatch.setattr(effective_clock, "turns", lambda: made.loop)
        monkeypatch.setattr(effective_clock.core_clock_hz, "__defaults__", (made,))
        return made

    return of


def test_the_slowest_core_is_held_against_one_in_the_middle(machine):
    machine(c0=3e9, c1=3.2e9, c2=2e9, c3=3e9)
    found = parts.slowest_core(CORES)
    assert found.values == pytest.approx([2 / 3] * parts.PAIRS)
    assert found.note == "the slowest of 4 cores is core 2"


def test_a_core_on_which_all_is_done_twice_has_half_the_clock(machine):
    machine(c0=3e9, c1=3e9, c2=3e9, c3=3e9)
    assert parts.slowest_core(CORES).values == pytest.approx([1.0] * parts.PAIRS)
    found = parts.slowest_core(CORES, faults.twice)
    assert found.values == pytest.approx([0.5] * parts.PAIRS) and found.note.endswith("core 3")


def test_small_cores_are_held_against_small_ones(machine, monkeypatch):
    machine(c0=5e9, c1=5e9, c2=3e9, c3=2.1e9)
    monkeypatch.setattr(cpu, "alike", lambda cores: [[0, 1], [2, 3]])
    found = parts.slowest_core(CORES)
    assert found.values == pytest.approx([0.7] * parts.PAIRS)
    assert found.note == "the slowest of its kind of 4 cores is core 3"


@pytest.mark.parametrize(
    ("cores", "says"), [([], "this system binds no thread to a core"), ([0], "this process may run on one core only")]
)
def test_with_nothing_to_compare_it_says_why(machine, cores, says):
    machine(c0=3e9)
    with pytest.raises(parts.TooFew, match=says):
        parts.slowest_core(cores)


def test_where_no_clock_can_be_measured_products_tell(machine, monkeypatch):
    made = machine(c0=3e9, c1=1e9)
    monkeypatch.setattr(effective_clock, "turns", lambda: None)
    monkeypatch.setattr(probes, "product_once", lambda *arguments: made.clocks[made.on[0]])
    assert parts.slowest_core([0, 1]).values == (1 / 3,) * parts.PAIRS


@pytest.mark.parametrize("seed", range(5))
def test_noise_makes_no_slow_part_of_equal_ones(seed):
    """The worst of many noisy rates is far below the middle, so it is measured anew."""
    noise = random.Random(seed)
    equal = parts._Slowest(lambda part: 100.0 * noise.uniform(0.8, 1.2), list(range(200)))
    assert equal.share < 0.85
    assert MetricValue.of(equal.pairs(), 0.0, 0, 0.1).high > 0.9


@given(st.lists(st.floats(1.0, 100.0), min_size=2, max_size=9))
def test_the_slowest_part_is_held_against_the_one_in_the_middle(rates):
    found = parts._Slowest(lambda part: rates[part], range(len(rates)))
    assert found.share == min(rates) / sorted(rates)[len(rates) // 2]
    assert found.pairs() == (found.share,) * parts.PAIRS


@pytest.fixture
def nodes(monkeypatch):
    """What runs on which cores: `copy` is as fast as the memory of the node, and twice as slow with a fault."""
    speeds, on, asked = {"node0": 100.0, "node1": 80.0, "node2": 101.0}, [], []

    @contextlib.contextmanager
    def bound_to(cores):
        on[:] = cores
        yield

    def rate(*arguments):
        asked.append((tuple(on), torch.get_num_threads()))
        fault = next((one for one in arguments if callable(one)), None)
        return speeds[f"node{on[0] // 2}"] / (2 if fault else 1)

    monkeypatch.setattr(cpu, "bound_to", bound_to)
    monkeypatch.setattr(cpu, "one_of_each_core", list)
    monkeypatch.setattr(probes, "CPU_BYTES", 4_000)
    monkeypatch.setattr(probes, "cpu_bytes", lambda: 4_000)
    monkeypatch.setattr(probes, "copy_once", rate)
    monkeypatch.setattr(probes, "product_once", rate)
    return asked


@pytest.mark.parametrize("pattern", ["copy", "matmul"])
def test_the_slowest_node_works_with_its_own_cores(nodes, pattern):
    before = torch.get_num_threads()
    found = parts.slowest_node(pattern, {"node0": [0, 1], "node1": [2, 3], "node2": [4, 5]})
    assert found.values == (0.8,) * parts.PAIRS and found.note == "the slowest of 3 nodes is node1"
    assert set(nodes) == {((0, 1), 2), ((2, 3), 2), ((4, 5), 2)}
    assert torch.get_num_threads() == before
    slow = parts.slowest_node(pattern, {"node0": [0, 1], "node2": [4, 5]}, faults.twice)
    assert slow.values == (0.505,) * parts.PAIRS and slow.note.endswith("node2")


@pytest.mark.parametrize(
    ("known", "says"), [({}, "does not say which NUMA nodes"), ({"node0": [0, 1]}, "this machine has one NUMA node")]
)
def test_one_node_is_compared_with_none(known, says):
    with pytest.raises(parts.TooFew, match=says):
        parts.slowest_node("copy", known)


def test_a_copy_counts_what_is_read_and_what_is_written(monkeypatch):
    monkeypatch.setattr(probes, "_times", lambda *arguments: [2.0, 1.0, 4.0])
    target, source = torch.empty(1_000), torch.empty(1_000)
    assert probes.copy_once(target, source, None, 0.1) == 2 * 4_000 / 2.0


@pytest.mark.skipif(not cpu.TASKS.exists(), reason="this system does not list the threads of a process")
def test_all_threads_run_where_they_are_bound_to_and_where_they_ran_before():
    """Also those of torch, which the first parallel operation starts."""
    torch.ones(200_000).sum()
    threads = [int(one.name) for one in cpu.TASKS.iterdir()]
    before = {thread: os.sched_getaffinity(thread) for thread in threads}
    one = min(os.sched_getaffinity(0))
    with cpu.bound_to([one]):
        assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {frozenset({one})}
    assert {thread: os.sched_getaffinity(thread) for thread in threads} == before


def test_cores_are_alike_by_what_intel_and_arm_say_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "KINDS", tmp_path)
    monkeypatch.setattr(cpu, "CPUS", tmp_path / "cpus")
    assert cpu.alike([0, 1, 2]) == [[0, 1, 2]]
    for kind, cores in (("cpu_core", "0-3"), ("cpu_atom", "4,6-7")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "cpus").write_text(cores)
    assert cpu.alike([0, 2, 4, 6, 7]) == [[0, 2], [4, 6, 7]]
    for core, capacity in ((0, 1024), (2, 446)):
        (tmp_path / f"cpus/cpu{core}").mkdir(parents=True)
        (tmp_path / f"cpus/cpu{core}/cpu_capacity").write_text(f"{capacity}\n")
    assert cpu.alike([0, 2]) == [[0], [2]]


@given(clock=st.floats(1e8, 1e10), interrupted=st.integers(0, effective_clock.LOOKS - 1))
def test_the_clock_is_that_of_the_loop_that_nothing_interrupted(clock, interrupted):
    now, calls = [0.0], itertools.count()

    def loop():
        late = 0.003 if next(calls) % effective_clock.LOOKS != interrupted else 0.0
        now[0] += effective_clock.TURNS * effective_clock.CYCLES / clock + late

    found = effective_clock.core_clock_hz(loop, lambda: now[0])
    assert found == pytest.approx(clock, rel=1e-3)


def test_the_code_is_what_its_comment_says():
    """Ten multiplications, and a jump from the end of the loop back to the first of them."""
    multiply = bytes.fromhex("480fafc0")
    first = effective_clock.CODE.index(multiply)
    end = effective_clock.CODE.index(b"\xc3", first + len(multiply) * effective_clock.CHAIN)
    assert effective_clock.CODE.count(multiply) == effective_clock.CHAIN
    assert effective_clock.CODE[end - 2] == 0x75  # jnz
    assert end + int.from_bytes(effective_clock.CODE[end - 1 : end], signed=True) == first


@pytest.mark.skipif(effective_clock.turns() is None, reason="a program may not run code that it has made here")
def test_a_real_core_has_the_clock_of_a_core():
    effective_clock.effective_clock_hz.cache_clear()
    assert 0.5e9 < effective_clock.effective_clock_hz(1) < 8e9


@pytest.mark.parametrize(("system", "processor"), [("darwin", "arm64"), ("linux", "aarch64"), ("win32", "AMD64")])
def test_another_processor_or_system_has_no_such_loop(monkeypatch, system, processor):
    monkeypatch.setattr(effective_clock.sys, "platform", system)
    monkeypatch.setattr(effective_clock.platform, "machine", lambda: processor)
    assert effective_clock.turns.__wrapped__() is None
    monkeypatch.setattr(effective_clock, "turns", lambda: None)
    assert effective_clock.effective_clock_hz.__wrapped__(2) is None


def test_a_system_that_forbids_it_has_no_such_loop(monkeypatch):
    def forbidden(*arguments, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(effective_clock.mmap, "mmap", forbidden)
    assert effective_clock.turns.__wrapped__() is None


def test_the_clock_of_several_cores_is_that_of_the_one_in_the_middle(monkeypatch):
    clocks = iter([3e9, 1e9, 2e9])
    monkeypatch.setattr(effective_clock, "turns", lambda: functools.partial(int))
    monkeypatch.setattr(effective_clock, "core_clock_hz", lambda loop: next(clocks))
    assert effective_clock.effective_clock_hz.__wrapped__(3) == 2e9
