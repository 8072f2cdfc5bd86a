"""Do two runs of the same code give the same result? Makes identical runs, one after another, and compares each pair.

    python perf/proof/repeat.py --runs 8
    python perf/proof/repeat.py --runs 8 --busy                                # while a busy loop comes and goes
    python perf/proof/repeat.py --runs 4 -- perf/test_epoch.py --perf-threads=1   # with arguments for pytest

It prints a row for each case: the medians, the largest divided by the smallest, and the number of pairs of runs in
which the 95% interval of the ratio contains 1, as it should. The exit code is 1 if the interval contains 1 in fewer
than 90% of all pairs, or if the largest median is more than 1.1 times the smallest in more than one case of ten.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from perf.harness.record.read import load  # noqa: E402
from perf.harness.record.run import short_name  # noqa: E402
from perf.harness.report import quantities  # noqa: E402
from perf.harness.statistics.intervals import Passes, ratio, summary  # noqa: E402

ENOUGH, WIDE = 0.9, 1.1
# The loop runs for so long, and then pauses for so long: shortest and longest [s].
COMES_S, GOES_S = (3.0, 15.0), (3.0, 15.0)


@dataclass(frozen=True)
class Agreement:
    """One case in several runs: its medians [s], and in how many of the `pairs` of runs the interval contains 1."""

    name: str
    medians: tuple[float, ...]
    agreeing: int
    pairs: int

    @property
    def width(self) -> float:
        """The largest median divided by the smallest."""
        return max(self.medians) / min(self.medians)


def agreement(name: str, runs: Sequence[Passes]) -> Agreement:
    """How well two or more runs agree on a case. Each of `runs` has the times of its rounds by pass [s]."""
    pairs = [not ratio(one, other).excludes_one for one, other in itertools.combinations(runs, 2)]
    return Agreement(name, tuple(summary(times).median for times in runs), sum(pairs), len(pairs))


def totals(found: Sequence[Agreement]) -> tuple[int, int, int]:
    """The numbers of pairs of runs that agree, of all pairs, and of cases whose medians are close together."""
    return sum(one.agreeing for one in found), sum(one.pairs for one in found), sum(one.width <= WIDE for one in found)


def holds(found: Sequence[Agreement]) -> bool:
    """Whether enough pairs of runs agree, and enough cases have medians that are close together."""
    agreeing, pairs, narrow = totals(found)
    return agreeing >= ENOUGH * pairs and narrow >= ENOUGH * len(found)


def text(found: Sequence[Agreement], walls_s: Sequence[float]) -> str:
    """The table, the two shares, and how long the runs took."""
    rows = [
        [one.name, " ".join(map(quantities.seconds, one.medians)), f"{one.width:.2f}", f"{one.agreeing} of {one.pairs}"]
        for one in sorted(found, key=lambda one: -one.width)
    ]
    agreeing, pairs, narrow = totals(found)
    walls = " ".join(f"{wall:.0f}" for wall in walls_s)
    return "\n".join(
        (
            tabulate(rows, ["case", "medians", "largest ÷ smallest", "intervals with 1"], disable_numparse=True),
            "",
            f"intervals that contain 1: {agreeing} of {pairs} ({agreeing / pairs:.0%}; aim: {ENOUGH:.0%})",
            f"largest ÷ smallest at most {WIDE}: {narrow} of {len(found)} cases (aim: {ENOUGH:.0%})",
            f"seconds of each run: {walls}",
        )
    )


@contextlib.contextmanager
def company() -> Iterator[None]:
    """Run a busy loop that comes and goes, at the same times in every use."""
    over = threading.Event()

    def comes_and_goes() -> None:
        chance = random.Random(0)
        while not over.is_set():
            loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            over.wait(chance.uniform(*COMES_S))
            loop.kill()
            loop.wait()
            over.wait(chance.uniform(*GOES_S))

    thread = threading.Thread(target=comes_and_goes)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measured(arguments: Sequence[str], folder: Path, number: int) -> tuple[Mapping[str, Passes], float]:
    """The rounds of each timed case of one run, by pass, and the run's wall time [s]. Exits if the run fails."""
    record = folder / f"{number}.json"
    command = [sys.executable, "-m", "pytest", *arguments, "-q", "-p", "no:cacheprovider"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, f"--benchmark-json={record}", f"--benchmark-storage={folder / 'kept'}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr}")
    benchmarks = load(record).benchmarks
    return {short_name(one.fullname): one.passes for one in benchmarks if one.passes}, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8, help="how many (default: 8)")
    parser.add_argument("--busy", action="store_true", help="beside a busy loop that comes and goes")
    parser.add_argument("arguments", nargs="*", help="for pytest (default: perf/ --perf-profile=smoke)")
    wanted = parser.parse_args()
    if wanted.runs < 2:
        parser.error(f"--runs: two at least, not {wanted.runs}")
    arguments = wanted.arguments or ["perf/", "--perf-profile=smoke"]
    with tempfile.TemporaryDirectory() as folder, company() if wanted.busy else contextlib.nullcontext():
        runs = [measured(arguments, Path(folder), number) for number in range(wanted.runs)]
    every = dict.fromkeys(name for times, _ in runs for name in times)
    names = [name for name in every if all(name in times for times, _ in runs)]
    if lacking := [name for name in every if name not in names]:
        print(f"left out, because some runs have not timed it: {', '.join(lacking)}")
    found = [agreement(name, [times[name] for times, _ in runs]) for name in names]
    if not found:
        sys.exit("no case was timed in every run")
    print(text(found, [wall for _, wall in runs]))
    return 0 if holds(found) else 1


if __name__ == "__main__":
    sys.exit(main())
