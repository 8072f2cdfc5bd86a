"""torch.compile as the modes use it: whether it works here, its settings, and why code is not one graph."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch


@functools.cache
def why_not_compiled(device: torch.device) -> str | None:
    """Why torch cannot compile for `device`, or None if it can. To find out, it compiles a tiny function.

    This needs a C++ compiler; on a GPU, it needs Triton and Python's header files.
    """
    try:
        load_compiler()
        torch.compiler.reset()
        before = _graphs()
        with untraced():
            torch.compile(lambda x: x + 1)(torch.ones(1, device=device))
    except Exception as error:  # any error that prevents the compilation is the reason
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"torch.compile: {lines[0] if lines else type(error).__name__}"
    return (
        None if _graphs() > before else "torch.compile: it is turned off (TORCH_COMPILE_DISABLE, TORCHDYNAMO_DISABLE)"
    )


def _graphs() -> int:
    """How many graphs torch has compiled in this process."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def graph_break() -> str | None:
    """Why the code compiled since `compiling(anew=True)` is not a single graph, in torch's words; None if it is."""
    from torch._dynamo.utils import counters

    reason = next(iter(counters["graph_break"]), None)  # the later breaks follow from the first
    return None if reason is None else reason.split("\n")[0]


def load_compiler() -> None:
    """Import the compiler, without the warnings about its own code."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # torch 2.11
        import torch._inductor.compile_fx  # noqa: F401


@contextlib.contextmanager
def _kept_cache(folder: Path) -> Iterator[None]:
    """Compile into `folder`, and use what is there. Nothing that this process has compiled is used."""
    from torch._inductor.utils import clear_caches

    clear_caches()
    places = {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TRITON_CACHE_DIR": str(folder / "triton")}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        clear_caches()


@contextlib.contextmanager
def compiling(*, anew: bool, cache: Path | None = None) -> Iterator[None]:
    """torch's settings for compiled steps: the graph includes the gradients, and random numbers are those of eager.

    If the graph did not include the gradients, each call would go through autograd, which takes as long as a small
    network. With `anew`, code that was compiled before, in this process or by earlier runs, is not used, unless it lies
    in the folder `cache`.
    """
    load_compiler()
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor
    from torch._dynamo.utils import counters
    from torch._inductor.utils import fresh_cache

    with contextlib.ExitStack() as settings:
        settings.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # the mode decides about TF32
        if hasattr(dynamo, "trace_autograd_ops"):
            settings.enter_context(dynamo.patch(trace_autograd_ops=True))  # type: ignore[attr-defined, unused-ignore]
        if anew:
            torch.compiler.reset()
            counters.clear()
            settings.enter_context(fresh_cache() if cache is None else _kept_cache(cache))
        settings.enter_context(inductor.patch(fallback_random=True))  # type: ignore[attr-defined, unused-ignore]
        yield


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Remove all handlers but torch's own from torch's log of a compilation; pytest 9.2 adds one to every logger.

    torch writes this log if it has any handler, and pytest would print hundreds of its lines below a failure.
    """
    trace = logging.getLogger("torch.__trace")
    listening = list(trace.handlers)
    trace.handlers = [handler for handler in listening if type(handler).__module__.startswith("torch.")]
    try:
        yield
    finally:
        trace.handlers = listening
