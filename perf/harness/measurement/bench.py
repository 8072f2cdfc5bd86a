"""In: the workload of a case and pytest-benchmark's fixture. Out: the measured case, with its `extra_info` filled in.

The files `perf/test_*.py` share this code. Each file adds only what is special about its benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from data import Batch, Pipeline, ResidentPipeline
from model import TrainingStep
from model.task_step import facts
from perf.harness.machine import devices, memory
from perf.harness.machine.load import Company, Meter, starved
from perf.harness.machine.telemetry.energy import counter
from perf.harness.machine.telemetry.reasons import SLOWING, Reason
from perf.harness.machine.telemetry.source import Sample
from perf.harness.machine.telemetry.summary import NEAR_S, condense, rounds_with
from perf.harness.measurement import traffic
from perf.harness.measurement.checks.probes import product_rate
from perf.harness.measurement.effort import TIMES_SHARE, Effort
from perf.harness.measurement.learned import loss_and_problem
from perf.harness.measurement.parity import epoch_apart, first_losses, logits_apart, parity
from perf.harness.measurement.rounds import ONLY, Measurement, MeasurementError, Pass
from perf.harness.options import EAGER, Settings
from perf.harness.record.extra_info import BETWEEN, ExtraInfo
from perf.harness.statistics.intervals import median_and_spread
from perf.harness.verdict.marks import CROWDED, marks
from perf.harness.workload.benchmarks import Definition
from perf.harness.workload.cycle import cycle
from perf.harness.workload.modes.compiler import graph_break
from perf.harness.workload.modes.errors import Unsupported
from perf.harness.workload.modes.execution import epoch
from perf.harness.workload.modes.mode import PLAIN
from perf.harness.workload.modes.precision import AutocastStep
from perf.harness.workload.workload import FITTED_BATCHES, Trainee, Workload, unable

# A step that is slower than its limit so many times is not slow by chance.
TRIES = 3
# The first losses of a training take this part of the time that the profile gives to a case, or of one step.
FIRST_LOSSES_PART = 8

Readings = Callable[[float, float], Sequence[Sample]]


class TooLong(Exception):
    """A case takes longer than the profile allows on a CPU: `str()` names the benchmark and the limit."""


class Bench:
    """One case: its workload, and methods to measure, check and record it.

    `benchmark` is pytest-benchmark's fixture; `on_round(done, rounds, seconds_left)` is called between rounds;
    `readings(device)(start, end)` are the samples of a device's telemetry between two times of `time.perf_counter`;
    `one` is the pass over all cases that is running; `company` has seen the load by others in its earlier cases.
    """

    def __init__(
        self,
        definition: Definition,
        workload: Workload,
        settings: Settings,
        benchmark: Any,
        device_name: str,
        on_round: Callable[[int, int, float], None] | None,
        readings: Callable[[str], Readings] = lambda device: lambda start, end: (),
        one: Pass = ONLY,
        company: Company | None = None,
    ) -> None:
        self._cached = None if one.cache is None else not one.first
        self._first = one.first  # what is measured once is measured in the first pass
        self.definition = definition
        self.workload = workload
        self.memory_limit = settings.memory_limit
        self._benchmark = benchmark
        self._first_losses_s = settings.profile.case_s / FIRST_LOSSES_PART
        self._longest_s = math.inf if workload.device.asynchronous else settings.profile.longest_s
        self._longest_starved_s = self._longest_s
        if settings.rounds is None:
            self._longest_starved_s = min(self._longest_s, TIMES_SHARE * settings.profile.whole_s)
        self._readings = readings
        device, profile = workload.device, settings.profile
        precision = None if settings.target is None else settings.target / 2  # the passes differ by more than that
        self.measurement = Measurement(
            benchmark.pedantic,
            devices.synchronizer(device),
            Effort(profile.case_s, profile.min_rounds, profile.long_s, settings.rounds, precision).share(one.of),
            asynchronous=device.asynchronous,
            enabled=benchmark.enabled,
            keep=self.keep,
            on_round=on_round,
            company=company or Company(),
            energy_j=counter(device) if benchmark.enabled else lambda: None,
            one=one,
        )
        self.info = ExtraInfo(
            benchmark=definition.name,
            model=workload.recipe.name,
            data=workload.data.name,
            data_digest=workload.data.digest,
            device=device.name,
            device_name=device_name,
            batch_size=workload.batch_size,
            pipeline=workload.pipeline,
            memory_format=str(workload.memory_format).removeprefix("torch."),
            execution=workload.mode.execution,
            precision=workload.mode.precision,
            profile=profile.name,
        )

    def keep(self, **found: Any) -> None:
        """Put results into the record. Each keyword is the name of a field of `ExtraInfo`."""
        self.info = self.info.with_found(**found)
        self._benchmark.extra_info.update(self.info.as_record())

    def cold_trainee(self, first: Callable[[Trainee], object]) -> Trainee:
        """Build a fresh network and call it once, timed as the cold start. Then restore its first state."""
        trainee = self.measurement.cold_start(self.workload.trainee, first)
        self.keep(parameters=trainee.parameters)
        if self._cached is not None:
            self.keep(reuses_compilation=self._cached)
        trainee.restore()
        self._keep_training(trainee.fresh)
        return trainee

    def _keep_training(self, step: TrainingStep) -> None:
        """Record what a task, or a user's own network, trains with, and what of it is not used."""
        recipe = self.workload.recipe
        if recipe.task is None and not recipe.users:
            return
        left = {"unused": BETWEEN.join(recipe.unused), "put back": ", ".join(recipe.put_back)}
        found = facts(step) | {subject: text for subject, text in left.items() if text}
        trained = sum(one.numel() for one in step.model.parameters() if one.requires_grad)
        self.keep(training=found, trained_parameters=trained)

    def check_predicts(self) -> None:
        """Raises Unsupported if the task does not say what inference is."""
        if reason := unable(self.workload.recipe).get("inference"):
            raise Unsupported(reason)

    def check_length(self, trainee: Trainee, steps: int = 1) -> None:
        """Time a step if a call has a time limit, then restore. Raises TooLong if `steps` steps exceed the limit.

        A step may be slow by chance, so the limit holds for the fastest of TRIES. While other programs have the cores,
        it is three times the share of a case, so that the run keeps to its time.
        """
        if self._longest_s == math.inf:
            return
        batch = self.workload.batches(1)[0]
        fastest_s, meter = math.inf, Meter()
        for _ in range(TRIES):
            start = self.measurement.timer()
            trainee.step(*batch)
            fastest_s = min(fastest_s, steps * (self.measurement.timer() - start))
            if fastest_s <= self._longest_starved_s:
                break
        trainee.restore()
        if fastest_s <= self._longest_starved_s:
            return
        threads = torch.get_num_threads()
        missing = meter.read().missing_cores(threads) or 0.0
        longest_s = self._longest_starved_s if starved(missing, threads) else self._longest_s
        if fastest_s <= longest_s:
            return
        then = " on so busy a machine" if longest_s < self._longest_s else ""
        kind = self.definition.title.lower()
        busy = f", while other programs use {missing:.1f} of the cores that it needs" if missing > CROWDED else ""
        raise TooLong(
            f"{self.workload.device.name}: one {kind} takes about {fastest_s:.3g} s, by the fastest of {TRIES} "
            f"steps{busy}; the profile {self.info.profile} allows {longest_s:.3g} s{then}"
        )

    def cycle(self, trainee: Trainee) -> int:
        """After how many steps the training does the same again; also recorded, if that is not 1. Then restore.

        It is asked in the first pass, and the others have as many calls in a round.
        """
        if not self._first or not self._benchmark.enabled:
            return 1
        found = cycle(trainee, self.workload.batch_of_cycle())
        if found > 1:
            self.keep(cycle=found)
        return found

    def check_parity(self) -> None:
        """Compare the losses of the mode with those of the plain way, before the timed rounds.

        Raises MeasurementError if the mode computes something else.
        """
        if self.workload.mode == PLAIN or not self._first:
            return
        found = parity(self.workload, self.measurement.timer)
        self.keep(
            parity_steps=found.steps,
            parity_difference=found.difference,
            parity_rounding=found.rounding,
            precision_difference=found.distance,
        )
        memory.free(self.workload.device)

    def keep_first_losses(self, trainee: Trainee, batches: Sequence[Batch]) -> None:
        """Record the losses of the first steps of the plain way, which another device must have, too. Then restore."""
        if self.workload.mode != PLAIN or not self._first or not self._benchmark.enabled:
            return
        if found := first_losses(trainee, batches, self.measurement.timer, self._first_losses_s):
            self.keep(step_losses=found.losses, step_losses_rounding=found.rounding)

    def check_logits(self) -> None:
        """Compare the logits of a forward pass with those of the plain way. Raises MeasurementError if they differ."""
        if self.workload.mode != PLAIN and self._first:
            self.keep(parity_difference=logits_apart(self.workload))

    def check_epoch(self, trainee: Trainee, pipeline: Pipeline) -> None:
        """Compare the mean loss of an epoch on resident data with that of the same epoch in eager execution.

        This also compiles or captures the epoch's code before the timed rounds. Raises MeasurementError if the loss is
        wrong.
        """
        if self._first and self.workload.mode.execution != EAGER and isinstance(pipeline, ResidentPipeline):
            trainee.restore()
            difference = epoch_apart(self.workload, epoch(trainee.step, pipeline, 0), pipeline)
            self.keep(epoch_difference=difference)
            trainee.restore()

    def warm_epoch(self, trainee: Trainee, pipeline: Pipeline) -> float | None:
        """Run an epoch. In eager execution, record its phases; if it runs only a share, that is returned."""
        if self.workload.mode.execution == EAGER:
            return self.measurement.phases(trainee.step, pipeline, self.workload.device.torch_device)
        epoch(trainee.step, pipeline, 0)
        return None

    def enqueue(self, trainee: Trainee, call: Callable[[], object]) -> None:
        """Measure the host's share of a call, unless the call itself waits for the device: it reads a value from it."""
        scales = isinstance(trainee.plain, AutocastStep) and trainee.plain.scaler is not None
        if not scales and not devices.waits(self.workload.device, call):
            self.measurement.enqueue(call)

    def overhead(self, call: Callable[[Workload], Callable[[], object]]) -> None:
        """Measure the fixed cost of a call, at batch sizes up to that of the workload: a larger one may not fit.

        The fixed cost of a compiled call stays unknown, because each batch size would need another compilation.
        """
        if self._first and self.workload.mode.execution != "compile":
            small = {
                size: replace(self.workload, batch_size=size)
                for size in FITTED_BATCHES
                if size <= self.workload.batch_size
            }
            self.measurement.overhead({size: call(workload) for size, workload in small.items()})

    def record_rate(self, samples: int) -> None:
        """Record what follows from the timed rounds: rate, memory, load and marks. A call has `samples` samples."""
        if (unit := self.workload.unit) is not None:
            self.keep(unit=unit[0], units_per_sample=unit[1])
        self.keep(samples_per_iteration=samples, peak_bytes=memory.peak_bytes(self.workload.device))
        if self.workload.mode.execution == "compile":
            self.keep(graph_break=graph_break())
        threads = 1 if self.workload.device.asynchronous else torch.get_num_threads()
        load = self.measurement.load
        if load is not None and (missing := load.missing_cores(threads)) is not None:
            self.keep(crowding=missing)
        self._record_throttling()
        if self._benchmark.enabled:
            stats, info = self._benchmark.stats.stats, self.info.as_record()
            self.keep(samples_per_s=samples / stats.median)
            found = marks(median_and_spread(stats.data).spread, info.get("crowding"), info.get("throttled_rounds"))
            self.keep(marks=" ".join(found))

    def _record_throttling(self) -> None:
        """Record in how many of the timed rounds the device slowed itself down, if its telemetry says so."""
        rounds = self.measurement.rounds
        if not rounds:
            return
        samples = self._readings(self.workload.device.name)(rounds[0][0] - NEAR_S, rounds[-1][1] + NEAR_S)
        for key, bits in (("throttled_rounds", SLOWING), ("power_capped_rounds", Reason.SW_POWER_CAP)):
            if (found := rounds_with(bits, rounds, samples)) is not None:
                self.keep(**{key: found})

    def keep_telemetry(self, names: Sequence[str]) -> None:
        """Record the power and the clock of each of these devices in the timed rounds, where they are known."""
        rounds = self.measurement.rounds
        if not rounds:
            return
        seen = {name: condense(self._readings(name)(rounds[0][0], rounds[-1][1])) for name in names}
        for key, value in (("together_power_w", "power_w_median"), ("together_clock_hz", "sm_clock_hz_median")):
            self.keep(**{key: {name: one[value] for name, one in seen.items() if value in one}})

    def record_flop(self, call: Callable[..., object]) -> None:
        """Record `flop_per_sample` of `call(*batch)`, counted on the smallest mini-batch.

        A task's own samples may be of different lengths, and its mini-batch as long as the longest: these are counted
        on the first mini-batch of the workload. `flop_uncounted` names the operations that cannot be counted.
        `flop_per_sample` is None if there are any, or if no FLOP are found.
        """
        if not self._first:
            return
        counted = self.workload if self.workload.recipe.brings_data else self.workload.minimal()
        batch = counted.batches(1)[0]
        work = traffic.work(lambda: call(*batch))
        known = work.flop and not work.uncounted
        self.keep(flop_per_sample=round(work.flop / counted.batch_size) if known else None)
        self.keep(flop_uncounted=", ".join(work.uncounted))

    def record_products(self) -> None:
        """Record the rate of this device's matrix products in the precision of the case [FLOP/s].

        It stays unknown where they do not fit into memory beside the training.
        """
        if not self._first or not self._benchmark.enabled:
            return
        try:
            self.keep(matmul_flop_per_s=product_rate(self.workload.device, self.workload.mode.precision))
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise

    def record_bytes(self, call: Callable[..., object]) -> None:
        """Record `bytes_per_sample` of `call(*batch)`, counted at the batch size of the workload.

        The batch size matters, because all samples of a mini-batch share one read of the weights.
        """
        if not self._first:
            return
        batch = self.workload.batches(1)[0]
        work = traffic.work(lambda: call(*batch))
        self.keep(bytes_per_sample=None if work.uncounted else work.bytes / self.workload.batch_size)

    def record_losses(self, trainee: Trainee, batches: Sequence[Batch], first: float, last: float, steps: int) -> None:
        """Record the losses before and after `steps` steps.

        Raises MeasurementError if they show that the training is wrong, also when it goes on with `batches`.
        """
        if not self._benchmark.enabled:
            batches = ()  # one step shows nothing
        last, problem = loss_and_problem(trainee, batches, first, last, steps)
        self.keep(loss_first=first if math.isfinite(first) else None, loss_last=last if math.isfinite(last) else None)
        if problem:
            raise MeasurementError(problem)
