"""In: the command line. Out: which part of `perf/` it selects. Two runs of the same part can be compared."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from perf.harness.plugin import preflight

# The longest part of a folder's name that comes from the command line [characters].
LONGEST = 40


@dataclass(frozen=True)
class Selection:
    """A part of `perf/`, in the words of the command line: `-k step`; "" is the whole. `repeatable`: what it selects
    does not depend on how an earlier run ended.
    """

    text: str
    repeatable: bool

    @classmethod
    def of(cls, config: pytest.Config) -> Selection:
        option = config.option
        paths = [_relative(config, str(argument)) for argument in config.args]
        words = [] if any(path == "" for path in paths) else sorted({path for path in paths if path is not None})
        words += [f"-k {option.keyword}"] if option.keyword else []
        words += [f"-m {option.markexpr}"] if option.markexpr else []
        words += [f"--deselect {name}" for name in sorted(option.deselect or ())]
        words += [f"--ignore {name}" for name in sorted(option.ignore or ())]
        words += [f"--ignore-glob {name}" for name in sorted(option.ignore_glob or ())]
        by_outcome = any(getattr(option, name, False) for name in ("lf", "stepwise", "newfirst"))
        return cls(" ".join(words), repeatable=not by_outcome)

    @property
    def comparable(self) -> bool:
        """Whether this is a part that a later run can select again."""
        return bool(self.text) and self.repeatable

    @property
    def folder_name(self) -> str:
        """The folder, in that of the whole runs, for the runs of this part."""
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.text).strip("-")[:LONGEST]
        return f"selection-{readable}-{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"


def _relative(config: pytest.Config, argument: str) -> str | None:
    """`argument`, a path or the name of a case, as seen from `perf/`; "" if that is inside; None if it is elsewhere."""
    path, colons, case = argument.partition("::")
    full = (config.invocation_params.dir / path).resolve()
    if full == preflight.PERF or full in preflight.PERF.parents:
        return ""
    if preflight.PERF not in full.parents:
        return None
    return f"{Path(full).relative_to(preflight.PERF).as_posix()}{colons}{case}"
