"""In: the command line of this run. Out: a command that repeats it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from perf.harness.plugin import preflight
from perf.harness.report.commands import SEARCH_PATH
from perf.here import CLONE


def repeated(config: pytest.Config, more: Sequence[str] = (), without: Sequence[str] = ()) -> str:
    """The command of this run with the arguments `more`, but without the options `without`.

    A path to Stepwatch that is of this machine only is written as the docs write it. A `PYTHONPATH` is part of the
    command if its folders are below the current one.
    """
    search_path = os.environ.get("PYTHONPATH", "")
    below = [folder for folder in search_path.split(os.pathsep) if folder and not Path(folder).is_absolute()]
    plain = search_path and os.pathsep.join(below) == search_path == shlex.quote(search_path)
    words = [*([SEARCH_PATH + search_path] if plain else []), "pytest"]
    value_of = ""  # the option whose value may come next
    for argument in map(str, config.invocation_params.args):
        before, value_of = value_of, argument
        if before in without and not argument.startswith("-"):
            continue
        path, _, _ = argument.partition("::")
        if path == str(preflight.PERF) or path.startswith(f"{preflight.PERF}/"):
            rest = argument.removeprefix(str(preflight.PERF))
            words.append(f"{CLONE}{shlex.quote(rest) if rest else ''}")
        elif argument.split("=")[0] not in without:
            words.append(shlex.quote(argument))
    return " ".join([*words, *map(shlex.quote, more)])
