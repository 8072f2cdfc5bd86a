"""One worker process: builds a benchmark of one side, and runs visits of it, as its parent asks.

Run as a script, by any Python 3.11 or later that has torch: `perf` is imported from this checkout, `model` and `data`
from the side's own folder. Requests come on stdin and replies go to stdout, a line of JSON each; what the subject
prints goes to stderr. It ends when stdin does, and on Linux when its parent does.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import json
import os
import platform
import signal
import sys
import sysconfig
from pathlib import Path
from traceback import TracebackException
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perf.harness.measurement.side_by_side.inject import Extra
    from perf.harness.measurement.side_by_side.slices import Sliced

CHECKOUT = Path(__file__).resolve().parents[4]
# An environment may lie inside of the project.
LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")
NOT_SUBJECT = (CHECKOUT / "perf", *(Path(sysconfig.get_path(name)).resolve() for name in LIBRARIES))
# prctl(2): the signal that the kernel sends when the parent ends, however it ends.
PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _pin(core: int) -> None:
    """Let each thread of this process run on `core` only: autograd has one for each GPU."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread.name), {core})


def _only_perf_from_here(roots: list[str]) -> None:
    """Let `perf` come from this checkout, and everything else from `roots` first, in their order."""
    sys.path[:] = [str(CHECKOUT), *(entry for entry in sys.path if entry)]
    import perf.harness  # noqa: F401  its folder is fixed from here on

    sys.path[:1] = roots


def _in_subject(path: Path, root: Path) -> bool:
    return path.is_file() and path.is_relative_to(root) and not any(map(path.is_relative_to, NOT_SUBJECT))


def place(error: BaseException, root: Path) -> str:
    """`model/networks.py:20`: the innermost line of the subject in `root` that `error` comes from, or nothing."""
    found = ""
    seen: TracebackException | None = TracebackException.from_exception(error, lookup_lines=False)
    while seen is not None:
        lines = [(frame.filename, str(frame.lineno)) for frame in seen.stack]
        if file := getattr(seen, "filename", None):  # of a SyntaxError: its file was never run
            lines.append((file, str(seen.lineno)))
        for file, line in lines:
            path = Path(file).resolve()
            if _in_subject(path, root):
                found = f"{path.relative_to(root)}:{line}"
        seen = seen.__cause__
    return found


def told(error: BaseException) -> str:
    """`SyntaxError: invalid syntax`: without its place, in one line."""
    what = error.msg if isinstance(error, SyntaxError) else error
    return f"{type(error).__name__}: {what}".split("\n")[0]


class UnknownModel(Exception):
    """A side has no such model; called as in `model`, of which a side may have an older one."""


class Worker:
    """The commands, each a method from its arguments to its reply."""

    def __init__(self, start: dict[str, Any]) -> None:
        from perf.harness.options import resolve
        from perf.harness.workload.plan import Plan

        self._root = Path(start["root"]).resolve()
        self._inject = start.get("inject")
        self._settings = resolve(start["options"], {}, "", CHECKOUT)
        if (threads := self._settings.threads) is not None:
            import torch

            torch.set_num_threads(threads)
        self._plan = Plan.of(self._settings)
        self._check_origin()
        self._sliced: Sliced | None = None
        self._extra: Extra | None = None
        self._steps = 0
        self._core: int | None = None
        self._asynchronous = False
        self._held = contextlib.ExitStack()

    def _check_origin(self) -> None:
        """A model that this side lacks may be found further down the path: the other side's. Raises UnknownModel."""
        name, colon, _ = self._settings.model.partition(":")
        if colon:
            file = Path(str(sys.modules[name].__file__)).resolve()
            if not file.is_relative_to(self._root):
                raise UnknownModel(f"{name} is not in {self._root}, but in {file}")

    def cases(self, kinds: list[str]) -> dict[str, Any]:
        """What this side is, and the axes of its cases of each of `kinds`."""
        import torch

        plan, recipe = self._plan, self._plan.network().recipe
        return {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "shapes": f"{'×'.join(map(str, recipe.input_shape))} to {recipe.classes} classes",
            "cases": {kind: [list(axes) for axes in plan.axes(kind)] for kind in kinds},
            "sources": self._sources(),
        }

    def _sources(self) -> dict[str, str]:
        """The digest of each file of the subject that was imported, by its path below the side's root."""
        found = {}
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if not file or not file.endswith(".py"):
                continue
            path = Path(file).resolve()
            if _in_subject(path, self._root):
                found[str(path.relative_to(self._root))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def load(self) -> dict[str, Any]:
        """Read the data and try the network."""
        self._plan = self._plan.prepared()
        data = self._plan.network().data
        assert data is not None
        gc.freeze()  # what was imported stays: each collection would look through it again, for a third of a second
        return {"data": data.digest, "sources": self._sources()}

    def prepare(
        self,
        kind: str,
        core: int | None = None,
        amount: float | None = None,
        **axes: Any,
    ) -> dict[str, Any]:
        """Build a benchmark and warm it up, on `core` where one is named; the reply has the time of a step [s].

        Of a planted slowdown, `amount` is what an earlier launch found to be its size; without it, it is found now.
        """
        from perf.harness.machine import devices, memory
        from perf.harness.measurement.side_by_side import inject, slices
        from perf.harness.measurement.side_by_side.visit import warm_step_s
        from perf.harness.workload.axes import Axes
        from perf.harness.workload.modes.mode import Mode

        self._close()
        place = Axes(**axes)
        mode = Mode(place.execution, place.precision)
        work = self._plan.workload(place.device, place.batch_size, place.pipeline, mode, place.model)
        mode.check(work.device.torch_device)
        self._held.enter_context(mode.active())
        memory.free(work.device)
        self._held.enter_context(devices.current(work.device))
        self._asynchronous = work.device.asynchronous
        self._synchronize = devices.synchronizer(work.device)
        extra = inject.Extra(**self._inject) if self._inject else None
        self._sliced = slices.sliced(kind, work, *inject.places(extra))
        self._held.callback(self._sliced.close)
        self._steps = 0

        def times(steps: int) -> tuple[float, ...]:
            walls: tuple[float, ...] = self.visit(steps, core)["wall_s"]
            return walls

        step_s = warm_step_s(times)
        if extra is None:
            return {"step_s": step_s}
        if amount is None:
            extra.calibrate(times, step_s)
        else:
            extra.amount = amount
        extra.forget()
        self._extra = extra
        return {"step_s": step_s, "amount": extra.amount}

    def visit(self, steps: int, core: int | None = None) -> dict[str, Any]:
        """Run `steps` steps, on `core` where one is named."""
        from perf.harness.measurement.side_by_side.visit import device_visit, host_visit

        assert self._sliced is not None
        if core != self._core and core is not None:
            _pin(core)
            self._core = core
        self._steps += steps
        run = self._sliced.steps
        made = device_visit(run, steps, self._synchronize) if self._asynchronous else host_visit(run, steps)
        return {"wall_s": made.wall_s, "cpu_s": made.cpu_s}

    def finish(self) -> dict[str, Any]:
        """Whether the results of all those steps are right: `problem` is empty then; `extra_s` is what was planted."""
        assert self._sliced is not None
        problem = self._sliced.problem(self._steps)
        extra_s = None if self._extra is None else self._extra.typical_s
        self._close()
        return {"problem": problem, "extra_s": extra_s}

    def _close(self) -> None:
        self._held.close()
        self._sliced = None
        self._extra = None


COMMANDS = ("cases", "load", "prepare", "visit", "finish")


def main() -> None:
    start = json.loads(sys.stdin.readline())
    die_with(start["parent"])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the subject may print; that is no reply
    _only_perf_from_here(start["roots"])
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker = Worker(start)
            assert request["do"] in COMMANDS
            reply = getattr(worker, request["do"])(**request["with"])
        except Exception as error:
            reply = {"error": told(error), "place": place(error, Path(start["root"]).resolve())}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
