"""The processes of the passes: each runs pytest, which measures the cases that the parent process asks for.

Run as a script. Requests come on stdin and replies go to stdout. The process ends when stdin is closed, and on Linux
also when its parent ends. If passes are forked, this process only imports what takes seconds to import. Each pass is
then a fork of it, with memory and threads of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, TextIO

CHECKOUT = Path(__file__).resolve().parents[3]
# What takes seconds to import; pytest loads hypothesis as its plugin.
SLOW_TO_IMPORT = ("torchvision", "pytest", "pytest_benchmark.plugin", "hypothesis", "perf.harness.plugin.serving")
# A fork has its parent's addresses. The kernel moves those of a new program by a random number of pages; so do we.
MOST_PAGES = 4096


def main() -> int:
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Tests must not read the requests, and what tests or pytest print must not get into the replies.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    sys.path.insert(0, str(CHECKOUT))
    from perf.harness.measurement.side_by_side.worker import die_with

    start = json.loads(requests.readline())
    parent = start["parent"]
    die_with(parent)
    if start["forks"]:
        for name in SLOW_TO_IMPORT:
            with contextlib.suppress(ImportError):  # the pass meets the same error, and says what is wrong
                importlib.import_module(name)
    for line in requests:
        asked, me = json.loads(line), os.getpid()
        ended = mmap.mmap(-1, 1)  # shared: 1 where the pass ended because its parent had asked for no more
        if not start["forks"]:
            return serve(asked, requests, replies, ended, parent)
        if (child := os.fork()) == 0:
            die_with(me)
            moved = mmap.mmap(-1, random.randint(1, MOST_PAGES) * mmap.PAGESIZE)
            with moved:
                os._exit(serve(asked, requests, replies, ended, parent))  # to tidy up this memory takes a second
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended[0]:
            continue
        if code < 0:  # end in the same way: the parent says how its worker has ended
            os.kill(me, -code)
        return code
    return 0


def serve(asked: dict[str, Any], requests: TextIO, replies: TextIO, ended: mmap.mmap, parent: int) -> int:
    """Make one pass for the process `parent`; returns pytest's exit code."""
    begin = time.perf_counter()
    import pytest

    from perf.harness.machine import load
    from perf.harness.plugin.serving import Requests

    load.works_for.add(parent)
    wanted = asked["with"]
    served = Requests(wanted["number"], wanted["of"], requests, replies, asked["number"], begin)
    code = int(pytest.main(wanted["arguments"], plugins=[served]))
    ended[0] = served.ended
    return code


if __name__ == "__main__":
    sys.exit(main())
