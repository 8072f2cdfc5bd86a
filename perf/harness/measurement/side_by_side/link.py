"""The parent's connection to one worker: it sends requests, and receives each reply within a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.harness.machine import affinity
from perf.harness.machine.load import cpu_s, end_descendants
from perf.harness.measurement.side_by_side import worker

# How long to wait for the end of a process that has closed its stdout or was killed [s]. It ends at once, unless it
# waits for a device.
END_S = 5.0
CHUNK = 1 << 16
# So much of the end of what a worker prints is kept [bytes].
MOST_SAID = 1 << 16
# No reply is longer than this [bytes].
MOST_BYTES = 64 << 20


class SideError(Exception):
    """A side replied that it failed: `str()` is one line, with the place in the side's files. The worker is alive.

    `strange` says whether the side has opened files of the other side.
    """

    def __init__(self, what: str, place: str = "", strange: bool = False) -> None:
        super().__init__(f"{place}: {what}" if place else what)
        self.what = what
        self.strange = strange


class SideLost(SideError):
    """A worker could not start, has died, or does not answer. Its process has been ended."""


class SideSilent(SideLost):
    """A worker that did not answer in time."""


class Link:
    """One worker process. It has a session of its own, so that Ctrl-C reaches only the parent."""

    def __init__(self, command: Sequence[str], start: Mapping[str, Any], env: Mapping[str, str] | None = None) -> None:
        try:
            with affinity.inherited():
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=None if env is None else dict(env),
                    start_new_session=True,
                    bufsize=0,
                )
        except OSError as error:
            raise SideLost(f"{command[0]} cannot be started: {error.strerror}") from None
        self._said = b""  # the end of what the worker has printed
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._replies = b""
        self._asked = self._answered = 0
        self._send({**start, "parent": os.getpid()})

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float | None:
        """The CPU time of the worker so far, by the kernel's count [s]; None if unknown."""
        return cpu_s(self.pid)

    def ask(self, do: str, limit_s: float, **arguments: Any) -> dict[str, Any]:
        """The reply to command `do`. Raises SideError if the command failed, SideLost if no reply comes."""
        self.request(do, **arguments)
        return self.reply(limit_s)

    def request(self, do: str, **arguments: Any) -> None:
        self._asked += 1
        self._send({"do": do, "with": arguments, "number": self._asked})

    def reply(self, limit_s: float) -> dict[str, Any]:
        """The reply to the oldest unanswered request. Raises SideError if it failed, SideLost if no reply comes.

        Whatever else ends the wait, such as another plugin's time limit, ends the worker, too: its reply would be taken
        for that to the next request.
        """
        try:
            line = self._line(limit_s)
        except SideError:
            raise
        except BaseException:
            self.close()
            raise
        answer: Any = None
        with contextlib.suppress(ValueError):
            answer = json.loads(line)
        self._answered += 1
        if not isinstance(answer, dict) or answer.pop("number", None) != self._answered:
            raise self._lost(f"answered {line[:60]!r}")
        if "error" in answer:
            raise SideError(str(answer["error"]), str(answer.get("place", "")), answer.get("strange") is True)
        return answer

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `reply` will say how the worker died
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _listen(self) -> None:
        """Keep the end of what the worker prints: it may print without end."""
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError):  # closed
            while chunk := os.read(self._process.stderr.fileno(), CHUNK):
                self._said = (self._said + chunk)[-MOST_SAID:]

    def _line(self, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._replies:
                left_s = end - time.monotonic()
                if left_s <= 0 or not selector.select(left_s):  # output without end is always ready
                    raise SideSilent(self._lost(f"did not answer for {limit_s:g} s").what)
                chunk = os.read(self._process.stdout.fileno(), CHUNK)
                if not chunk:
                    raise self._lost(self._how_it_ended())
                self._replies += chunk
                if len(self._replies) > MOST_BYTES:
                    raise self._lost("answers without end")
        line, _, self._replies = self._replies.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return "closed its replies"
        if code >= 0:
            return f"ended by itself with exit code {code}"
        memory = ", as the kernel does where memory runs out" if -code == signal.SIGKILL else ""
        return f"was ended by signal {-code}{memory}"

    def _lost(self, what: str) -> SideLost:
        self.close()
        lines = self._said.decode(errors="replace").strip().splitlines()
        last = next((line.strip() for line in reversed(lines) if "rror" in line), lines[-1] if lines else "")
        return SideLost(f"its process {what}" + (f": {last[:200]}" if last else ""))

    def close(self) -> None:
        """End the worker and all processes that it started. Does nothing if the worker has ended."""
        process = self._process
        if process.poll() is None:
            end_descendants(process.pid)  # also those that have left its process group
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # a worker has nothing to clean up
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a device: nothing can end it now
            process.wait(END_S)
        self._listener.join(END_S)  # until the worker's end has closed its pipe
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def command(python: str) -> list[str]:
    """The command line of a worker that runs on `python`. -P keeps this folder off Python's import path."""
    return [python, "-P", str(Path(worker.__file__).resolve())]
