"""In: a git ref. Out: a folder with that commit's files, for as long as it is needed.

The folder is a detached worktree outside the user's working tree. The user's files, index and stash are not touched,
and no hook runs. A run that was killed leaves its worktree behind. The next run removes it, because no process holds
the lock of this worktree any more.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from perf.harness.measurement.side_by_side.repository import RefError, git, submodules, untracked

PREFIX = "stepwatch-base-"
LOCK = ".lock"
# The time limit of the user's command that makes base ready [s].
SETUP_S = 1800
# An error has the last line of what that command prints, up to so many characters.
SAID = 200


class SetupFailed(Exception):
    """The command that makes base ready failed: `str()` says how, with the end of what it printed."""


@contextlib.contextmanager
def worktree(repository: Path, sha: str) -> Iterator[Path]:
    """A folder with the files of commit `sha`, with its submodules, removed at the end. Raises RefError."""
    sweep(repository)
    place = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    with contextlib.ExitStack() as held:
        held.callback(_lock(place).unlink, missing_ok=True)
        held.enter_context(FileLock(_lock(place)))
        held.callback(_remove, repository, place)
        git(repository, "worktree", "add", "--detach", "--force", str(place), sha)
        _fill_submodules(repository, place, sha)
        yield place


def _fill_submodules(repository: Path, place: Path, sha: str) -> None:
    """Check out the submodules of commit `sha`: from those of the working tree if they have the commit, else anew."""
    for path, wanted in submodules(repository, sha).items():
        own = repository / path
        if not _has(own, wanted):
            git(place, "submodule", "update", "--init", "--recursive", "--", path)
            continue
        git(place, "clone", "--quiet", "--no-checkout", "--shared", str(own), str(place / path))
        git(place / path, "checkout", "--quiet", "--detach", wanted)
        _fill_submodules(own, place / path, wanted)


def _has(submodule: Path, sha: str) -> bool:
    """Whether the working tree has checked this submodule out, and knows its commit `sha`."""
    if not (submodule / ".git").exists():  # git would answer for the project around it
        return False
    try:
        git(submodule, "cat-file", "-e", f"{sha}^{{commit}}")
    except RefError:
        return False
    return True


def make_ready(place: Path, command: str, env: Mapping[str, str]) -> None:
    """Run the user's `command` in the folder `place`. Raises SetupFailed."""
    try:
        done = subprocess.run(
            command, shell=True, cwd=place, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=SETUP_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SetupFailed(f"it took more than {SETUP_S} s") from None
    if done.returncode:
        last = (done.stdout.strip().splitlines() or ["it printed nothing"])[-1]
        raise SetupFailed(f"it ended with exit code {done.returncode}: {last[:SAID]}")


def own_links(place: Path) -> list[Path]:
    """Where the links lead that no commit has: who set up base's tree has made them, and wants them followed."""
    return [(place / name).resolve() for name in untracked(place) if (place / name).is_symlink()]


def sweep(repository: Path) -> None:
    """Remove the worktrees of runs that were killed. Raises RefError."""
    listed = git(repository, "worktree", "list", "--porcelain").splitlines()
    for line in listed:
        place = Path(line.removeprefix("worktree "))
        if not line.startswith("worktree ") or not place.name.startswith(PREFIX):
            continue
        lock = FileLock(_lock(place), timeout=0)
        try:
            with lock:
                _remove(repository, place)
        except (Timeout, OSError):  # it belongs to a run that still goes on, or to another user
            continue
        with contextlib.suppress(OSError):
            _lock(place).unlink(missing_ok=True)


def _lock(place: Path) -> Path:
    """The lock file, beside the worktree: inside, it would count as one of the subject's files."""
    return place.with_name(place.name + LOCK)


def _remove(repository: Path, place: Path) -> None:
    with contextlib.suppress(RefError):
        git(repository, "worktree", "remove", "--force", str(place))
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(RefError):
        git(repository, "worktree", "prune")
