"""In: a folder, a git ref. Out: what git says of them. Nothing is changed, and no hook of the user's runs."""

from __future__ import annotations

import difflib
import os
import subprocess
from pathlib import Path

# The time limit of a git command [s]: long enough to check out a large repository from a slow disk.
GIT_S = 600
# These variables may be set for the user's own git, for example inside a hook; our git commands must not use them.
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
# What imports, runs and installations write, as git's pathspecs.
WRITTEN = ("*.pyc", "__pycache__", ".benchmarks/**", "*.egg-info/**")
# How like the ref that is meant must be, from 0 to 1: `mian` for `main`, and not `origin/main` for `origin/slow`.
LIKELY = 0.7
# `REF...` is what git itself calls the merge base of REF and HEAD.
MERGE_BASE = "..."


class RefError(Exception):
    """A ref or a repository cannot be used: `str()` says which and why."""


def top_level(folder: Path) -> Path | None:
    """The working tree that `folder` is in, or None if it is in none. Raises RefError if git cannot say."""
    try:
        return Path(git(folder, "rev-parse", "--show-toplevel"))
    except RefError as error:
        if "not a git repository" in str(error):
            return None
        raise


def commit(repository: Path, ref: str) -> str:
    """The full id of the commit that `ref` names in `repository`; `REF...` is the merge base. Raises RefError."""
    if ref.startswith("-"):
        raise RefError(f"{ref!r} looks like an option, not like a git ref or a folder")
    if ref.endswith(MERGE_BASE):
        return _merge_base(repository, ref.removesuffix(MERGE_BASE))
    try:
        return git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except RefError:
        if ref.startswith(("/", ".", "~")):
            raise RefError(f"there is no folder {ref}") from None
        raise RefError(
            f"{ref!r} is neither a folder nor a commit, branch or tag of {repository}; {_what_to_do(repository, ref)}"
        ) from None


def _what_to_do(repository: Path, ref: str) -> str:
    """What to do about a `ref` that is not known: the one that may be meant, or how to fetch it."""
    try:
        names = git(repository, "for-each-ref", "--format=%(refname:short)").split()
        remotes = git(repository, "remote").split()
        shallow = git(repository, "rev-parse", "--is-shallow-repository") == "true"
    except RefError as error:
        return str(error)
    if not names:
        return "it has no commit yet"
    likely = [name for name in names if name.endswith(f"/{ref}")]
    if close := likely or difflib.get_close_matches(ref, names, n=1, cutoff=LIKELY):
        return f"did you mean {close[0]}?"
    if not remotes:
        return "`git branch` lists the branches"
    whole = "--unshallow " if shallow else ""
    return f"fetch it first: git fetch {whole}{remotes[0]} '+refs/heads/*:refs/remotes/{remotes[0]}/*'"


def _merge_base(repository: Path, ref: str) -> str:
    other = commit(repository, ref)
    try:
        return git(repository, "merge-base", other, "HEAD")
    except RefError:
        raise RefError(
            f"{ref} and HEAD have no common commit in {repository}; in CI, fetch the whole history (fetch-depth: 0)"
        ) from None


def merged_commit(folder: Path) -> str:
    """The commit that HEAD merges into its first parent; "" if HEAD is no merge. Raises RefError."""
    _, *parents = git(folder, "rev-list", "--parents", "-n", "1", "HEAD").split()
    return parents[1] if len(parents) > 1 else ""


def has_changes(folder: Path) -> bool:
    """Whether files below `folder` differ from the commit that is checked out. Raises RefError.

    What imports, runs and installations write does not count.
    """
    ours = (f":(exclude,glob)**/{name}" for name in WRITTEN)
    return bool(git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".", *ours))


def same_tree(repository: Path, sha: str) -> bool:
    """Whether the working tree has the files of commit `sha`, and no others that git does not ignore."""
    trees = {git(repository, "rev-parse", f"{one}^{{tree}}") for one in (sha, "HEAD")}
    return len(trees) == 1 and not has_changes(repository)


def trailers(repository: Path, base: str, key: str) -> list[tuple[str, str]]:
    """The trailers `key` of the commits since `base`, the newest first: the short id of the commit, and the text."""
    form = f"--format=%h\t%(trailers:key={key},valueonly,unfold,separator=%x1e)"
    lines = (line.partition("\t") for line in git(repository, "log", form, f"{base}..HEAD").split("\n"))
    return [(commit_id, text) for commit_id, _, texts in lines for text in texts.split("\x1e") if text.strip()]


def submodules(repository: Path, sha: str) -> dict[str, str]:
    """The commit of each submodule of commit `sha`, by its path."""
    entries = git(repository, "ls-tree", "-r", "-z", sha).split("\0")
    links = (entry.split(None, 3) for entry in entries if entry.startswith("160000 "))
    return {path: commit_id for _, _, commit_id, path in links}


def untracked(repository: Path) -> list[str]:
    """The files and links that no commit has, also those that git ignores."""
    return [name for name in git(repository, "ls-files", "--others", "-z").split("\0") if name]


def git(folder: Path, *arguments: str) -> str:
    """What `git ARGUMENTS` prints in `folder`. Raises RefError, with what git says, if it fails."""
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
        why = _reason(done.stderr) or f"exit code {done.returncode}"
        raise RefError(f"git {arguments[0]} failed in {folder}: {why}")
    return done.stdout.strip()


def _reason(said: str) -> str:
    """What git says went wrong: without its advice, but with the errors that come before the last one."""
    wrong = [line for line in said.splitlines() if line.startswith(("error: ", "fatal: "))]
    rest = said.partition("fatal: ")[2] or said  # the last one may go on in the next line
    return "; ".join([line.partition(": ")[2] for line in wrong[:-1]] + [" ".join(rest.split())]) if rest else ""
