"""Do the probes of a qualification find what other tools find? Both are measured in turns, in one process, on the CPU.

    python perf/proof/independent.py [--pairs 15]

The other tools: numpy's matrix product, torch's own timer, `dd` past the system's memory; in C, if there is a compiler,
a STREAM triad, a copy and a chain of dependent multiplications. The ratio is ours ÷ theirs: the median of the pairs,
with its 95% interval. A machine whose speed moves moves both.
"""

import argparse
import ctypes
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from tabulate import tabulate
from torch.utils.benchmark import Timer

from perf.harness.machine import effective_clock
from perf.harness.machine.devices import Device
from perf.harness.measurement.checks import probes, storage
from perf.harness.statistics.intervals import median_interval

CPU, SIZE, SECONDS, FLOATS = Device("cpu"), 1536, 0.3, 2**26
FLOP = 2 * SIZE**3
# The cycles of a multiplication of integers and of the `or` that depends on it (Agner Fog, Instruction tables).
CHAIN, CHAIN_CYCLES = 1_000_000, 4
SOURCE = r"""
void triad(float *a, const float *b, const float *c, long n) {
#pragma omp parallel for schedule(static)
  for (long i = 0; i < n; i++) a[i] = b[i] + 1.5f * c[i];
}
void copy(float *a, const float *b, long n) {
#pragma omp parallel for schedule(static)
  for (long i = 0; i < n; i++) a[i] = b[i];
}
unsigned long chain(long n) {
  unsigned long x = 3;
  for (long i = 0; i < n; i++) { x = x * x; __asm__ volatile("" : "+r"(x)); x |= 1; __asm__ volatile("" : "+r"(x)); }
  return x;
}
"""
Rate = Callable[[], float]


def median_s(call: Callable[[], object]) -> float:
    """The median time of `call` in SECONDS, on a plain loop of our own."""
    call()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compiled() -> ctypes.CDLL | None:
    """SOURCE as a library; None without a C compiler."""
    if (compiler := shutil.which("cc") or shutil.which("gcc")) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "stream.so"
        options = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run([compiler, *options], input=SOURCE, text=True, check=True)
        return ctypes.CDLL(str(library))


def product() -> tuple[Rate, Rate, Rate]:
    """Our rate of a product, numpy's and that of torch's timer [FLOP/s]."""
    left, right = np.random.rand(2, SIZE, SIZE).astype("float32")
    out = np.empty_like(left)
    tensors = {"a": torch.from_numpy(left), "b": torch.from_numpy(right), "o": torch.empty(SIZE, SIZE)}
    timer = Timer("torch.mm(a, b, out=o)", "import torch", globals=tensors, num_threads=torch.get_num_threads())
    return (
        lambda: probes.product_once(CPU, "fp32", (SIZE, SIZE, SIZE), None, SECONDS),
        lambda: FLOP / median_s(lambda: np.matmul(left, right, out=out)),
        lambda: FLOP / timer.blocked_autorange(min_run_time=SECONDS).median,
    )


def rows() -> list[tuple[str, str, Rate, Rate]]:
    """What is measured, by which other tool, our rate and theirs."""
    ours, numpys, timers = product()
    found = [("matmul fp32", "numpy", ours, numpys), ("matmul fp32", "torch's timer", ours, timers)]
    one = torch.zeros(1)
    add = Timer("t.add_(1.0)", globals={"t": one}, num_threads=torch.get_num_threads())
    launch = statistics.median
    found.append((
        "launch p50", "torch's timer", lambda: 1 / launch(probes.operation_start(CPU, "p50").values),
        lambda: 1 / add.blocked_autorange(min_run_time=SECONDS).median,
    ))  # fmt: skip
    if (dd := shutil.which("dd")) is not None:
        found.append(("disk read", "dd iflag=direct", _ours_of_disk, lambda: _dd(dd)))
    if (library := compiled()) is not None:
        found += _in_c(library)
    return found


def _in_c(library: ctypes.CDLL) -> list[tuple[str, str, Rate, Rate]]:
    first, second, third = (torch.ones(FLOATS) for _ in range(3))
    at = [ctypes.c_void_p(one.data_ptr()) for one in (first, second, third)]
    count, loop = ctypes.c_long(FLOATS), effective_clock.turns()
    triad_bytes = 3 * first.nbytes
    found: list[tuple[str, str, Rate, Rate]] = [
        ("memory copy", "C", lambda: probes.copy_once(first, second, None, SECONDS),
         lambda: 2 * first.nbytes / median_s(lambda: library.copy(at[0], at[1], count))),
        ("memory triad", "STREAM in C",
         lambda: triad_bytes / median_s(lambda: torch.add(second, third, alpha=1.5, out=first)),
         lambda: triad_bytes / median_s(lambda: library.triad(at[0], at[1], at[2], count))),
    ]  # fmt: skip
    if loop is not None:
        chain = ctypes.c_long(CHAIN)
        found.append((
            "clock", "C", lambda: effective_clock.core_clock_hz(loop),
            lambda: CHAIN * CHAIN_CYCLES / min(_seconds(lambda: library.chain(chain)) for _ in range(20)),
        ))  # fmt: skip
    return found


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _ours_of_disk() -> float:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        return statistics.median(storage.read_rate(Path(folder)).values)


def _dd(dd: str) -> float:
    """The rate that `dd` prints for a file of our size [B/s]."""
    with tempfile.NamedTemporaryFile(dir=".") as file:
        file.write(np.random.default_rng(0).bytes(storage.FILE_BYTES))
        file.flush()
        os.fsync(file.fileno())  # a direct read would first wait for what is not on the disk yet
        command = [dd, f"if={file.name}", "of=/dev/null", "bs=16M", "iflag=direct"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
    seconds = re.search(r"copied, ([\d.e-]+) s", done.stderr)
    assert seconds is not None, done.stderr
    return storage.FILE_BYTES / float(seconds[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    table = []
    for metric, tool, ours, theirs in rows():
        both = [(ours(), theirs()) for _ in range(pairs)]
        median, low, high = median_interval([one / other for one, other in both])
        first, second = (statistics.median(column) for column in zip(*both, strict=True))
        interval = "" if low is None else f"[{low:.3f}, {high:.3f}]"
        table.append((metric, tool, f"{first:.3g}", f"{second:.3g}", f"{median:.3f}", interval))
        print(f"{metric} {tool}: done", file=sys.stderr, flush=True)
    print(
        tabulate(
            table, headers=("metric", "other tool", "ours", "theirs", "ours ÷ theirs", "95%"), disable_numparse=True
        )
    )


if __name__ == "__main__":
    main()
