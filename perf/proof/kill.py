"""Does a finished benchmark survive `kill -9`? Kills a run at random moments, and looks at what is on disk.

    python perf/proof/kill.py [TIMES] [SEED]

After each kill, every benchmark that pytest had reported as PASSED must be in the run's record, and every file must be
readable. After the last kill, a run must work.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from perf.proof.usage import parser, positive

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [
    sys.executable, "-m", "pytest", str(ROOT / "perf"), "-v", "-p", "no:cacheprovider", "--perf-device=cpu",
    "--perf-profile=smoke", "--perf-batch-size=64,512", "--perf-rounds=20", "--perf-pipeline=resident",
    "--perf-data=digits", "--perf-threads=1",
]  # fmt: skip


def start(storage: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("w") as output:
        return subprocess.Popen(
            [*COMMAND, f"--benchmark-storage={storage}"], stdout=output, stderr=output, env=environment
        )


def passed(log: Path) -> set[str]:
    return set(re.findall(r"(\S+\[\S+\]) PASSED", log.read_text()))


def records(storage: Path) -> dict[str, set[str]]:
    """The names of the benchmarks in each file, by the name of the file. Raises ValueError for a broken file."""
    return {
        path.name: {benchmark["name"] for benchmark in json.loads(path.read_text())["benchmarks"]}
        for path in storage.rglob("*.json")
    }


def main(times: int, seed: int) -> int:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        storage, log = Path(folder) / "kept", Path(folder) / "log"
        began = time.perf_counter()
        if start(storage, log).wait() != 0:
            print(log.read_text())
            return 1
        whole_s, cases = time.perf_counter() - began, len(passed(log))
        print(f"a whole run: {cases} benchmarks, {whole_s:.1f} s")
        lost = 0
        for number in range(1, times + 1):
            before = set(records(storage))
            process = start(storage, log)
            delay = chance.uniform(0.1, 1.0) * whole_s
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
            said = {name.split("::")[-1] for name in passed(log)}
            kept = set().union(*(names for name, names in records(storage).items() if name not in before))
            lost += len(said - kept)
            print(f"kill {number:2} after {delay:5.1f} s: {len(said):2} reported, {len(kept):2} on disk, "
                  f"{len(said - kept)} missing", flush=True)  # fmt: skip
        code = start(storage, log).wait()
        litter = [path.name for path in storage.rglob("*") if path.is_file() and path.suffix != ".json"]
        readable = len(records(storage))  # raises for the first file that is not
        print(f"missing {lost}, all of {readable} files readable, litter {len(litter)}, next run exit {code}")
        return int(lost > 0 or code != 0)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("times", metavar="TIMES", type=positive, nargs="?", default=20)
    arguments.add_argument("seed", metavar="SEED", type=int, nargs="?", default=0)
    sys.exit(main(**vars(arguments.parse_args())))
