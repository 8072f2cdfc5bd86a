"""The process of one pass: pytest, which serves what its parent asks for.

Run as a script. Requests come on stdin and replies go to stdout. It ends when stdin does, and on Linux when its parent
does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def main() -> int:
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a test reads is no request, and what it or pytest prints is no reply.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    sys.path.insert(0, str(CHECKOUT))
    import pytest

    from perf.harness.measurement.side_by_side.worker import die_with
    from perf.harness.plugin.serving import Requests

    start = json.loads(requests.readline())
    die_with(start["parent"])
    return int(pytest.main(start["arguments"], plugins=[Requests(start["number"], start["of"], requests, replies)]))


if __name__ == "__main__":
    sys.exit(main())
