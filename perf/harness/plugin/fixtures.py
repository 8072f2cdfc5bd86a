"""The fixtures of the files in `perf/`: the axes of a case, the case itself, and one check."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from perf.harness.machine import devices, memory
from perf.harness.machine.affinity import cores
from perf.harness.measurement.bench import Bench
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.measurement.side_by_side.link import SideLost
from perf.harness.measurement.side_by_side.sides import SideUnusable, itself
from perf.harness.measurement.together import Together
from perf.harness.plugin.items import kind
from perf.harness.plugin.measure import Measure
from perf.harness.plugin.qualify import Qualify
from perf.harness.plugin.state import PROGRESS, STATE
from perf.harness.plugin.way import WAY
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import BY_NAME
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.mode import Mode


@pytest.fixture
def device() -> None:
    """The device of the case."""


@pytest.fixture
def batch_size() -> None:
    """The batch size of the case; None if its benchmark does not vary it."""


@pytest.fixture
def pipeline() -> None:
    """The input pipeline of the case; None if its benchmark does not vary it."""


@pytest.fixture
def execution() -> None:
    """How the case executes a step: `eager`, `compile` or `cudagraph`."""


@pytest.fixture
def precision() -> None:
    """The precision of the case: `fp32`, `tf32`, `bf16` or `fp16`."""


@pytest.fixture
def model() -> None:
    """The network of the case; None if the run has only one."""


@pytest.fixture
def bench(
    request: pytest.FixtureRequest,
    benchmark: Any,
    device: str,
    batch_size: int | None,
    pipeline: str | None,
    execution: str,
    precision: str,
    model: str | None,
) -> Iterator[Bench]:
    """One case, ready to be measured. The device's memory is freed before and after it."""
    config, node = request.config, request.node
    way = config.stash[WAY]
    assert isinstance(way, Measure)
    if way.elsewhere:  # the case runs in another process
        yield None  # type: ignore[misc]
        benchmark.skipped = True  # no warning that the fixture was not used
        return
    state, progress = config.stash[STATE], config.stash[PROGRESS]
    mode = Mode(execution, precision)
    workload = state.plan.workload(device, batch_size, pipeline, mode, model)
    names = list(state.cases)
    benchmark.skipped = True  # no warning that the fixture was not used, if the user interrupts here
    on_round = progress.start_case(node.name, names.index(node.nodeid) + 1, len(names))
    memory.free(workload.device)
    try:
        mode.check(workload.device.torch_device)
    except Unsupported as reason:
        pytest.skip(str(reason))
    active = mode.active(anew=True, cache=way.one.cache)
    with devices.current(workload.device), memory.bounded_memory(workload.device), active:
        yield Bench(
            BY_NAME[kind(node) or ""],
            workload,
            state.settings,
            benchmark,
            state.plan.device_name(device),
            on_round,
            state.readings,
            way.one,
            state.company,
        )
    benchmark.skipped = True  # no warning for a case that failed before its rounds
    memory.free(workload.device)
    progress.say("")


@pytest.fixture
def together(
    request: pytest.FixtureRequest, bench: Bench, device: str, batch_size: int, model: str | None
) -> Iterator[Together]:
    """All devices of the kind of the case, each with a worker process."""
    if request.config.stash[WAY].elsewhere:
        yield None  # type: ignore[misc]
        return
    plan = request.config.stash[STATE].plan
    names = [one.name for one in plan.kinds()[device] if not one.absent]
    settings = replace(plan.settings, devices=tuple(names))
    threads = settings.threads or max(1, len(cores()) // len(names))
    cases = {name: {"kind": "training_step", **Axes(name, batch_size, None, model=model)._asdict()} for name in names}
    with contextlib.ExitStack() as held:
        try:
            side = itself(settings, threads)
            workers = {name: held.enter_context(contextlib.closing(side.launch())) for name in names}
        except (SideUnusable, SideLost) as error:
            pytest.fail(str(error), pytrace=False)
        yield Together(workers, cases, settings.profile.case_s)


@pytest.fixture
def check(request: pytest.FixtureRequest, _place: tuple[str, str]) -> Iterator[Attempt]:
    """One check on one device. The device's memory is freed before and after it."""
    way = request.config.stash[WAY]
    assert isinstance(way, Qualify)  # no other way to run collects checks
    with way.attempt(request.node) as attempt:
        yield attempt
