"""In: operations, from any thread of the host. Out: the same operations, executed later and in order by one thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import torch

# The device keeps the newest operation back until the host waits or sends another. So a host that does not wait never
# sees its last operation done, however slow the host is.
KEPT_BACK = 1
# A host that is this far ahead has to wait, as on a GPU.
MOST_AHEAD = 1024


class Work:
    """The queue of the device. The thread starts with the first operation, so a forked process has none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], object]] = deque()
        self._sent = self._done = self._wanted = 0
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.idle_since = 0.0  # when the last operation ended [s of perf_counter]

    @property
    def unfinished(self) -> int:
        """How many operations the host has sent and the device has not done."""
        with self._changed:
            return self._sent - self._done

    def send(self, operation: Callable[[], object]) -> int:
        """Queue `operation`; returns its number, for `is_done`."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pretended device", daemon=True)
                self._thread.start()
            self._changed.wait_for(lambda: self._sent - self._done < MOST_AHEAD)
            self._waiting.append(operation)
            self._sent += 1
            self._changed.notify_all()
            return self._sent

    def is_done(self, number: int) -> bool:
        with self._changed:
            return self._done >= number

    def wait(self, number: int | None = None) -> None:
        """Wait until operation `number` and all before it are done, or every one. Raises what one of them raised."""
        with self._changed:
            target = self._sent if number is None else number
            self._wanted = max(self._wanted, target)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= target)
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._done < max(self._wanted, self._sent - KEPT_BACK))
                operation = self._waiting.popleft()
            try:
                with torch.inference_mode():  # also for the results of a host in that mode
                    operation()
            except BaseException as error:
                self._error = self._error or error
            del operation  # with it, the memory of its operands
            self.idle_since = time.perf_counter()
            with self._changed:
                self._done += 1
                self._changed.notify_all()


WORK = Work()


class Event:
    """`torch.Event` of the device: it happens when all work that was sent before it is done."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._timed = enable_timing
        self._number = 0
        self._at: float | None = None

    def record(self, stream: object = None) -> None:
        recorded = time.perf_counter()
        self._at = None

        def happen() -> None:
            self._at = max(recorded, WORK.idle_since)

        self._number = WORK.send(happen)

    def query(self) -> bool:
        return WORK.is_done(self._number)

    def synchronize(self) -> None:
        WORK.wait(self._number)

    def elapsed_time(self, later: Event) -> float:
        """From this event to `later` [ms]. Raises RuntimeError where one of them has not happened."""
        if not (self._timed and later._timed):
            raise RuntimeError("both events must be created with enable_timing=True")
        if self._at is None or later._at is None:
            raise RuntimeError("an event has not happened yet: synchronize first")
        return (later._at - self._at) * 1e3
