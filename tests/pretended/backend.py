"""In: nothing. Out: the device, known to torch in this process; and why this torch cannot have it."""

from __future__ import annotations

import os
from typing import Any

import torch

from tests.pretended.operators import NAME, generator, register_operators
from tests.pretended.storage import MEMORY, TOTAL_BYTES
from tests.pretended.work import WORK, Event

# The environment variable with the number of devices. torch lets a device that is written in Python be only one, so the
# others are this one under other names: no process may use two.
COUNT = "PRETENDED_DEVICES"


def why_absent() -> str | None:
    """Why this torch cannot have the device, or None."""
    from torch.utils import backend_registration

    if hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        return None
    return f"torch {torch.__version__} lets no device be written in Python"


class Backend:
    """`torch.pretended`: what torch asks the module of a device for."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return int(os.environ.get(COUNT, "1"))

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any) -> None:
        pass

    def _is_in_bad_fork(self) -> bool:
        """A forked process has no thread that would do the work."""
        return os.getpid() != self._process

    def manual_seed_all(self, seed: int) -> None:
        WORK.wait()
        generator.manual_seed(seed)

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        WORK.wait()
        return generator.get_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        WORK.wait()
        generator.set_state(state)

    def get_device_name(self, device: Any = None) -> str:
        return "Pretended accelerator"

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return []


class EitherEvent(type):
    """`torch.Event`: of this device, or torch's own."""

    def __call__(cls, device: Any = None, **options: Any) -> Any:
        here = device is None or torch.device(device).type == NAME
        return Event(options.get("enable_timing", False)) if here else _torch_event(device, **options)


_torch_event = torch.Event


def _statistics(device_index: int) -> dict[str, Any]:
    return {"allocated_bytes": {"all": {"current": MEMORY.used, "peak": MEMORY.peak}}}


def register() -> None:
    """Make the device known in this process: torch calls this at the end of `import torch`, by an entry point."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    register_operators()
    below = torch._C
    below._accelerator_synchronizeDevice = lambda index: WORK.wait()
    below._accelerator_isAllocatorInitialized = lambda: True
    below._accelerator_emptyCache = WORK.wait  # as freeing the memory of a GPU waits for it
    below._accelerator_getDeviceStats = _statistics
    below._accelerator_resetPeakStats = lambda index: MEMORY.reset_peak()
    below._accelerator_getMemoryInfo = lambda index: (TOTAL_BYTES - MEMORY.used, TOTAL_BYTES)
    torch.Event = EitherEvent("Event", (), {})
