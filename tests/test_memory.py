"""The memory of training: its parts, the limit, and the search for the largest batch under one."""

import dataclasses
import gc
import re
import resource
import types
import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import random_images
from perf.harness.machine import memory
from perf.harness.machine.devices import Device
from perf.harness.measurement import step_memory
from perf.harness.measurement.calls import device_timer
from perf.harness.measurement.capacity import largest
from perf.harness.measurement.step_memory import OUT_OF_MEMORY, Tries, account, fresh_step, repeated
from perf.harness.workload.modes.mode import Mode
from perf.harness.workload.plan import Plan
from tests.conftest import PERF, read, settled, validator

pytest_plugins = ["pytester"]

LARGEST, MEMORY = PERF / "test_largest_batch.py", PERF / "test_memory.py"
CPU = Device("cpu")


@pytest.fixture
def work(digits_root):
    made = Plan.of(settled(digits_root))
    made = made.prepared()
    return made.workload("cpu", 64, None)


def timer():
    return device_timer(lambda: None)


# The parts


def test_the_parts_of_a_steps_memory_are_those_of_its_network(work):
    found = account(work, work.batches(1)[0])
    weights = 4 * 101_770
    assert (found.weight_bytes, found.gradient_bytes, found.optimizer_bytes) == (weights, weights, 0)
    hidden, image = 64 * 128 * 4, 64 * 784 * 4 + 64 * 8
    assert hidden < found.activation_bytes < 4 * hidden
    assert found.peak_bytes == 2 * weights + image + found.activation_bytes


def test_the_optimizers_state_and_the_buffers_are_counted(work):
    def build():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(784), torch.nn.Linear(784, 10))

    recipe = dataclasses.replace(work.recipe, build=build, optimizer=torch.optim.Adam)
    found = account(dataclasses.replace(work, recipe=recipe), work.batches(1)[0])
    parameters = 4 * (2 * 784 + 7850)
    assert found.gradient_bytes == parameters
    assert found.weight_bytes == parameters + 4 * 2 * 784 + 8  # means, variances, and one counter
    assert found.optimizer_bytes == 2 * parameters + 4 * 4  # two averages, and a counter for each of the parameters


@pytest.fixture
def accelerated(work, monkeypatch):
    """A workload on an accelerator whose allocator has the numbers of `says`; it is the CPU that computes."""
    cuda = Device("cuda")
    monkeypatch.setattr(Device, "torch_device", torch.device("cpu"))
    says = {"used": [100, 1000], "peak": 10**7}
    monkeypatch.setattr(memory, "free", lambda device: None)
    monkeypatch.setattr(memory, "used_bytes", lambda device: says["used"].pop(0))
    monkeypatch.setattr(memory, "peak_bytes", lambda device: says["peak"])
    return dataclasses.replace(work, device=cuda), says


def test_on_an_accelerator_activations_are_the_peak_beyond_what_was_there_and_the_gradients(accelerated):
    work, _ = accelerated
    found = account(work, work.batches(1)[0])
    assert found.activation_bytes == 10**7 - 1000 - 4 * 101_770
    assert found.peak_bytes == 10**7 - 100


def test_an_accelerator_that_keeps_no_peak_says_nothing(accelerated):
    work, says = accelerated
    says.update(used=[None, None], peak=None)
    found = account(work, work.batches(1)[0])
    assert (found.peak_bytes, found.activation_bytes) == (None, None)
    assert found.weight_bytes == 4 * 101_770


def test_on_a_cpu_memory_is_the_same_whatever_ran_before(work):
    batch = repeated(work.batches(1)[0], 4096)
    first = account(work, batch)
    hoard = [torch.ones(2**20) for _ in range(64)]
    del hoard  # which the process may have pages of
    assert account(work, batch) == first
    assert 4096 * 128 * 4 < first.activation_bytes < 4 * 4096 * 128 * 4  # the hidden layer is kept for backward


@pytest.mark.parametrize("kept", [[], [0], [0, 1]])
def test_what_a_call_allocates_is_the_most_that_it_has_at_a_time(kept):
    def call():
        made = [torch.empty(1000), torch.empty(3000)]
        held.extend(made[place] for place in kept)
        del made
        torch.empty(2000)

    held = []
    assert step_memory.allocated_bytes(call, CPU) == 4 * max(4000, sum((1000, 3000)[place] for place in kept) + 2000)
    assert step_memory.allocated_bytes(lambda: None, CPU) == 0


@given(size=st.integers(2, 3000), share=st.floats(0.01, 3.0))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_on_a_cpu_a_batch_fits_where_its_step_takes_no_more_than_the_limit(work, size, share):
    peak = account(work, repeated(work.batches(1)[0], size)).peak_bytes
    limit = int(share * peak)
    assert Tries(work, timer(), limit).fits(size) is (peak <= limit)


def test_samples_are_repeated_in_turn(work):
    images, labels = work.batches(1)[0]
    more, their = repeated((images, labels), 150)
    assert more.shape == (150, 1, 28, 28)
    assert more[64:128].equal(images) and their[128:].equal(labels[:22])


# The limit


@pytest.fixture
def rlimit():
    """RLIMIT_DATA; it must be the same afterwards."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    yield lambda: resource.getrlimit(resource.RLIMIT_DATA)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_on_a_cpu_what_gets_out_of_hand_cannot_be_allocated_and_the_limit_is_gone_afterwards(rlimit):
    before = rlimit()
    with memory.bounded_memory(CPU, 64 * 2**20):
        assert rlimit() != before
        torch.empty(32 * 2**20, dtype=torch.uint8)
        with pytest.raises(RuntimeError) as failure:
            torch.empty(1200 * 2**20, dtype=torch.uint8)
    assert memory.is_out_of_memory(failure.value)
    torch.empty(1200 * 2**20, dtype=torch.uint8)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, pytest.skip.Exception])
def test_the_limit_is_gone_whatever_happens(rlimit, error):
    with pytest.raises(error), memory.bounded_memory(CPU, 2**30):
        raise error("x")


def test_a_limit_within_a_limit_only_lowers_it(rlimit):
    with memory.bounded_memory(CPU, 2**28):
        outer = rlimit()
        with memory.bounded_memory(CPU, 2**40):
            assert rlimit() == outer
        assert rlimit() == outer


@pytest.fixture
def cuda(monkeypatch):
    """torch's own settings of a GPU with 80 GB, of which it has reserved 1 GB."""
    state = {"fraction": 0.9}
    facts = type("Facts", (), {"total_memory": 80 * 10**9})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 10**9)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: state["fraction"])
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: state.update(fraction=share)
    )
    return state


def test_on_cuda_the_limit_is_a_share_of_the_memory_and_is_restored_after_a_failure(cuda, rlimit):
    before = rlimit()
    with pytest.raises(ZeroDivisionError), memory.bounded_memory(Device("cuda"), 3 * 10**9):
        assert cuda["fraction"] == 0.05
        assert rlimit() == before
        raise ZeroDivisionError
    assert cuda["fraction"] == 0.9
    with memory.bounded_memory(Device("cuda"), 10**12):
        assert cuda["fraction"] == 0.9
    with memory.bounded_memory(Device("cuda")):
        assert cuda["fraction"] == 0.9


def test_a_device_is_filled_only_where_its_memory_has_a_limit(monkeypatch):
    facts = types.SimpleNamespace(is_integrated=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    assert memory.why_unbounded(Device("cuda:1"), None) is None
    facts.is_integrated = 1
    shares = "needs --perf-memory-limit=SIZE, because it shares the memory of the host"
    assert memory.why_unbounded(Device("cuda:1"), None) == shares
    assert memory.why_unbounded(Device("cuda:1"), 2**30) is None
    assert memory.why_unbounded(CPU, 2**30) is None
    assert memory.why_unbounded(CPU, None).startswith("needs --perf-memory-limit=SIZE")
    assert memory.why_unbounded(Device("mps"), 2**30) == "torch limits no memory of mps"
    monkeypatch.setattr(memory, "_status_bytes", lambda key: None)
    assert memory.why_unbounded(CPU, 2**30) == "this system cannot limit the memory of a process"


def test_a_search_on_an_accelerator_goes_no_further_than_the_free_memory(monkeypatch):
    """Where a driver lends memory of the host, more would fit, slowly."""
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (5 * 2**30, 8 * 2**30))
    assert memory.free_bytes(Device("cuda")) == 5 * 2**30
    assert memory.searchable_bytes(Device("cuda"), None) == 5 * 2**30
    assert memory.searchable_bytes(Device("cuda"), 2**30) == 2**30
    assert memory.searchable_bytes(Device("cuda"), 2**33) == 5 * 2**30
    assert memory.searchable_bytes(CPU, 2**33) == 2**33 and memory.searchable_bytes(CPU, None) is None

    def unknown(device):
        raise NotImplementedError

    monkeypatch.setattr(torch.accelerator, "get_memory_info", unknown)
    assert memory.searchable_bytes(Device("cuda"), None) is None


# The search


@pytest.mark.parametrize("leaking", [False, True])
def test_a_size_that_lacks_memory_does_not_fit_and_leaves_nothing_behind(work, monkeypatch, leaking):
    """The planted leak is what a test that looked too late, or at nothing, would not see."""
    alive, hoard = [], []

    def fails(step, *batch):
        hoard.extend(batch if leaking else ())
        alive.extend(weakref.ref(tensor) for tensor in [*batch, *step.model.parameters()])
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("model.training.TrainingStep.__call__", fails)
    freed = []
    free = memory.free

    def spy(device):
        free(device)
        freed.append([ref for ref in alive if ref() is not None])

    monkeypatch.setattr(memory, "free", spy)
    tries = Tries(work, timer())
    assert not tries.fits(64)
    assert [len(left) for left in freed] == [2 if leaking else 0] and alive
    assert tries.problems == {64: OUT_OF_MEMORY}


def test_an_error_at_the_first_size_is_an_error(work, monkeypatch):
    monkeypatch.setattr(step_memory, "repeated", lambda batch, size: (batch[0].flatten(1)[:, :5], batch[1]))
    with pytest.raises(RuntimeError, match="shapes"):
        Tries(work, timer()).fits(64)


def test_an_error_at_a_larger_size_is_said_and_ends_the_search(work, monkeypatch):
    def limited(batch, size):
        if size > 256:
            raise RuntimeError("integer out of range\nand more")
        return repeated(batch, size)

    monkeypatch.setattr(step_memory, "repeated", limited)
    monkeypatch.setattr(step_memory, "RATE_MOST_S", 0.0)
    tries = Tries(work, timer())
    found = largest(tries.fits, 64, tries.most)
    assert (found.size, tries.problems[found.refused]) == (256, "integer out of range")
    assert list(tries.doublings(64, found.size)) == [64, 128, 256]


def test_a_search_that_takes_too_long_takes_what_it_has(work, monkeypatch):
    monkeypatch.setattr(Tries, "_rate", lambda self, size: 1000.0)
    tries = Tries(work, lambda: 0.0)
    found = largest(tries.fits, 64, tries.most)
    assert 39_000 < found.size <= 40_000  # of which three steps take two minutes
    assert tries.problems[found.refused] == "the search would take more than 120 s"


def test_what_compiling_takes_is_not_time_of_the_search_up_to_a_point(work, monkeypatch):
    """Each size takes 100 s to compile."""
    now = [0.0]

    def compiling(tries, size):
        tries._starting_s += 100.0
        now[0] += 100.0
        return 1e6

    monkeypatch.setattr(Tries, "_rate", compiling)
    compiled = dataclasses.replace(work, mode=Mode("compile"))
    eager, tries = Tries(work, lambda: now[0]), Tries(compiled, lambda: now[0])
    sizes = [64 << power for power in range(8)]
    assert [eager.fits(size) for size in sizes[:3]] == [True, True, False]
    now[0] = 0.0
    tries = Tries(compiled, lambda: now[0])
    assert [tries.fits(size) for size in sizes] == [True] * 7 + [False]
    assert tries.problems == {sizes[7]: "the search would take more than 600 s"}


def test_a_device_that_stops_working_is_no_size_that_does_not_fit(work, monkeypatch):
    tries = Tries(work, timer())
    tries.rates = {64: 1e6}

    def lost(self, size):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Tries, "_rate", lost)
    with pytest.raises(torch.AcceleratorError):
        tries.fits(128)


def test_one_sample_is_no_batch(work):
    assert not Tries(work, timer()).fits(1)


def test_below_the_first_size_there_is_one_throughput(work):
    tries = Tries(work, timer())
    tries.rates = {40: 2.0, 20: 1.0}
    assert tries.doublings(64, 40) == {40: 2.0}


def test_the_batch_is_no_larger_than_32_bits_can_count(work):
    images = random_images((3, 224, 224), 10, 64, 1, seed=0)
    assert Tries(dataclasses.replace(work, data=images), timer()).most * 3 * 224 * 224 < 2**31


def test_a_fresh_step_trains_as_a_benchmarks_does(work):
    for mode in (Mode(), Mode("eager", "bf16")):
        mine = dataclasses.replace(work, mode=mode)
        batch = mine.batches(1)[0]
        trainee = mine.trainee()
        trainee.model.train()
        assert fresh_step(mine)(*batch).equal(trainee.step(*batch))
    gc.collect()


# The whole way


def test_without_a_limit_a_cpu_is_not_filled_and_the_reason_says_what_to_give(perf):
    result = perf(LARGEST, MEMORY, "--perf-device=cpu", "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*: cpu: needs --perf-memory-limit=SIZE, because *"])


def test_the_largest_batch_under_a_small_limit(perf, pytester, rlimit):
    result = perf(
        LARGEST, "--perf-device=cpu", "--perf-memory-limit=10MiB", f"--benchmark-json={pytester.path / 'out.json'}"
    )
    result.assert_outcomes(passed=1)
    document = read(pytester.path / "out.json")
    assert [error.message for error in validator().iter_errors(document)] == []
    info = document["benchmarks"][0]["extra_info"]
    assert 2050 < info["largest_batch"] < 2180  # 4.6 kB each, and 0.8 MB of weights and gradients
    assert info["limited_by"] == OUT_OF_MEMORY
    assert info["memory_limit_bytes"] == 10 * 2**20
    sizes = [int(size) for size in info["rates"]]
    assert sizes == [64 << power for power in range(len(sizes))]
    assert sizes[-1] <= info["largest_batch"] < 2 * sizes[-1]
    assert info["sufficient_batch"] == info["batch_size"] == info["samples_per_iteration"]
    assert info["sufficient_batch"] in sizes
    text = " ".join(result.stdout.str().split())
    # Why it is this one depends on how busy the machine is: tests/test_report_capacity.py has all reasons.
    says = f"SMOKE: simple_nn on this CPU: the largest batch that fits into 10.5 MB is {info['largest_batch']}; "
    assert re.search(f"{re.escape(says)}[^.]*: use --perf-batch-size={info['sufficient_batch']}\\.", text)


def test_where_nothing_fits_the_case_fails_in_one_line_and_pytest_lives(perf, rlimit, monkeypatch):
    monkeypatch.setattr(step_memory, "repeated", lambda batch, size: torch.empty(10**12))
    result = perf(LARGEST, "--perf-device=cpu", "--perf-memory-limit=1GB")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*out of memory on cpu*"])
    assert "Traceback" not in result.stdout.str()


def test_the_memory_of_a_step_goes_the_whole_way(perf, pytester, rlimit):
    result = perf(
        MEMORY, "--perf-device=cpu", "--perf-memory-limit=1GB", f"--benchmark-json={pytester.path / 'out.json'}"
    )
    result.assert_outcomes(passed=1)
    document = read(pytester.path / "out.json")
    assert [error.message for error in validator().iter_errors(document)] == []
    info = document["benchmarks"][0]["extra_info"]
    assert (info["weight_bytes"], info["gradient_bytes"]) == (407_080, 407_080)
    result.stdout.fnmatch_lines(["Memory of a training step*", "batch *weights *gradients *optimizer *activations *"])


def test_a_wrong_limit_is_refused_before_anything_is_measured(perf):
    result = perf(LARGEST, "--perf-memory-limit=2 gigs")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --perf-memory-limit: '2 gigs' is not an amount of memory; write it like *"])


@pytest.mark.parametrize("name", ["mps", "cuda"])
def test_the_memory_of_mps_is_released_by_its_own_call(monkeypatch, name):
    """torch.accelerator.empty_cache fails on MPS up to torch 2.11 (pytorch#186430)."""
    called = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: called.append("mps"))
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: called.append("cuda"))
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", lambda device: called.append(str(device)))
    memory.free(Device(name))
    assert called == [name, str(Device(name).torch_device)]
