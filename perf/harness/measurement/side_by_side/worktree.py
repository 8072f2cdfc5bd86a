"""In: a git ref. Out: a folder with that commit's files, for as long as it is needed.

The folder is a detached worktree outside the user's working tree. The user's files, index and stash are not touched,
and no hook runs. A run that was killed leaves its worktree behind. The next run removes it, because no process holds
the lock of this worktree any more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "stepwatch-base-"
LOCK = ".lock"
# The time limit of a git command [s]: long enough to check out a large repository from a slow disk.
GIT_S = 600
# These variables may be set for the user's own git, for example inside a hook; our git commands must not use them.
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


class RefError(Exception):
    """A ref or a repository cannot be used: `str()` says which and why."""


def top_level(folder: Path) -> Path | None:
    """The working tree that `folder` is in, or None if it is in none. Raises RefError if git cannot say."""
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel"))
    except RefError as error:
        if "not a git repository" in str(error):
            return None
        raise


def commit(repository: Path, ref: str) -> str:
    """The full id of the commit that `ref` names in `repository`. Raises RefError."""
    if ref.startswith("-"):
        raise RefError(f"{ref!r} looks like an option, not like a git ref or a folder")
    try:
        return _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except RefError:
        raise RefError(
            f"{ref!r} is neither a folder nor a commit, branch or tag of {repository}; "
            "in CI, fetch it first (git fetch origin main)"
        ) from None


def changed(folder: Path) -> bool:
    """Whether files below `folder` differ from the commit that is checked out. Raises RefError."""
    return bool(_git(folder, "status", "--porcelain", "--", ".", ":(exclude)*.pyc"))  # imports write .pyc


@contextlib.contextmanager
def worktree(repository: Path, sha: str) -> Iterator[Path]:
    """A folder with the files of commit `sha`, removed at the end. Raises RefError."""
    sweep(repository)
    place = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    with contextlib.ExitStack() as held:
        held.callback(_lock(place).unlink, missing_ok=True)
        held.enter_context(FileLock(_lock(place)))
        held.callback(_remove, repository, place)
        _git(repository, "worktree", "add", "--detach", "--force", str(place), sha)
        yield place


def sweep(repository: Path) -> None:
    """Remove the worktrees of runs that were killed. Raises RefError."""
    listed = _git(repository, "worktree", "list", "--porcelain").splitlines()
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
        _git(repository, "worktree", "remove", "--force", str(place))
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(RefError):
        _git(repository, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> str:
    env = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    env |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}  # reading must not write the user's index
    command = ["git", "-c", f"core.hooksPath={os.devnull}", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_S, env=env, check=False)
    except OSError as error:
        raise RefError(f"git cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise RefError(f"git {arguments[0]} took more than {GIT_S} s") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise RefError(f"git {arguments[0]} failed in {folder}: {said.partition('fatal: ')[2] or said}")
    return done.stdout.strip()
