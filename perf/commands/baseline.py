"""`python -m perf baseline list|show|accept|remove`: manage the baselines that later runs are compared with."""

from __future__ import annotations

import argparse
import contextlib
import datetime
from pathlib import Path
from typing import Any

from perf.commands.output import deliver, width
from perf.harness.record import baseline as store
from perf.harness.record.read import load
from perf.harness.record.run import RecordError, Run
from perf.harness.report import baselines as text
from perf.harness.verdict.acceptance import why_unacceptable
from perf.harness.verdict.stored_runs import Base


def add(commands: argparse._SubParsersAction[Any]) -> None:
    about = "keep the runs that later ones are compared with"
    parser = commands.add_parser("baseline", help=about, description=f"{about.capitalize()}.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _action(actions, "list", "say which baselines there are", _list, named=False)
    _action(actions, "show", "print one: its runs, and each benchmark's median and spread", _show)
    accept = _action(actions, "accept", "accept whole runs of one fingerprint as a baseline", _accept)
    accept.add_argument(
        "runs",
        metavar="RUN",
        nargs="*",
        help=f"a file, or the beginning of its name (default: the newest {store.MOST_RUNS} whole runs)",
    )
    _action(actions, "remove", "remove one", _remove)


def _action(actions: Any, action: str, about: str, run: Any, named: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(action, help=about, description=f"{about.capitalize()}.")
    parser.add_argument(
        "--storage", metavar="DIR", type=Path, default=store.STORAGE, help="where runs are kept (default: .benchmarks)"
    )
    if named:
        parser.add_argument("--name", default=store.DEFAULT_NAME, help="of the baseline (default: %(default)s)")
    parser.set_defaults(run=run)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    found = [(path.parent.name, load(path)) for path in store.baselines(arguments.storage)]
    deliver(text.listing(found, str(arguments.storage), width()))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    run = load(store.baseline(arguments.storage, arguments.name))
    deliver(text.detail(run, width()))
    return 0


def _accept(arguments: argparse.Namespace) -> int:
    store.checked(arguments.name)
    storage = arguments.storage
    paths = [store.find_run(storage, wanted) for wanted in arguments.runs] or store.newest_runs(storage)
    found = sorted(((_acceptable(path), path) for path in paths), key=lambda pair: pair[0].datetime)
    runs = Base.of(arguments.name, [run for run, _ in found]).runs
    newest, newest_path = found[-1]
    path = store.target(storage, newest, arguments.name)
    replaced = load(path) if path.exists() else None
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    store.accept(path, newest_path, arguments.name, now, runs)
    deliver(text.accepted(load(path), replaced, width()))
    return 0


def _acceptable(path: Path) -> Run:
    run = store.stored_run(path)
    if reason := why_unacceptable(run):
        raise RecordError(str(path), "", f"no baseline: {reason}")
    return run


def _remove(arguments: argparse.Namespace) -> int:
    path = store.baseline(arguments.storage, arguments.name)
    run: Run | None = None
    with contextlib.suppress(RecordError):  # a baseline that cannot be read can still be removed
        run = load(path)
    store.remove(path)
    deliver(text.removed(str(path), run, width()))
    return 0
