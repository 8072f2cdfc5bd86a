"""How to write Stepwatch's own commands and files so that they work in the current folder."""

import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The path of the suite in a command that is kept, as the docs write it.
CLONE = '"$STEPWATCH/perf"'


def offline(*arguments: str) -> str:
    """`python -m perf` with `arguments`, which the caller has quoted; in another folder, with the path to it."""
    return " ".join(["python -m perf" if _is_here() else f"python {shlex.quote(str(ROOT / 'perf'))}", *arguments])


def suite() -> str:
    """`pytest perf/`; in another folder, with the path to it."""
    return "pytest perf/" if _is_here() else f"pytest {shlex.quote(str(ROOT / 'perf'))}"


def local(text: str) -> str:
    """`text`, whose commands work here: with the path of this clone."""
    return text.replace(CLONE, shlex.quote(str(ROOT / "perf")))


def install() -> str:
    """The command that installs what Stepwatch needs."""
    path = Path("requirements.txt") if _is_here() else ROOT / "requirements.txt"
    return f"pip install -r {shlex.quote(str(path))}"


def _is_here() -> bool:
    try:
        return ROOT.samefile(".")
    except OSError:  # the current folder is no more
        return False
