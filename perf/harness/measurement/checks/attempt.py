"""In: a device, and what a check measured on it. Out: the check's verdict, with its bar, its reason and its details."""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from perf.harness.machine.devices import Device
from perf.harness.machine.effective_clock import effective_clock_hz
from perf.harness.machine.identity import clock_hz, cpu_kind, highest_clock_hz
from perf.harness.machine.load import SHORTEST_S, Clock, Meter
from perf.harness.machine.telemetry.reasons import HARDWARE, names
from perf.harness.machine.telemetry.source import Sample
from perf.harness.machine.telemetry.summary import condense, share_with
from perf.harness.measurement.checks.counters import ErrorCounters, NotCounted
from perf.harness.measurement.checks.probes import Measured
from perf.harness.measurement.checks.timing import Reading
from perf.harness.record.check import Check, CheckVerdict, Want
from perf.harness.record.run import finite
from perf.harness.record.spec import Spec
from perf.harness.record.values import Scalar
from perf.harness.verdict.by_spec import bar_of, golden
from perf.harness.verdict.checks import (
    BUSY_CORES,
    Allowed,
    Bar,
    MetricValue,
    judge_check,
    limit_bar,
    measure_again,
    middle,
    strictest,
)
from perf.harness.verdict.keys import key_of, model_of
from perf.harness.verdict.limits import UNIFORM, Limit, cpu_matmul_limit, gpu_matmul_limit, matmul_limit, memory_limit
from perf.harness.verdict.machine import explained
from perf.harness.verdict.roofline import Work, measured_limit, step_details
from perf.harness.workload.modes.precision import convolutions_in_tf32
from perf.harness.workload.plan import Plan

UNMEASURED = (None, None, None)
USUAL = Allowed(BUSY_CORES, "if others take more, a slow result says nothing about the machine")


class Attempt:
    """One check on one device. A test measures, and then calls one of the methods below to say what it found."""

    def __init__(
        self,
        name: str,
        device: Device,
        variant: str,
        plan: Plan,
        fault: str,
        errors: ErrorCounters | NotCounted,
        *,
        spec: Spec | None = None,
        allowed: Allowed = USUAL,
        done: Sequence[Check] = (),
        began: Reading | None = None,
        readings: Callable[[float, float], Sequence[Sample]] = lambda start, end: (),
        clock: Clock = time.perf_counter,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.device = device
        self.device_name = plan.device_name(device.name)
        self.variant = variant
        self.plan = plan
        self.spec = spec
        self.allowed = allowed  # what others may take of the cores
        self.done = done  # the checks of this run before this one
        self.began = began or Reading.now()  # the machine's clocks when the run began
        self.fault = fault
        self.errors = errors  # the device's error counters in this run, or why it has none
        injected = f"{name}:{fault}" if fault else ""
        self.result = Check(name, device.name, CheckVerdict.INCONCLUSIVE, variant, injected=injected)
        self._between, self._clock, self._wait = readings, clock, wait
        # For each measurement: when it began and ended [s of the clock], and how many calls it made.
        self._spans: list[tuple[float, float]] = []
        self._calls: list[int] = []
        self._counts = 0  # the number of the measurement whose value counts

    def rate(
        self, measure: Callable[[], Measured], unit: str, share: float = 0.0, limit: Limit | None = None,
        left: float = 1.0,
    ) -> None:  # fmt: skip
        """Judge a rate, in `unit`, by `share` of its physical limit and by the spec, if these are known."""
        self._judge(measure, unit, [] if limit is None else [limit_bar(limit, share, left)])

    def time(self, measure: Callable[[], Measured]) -> None:
        """Judge a time [s] by the spec."""
        self._judge(measure, "s", [])

    def share(self, measure: Callable[[], Measured], bar: float, source: str, left: float = 1.0) -> None:
        """Judge a ratio of two rates, which must be at least `bar`."""
        self._judge(measure, "", [Bar(bar, source, left=left)], ratio=True)

    def _judge(
        self,
        measure: Callable[[], Measured],
        unit: str,
        bars: list[Bar],
        *,
        ratio: bool = False,
    ) -> None:
        """Measure, and measure once or twice more if that decides."""
        check = self.result
        not_by_spec = ""
        if self.spec is not None and not ratio:  # a ratio has a bar of its own
            key = key_of(check.check, self.device.name, self.plan.as_record())
            found_bar = bar_of(self.spec, check.check, check.variant, unit, key)
            if isinstance(found_bar, Bar):
                bars = [*bars, found_bar]
            else:
                not_by_spec = found_bar
        bar = strictest(bars)
        done: list[MetricValue] = []
        made: list[Measured] = []
        while not done or (bar is not None and measure_again(done, bar)):
            measured, said = self._measured(measure)
            done.append(measured)
            made.append(said)
        found = judge_check(done[0], bar, *done[1:], ratio=ratio)
        self._counts = middle(done)
        counted = made[self._counts]
        others = [(one.value, one.low, one.high) for number, one in enumerate(done) if number != self._counts]
        again, third, *_ = [*others, UNMEASURED, UNMEASURED]
        self.result = replace(
            check,
            verdict=found.verdict,
            value=found.value,
            low=found.low,
            high=found.high,
            unit=unit,
            bar=None if bar is None else bar.value,
            bar_source="" if bar is None else "; ".join(filter(None, [bar.source, not_by_spec])),
            want="" if bar is None else str(bar.want),
            reason=not_by_spec if bar is None and not_by_spec else found.reason,
            note=counted.note,
            crowding=done[self._counts].crowding,
            details=counted.details,
            again=again[0],
            again_low=again[1],
            again_high=again[2],
            third=third[0],
            third_low=third[1],
            third_high=third[2],
        )

    def _measured(self, measure: Callable[[], Measured]) -> tuple[MetricValue, Measured]:
        """What `measure` finds, with the load of others meanwhile; and as it was measured."""
        meter, start = Meter(self._clock), self._clock()
        made = measure()
        end = self._clock()
        self._spans.append((start, end))
        self._calls.append(made.calls)
        if end - start < SHORTEST_S:  # the kernel counts too coarsely to see others in a shorter time
            self._wait(SHORTEST_S - (end - start))
        threads = 1 if self.device.asynchronous else torch.get_num_threads()
        sharers = max((sample.values.get("other_processes", 0) for sample in self._between(start, end)), default=0)
        missing = meter.read().missing_cores(threads)
        return MetricValue.of(made.values, missing, sharers, self.allowed.cores), made

    def throttled(self, measure: Callable[[], Measured], bar: float) -> None:
        """FAIL if the hardware slowed itself down for more than `bar` of the time, in two measurements."""
        first = self._readings(0)
        known = condense(first)
        if (energy_j := finite(known.get("energy_j"))) is not None and self._calls[0]:
            known["j_per_call"] = energy_j / self._calls[0]
        self.result = replace(self.result, details=known)
        share = share_with(HARDWARE, first) or 0.0
        if share <= bar:
            return
        if len(self._spans) == 1:
            self._measured(measure)
        again = share_with(HARDWARE, self._readings(1)) or 0.0
        bits = functools.reduce(operator.or_, (sample.values.get("reasons", 0) for sample in first))
        said = f"slowed itself down for {share:.1%} of the time ({', '.join(names(bits & HARDWARE))})"
        if again > bar:
            self.fail(f"{said}, and again when measured a second time", share, "of the time", again=again)
        elif not self.failed:  # a device that is too slow keeps that reason
            self.unclear(f"{said}, and not when measured again", share, "of the time", again=again)

    @property
    def _facts(self) -> Mapping[str, Scalar]:
        return self.plan.device_facts.get(self.device.name, {})

    def _readings(self, number: int) -> Sequence[Sample]:
        """The telemetry of the device during a measurement."""
        return self._between(*self._spans[number])

    def clock(self, dtype: str) -> None:
        """Add the share of the GPU's peak that was reached, at the measured clock, if clock and peak are known."""
        clock_hz = finite(condense(self._readings(self._counts)).get("sm_clock_hz_median"))
        limit = None if clock_hz is None else self._peak_at(clock_hz, dtype)
        if clock_hz is None or limit is None or self.result.value is None:
            return
        share = self.result.value / limit.value
        said = f"{share:.0%} of the peak at the clock that it ran with, {clock_hz / 1e6:,.0f} MHz"
        note = ", ".join(filter(None, [self.result.note, said]))
        self.result = replace(self.result, note=note, details={"sm_clock_hz": clock_hz, "share_at_clock": share})

    def peak(self, dtype: str) -> Limit | None:
        """The highest rate of matrix products that this device can reach [FLOP/s]; None if it is unknown.

        If the table lacks a GPU, its multiprocessors and its highest clock give the peak.
        """
        if self.device.asynchronous:
            # torch's clock is the one that the maker promises; NVML's is the highest that the driver allows
            promised_hz = finite(self._facts.get("highest_clock_hz"))
            highest_hz = finite(condense(self._between(0.0, self._clock())).get("sm_clock_limit_hz"))
            known = matmul_limit(self.device_name, dtype, highest_hz)
            return known or (None if promised_hz is None else self._peak_at(promised_hz, dtype))
        facts = self.plan.environment
        threads, cores = int(str(facts["threads"])), facts["physical_cores"]
        used = min(threads, cores) if isinstance(cores, int) else threads  # two threads of a core share its units
        capability = str(facts["cpu_capability"])
        highest = max(highest_clock_hz() or 0.0, effective_clock_hz(1) or 0.0) or None
        measured = effective_clock_hz(used)
        return cpu_matmul_limit(used, capability, clock_hz(), dtype, cpu_kind(), highest, measured)

    def _peak_at(self, clock_hz: float, dtype: str) -> Limit | None:
        """The peak of a GPU at a clock [FLOP/s]; None if its architecture does not tell.

        ROCm numbers its architectures in another way.
        """
        multiprocessors, capability = self._facts.get("multiprocessors"), str(self._facts.get("capability"))
        if not isinstance(multiprocessors, int) or torch.version.hip:
            return None
        if capability not in UNIFORM and matmul_limit(self.device_name, dtype) is None:
            return None
        return gpu_matmul_limit(multiprocessors, capability, clock_hz, dtype)

    def bandwidth(self) -> Limit | None:
        """The bandwidth of an accelerator's memory [bytes/s]; None for a CPU, as it depends on the memory modules."""
        return memory_limit(self.device_name) if self.device.asynchronous else None

    def roofline(self, work: Work, seconds: float) -> None:
        """Record how near `work` in `seconds` comes to the limits that this run measured, or to the physical limits.

        The peak is that of TF32 if most FLOP are convolutions and cuDNN computes these in TF32, which is the default.
        """
        tf32 = self.device.torch_device.type == "cuda" and convolutions_in_tf32()
        dtype = "tf32" if tf32 and 2 * work.convolution_flop > work.flop else "fp32"
        peak, memory, launch = (
            measured_limit(self.done, self.device.name, name, physical)
            for name, physical in (
                (f"matmul {dtype}", self.peak(dtype)),
                ("memory copy", self.bandwidth()),
                ("launch queued" if self.device.asynchronous else "launch p50", None),
            )
        )
        details = {**self.result.details, **step_details(work, seconds, peak, memory, launch)}
        self.result = replace(self.result, details=details)

    @property
    def failed(self) -> bool:
        return self.result.verdict is CheckVerdict.FAIL

    def explain(self, checks: Sequence[Check]) -> None:
        """Add to the reason which component of this device explains the failure."""
        self.result = explained(self.result, checks)

    def at_most(
        self, value: float, unit: str, bar: float, source: str, reason: str = "", note: str = "",
        again: float | None = None,
    ) -> None:  # fmt: skip
        """Judge a value that is exact, or wrong in the same way each time: one measurement beyond the bar is a FAIL.

        `again` is what another measurement found, if there was one.
        """
        verdict = CheckVerdict.PASS if value <= bar else CheckVerdict.FAIL
        self.result = replace(
            self.result,
            verdict=verdict,
            value=value,
            unit=unit,
            bar=bar,
            bar_source=source,
            want=str(Want.LESS),
            reason=reason,
            note=note,
            again=again,
        )

    def golden(self, digest: int, training: str) -> None:
        """Compare the bits at the end of a `training` on this device with those of the same training in the spec."""
        on_cpu = f", {torch.get_num_threads()} threads, {self.plan.environment['cpu_capability']}"
        software = f"torch {torch.__version__}"
        model = model_of(self.device.name, self.plan.as_record())
        key = f"{training}, {model}{'' if self.device.asynchronous else on_cpu}, {software}"
        found = f"{digest:016x}"
        self.result = golden(self.result, found, key, self.spec)

    def fail(self, reason: str, value: float | None = None, unit: str = "", *, again: float | None = None) -> None:
        """FAIL for a reason that needs no bar. `again` is what a second measurement found."""
        self._without_bar(CheckVerdict.FAIL, reason, value, unit, again)

    def unclear(
        self, reason: str, value: float | None = None, unit: str = "", bar: float | None = None, source: str = "",
        *, again: float | None = None,
    ) -> None:  # fmt: skip
        """INCONCLUSIVE. If there is a `bar`, a value above it says nothing about the machine."""
        self._without_bar(CheckVerdict.INCONCLUSIVE, reason, value, unit, again)
        self.result = replace(self.result, bar=bar, bar_source=source, want="" if bar is None else str(Want.LESS))

    def _without_bar(
        self, verdict: CheckVerdict, reason: str, value: float | None, unit: str, again: float | None
    ) -> None:
        """Replace an earlier verdict, whose interval and bar belong to another metric."""
        numbers = ("again_low", "again_high", "third", "third_low", "third_high")
        nothing = dict.fromkeys(("low", "high", "bar", *numbers))
        kept = replace(self.result, bar_source="", want="", **nothing)  # type: ignore[arg-type]
        self.result = replace(kept, verdict=verdict, value=value, unit=unit, reason=reason, again=again)

    def unsupported(self, reason: str) -> None:
        """UNSUPPORTED: it cannot be measured here."""
        self.result = replace(self.result, verdict=CheckVerdict.UNSUPPORTED, reason=reason)
