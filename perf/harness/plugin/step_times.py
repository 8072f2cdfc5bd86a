"""In: the settings of a run. Out: how long its training steps take on the CPU, timed in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perf.harness.machine import affinity
from perf.harness.measurement import thread_count
from perf.harness.options import Settings, SettingsError


@dataclass(frozen=True)
class StepTimes:
    """The time of each training step [s] by the number of threads, the `steps` by name, and the `loaded` allocator."""

    steps: Sequence[str]
    times: Mapping[int, Sequence[float]]
    loaded: str | None


def step_times(settings: Settings, option: str, threads: int | None = None) -> StepTimes:
    """Time the training steps of the run in another process, with `threads` or with several numbers of threads.

    Raises SettingsError, with the `option` that needs it, if that fails.
    """
    asked = {
        "models": settings.models,
        "sizes": settings.batch_sizes,
        "path": sys.path,
        "threads": [threads] if threads else None,
    }
    command = [sys.executable, "-P", str(Path(thread_count.__file__).resolve())]
    with affinity.inherited():
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True)
    if done.returncode != 0:
        why = (done.stderr.strip() or f"its process ended with exit code {done.returncode}").splitlines()[-1]
        raise SettingsError(f"{option}: {why}")
    answer = json.loads(done.stdout)
    times = {int(count): found for count, found in answer["times"].items()}
    return StepTimes(answer["steps"], times, answer["loaded"])
