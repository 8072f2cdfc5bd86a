"""In: the devices of a run. Out: the sampler that watches them, and what it saw as the record keeps it."""

from __future__ import annotations

from collections.abc import Iterable

from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.host import open_host
from perf.harness.machine.telemetry.nvml import open_gpu
from perf.harness.machine.telemetry.sampler import INTERVAL_S, Sampler
from perf.harness.machine.telemetry.source import Source, Unsupported
from perf.harness.machine.telemetry.summary import summarize
from perf.harness.record import Scalar

HOST = "cpu"


def watch(devices: Iterable[Device], interval_s: float = INTERVAL_S) -> Sampler:
    """A sampler of `devices` and, wherever the work is done, of the host; not started yet."""
    sources: dict[str, Source] = {}
    reasons: dict[str, str] = {}
    for device in ({HOST: Device(HOST)} | {device.name: device for device in devices}).values():
        if device.absent:
            reasons[device.name] = device.absent
            continue
        try:
            sources[device.name] = open_gpu(device) if device.asynchronous else open_host()
        except Unsupported as error:
            reasons[device.name] = str(error)
    return Sampler(sources, reasons, interval_s=interval_s)


def as_record(sampler: Sampler) -> dict[str, dict[str, Scalar]]:
    """`perf.telemetry`: for each device its summary; `unsupported`, where there is none, or no more since then."""
    return {
        name: summarize(sampler.samples(name))
        | ({"unsupported": sampler.reasons[name]} if name in sampler.reasons else {})
        for name in sampler.names
    }
