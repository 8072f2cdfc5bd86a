"""Can every check fail? Runs each check without a fault, and with each fault that it must detect.

    python perf/proof/injectors.py [CHECK,CHECK…] [OPTION…]

All checks run by default. Options, such as `--perf-device=cuda`, go to pytest. If no datasheet has a bar, this machine
is compared with itself: first runs without a fault become the spec. If a check has several metrics or devices, the
worst verdict of those that could be judged is shown. A fault must make its check FAIL; a busy machine must make the
preconditions INCONCLUSIVE.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tabulate import tabulate

from perf.harness.options import FAULTS
from perf.harness.record.check import JUDGED, CheckVerdict
from perf.proof.usage import parser

ROOT = Path(__file__).resolve().parents[2]
# The checks that the spec judges, and the number of runs that it is made of: their spread is part of the bar.
MEASURED, RUNS = ("matmul", "memory", "copies", "launch", "step", "loader", "disk"), 5
NO_FAILURE = {"preconditions": CheckVerdict.INCONCLUSIVE}


def qualify(target: Path, checks: list[str], options: list[str]) -> dict[str, tuple[CheckVerdict, str]]:
    """Run `checks`; return the worst verdict of each, and its reason. The record is left in `target`."""
    target.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", str(ROOT / "perf"), "-q", "-p", "no:cacheprovider", "--perf-profile=qualify",
        f"--perf-check={','.join(checks)}", f"--benchmark-json={target}", f"--benchmark-storage={target.parent}/kept",
        *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if not target.is_file():
        sys.exit(f"no record of {', '.join(checks)}:\n{done.stdout}{done.stderr}")
    found: dict[str, list[tuple[CheckVerdict, str]]] = {}
    for one in json.loads(target.read_text(encoding="utf-8"))["perf"]["checks"]:
        found.setdefault(one["check"], []).append((CheckVerdict(one["verdict"]), one["reason"]))
    return {check: worst(verdicts) for check, verdicts in found.items()}


def worst(verdicts: list[tuple[CheckVerdict, str]]) -> tuple[CheckVerdict, str]:
    """The worst verdict of those that could be judged, and its reason; UNJUDGED or UNSUPPORTED if none could."""
    judged = [one for one in verdicts if one[0] in JUDGED]
    return min(judged or verdicts, key=lambda one: list(CheckVerdict).index(one[0]))


def spec_of(folder: Path, checks: list[str], options: list[str]) -> list[str]:
    """Make a spec from runs of `checks`. Returns the option that uses the spec in later runs, or [] without a spec."""
    chosen = [check for check in checks if check in MEASURED]
    if not chosen:
        return []
    records = [folder / f"good{number}.json" for number in range(RUNS)]
    for record in records:
        qualify(record, chosen, options)
    target = folder / "spec.json"
    command = [sys.executable, "-m", "perf", "spec", *map(str, records), f"--output={target}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(f"no spec: {done.stderr.strip()}")
        return []
    print(done.stdout)  # it says which metrics have no bar, so that their faults cannot be seen
    return [f"--perf-spec={target}"]


def seen(check: str, verdict: CheckVerdict) -> bool:
    return verdict is NO_FAILURE.get(check, CheckVerdict.FAIL)


def main(checks: list[str], options: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        options = [*options, *spec_of(Path(folder), checks, options)]
        without = qualify(record, checks, options)
        rows, missed = [], []
        for check in (check for check in checks if check in without):  # an accelerator has no cores to compare
            for kind, what in FAULTS[check].items():
                verdict, reason = qualify(record, [check], [*options, f"--perf-inject={check}:{kind}"])[check]
                rows.append((check, kind, what, without[check][0], verdict))
                if not seen(check, verdict):
                    missed.append(f"{check}:{kind}: {verdict}: {reason}")
                print(f"{check}:{kind} {verdict}", file=sys.stderr, flush=True)
    print(tabulate(rows, headers=("check", "kind", "the fault", "verdict without", "verdict with")))
    print(f"\n{len(rows)} faults, {len(missed)} not seen", *missed, sep="\n")
    return int(bool(missed))


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("checks", metavar="CHECK,CHECK…", nargs="?", default=",".join(FAULTS))
    given, options = arguments.parse_known_args()
    if unknown := sorted(set(chosen := given.checks.split(",")) - set(FAULTS)):
        arguments.error(f"there is no {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    sys.exit(main(chosen, options))
