"""A qualification of a CPU of a known kind, on a clock that only operations of torch advance: fixtures of the tests."""

import contextlib
import os
import types
from dataclasses import replace

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from perf.harness.machine import cpu, load, memory
from perf.harness.machine.telemetry.sampler import INTERVAL_S, Sampler
from perf.harness.measurement import calls
from perf.harness.measurement.checks import exact, learning, parts, patterns, probes, steps, storage, timing
from perf.harness.measurement.checks.attempt import Attempt
from tests.conftest import PERF, STRICT

LEARNT = {}  # the steps that a network needs to learn, by all that decides them: the same in each run


class OperationClock(TorchDispatchMode):
    """A clock on which each operation of torch takes `operation_s`, and reading the clock an eighth of the usual one.

    The run's sampler is asked as this time passes. What a run measures with it is the same on every machine.
    """

    # Powers of two: sums of them are exact, and differences do not depend on when a run began.
    USUAL_S, LONG_S, READING_S = 2**-15, 2**-7, 2**-18

    def __init__(self):
        super().__init__()
        self.now, self.operation_s = 0.0, self.USUAL_S
        self.sampler, self.asked = None, 0.0

    def __torch_dispatch__(self, operation, _types, arguments=(), named=None):
        self.now += self.operation_s
        if self.sampler is not None and self.now >= self.asked + INTERVAL_S:
            self.asked = self.now
            self.sampler.ask()
        return operation(*arguments, **(named or {}))

    def __call__(self):
        self.now += self.READING_S
        return self.now

    def sleep(self, seconds):
        self.now += round(seconds / self.READING_S) * self.READING_S


class Disk:
    """The module `os` on this clock: a read takes as long as an operation."""

    def __init__(self, clock):
        self._clock = clock

    def __getattr__(self, name):
        return getattr(os, name)

    def preadv(self, *arguments):
        self._clock.now += self._clock.USUAL_S
        return os.preadv(*arguments)


@pytest.fixture
def clock(monkeypatch):
    """The clock of everything that a qualification measures; waiting takes no real time, either."""
    clock = OperationClock()
    monkeypatch.setattr(calls.device_timer, "__defaults__", (clock,))
    for probe in (probes.sustained, probes.hot_rate):
        monkeypatch.setattr(probe, "__defaults__", (clock,))
    monkeypatch.setattr(load.look, "__defaults__", (clock, clock.sleep))
    monkeypatch.setattr(steps, "time", types.SimpleNamespace(perf_counter=clock, sleep=clock.sleep))
    for function, defaults in (
        (Attempt.__init__, {"clock": clock, "wait": clock.sleep}),
        (Sampler.__init__, {"clock": lambda: clock.now, "cost": lambda: 0.0, "wait": lambda seconds: True}),
    ):
        for name, value in defaults.items():
            monkeypatch.setitem(function.__kwdefaults__, name, value)
    start = Sampler.start

    def started(sampler):
        start(sampler)
        clock.sampler = sampler

    monkeypatch.setattr(Sampler, "start", started)
    return clock


@pytest.fixture
def quick(monkeypatch, clock):
    """A free CPU of a known kind, and probes of few and small operations."""
    monkeypatch.setattr(memory, "free", lambda device: None)  # it takes long, in a process that has run many tests
    monkeypatch.setattr(load, "foreign_cpu_s", lambda: 0.0)
    monkeypatch.setattr(load, "withheld_s", lambda: 0.0)
    monkeypatch.setattr("perf.harness.measurement.checks.attempt.clock_hz", lambda: 2.5e9)
    monkeypatch.setattr("perf.harness.measurement.checks.attempt.highest_clock_hz", lambda: 1e12)
    monkeypatch.setattr("perf.harness.measurement.checks.attempt.effective_clock_hz", lambda threads: None)
    # Two cores on which a loop takes as long as on any other.
    monkeypatch.setattr("perf.qualification.test_cores.cores", lambda: [0, 1])
    monkeypatch.setattr(cpu, "one_of_each_core", list)
    monkeypatch.setattr(cpu, "bound_to", contextlib.nullcontext)
    monkeypatch.setattr(parts.effective_clock, "turns", lambda: clock)
    monkeypatch.setattr(parts.effective_clock.core_clock_hz, "__defaults__", (clock,))
    monkeypatch.setattr(timing, "source", lambda: "tsc")
    monkeypatch.setattr(storage, "_in_memory", lambda file, buffer: False)
    monkeypatch.setattr(storage, "time", types.SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(storage, "os", Disk(clock))
    its_time = types.SimpleNamespace(perf_counter=clock, time=clock, sleep=clock.sleep)
    monkeypatch.setattr(timing, "time", its_time)
    monkeypatch.setattr("perf.qualification.test_clock.time", its_time)
    monkeypatch.setattr("perf.qualification.test_replay.REPLAYS", 3)
    monkeypatch.setattr("perf.qualification.test_loader.BATCH_SIZE", 8)
    monkeypatch.setattr(probes, "last_level_bytes", lambda: None)
    monkeypatch.setattr(patterns, "last_level_bytes", lambda: None)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr("perf.harness.measurement.checks.attempt.cpu_kind", lambda: ("AuthenticAMD", 25, 1))
    # One worker returns its batches in the order of asking; several return them in any order.
    monkeypatch.setattr("perf.harness.machine.affinity.usable_cores", lambda: 1)
    monkeypatch.setattr(probes, "slower_beside_one", lambda device: 0.0)
    for module, name, value in (
        (probes, "CPU_SHAPES", ((64, 64, 64), (128, 128, 128))),
        (probes, "SUSTAINED", dict.fromkeys((False, True), ("fp32", (8, 8, 8)))),
        (probes, "SHAPE_S", 0.001),
        (probes, "RATE_S", 0.005),
        (probes, "WARM_LEAST_S", 0.0005),
        (probes, "WARM_MOST_S", 0.001),
        (probes, "CPU_BYTES", 2**18),
        (parts.effective_clock, "WARM_S", 0.0),
        (parts, "NODE_S", 0.005),
        (parts, "NODE_SHAPE", (8, 8, 8)),
        (patterns, "QUICK_BYTES", 2**18),
        (patterns, "BLOCK_BYTES", 2**17),
        (storage, "FILE_BYTES", 2**18),
        (storage, "READ_S", 0.0),
        (storage, "CHUNK_BYTES", 2**16),
        (probes, "LAUNCHES", 2_000),
        (probes, "LAUNCH_BLOCK", 100),
        (steps, "WARM_LEAST_S", 0.0005),
        (steps, "WARM_MOST_S", 0.001),
        (steps, "STEP_S", 0.01),
        (steps, "PIPELINE_S", 0.001),
        (steps, "CHOICE_S", 0.001),
        (steps, "STALL_BLOCK", 10),
        (steps, "STALL_BLOCKS", 3),
        (steps, "SLEEP_S", 0.01),
    ):
        monkeypatch.setattr(module, name, value)
    small = {"matmul": ((128, 128), (128, 128)), "gelu": ((64, 128),)}
    operations = {name: replace(exact.OPERATIONS[name], shapes=shapes) for name, shapes in small.items()}
    monkeypatch.setattr(exact, "OPERATIONS", operations)
    hot_rate, train = probes.hot_rate, learning._steps

    def untimed(work, slower):
        known = (work.recipe.name, len(work.data.train), work.device, work.batch_size, work.mode, work.seed, slower)
        if known not in LEARNT:
            clock.__exit__(None, None, None)
            try:
                LEARNT[known] = train(work, slower)
            finally:
                clock.__enter__()
        return LEARNT[known]

    def long_products(*arguments):
        clock.operation_s = clock.LONG_S
        try:
            return hot_rate(*arguments)
        finally:
            clock.operation_s = clock.USUAL_S

    monkeypatch.setattr(probes, "hot_rate", long_products)
    monkeypatch.setattr(learning, "_steps", untimed)  # it counts steps; on the clock they take three times as long


@pytest.fixture
def qualify(quick, clock, pytester, read_once, digits_root, monkeypatch):
    """Runs the checks named by `check`; what is printed, and the record."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    common = ("-p", "no:cacheprovider", "-p", "no:xdist", *STRICT, "--perf-threads=1")
    data = (f"--perf-data-root={digits_root}", "--perf-data=digits")
    storage = f"--benchmark-storage={pytester.path / 'kept'}"

    def run(*arguments, check=None, device="cpu", path=PERF):
        chosen = [f"--perf-check={check}"] if check else []
        options = [*common, *data, storage, *chosen, f"--perf-device={device}", "--perf-profile=qualify"]
        with clock:
            result = pytester.runpytest_inprocess(path, *options, *map(str, arguments), no_reraise_ctrlc=True)
        assert "Traceback" not in result.stdout.str() + result.stderr.str()
        assert "\x1b" not in result.stdout.str()
        return result

    return run
