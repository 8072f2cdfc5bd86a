"""`python -m perf selftest`: plant a slowdown, run the gate, and count what it finds."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from perf.commands.output import EXIT_INTERRUPT, EXIT_USAGE, deliver, width
from perf.harness.report.quantities import counted, duration
from perf.harness.report.selftest import FORMATS, one_trial, render_selftest
from perf.harness.verdict.trials import SLOWDOWNS, Outcome, Trial, outcome_of
from perf.here import offline

MOST_GATES = 1000


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "selftest",
        help="see what the gate can tell on this machine",
        description="Plant a slowdown of a known size, run the gate, and count what it finds. Each gate takes about a "
        "minute; nothing else should run meanwhile, unless that is what you want to know.",
    )
    parser.add_argument(
        "--gates", metavar="N", type=_gates, default=5, help="gates of each size (default: %(default)s)"
    )
    parser.add_argument(
        "--inject", metavar="LIST", type=_shares, default="0%,5%,10%", help="sizes to plant (default: 0%%,5%%,10%%)"
    )
    parser.add_argument(
        "--kind", choices=SLOWDOWNS, default=SLOWDOWNS[0], help="what is planted (default: %(default)s)"
    )
    parser.add_argument("--device", metavar="DEVICE", default="cpu", help="cpu, cuda, … (default: %(default)s)")
    parser.add_argument("--perf-model", metavar="NAME", help="what to train (default: the reference network)")
    parser.add_argument("-k", metavar="TEXT", default="", help="only benchmarks with TEXT in their names")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="github: Markdown (default: %(default)s)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the table there as well")
    parser.set_defaults(run=_selftest)


def _gates(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_GATES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of gates, 1 to {MOST_GATES}")
    return int(text)


def _shares(text: str) -> tuple[float, ...]:
    shares = []
    for item in text.split(","):
        number = item.strip().removesuffix("%")
        if not item.strip().endswith("%") or not number.replace(".", "", 1).isdecimal() or not float(number) <= 100:
            raise argparse.ArgumentTypeError(f"{item!r} is not a size, written like 5%, of 100% at most")
        shares.append(float(number) / 100)
    return tuple(dict.fromkeys(shares))


def _selftest(arguments: argparse.Namespace) -> int:
    # These load torch, which the other commands do not need.
    from model import RecipeError, load_recipe
    from perf.harness.measurement.side_by_side import selftest

    try:
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)  # for --perf-model=package.module:name
        settings = selftest.settings(arguments.device, arguments.perf_model)
        recipe = load_recipe(settings.models[0])
        todo = selftest.cases(arguments.kind, settings.devices[0], recipe, arguments.k)
    except (selftest.DeviceUnusable, selftest.NothingSelected, RecipeError) as error:
        print(f"{offline('selftest')}: {error}", file=sys.stderr)
        return EXIT_USAGE
    done: list[Outcome] = []
    trials: list[Trial] = []
    gates = arguments.gates * len(arguments.inject)
    begin = time.monotonic()
    print(f"{counted(gates, 'gate')}; the first one shows how long all of them take", flush=True)
    interrupted = False
    try:
        for share in arguments.inject:
            trials = []
            for trial in selftest.run(settings, todo, arguments.kind, share, arguments.gates, _say):
                trials.append(trial)
                _say("")
                left = gates - arguments.gates * len(done) - len(trials)
                each_s = (time.monotonic() - begin) / (gates - left)
                print(f"{one_trial(trial, len(trials), arguments.gates)}{_left(left * each_s)}", flush=True)
            done.append(outcome_of(trials))
            trials = []
    except KeyboardInterrupt:
        interrupted = True
        _say("")
        if trials:
            done.append(outcome_of(trials))
        if not done:
            raise
    deliver("\n" + render_selftest(done, width=width(), format=arguments.format))
    if arguments.output is not None:
        deliver(render_selftest(done, width=width(arguments.output), format=arguments.format), arguments.output)
    return EXIT_INTERRUPT if interrupted else 0


def _left(seconds: float) -> str:
    return f"; about {duration(seconds)} left" if seconds else ""


def _say(text: str) -> None:
    """Show `text` in the current line of a terminal, in place of the last one."""
    if sys.stderr.isatty():
        room = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:room]}\x1b[K", end="", file=sys.stderr, flush=True)
