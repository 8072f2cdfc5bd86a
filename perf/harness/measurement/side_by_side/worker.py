"""One worker process: on request of its parent, it builds a benchmark of one side and runs visits of this benchmark.

Any Python 3.11 or later with torch can run this file as a script. It imports `perf` from this checkout, and looks for
`model` and `data` in the side's folders first. Requests come on stdin and replies go to stdout, one line of JSON each;
what the subject prints goes to stderr. The worker ends when stdin ends and, on Linux, when its parent ends.
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
from pathlib import Path
from traceback import TracebackException
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perf.harness.measurement.side_by_side.inject import Extra
    from perf.harness.measurement.side_by_side.sealed import Watch
    from perf.harness.measurement.side_by_side.slices import Sliced
    from perf.harness.workload.workload import Workload

CHECKOUT = Path(__file__).resolve().parents[4]
# prctl(2): sets the signal that the kernel sends when the parent ends, however it ends.
PR_SET_PDEATHSIG = 1
# proc(5): the kernel first ends the process with the highest score when memory runs out.
OOM_SCORE, FIRST_TO_END = Path("/proc/self/oom_score_adj"), "1000"
# The errors of Stepwatch that say all in their text.
SAYS_ALL = ("RecipeError", "Refused", "DataError", "SettingsError")


def die_with(parent: int) -> None:
    """End with the parent process, and before it if the kernel needs memory: the parent has the results."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            OOM_SCORE.write_text(FIRST_TO_END)
    if os.getppid() != parent:  # the parent ended before the call of prctl
        os._exit(1)


def _begin(start: dict[str, Any]) -> Watch | None:
    """Import `perf` from this checkout, search `roots` first for everything else, and keep out of the other tree."""
    sys.path[:] = [str(CHECKOUT), *(entry for entry in sys.path if entry)]
    from perf.harness.measurement.side_by_side.sealed import Trees, libraries, seal

    sys.path[:1] = start["roots"]
    os.chdir(start["cwd"])
    if start["other"] is None:
        return None
    free = [*map(Path, start["free"]), *libraries()]
    return seal(Trees.of(Path(start["root"]), Path(start["other"]), free))


def _in_subject(path: Path, root: Path) -> bool:
    from perf.harness.measurement.side_by_side.sealed import libraries

    # A virtual environment may lie inside the project, but its libraries are not the subject.
    others = (place for place in (CHECKOUT / "perf", *libraries()) if not root.is_relative_to(place))
    return path.is_file() and path.is_relative_to(root) and not any(map(path.is_relative_to, others))


def place_of_error(error: BaseException, root: Path) -> str:
    """The innermost line of the subject in `root` that raised `error`, e.g. `model/networks.py:20`; empty if none."""
    found = ""
    seen: TracebackException | None = TracebackException.from_exception(error, lookup_lines=False)
    while seen is not None:
        lines = [(frame.filename, str(frame.lineno)) for frame in seen.stack]
        if file := getattr(seen, "filename", None):  # a SyntaxError: its file never ran
            lines.append((file, str(seen.lineno)))
        for file, line in lines:
            path = Path(file).resolve()
            if _in_subject(path, root):
                found = f"{path.relative_to(root)}:{line}"
        seen = seen.__cause__
    return found


def told(error: BaseException) -> str:
    """The error in one line, without its place: `SyntaxError: invalid syntax`."""
    what = error.msg if isinstance(error, SyntaxError) else error
    own = type(error).__name__ in SAYS_ALL
    return (str(what) if own else f"{type(error).__name__}: {what}").split("\n")[0]


class UnknownModel(Exception):
    """A side has no such model. The name is that of `model.UnknownModel`, which a side's older `model` may lack."""


class Worker:
    """The commands of a worker. Each command is a method: it takes the arguments and returns the reply."""

    def __init__(self, start: dict[str, Any], watch: Watch | None = None) -> None:
        from perf.harness.options import resolve
        from perf.harness.workload.plan import Plan

        self._watch = watch
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
        """Raise UnknownModel if this side lacks the model, and Python found the other side's on the import path."""
        if ":" not in self._settings.model:
            return
        from model.imports import users_module

        if (name := users_module(self._settings.model)) is not None:
            file = Path(str(sys.modules[name].__file__)).resolve()
            if not file.is_relative_to(self._root):
                raise UnknownModel(f"{name} is not in {self._root}, but in {file}")

    def cases(self, kinds: list[str]) -> dict[str, Any]:
        """What this side is, and the axes of its cases of each benchmark in `kinds`."""
        import torch

        from perf.harness.workload.workload import unable

        plan, recipe = self._plan, self._plan.network().recipe
        return {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "shapes": (
                "its own data"
                if recipe.brings_data
                else f"{'×'.join(map(str, recipe.input_shape))} to {recipe.classes} classes"
            ),
            "data": self._plan.network().data_name,
            "cases": {kind: [list(axes) for axes in plan.axes(kind)] for kind in kinds},
            "opened": self._opened(),
            "unable": unable(recipe),
        }

    def _opened(self) -> list[str]:
        return [] if self._watch is None else list(self._watch.opened)

    def _sources(self) -> dict[str, str]:
        """The digest of each imported file of the subject, by its path below the side's root."""
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
        """Read the data and run the network once. The reply has the digests of data and imported files."""
        self._plan = self._plan.prepared()
        data = self._plan.network().data
        assert data is not None
        gc.freeze()  # otherwise, each garbage collection would search all imported objects, for 0.3 s
        own = self._plan.network().recipe.brings_data
        return {"data": data.digest, "own": own, "sources": self._sources(), "opened": self._opened()}

    def _workload(self, axes: dict[str, Any]) -> Workload:
        from perf.harness.workload.axes import Axes
        from perf.harness.workload.modes.mode import Mode

        place = Axes(**axes)
        mode = Mode(place.execution, place.precision)
        return self._plan.workload(place.device, place.batch_size, place.pipeline, mode, place.model)

    def weigh(self, **axes: Any) -> dict[str, Any]:
        """What the training of a case takes and does: its memory, the parameters that it trains, its loss."""
        from perf.harness.machine import devices
        from perf.harness.measurement.side_by_side.weigh import weigh

        work = self._workload(axes)
        with devices.current(work.device):
            return weigh(work)

    def prepare(
        self,
        kind: str,
        core: int | None = None,
        amount: float | None = None,
        **axes: Any,
    ) -> dict[str, Any]:
        """Build a benchmark and warm it up, on `core` if given; the reply has the time of a step [s].

        For a planted slowdown, `amount` is the amount that an earlier launch found. If it is None, the slowdown is
        calibrated now.
        """
        from perf.harness.machine import devices, memory
        from perf.harness.measurement.side_by_side import inject, slices
        from perf.harness.measurement.side_by_side.visit import warm_step_s

        self._close()
        work = self._workload(axes)
        mode = work.mode
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
            return {"step_s": step_s, "cycle": self._sliced.cycle}
        if amount is None:
            extra.calibrate(times, step_s)
        else:
            extra.amount = amount
        extra.forget()
        self._extra = extra
        return {"step_s": step_s, "cycle": self._sliced.cycle, "amount": extra.amount}

    def visit(self, steps: int, core: int | None = None) -> dict[str, Any]:
        """Run `steps` steps, on `core` if given. The reply has their wall times and, on a CPU, their CPU times [s]."""
        from perf.harness.measurement.side_by_side.visit import device_visit, host_visit

        assert self._sliced is not None
        if core != self._core and core is not None:
            from perf.harness.machine import cpu

            cpu.bind([core])
            self._core = core
        self._steps += steps
        run = self._sliced.steps
        made = device_visit(run, steps, self._synchronize) if self._asynchronous else host_visit(run, steps)
        return {"wall_s": made.wall_s, "cpu_s": made.cpu_s, "total_s": made.total_s}

    def finish(self) -> dict[str, Any]:
        """Check the results of all steps, and release the benchmark.

        In the reply, `problem` is empty if the results are right; `extra_s` is the median time of the planted work [s].
        """
        assert self._sliced is not None
        problem = self._sliced.problem(self._steps)
        extra_s = None if self._extra is None else self._extra.typical_s
        self._close()
        return {"problem": problem, "extra_s": extra_s}

    def _close(self) -> None:
        self._held.close()
        self._sliced = None
        self._extra = None


COMMANDS = ("cases", "load", "weigh", "prepare", "visit", "finish")


def main() -> None:
    start = json.loads(sys.stdin.readline())
    die_with(start["parent"])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the subject prints is not a reply
    watch = _begin(start)
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker = Worker(start, watch)
            assert request["do"] in COMMANDS
            reply = getattr(worker, request["do"])(**request["with"])
        except Exception as error:
            said, root = told(error), Path(start["root"]).resolve()
            reply = {"error": said, "place": "" if f", at {root}" in said else place_of_error(error, root)}
        if watch and watch.refused:  # also where the subject has caught the error
            from perf.harness.record.run import some_of

            files = [f"{name}{at and f' (at {at})'}" for name, at in watch.refused.items()]
            reply = {"error": f"it opens files of the other side: {some_of(files)}", "strange": True}
        replies.write(json.dumps({**reply, "number": request["number"]}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
