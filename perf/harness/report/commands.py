"""In: a run. Out: commands that can be typed where it was made."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence

from perf.harness.record.run import Run
from perf.here import CLONE

USUAL = "pytest perf/"
STAND_IN = "STEPWATCH/perf"  # in the place of CLONE while a command is taken apart
SEARCH_PATH = "PYTHONPATH="
DEVICE = re.compile("--perf-device(=|$)")
# What selects cases of the CPU, in the expression of -k and at the end of a test's name.
AND_CPU, OF_CPU = re.compile(r"\bcpu-(?=\w)|\band cpu\b(?!-)|\bcpu and\b"), re.compile(r"\[cpu\b[^\]]*\]$")
PLACE = re.compile(r"(?!-)(.*/)?perf(?=/|$)")


def measure(run: Run, *more: str, elsewhere: bool = False) -> str:
    """The command that made `run`, with the options `more`; that of the whole suite if `run` does not say it.

    `elsewhere`: for a machine with other devices, so without what selects the CPU.
    """
    words = _words(_command(run))
    if elsewhere:
        words = list(_of_any_device(words))
    return " ".join([shlex.join(words).replace(STAND_IN, CLONE), *more])


def _of_any_device(words: Sequence[str]) -> Iterator[str]:
    """The `words` of a command, without what selects only cases of the CPU."""
    for before, word in itertools.pairwise(["", *words]):
        if before == "-k":
            expression = " ".join(AND_CPU.sub("", word).split())
            if not re.search(r"\bcpu\b", expression):
                yield from ("-k", expression)
        elif word != "-k" and before != "--perf-device" and not DEVICE.match(word):
            yield OF_CPU.sub("", word)


def gate(run: Run, against: str) -> str:
    """The command that measures base and head side by side, of the network of `run`."""
    settings = run.perf.get("settings")
    model = settings.get("model") if isinstance(settings, dict) else None
    named = [shlex.quote(f"--perf-model={model}")] if ":" in str(model or "") else []
    place = _place(run)
    return " ".join(
        [*_search_path(run), "pytest", "perf/" if place == "perf" else place, *named, f"--perf-against={against}"]
    )


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
    begins = words[1:2] if text.startswith(SEARCH_PATH) else words[:1]
    return text if alike and text.isprintable() and begins == ["pytest"] else USUAL


def _words(text: str) -> list[str]:
    return shlex.split(text.replace(CLONE, STAND_IN))


def _search_path(run: Run) -> list[str]:
    """`PYTHONPATH=src`, if the command of `run` begins so."""
    return [word for word in _words(_command(run))[:1] if word.startswith(SEARCH_PATH)]


def _place(run: Run) -> str:
    """The path to the suite, as the command of `run` has it: `perf`, `../stepwatch/perf`, `"$STEPWATCH/perf"`."""
    words = _words(_command(run))[1 + len(_search_path(run)) :]
    found = next(filter(None, map(PLACE.match, words)), None)
    return "perf" if found is None else shlex.quote(found[0]).replace(STAND_IN, CLONE)
