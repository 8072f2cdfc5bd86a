"""Where the time of a gate goes, and how exactly one launch knows its ratio.

    python perf/proof/gate_time.py perf/ --perf-against=HEAD -k "training_step or inference"

The arguments are pytest's. The gate runs as always; afterwards a table says what its parts took, and how much the
ratio of half the rounds of a launch differs from that of the other half. If this is much less than the ratios differ
between launches, fewer rounds and more launches would decide sooner; if it is more, noise within a launch decides.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytest
from tabulate import tabulate

from perf.harness.measurement.side_by_side.pair import Pair
from perf.harness.verdict import launches
from perf.harness.verdict.launches import Launch, Visit
from perf.proof.usage import parser

# The parts of a gate, by the request that begins them.
PARTS = {
    "load": "import torch and the subject, read the data",
    "weigh": "memory, trained parameters, losses",
    "prepare": "build and warm up a case",
    "visit": "the rounds",
    "finish": "check the results",
}


def main() -> int:
    took: dict[str, list[float]] = defaultdict(list)
    halves: list[tuple[Launch, Launch]] = []
    whole: list[Launch] = []

    def timed(method: Callable[..., Any], part: Callable[..., str]) -> Callable[..., Any]:
        def call(self: Pair, *arguments: Any, **named: Any) -> Any:
            begin = time.monotonic()
            try:
                return method(self, *arguments, **named)
            finally:
                took[part(*arguments)].append(time.monotonic() - begin)

        return call

    launch_of = launches.launch_of

    def kept(rounds: Sequence[tuple[Visit, Visit]]) -> Launch:
        halves.append((launch_of(rounds[::2]), launch_of(rounds[1::2])))
        whole.append(launch_of(rounds))
        return whole[-1]

    Pair._all = timed(Pair._all, lambda do, *rest: do)  # type: ignore[method-assign]
    Pair._visit = timed(Pair._visit, lambda *rest: "visit")  # type: ignore[method-assign]
    launches.launch_of = kept
    begin = time.monotonic()
    code = pytest.main(parser(__doc__).parse_known_args()[1])
    if not whole:
        return int(code)
    rows = [(f"{sum(took[part]):.1f} s", len(took[part]), what) for part, what in PARTS.items() if took[part]]
    rest = time.monotonic() - begin - sum(map(sum, took.values()))
    print("\n" + tabulate([*rows, (f"{rest:.1f} s", "", "the rest: what each side has, git, the report")]))
    between = statistics.pstdev(one.wall for one in whole)
    within = statistics.pstdev(one.wall - other.wall for one, other in halves) / math.sqrt(2)
    print(f"\nlog ratio of wall times: {within:.4f} within half of a launch, {between:.4f} between launches")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
