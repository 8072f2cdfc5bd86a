"""In: a run. Out: commands that can be typed where it was made."""

from __future__ import annotations

import itertools
import re
import shlex

from perf.harness.record.run import Run

USUAL = "pytest perf/"
# A clone of Stepwatch in a command, as the docs write it; and what is in its place while the command is taken apart.
CLONE, STAND_IN = '"$STEPWATCH/perf"', "STEPWATCH/perf"
DEVICE = re.compile("--perf-device(=|$)")
PLACE = re.compile(r"(?!-)(.*/)?perf(?=/|$)")


def measure(run: Run, *more: str, elsewhere: bool = False) -> str:
    """The command that made `run`, with the options `more`; that of the whole suite if `run` does not say it.

    `elsewhere`: for a machine with other devices, so without --perf-device.
    """
    text = _command(run)
    words = _words(text)
    if elsewhere and any(map(DEVICE.match, words)):
        pairs = itertools.pairwise(["", *words])
        kept = [word for before, word in pairs if before != "--perf-device" and not DEVICE.match(word)]
        text = shlex.join(kept).replace(STAND_IN, CLONE)
    return " ".join([text, *more])


def gate(run: Run, against: str) -> str:
    """The command that measures base and head side by side, of the network of `run`."""
    settings = run.perf.get("settings")
    model = settings.get("model") if isinstance(settings, dict) else None
    named = [shlex.quote(f"--perf-model={model}")] if ":" in str(model or "") else []
    place = _place(run)
    return " ".join(["pytest", "perf/" if place == "perf" else place, *named, f"--perf-against={against}"])


def tool(run: Run, *arguments: str) -> str:
    """`python -m perf` with `arguments`; from another folder than Stepwatch's, with the path to it."""
    place = _place(run)
    return " ".join(["python -m perf" if place == "perf" else f"python {place}", *arguments])


def _command(run: Run) -> str:
    """The command in the record, unless it could do something else: a record may come from anywhere."""
    text = str(run.perf.get("command") or USUAL)
    try:
        words = _words(text)
    except ValueError:
        return USUAL
    alike = shlex.join(words).replace(STAND_IN, CLONE) == text
    return text if alike and text.isprintable() and words[0] == "pytest" else USUAL


def _words(text: str) -> list[str]:
    return shlex.split(text.replace(CLONE, STAND_IN))


def _place(run: Run) -> str:
    """The path to the suite, as the command of `run` has it: `perf`, `../stepwatch/perf`, `"$STEPWATCH/perf"`."""
    found = next(filter(None, map(PLACE.match, _words(_command(run))[1:])), None)
    return "perf" if found is None else shlex.quote(found[0]).replace(STAND_IN, CLONE)
