"""In: a git ref. Out: a folder with that commit's files, for as long as it is needed.

A worktree, detached and outside of the user's: their files, index and stash are not touched, and no hook is run. A run
that was killed leaves its worktree behind; the next one removes it, known by a lock that nobody holds any more.
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
# Checking out a large repository from a slow disk.
GIT_S = 600
# The user's to have set, as inside of a hook; git would take them for ours.
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


class RefError(Exception):
    """A ref, or a repository, that cannot be used: `str()` says which and why."""


def top_level(folder: Path) -> Path | None:
    """The working tree that `folder` is in, or None where it is in none. Raises RefError where git cannot say."""
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
    """Whether files below `folder` are not as the commit that is checked out has them. Raises RefError."""
    return bool(_git(folder, "status", "--porcelain", "--", ".", ":(exclude)*.pyc"))  # an import writes them


@contextlib.contextmanager
def worktree(repository: Path, sha: str) -> Iterator[Path]:
    """The files of commit `sha` in a folder of their own. Raises RefError."""
    sweep(repository)
    place = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    with contextlib.ExitStack() as held:
        held.callback(_lock(place).unlink, missing_ok=True)
        held.enter_context(FileLock(_lock(place)))
        held.callback(_remove, repository, place)
        _git(repository, "worktree", "add", "--detach", "--force", str(place), sha)
        yield place


def sweep(repository: Path) -> None:
    """Remove the worktrees of runs that were killed."""
    listed = _git(repository, "worktree", "list", "--porcelain").splitlines()
    for line in listed:
        place = Path(line.removeprefix("worktree "))
        if not line.startswith("worktree ") or not place.name.startswith(PREFIX):
            continue
        lock = FileLock(_lock(place), timeout=0)
        try:
            with lock:
                _remove(repository, place)
        except (Timeout, OSError):  # a run that is going on, or another user's
            continue
        with contextlib.suppress(OSError):
            _lock(place).unlink(missing_ok=True)


def _lock(place: Path) -> Path:
    """Beside the worktree: in it, it would be seen by whoever looks at the subject's files."""
    return place.with_name(place.name + LOCK)


def _remove(repository: Path, place: Path) -> None:
    with contextlib.suppress(RefError):
        _git(repository, "worktree", "remove", "--force", str(place))
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(RefError):
        _git(repository, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> str:
    env = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    env |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}  # to look at the user's index is not to write it
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
