"""In: a case's axes and pytest-benchmark's fixture. Out: the case measured, its `extra_info` filled.

What the files `perf/test_*.py` share; each of them adds only its question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from data import Pipeline, ResidentPipeline
from perf.harness.machine import devices, memory
from perf.harness.machine.load import crowding, foreign_cpu_s
from perf.harness.machine.telemetry.reasons import SLOWING, Reason
from perf.harness.machine.telemetry.source import Sample
from perf.harness.machine.telemetry.summary import NEAR_S, rounds_with
from perf.harness.measurement import traffic
from perf.harness.measurement.parity import epoch_apart, logits_apart, parity
from perf.harness.measurement.rounds import ONLY, Effort, Measurement, MeasurementError, Pass
from perf.harness.options import EAGER, Settings
from perf.harness.record.extra_info import ExtraInfo
from perf.harness.statistics.intervals import median_and_spread
from perf.harness.verdict.marks import marks
from perf.harness.workload.benchmarks import Definition
from perf.harness.workload.modes.execution import epoch, graph_break
from perf.harness.workload.modes.mode import PLAIN
from perf.harness.workload.modes.precision import AutocastStep
from perf.harness.workload.workload import FITTED_BATCHES, Trainee, Workload

# Fewer steps than this need not show a falling loss: `--benchmark-disable` runs one.
FALLING_STEPS = 8


class TooLong(Exception):
    """A case that takes longer than the profile allows on a CPU: `str()` says so."""


class Bench:
    """One case: its workload, and the way from cold start to record.

    `benchmark` is pytest-benchmark's fixture; `on_round(done, rounds, seconds_left)` is called between rounds;
    `readings(start, end)` are the samples of the device's telemetry between two times of `time.perf_counter`.
    """

    def __init__(
        self,
        definition: Definition,
        workload: Workload,
        settings: Settings,
        benchmark: Any,
        device_name: str,
        on_round: Callable[[int, int, float], None] | None,
        readings: Callable[[float, float], Sequence[Sample]] = lambda start, end: (),
        one: Pass = ONLY,
    ) -> None:
        self._first = one.first  # what needs no second look is looked at in the first pass
        self.definition = definition
        self.workload = workload
        self.memory_limit = settings.memory_limit
        self._benchmark = benchmark
        self._longest_s = math.inf if workload.device.asynchronous else settings.profile.longest_s
        self._readings = readings
        device, profile = workload.device, settings.profile
        self.measurement = Measurement(
            benchmark.pedantic,
            devices.synchronizer(device),
            Effort(profile.case_s, profile.min_rounds, profile.long_s, settings.rounds).share(one.of),
            asynchronous=device.asynchronous,
            enabled=benchmark.enabled,
            keep=self.keep,
            on_round=on_round,
            foreign_cpu_s=foreign_cpu_s,
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
        """Put what was found, by its name in `ExtraInfo`, into the record."""
        self.info = self.info.with_found(**found)
        self._benchmark.extra_info.update(self.info.as_record())

    def cold_trainee(self, first: Callable[[Trainee], object]) -> Trainee:
        """A fresh network, built and called once on the clock, then restored to its first state."""
        trainee = self.measurement.cold_start(self.workload.trainee, first)
        self.keep(parameters=trainee.parameters)
        trainee.restore()
        return trainee

    def check_length(self, trainee: Trainee, steps: int = 1) -> None:
        """Time one step, where a call of `steps` of them has a limit, and restore. Raises TooLong."""
        if self._longest_s == math.inf:
            return
        batch = self.workload.batches(1)[0]
        start = self.measurement.timer()
        trainee.step(*batch)
        took_s = steps * (self.measurement.timer() - start)
        trainee.restore()
        if took_s > self._longest_s:
            kind = self.definition.title.lower()
            raise TooLong(f"{self.workload.device.name}: a {kind} that takes more than {self._longest_s:g} s")

    def check_parity(self) -> None:
        """Hold a mode's losses against those of the plain way, before anything of it is timed. Raises
        MeasurementError where it computes something else."""
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

    def check_logits(self) -> None:
        """The same of a forward pass: its logits against those of the plain way."""
        if self.workload.mode != PLAIN and self._first:
            self.keep(parity_difference=logits_apart(self.workload))

    def check_epoch(self, trainee: Trainee, pipeline: Pipeline) -> None:
        """The same of a whole epoch that is compiled or captured by itself; it is, here, and not on the clock."""
        if self._first and self.workload.mode.execution != EAGER and isinstance(pipeline, ResidentPipeline):
            trainee.restore()
            difference = epoch_apart(self.workload, epoch(trainee.step, pipeline, 0), pipeline)
            self.keep(epoch_difference=difference)
            trainee.restore()

    def warm_epoch(self, trainee: Trainee, pipeline: Pipeline) -> None:
        """One epoch, looked at phase by phase where the step has phases: not where it runs as one."""
        if self.workload.mode.execution == EAGER:
            self.measurement.phases(trainee.step, pipeline, self.workload.device.torch_device)
        else:
            epoch(trainee.step, pipeline, 0)

    def enqueue(self, trainee: Trainee, call: Callable[[], object]) -> None:
        """The host's share of a call; not where a scaler reads from the device in each step, and so waits for it."""
        if not (isinstance(trainee.plain, AutocastStep) and trainee.plain.scaler is not None):
            self.measurement.enqueue(call)

    def overhead(self, call: Callable[[Workload], Callable[[], object]]) -> None:
        """The fixed cost of a `call`, from batches that are no larger than its own: a larger one may not fit.

        It is not known of a compiled call, which would be another one for each size.
        """
        if self._first and self.workload.mode.execution != "compile":
            small = {
                size: replace(self.workload, batch_size=size)
                for size in FITTED_BATCHES
                if size <= self.workload.batch_size
            }
            self.measurement.overhead({size: call(workload) for size, workload in small.items()})

    def record_rate(self, samples: int) -> None:
        """What follows from the timed rounds, `samples` of the data set per call."""
        self.keep(samples_per_iteration=samples, peak_bytes=memory.peak_bytes(self.workload.device))
        if self.workload.mode.execution == "compile":
            self.keep(graph_break=graph_break())
        if (others := self.measurement.others_cores) is not None:
            threads = 1 if self.workload.device.asynchronous else torch.get_num_threads()
            self.keep(crowding=crowding(others, threads))
        self._record_throttling()
        if self._benchmark.enabled:
            stats, info = self._benchmark.stats.stats, self.info.as_record()
            self.keep(samples_per_s=samples / stats.median)
            found = marks(median_and_spread(stats.data).spread, info.get("crowding"), info.get("throttled_rounds"))
            self.keep(marks=" ".join(found))

    def _record_throttling(self) -> None:
        """In how many of the timed rounds the device had slowed itself, where it says so."""
        rounds = self.measurement.rounds
        if not rounds:
            return
        samples = self._readings(rounds[0][0] - NEAR_S, rounds[-1][1] + NEAR_S)
        for key, bits in (("throttled_rounds", SLOWING), ("power_capped_rounds", Reason.SW_POWER_CAP)):
            if (found := rounds_with(bits, rounds, samples)) is not None:
                self.keep(**{key: found})

    def record_flop(self, call: Callable[..., object]) -> None:
        """`flop_per_sample` of `call(images, labels)`, counted on the smallest batch, or `flop_uncounted`: why not."""
        if not self._first:
            return
        batch = self.workload.minimal().batches(1)[0]
        work = traffic.work(lambda: call(*batch))
        known = work.flop and not work.uncounted
        self.keep(flop_per_sample=round(work.flop / len(batch[1])) if known else None)
        self.keep(flop_uncounted=", ".join(work.uncounted))

    def record_bytes(self, call: Callable[..., object]) -> None:
        """`bytes_per_sample` of `call(images, labels)`, at this batch size: the weights are read once for all."""
        if not self._first:
            return
        batch = self.workload.batches(1)[0]
        work = traffic.work(lambda: call(*batch))
        self.keep(bytes_per_sample=None if work.uncounted else work.bytes / self.workload.batch_size)

    def record_losses(self, first: float, last: float, steps: int) -> None:
        """Keep both losses. Raises MeasurementError where they show that nothing was trained."""
        self.keep(loss_first=first if math.isfinite(first) else None, loss_last=last if math.isfinite(last) else None)
        if problem := training_problem(first, last, steps):
            raise MeasurementError(problem)


def training_problem(first: float, last: float, steps: int) -> str:
    """What the losses before and after `steps` steps say against the training, or nothing."""
    if not (math.isfinite(first) and math.isfinite(last)):
        return f"the loss is not finite: {first:.4g} at first, {last:.4g} at last"
    if steps >= FALLING_STEPS and not last < first:
        return (
            f"the loss does not fall: {first:.6g} at first, {last:.6g} after {steps} steps; "
            "a step that does not train is no training step"
        )
    return ""
