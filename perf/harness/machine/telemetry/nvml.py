"""In: a device. Out: the values that NVML reports for it. Only this module imports pynvml, from nvidia-ml-py."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from typing import Any

import torch

from perf.harness.machine import load
from perf.harness.machine.devices import Device
from perf.harness.machine.telemetry.source import Unreadable, Values

# From nvml.h: nvmlClockType_t, nvmlTemperatureSensors_t, nvmlMemoryErrorType_t, nvmlEccCounterType_t, event types.
SM_CLOCK, MEMORY_CLOCK = 1, 2
XID_EVENTS = 0x8
GPU_SENSOR = 0
CORRECTED, UNCORRECTED, SINCE_LOADED = 0, 1, 0

# The key in a sample, NVML's function, its arguments, and the factor from NVML's unit to ours.
NUMBERS: tuple[tuple[str, str, tuple[int, ...], float], ...] = (
    ("sm_clock_hz", "nvmlDeviceGetClockInfo", (SM_CLOCK,), 1e6),
    ("sm_clock_limit_hz", "nvmlDeviceGetMaxClockInfo", (SM_CLOCK,), 1e6),
    ("memory_clock_hz", "nvmlDeviceGetClockInfo", (MEMORY_CLOCK,), 1e6),
    ("power_w", "nvmlDeviceGetPowerUsage", (), 1e-3),
    ("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit", (), 1e-3),
    ("power_limit_default_w", "nvmlDeviceGetPowerManagementDefaultLimit", (), 1e-3),
    ("temperature_c", "nvmlDeviceGetTemperature", (GPU_SENSOR,), 1.0),
    ("energy_j", "nvmlDeviceGetTotalEnergyConsumption", (), 1e-3),  # since the driver was loaded
)
COUNTS: tuple[tuple[tuple[str, ...], str, tuple[int, ...]], ...] = (
    (("pcie_generation",), "nvmlDeviceGetCurrPcieLinkGeneration", ()),
    (("pcie_generation_limit",), "nvmlDeviceGetMaxPcieLinkGeneration", ()),
    (("pcie_width",), "nvmlDeviceGetCurrPcieLinkWidth", ()),
    (("pcie_width_limit",), "nvmlDeviceGetMaxPcieLinkWidth", ()),
    (("pcie_replays",), "nvmlDeviceGetPcieReplayCounter", ()),
    (("ecc_default",), "nvmlDeviceGetDefaultEccMode", ()),
    (("ecc_corrected",), "nvmlDeviceGetTotalEccErrors", (CORRECTED, SINCE_LOADED)),
    (("ecc_uncorrected",), "nvmlDeviceGetTotalEccErrors", (UNCORRECTED, SINCE_LOADED)),
    (("remap_corrected", "remap_uncorrected", "remap_pending", "remap_failed"), "nvmlDeviceGetRemappedRows", ()),
)
# NVML returns the mode now and the mode after the next restart; we use the first.
MODES = (("ecc", "nvmlDeviceGetEccMode"), ("mig", "nvmlDeviceGetMigMode"))
# The function has had the first name since driver 535. Before, it had the second name.
REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
IDENTITY = {
    "name": "nvmlDeviceGetName",
    "UUID": "nvmlDeviceGetUUID",
    "serial": "nvmlDeviceGetSerial",
    "VBIOS": "nvmlDeviceGetVbiosVersion",
    "InfoROM": "nvmlDeviceGetInforomImageVersion",
}
PROCESSES = "nvmlDeviceGetComputeRunningProcesses"
# A name such as "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
MIG = re.compile(r"\bMIG\b")
PART = "a part of a GPU (MIG); NVML knows the clocks and the power of the whole GPU only"


def _plain(text: str | bytes | None) -> str | None:
    """A text of NVML, which older versions of nvidia-ml-py return as bytes."""
    return text.decode(errors="replace") if isinstance(text, bytes) else text


def open_gpu(device: Device) -> Gpu:
    """Open the GPU called `device`, found by its UUID. Raises Unreadable.

    We cannot use the index: torch and NVML count differently if CUDA_VISIBLE_DEVICES or CUDA_DEVICE_ORDER is set.
    """
    if torch.device(device.name).type != "cuda" or torch.version.hip:
        raise Unreadable(f"{device.name} is no NVIDIA GPU")
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise Unreadable("nvidia-ml-py is not installed; pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()  # a repeated call does no harm, and NVML ends with the process
        properties = torch.cuda.get_device_properties(device.torch_device)
        if MIG.search(properties.name):  # the UUID would be that of the part
            raise Unreadable(f"{device.name} is {PART}")
        gpu = Gpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}"))
    except pynvml.NVMLError as error:
        raise Unreadable(f"NVML: {error}") from None
    if gpu.is_split:
        raise Unreadable(f"{device.name} is {PART}")
    return gpu


class Gpu:
    """One GPU, through NVML."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._last_error = ""

    @property
    def is_split(self) -> bool:
        """Whether the GPU is in MIG mode, in which CUDA sees only parts of the GPU."""
        return bool(self._modes().get("mig"))

    def sample(self) -> Values:
        """The values that this GPU reports now, without unknown ones. Raises Unreadable if the GPU reports nothing.

        `sm_clock_hz`, `sm_clock_limit_hz`, `memory_clock_hz` [Hz]; `power_w`, `power_limit_w`,
        `power_limit_default_w` [W];
        `temperature_c` [°C]; `reasons`: the bits in reasons.py; `energy_j` [J], which only rises; `pcie_generation`,
        `pcie_width`, and their highest values with `_limit`; `pcie_replays`; the modes `ecc` and `mig`;
        `ecc_default`: 1 if ECC is on by default; `ecc_corrected`, `ecc_uncorrected`: errors since the driver was
        loaded; `remap_corrected`, `remap_uncorrected`: rows; `remap_pending`, `remap_failed`: 0 or 1;
        `other_processes`: the number of other processes that compute on the GPU; `other_pids`: the pids of these
        processes, if this container sees them.
        """
        found: Values = {}
        for key, function, arguments, unit in NUMBERS:
            if (value := self._ask(function, *arguments)) is not None:
                found[key] = value * unit
        for keys, function, arguments in COUNTS:
            if (value := self._ask(function, *arguments)) is not None:
                values = value if isinstance(value, list | tuple) else (value,)
                found |= dict(zip(keys, map(int, values), strict=True))
        if (bits := self._first(REASONS)) is not None:
            found["reasons"] = int(bits)
        found |= self._modes() | self._others()
        if not found:
            raise Unreadable(f"NVML: {self._last_error or 'it reports no values for this GPU'}")
        return found

    def identity(self) -> dict[str, str | float | None]:
        """What tells this GPU from others, and its firmware; None for what NVML does not say."""
        found: dict[str, str | float | None] = {name: _plain(self._ask(ask)) for name, ask in IDENTITY.items()}
        location = self._ask("nvmlDeviceGetPciInfo")
        found["PCI address"] = None if location is None else _plain(location.busId)
        limit_mw = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        found["power limit [W]"] = None if limit_mw is None else limit_mw / 1000
        return found

    def energy_j(self) -> float | None:
        """The energy used since the driver was loaded [J]; None if this GPU does not count it."""
        (function, unit), *_ = [(name, unit) for key, name, _, unit in NUMBERS if key == "energy_j"]
        value = self._ask(function)
        return None if value is None else float(value) * unit

    def xids(self) -> Callable[[], list[int]]:
        """A function that returns the numbers of the Xid errors that the driver reported since the last call.

        The first call returns the errors since the call of `xids`. Raises Unreadable.
        """
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(self._handle, XID_EVENTS, events)
        except nvml.NVMLError as error:
            raise Unreadable(f"NVML: {error}") from None

        def reported() -> list[int]:
            found = []
            with contextlib.suppress(nvml.NVMLError):  # a timeout means that there are no more
                while True:
                    found.append(int(nvml.nvmlEventSetWait_v2(events, 0).eventData))
            return found

        return reported

    def _modes(self) -> Values:
        answers = {key: self._ask(function) for key, function in MODES}
        return {key: bool(answer[0]) for key, answer in answers.items() if answer is not None}

    def _first(self, functions: tuple[str, ...]) -> Any:
        return next((answer for name in functions if (answer := self._ask(name)) is not None), None)

    def _others(self) -> Values:
        processes = self._ask(PROCESSES)
        if processes is None:
            return {}
        pids = {int(process.pid) for process in processes}
        foreign = pids - {os.getpid()}
        here = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        if here and foreign and os.getpid() not in pids:
            # We use this GPU, too, so one of these processes is ours: the pids are the host's, not this container's.
            return {"other_processes": len(foreign) - 1}
        if foreign:
            with contextlib.suppress(OSError):  # a child or a thread has just ended
                foreign -= set(load.descendants())
        return {"other_processes": len(foreign), "other_pids": tuple(sorted(foreign))}

    def _ask(self, name: str, *arguments: int) -> Any:
        """The answer of NVML; None if this GPU, or this version of nvidia-ml-py, cannot answer."""
        function: Callable[..., Any] | None = getattr(self._nvml, name, None)
        if function is None:
            return None
        try:
            return function(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            self._last_error = str(error)
            return None
