"""In: the settings. Out: a frozen plan of the run: its networks, its devices, facts about the machine, its cases."""

from __future__ import annotations

import itertools
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from perf.harness.machine import devices
from perf.harness.machine.devices import Device
from perf.harness.machine.identity import device_facts, disk, environment, fingerprint, fingerprint_id
from perf.harness.options import EAGER, FP32, PIPELINES, Settings, SettingsError, not_a_device
from perf.harness.record import Scalar
from perf.harness.workload import networks
from perf.harness.workload.axes import Axes
from perf.harness.workload.benchmarks import BY_NAME
from perf.harness.workload.modes.mode import PLAIN, Mode
from perf.harness.workload.networks import Network
from perf.harness.workload.workload import Workload, large_images

# The pipeline that keeps the device busiest, because a training run compares devices, not data loaders.
TRAINING_RUN_PIPELINE = "resident"


@dataclass(frozen=True)
class Plan:
    """The run that the user asked for. `networks` are by name, in the user's order; they have data only if `ready`.

    A gate's own process does not know the networks: its workers do.
    """

    settings: Settings
    networks: Mapping[str, Network]
    devices: Mapping[str, Device]
    environment: Mapping[str, Scalar]
    device_facts: Mapping[str, Mapping[str, Scalar]]
    fingerprint: Mapping[str, Scalar]
    tuned: Mapping[str, Any] | None = None  # how the CPU is tuned, and what that is worth; None: it is not

    @classmethod
    def of(cls, settings: Settings) -> Plan:
        """The plan before any data is read. Raises SettingsError, RecipeError and DataError."""
        check_devices(settings)
        found = networks.unseen(settings) if settings.paired else networks.networks(settings)
        data = networks.joined(one.data_name for one in found.values())
        facts = environment()
        wanted = devices.expand(settings.devices)
        if settings.qualifies:
            wanted = devices.each(wanted)
        return cls(
            settings=settings,
            networks=found,
            devices={device.name: device for device in wanted},
            environment=facts,
            device_facts=device_facts(wanted),
            fingerprint=fingerprint(facts, settings.model, data, settings.profile.name),
        )

    @property
    def fingerprint_id(self) -> str:
        return fingerprint_id(self.fingerprint)

    def prepared(self, *, tried: bool = False) -> Plan:
        """This plan with its data. Runs each network once, unless it is `tried` in another process.

        Raises DataError, RecipeError and SettingsError.
        """
        return replace(self, networks=networks.prepared(self.networks, self.settings, tried=tried))

    @property
    def ready(self) -> bool:
        """Whether the data of every network has been read."""
        return all(one.data is not None for one in self.networks.values())

    def network(self, model: str | None = None) -> Network:
        """The network called `model`; the first network of the run if `model` is None."""
        return self.networks[self.settings.models[0] if model is None else model]

    def why_left_out(self, kind: str, model: str | None) -> str | None:
        """Why the profile leaves out the benchmark `kind` for the network `model`; None if it does not."""
        profile = self.settings.profile
        if profile.only_steps and not BY_NAME[kind].large_images and large_images(self.network(model).recipe):
            return f"the profile {profile.name} has no {kind.replace('_', ' ')} for networks of large images"
        return None

    def axes(self, kind: str) -> list[Axes]:
        """The cases of the benchmark `kind`. A network that the profile leaves out has one case per device, to say so.

        By default, the slow pipelines run only at the first batch size and in the first mode. They load sample by
        sample, so the batch size and the mode change only how long the run takes.
        """
        names = BY_NAME[kind].axes
        models = self.settings.models if len(self.networks) > 1 else (None,)
        left_out = [model for model in models if self.why_left_out(kind, model)]
        executions = self.settings.executions if "execution" in names else (EAGER,)
        precisions = self.settings.precisions if "precision" in names else (FP32,)
        modes = list(itertools.product(executions, precisions))
        return [
            Axes(device, size, pipeline, execution, precision, model)
            for model in models
            if model not in left_out
            for device in (self.kinds() if BY_NAME[kind].all_at_once else self.devices)
            for size in self._sizes(kind, model)
            for pipeline in (self._pipelines(model, size) if "pipeline" in names else (None,))
            for execution, precision in (modes if self._in_every_mode(pipeline) else modes[:1])
        ] + [Axes(device, None, None, model=model) for model in left_out for device in self.devices]

    def _sizes(self, kind: str, model: str | None) -> tuple[int | None, ...]:
        if "batch_size" not in BY_NAME[kind].axes:
            return (None,)
        sizes = self.network(model).batch_sizes
        return sizes[-1:] if BY_NAME[kind].all_at_once else sizes  # the last one keeps the devices busiest

    def _pipelines(self, model: str | None, batch_size: int | None) -> tuple[str, ...]:
        if self.settings.pipelines is not None:
            return self.settings.pipelines
        return PIPELINES if batch_size == self.network(model).batch_sizes[0] else ("resident",)

    def _in_every_mode(self, pipeline: str | None) -> bool:
        return pipeline in (None, "resident") or self.settings.pipelines is not None

    def kinds(self) -> dict[str, tuple[Device, ...]]:
        """The accelerators of this plan by their kind: `cuda:0` and `cuda:1` are of the kind `cuda`."""
        found: dict[str, dict[object, Device]] = {}
        for device in self.devices.values():
            if device.asynchronous:
                found.setdefault(device.torch_device.type, {}).setdefault(device.torch_device, device)
        return {kind: tuple(them.values()) for kind, them in found.items()}

    def device(self, name: str) -> Device:
        """The device of a case: the one called `name`, or the first of the kind `name`."""
        return self.devices[name] if name in self.devices else self.kinds()[name][0]

    def why_alone(self, kind: str) -> str | None:
        """Why no devices of this `kind` can be measured at the same time; None if they can."""
        wanted = self.kinds()[kind]
        present = [device for device in wanted if not device.absent]
        if len(present) > 1:
            return None
        if not present:
            return wanted[0].absent
        there = devices.each([Device(kind)])
        if len(there) > 1:
            return f"only {present[0].name} of {len(there)} is measured; --perf-device=all measures all"
        return f"this machine has one {kind} device"

    def workload(
        self, device: str, batch_size: int | None, pipeline: str | None, mode: Mode = PLAIN, model: str | None = None
    ) -> Workload:
        """The workload of one case. If `batch_size` is None, it has the first batch size of the network.

        Its pipeline is then the first one that the user named, by default TRAINING_RUN_PIPELINE.
        """
        of = self.network(model)
        if of.data is None:
            raise RuntimeError("Plan.prepared() comes first")
        if batch_size is None:
            batch_size = of.batch_sizes[0]
            pipeline = (self.settings.pipelines or (TRAINING_RUN_PIPELINE,))[0]
        return Workload(of.recipe, of.data, self.device(device), batch_size, pipeline, self.settings.seed, mode)

    def device_name(self, device: str) -> str:
        """The product name of the device: that of the GPU or of the CPU."""
        facts = self.device_facts[self.device(device).name]
        return str(self.environment["cpu_model"] if device == "cpu" else facts["name"])

    def as_record(self) -> dict[str, Any]:
        """The part of the top-level JSON key `perf` that the plan knows."""
        return {
            "fingerprint": dict(self.fingerprint),
            "fingerprint_id": self.fingerprint_id,
            "host_name": "" if self.settings.anonymous else socket.gethostname(),
            "kernel": platform.release(),
            "profile": self.settings.profile.name,
            "settings": self.settings.as_record(),
            "environment": dict(self.environment),
            "devices": {name: dict(facts) for name, facts in self.device_facts.items()},
            "data": networks.data_record(self.networks.values()),
            "disk": disk(self.settings.data_root),
        } | ({"tuned_cpu": dict(self.tuned)} if self.tuned else {})

    def machine_info(self) -> dict[str, Any]:
        """The `machine_info` for pytest-benchmark: what decides the speed, and nothing that varies from run to run.

        pytest-benchmark's own `machine_info` contains clock readings and the host name. It would warn at each
        comparison that they differ.
        """
        facts = self.environment
        return {
            "machine": platform.machine(),
            "processor": platform.processor(),
            "system": facts["system"],
            "python_implementation": platform.python_implementation(),
            "python_version": facts["python"],
            "cpu": {"brand_raw": facts["cpu_model"], "count": facts["cpu_cores"], "arch": platform.machine()},
            "fingerprint": dict(self.fingerprint),
        }


def check_devices(settings: Settings) -> None:
    """Raise SettingsError for a device name that this torch does not know."""
    for option, names in (("device", settings.devices), ("require-device", settings.require_devices)):
        for name in names:
            if name != "all" and not devices.is_known(name):
                raise SettingsError(f"{settings.origins.get(option, option)}: {not_a_device(name)}")
