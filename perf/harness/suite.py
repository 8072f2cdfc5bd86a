"""What one run of the suite knows: its settings, devices and data, what became of each case, and its file."""

from __future__ import annotations

import itertools
import platform
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from data import PIPELINES
from perf.harness import devices, network
from perf.harness.axes import EAGER, FP32, Axes
from perf.harness.devices import Device
from perf.harness.environment import device_facts, environment, fingerprint, fingerprint_id
from perf.harness.modes.mode import PLAIN, Mode
from perf.harness.network import Network
from perf.harness.record import SCHEMA_VERSION, Case, Scalar
from perf.harness.record.check import Check, Qualification
from perf.harness.record.judgement import Judgement
from perf.harness.record.run import spoiled
from perf.harness.record.spec import Spec
from perf.harness.record.store import RunFile
from perf.harness.settings import Settings
from perf.harness.telemetry.sampler import Sampler
from perf.harness.telemetry.source import Sample
from perf.harness.telemetry.watch import as_record, watch
from perf.harness.workload import Workload, large_images

# The pipeline that keeps the device busiest: what is compared between devices must not be the loader.
TRAINING_RUN_PIPELINE = "resident"


@dataclass
class Suite:
    """One run. `cases` is by node id, in the order of running; `networks` by name, as the user listed them."""

    settings: Settings
    networks: Mapping[str, Network]
    devices: Mapping[str, Device]
    environment: Mapping[str, Scalar]
    device_facts: Mapping[str, Mapping[str, Scalar]]
    fingerprint: Mapping[str, Scalar]
    cases: dict[str, Case] = field(default_factory=dict)
    # Why this run is no baseline although every case that ran has passed: a selection, an interrupt.
    unfit: list[str] = field(default_factory=list)
    file: RunFile | None = None
    complete: bool = False
    judgements: list[Judgement] = field(default_factory=list)
    # Of a qualification: what it is held against, what each check came to, and all of them together.
    spec: Spec | None = None
    checks: list[Check] = field(default_factory=list)
    qualification: Qualification | None = None
    # How the gate was run: the sides, how long it took, and what else used the machine.
    gate: dict[str, Scalar] = field(default_factory=dict)
    # What watches devices and host while something is measured.
    telemetry: Sampler | None = None

    @classmethod
    def resolve(cls, settings: Settings) -> Suite:
        """Everything that can be known before data is read. Raises RecipeError and DataError."""
        networks = network.networks(settings)
        data = network.joined(one.data_name for one in networks.values())
        facts = environment()
        wanted = devices.expand(settings.devices)
        if settings.qualifies:
            wanted = devices.each(wanted)
        return cls(
            settings=settings,
            networks=networks,
            devices={device.name: device for device in wanted},
            environment=facts,
            device_facts=device_facts(wanted),
            fingerprint=fingerprint(facts, settings.model, data, settings.profile.name),
        )

    @property
    def fingerprint_id(self) -> str:
        return fingerprint_id(self.fingerprint)

    def prepare(self) -> None:
        """Read the data and try each network once. Raises DataError, RecipeError and SettingsError."""
        network.prepare(self.networks.values(), self.settings)

    @property
    def begun(self) -> bool:
        """Whether the data is there."""
        return all(one.data is not None for one in self.networks.values())

    def network(self, model: str | None = None) -> Network:
        """The network of a case; None stands for the only one there is."""
        return self.networks[self.settings.models[0] if model is None else model]

    def start_telemetry(self) -> None:
        """Watch devices and host from now on, until `telemetry.stop`."""
        self.telemetry = watch(self.devices.values())
        self.telemetry.start()

    def readings(self, device: str) -> Callable[[float, float], Sequence[Sample]]:
        """The samples of a device's telemetry between two times of `time.perf_counter`; none if it is not watched."""
        if self.telemetry is None:
            return lambda start, end: ()
        return partial(self.telemetry.between, device)

    def why_left_out(self, kind: str, model: str | None) -> str | None:
        """Why the profile has no benchmark `kind` of this network, or None where it has."""
        profile = self.settings.profile
        if kind in profile.small_only and large_images(self.network(model).recipe):
            return f"of networks of large images, the profile {profile.name} has no {kind.replace('_', ' ')}"
        return None

    def axes(self, names: Sequence[str], kind: str = "") -> list[Axes]:
        """The cases of the benchmark `kind` with these axes; of one that is left out, one for each device, to say so.

        By default the slow pipelines run at the first batch size, and in the first mode, only: they load sample by
        sample, so that neither changes anything but the length of the run.
        """
        models = self.settings.models if len(self.networks) > 1 else (None,)
        left_out = [model for model in models if self.why_left_out(kind, model)]
        executions = self.settings.executions if "execution" in names else (EAGER,)
        precisions = self.settings.precisions if "precision" in names else (FP32,)
        modes = list(itertools.product(executions, precisions))
        return [
            Axes(device, size, pipeline, execution, precision, model)
            for model in models
            if model not in left_out
            for device in self.devices
            for size in (self.network(model).batch_sizes if "batch_size" in names else (None,))
            for pipeline in (self._pipelines(model, size) if "pipeline" in names else (None,))
            for execution, precision in (modes if self._in_every_mode(pipeline) else modes[:1])
        ] + [Axes(device, None, None, model=model) for model in left_out for device in self.devices]

    def _pipelines(self, model: str | None, batch_size: int | None) -> tuple[str, ...]:
        if self.settings.pipelines is not None:
            return self.settings.pipelines
        return PIPELINES if batch_size == self.network(model).batch_sizes[0] else ("resident",)

    def _in_every_mode(self, pipeline: str | None) -> bool:
        return pipeline in (None, "resident") or self.settings.pipelines is not None

    def workload(
        self, device: str, batch_size: int | None, pipeline: str | None, mode: Mode = PLAIN, model: str | None = None
    ) -> Workload:
        """The workload of one case; a training run, which has neither axis, takes the first of each."""
        of = self.network(model)
        if of.data is None:
            raise RuntimeError("Suite.prepare() comes first")
        if batch_size is None:
            batch_size = of.batch_sizes[0]
            pipeline = (self.settings.pipelines or (TRAINING_RUN_PIPELINE,))[0]
        return Workload(of.recipe, of.data, self.devices[device], batch_size, pipeline, self.settings.seed, mode)

    def device_name(self, device: str) -> str:
        """The model of the device: the GPU's or the CPU's."""
        facts = self.device_facts[device]
        return str(self.environment["cpu_model"] if device == "cpu" else facts["name"])

    def end(self, name: str, outcome: str, reason: str = "") -> None:
        self.cases[name] = Case(name, outcome, reason)

    def why_no_baseline(self) -> str | None:
        """Why later runs must not be compared with this one, or None where they may."""
        return ", ".join([*self.unfit, *spoiled(self.cases.values())]) or None

    def as_record(self) -> dict[str, Any]:
        """The top-level key `perf` of the JSON."""
        record: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "complete": self.complete,
            "unfit": list(self.unfit),
            "fingerprint": dict(self.fingerprint),
            "fingerprint_id": self.fingerprint_id,
            "host_name": socket.gethostname(),
            "kernel": platform.release(),
            "profile": self.settings.profile.name,
            "settings": self.settings.as_record(),
            "environment": dict(self.environment),
            "devices": {name: dict(facts) for name, facts in self.device_facts.items()},
            "cases": [asdict(case) for case in self.cases.values()],
            "gate": [judgement.as_record() for judgement in self.judgements],
            "data": network.data_record(self.networks.values()),
        }
        if self.qualification is not None:
            record["checks"] = [check.as_record() for check in self.checks]
            record["qualification"] = self.qualification.as_record()
        if self.telemetry is not None:
            record["telemetry"] = as_record(self.telemetry)
        if self.gate:
            record["gate_run"] = dict(self.gate)
        return record


def machine_info(suite: Suite) -> dict[str, Any]:
    """pytest-benchmark's `machine_info`: what decides the speed, and nothing that jitters between two runs.

    Its own has clock readings and the host name in it, and warns at each compare that they differ.
    """
    facts = suite.environment
    return {
        "machine": platform.machine(),
        "processor": platform.processor(),
        "system": facts["system"],
        "python_implementation": platform.python_implementation(),
        "python_version": facts["python"],
        "cpu": {"brand_raw": facts["cpu_model"], "count": facts["cpu_cores"], "arch": platform.machine()},
        "fingerprint": dict(suite.fingerprint),
    }
