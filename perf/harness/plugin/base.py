"""In: `--benchmark-compare`. Out: the stored runs to compare with, or a note that there are none, or an error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from perf.harness.plugin.selection import Selection
from perf.harness.record import RecordError, Run
from perf.harness.record.baseline import DEFAULT_NAME, MOST_RUNS, PREFIX, baselines, name_of
from perf.harness.record.read import load
from perf.harness.record.store import numbered
from perf.harness.report.quantities import counted
from perf.harness.verdict.stored_runs import Base, Incomparable, changed_fields
from perf.harness.workload.plan import Plan
from perf.here import offline, suite


@dataclass(frozen=True)
class Found:
    """The stored runs to compare with: `base` has all of them, and `newest` is the last of their files.

    Both are None if there is nothing to compare with. `note` then says so, if the user asked for a comparison.
    """

    note: str = ""
    base: Base | None = None
    newest: Run | None = None


def find(config: pytest.Config, plan: Plan, selection: Selection) -> Found:
    """Find the runs that this run is compared with. Raises pytest.UsageError."""
    option, wanted = config.option, config.option.benchmark_compare
    if option.benchmark_compare_fail and not wanted:
        raise pytest.UsageError(
            "--benchmark-compare-fail needs --benchmark-compare, which names the run to compare with"
        )
    folder = Path(str(option.benchmark_storage).removeprefix("file://"))
    if not wanted:
        return Found()
    if _times_nothing(config):
        raise pytest.UsageError("--benchmark-compare compares times, and nothing is timed: leave out one of the two")
    try:
        if isinstance(wanted, str):
            label, paths = _named(wanted, folder)
            if len(paths) == 1:
                option.benchmark_compare = str(paths[0])  # pytest-benchmark does not know our names
            return _read(label, paths, plan)
        return _default(config, folder, plan, selection)
    except RecordError as error:
        raise pytest.UsageError(f"--benchmark-compare: {error}; remove that file, or name another one") from None
    except Incomparable as error:
        raise pytest.UsageError(f"--benchmark-compare: {error}") from None


def _times_nothing(config: pytest.Config) -> bool:
    option = config.option
    disabled = option.benchmark_disable and not option.benchmark_enable
    return disabled or (option.benchmark_skip and not option.benchmark_only)


def _default(config: pytest.Config, folder: Path, plan: Plan, selection: Selection) -> Found:
    """The accepted baseline of this fingerprint or, if there is none, its newest runs.

    These are whole runs, unless there are more runs of the same selection.
    """
    accepted = folder / f"{PREFIX}{DEFAULT_NAME}.json"
    if accepted.is_file():
        config.option.benchmark_compare = str(accepted)
        return _read(_label(accepted), [accepted], plan)
    runs = _runs(folder)[-MOST_RUNS:]
    alike = _runs(folder, selection.folder_name)[-MOST_RUNS:] if selection.comparable else []
    if len(alike) > len(runs):
        config.option.benchmark_compare = str(alike[-1])  # pytest-benchmark does not know our folders
        return _read(f"{counted(len(alike), 'run')} of the same selection, {selection.text}", alike, plan, True)
    if runs:
        return _read(f"the newest {len(runs)} whole runs" if len(runs) > 1 else runs[0].name, runs, plan)
    if config.option.benchmark_compare_fail:
        raise pytest.UsageError(
            f"NO BASELINE for --benchmark-compare-fail: no earlier run in {folder}; run {suite()} first"
        )
    of = f" and this selection, {selection.text}," if selection.text else ""
    config.option.benchmark_compare = []  # otherwise pytest-benchmark warns, and -W error makes that a crash
    short = "; smoke runs are too short for a verdict" if plan.fingerprint["profile"] == "smoke" else ""
    return Found(
        f"NO BASELINE: no earlier run of this machine with these settings{of} in {folder}; nothing to compare with "
        f"yet{short}"
    )


def _runs(folder: Path, selection: str = "") -> list[Path]:
    return [path for machine in sorted(folder.glob("*")) for path in numbered(machine / selection)]


def _named(wanted: str, folder: Path) -> tuple[str, list[Path]]:
    """The label and the files of `wanted`: the name of a baseline, a file, or the beginning of the names of runs."""
    if accepted := baselines(folder, wanted) or baselines(folder.parent, wanted):
        return _label(accepted[0]), accepted[:1]
    if Path(wanted).is_file():
        return Path(wanted).name, [Path(wanted)]
    beginning = wanted.rstrip("*")
    found = [path for path in sorted(folder.glob("*/**/*.json")) if beginning and path.name.startswith(beginning)]
    if not found:
        there = ", ".join([*map(name_of, baselines(folder)), *(path.stem for path in _runs(folder))]) or "none"
        raise pytest.UsageError(f"--benchmark-compare={wanted}: no such run in {folder}; available: {there}")
    return (found[0].name if len(found) == 1 else f"{len(found)} runs {beginning}…"), found


def _label(accepted: Path) -> str:
    return f"baseline {name_of(accepted)}"


def _read(label: str, paths: list[Path], plan: Plan, selection: bool = False) -> Found:
    """Read the base from `paths`. Raises RecordError, Incomparable, and UsageError if its fingerprint differs."""
    files = [load(path) for path in paths]
    base = Base.of(label, files, selection)
    if base.fingerprint and (fields := changed_fields(base.fingerprint, plan.fingerprint)):
        raise pytest.UsageError(
            f"--benchmark-compare: {files[0].source} was not made as this run would be: {', '.join(fields)}. "
            f"To show two machines or settings side by side: {offline('report A.json B.json')}; to judge another "
            "torch: --perf-against-python=EXE"
        )
    return Found(base=base, newest=files[-1])
