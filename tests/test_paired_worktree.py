"""A commit's files in a folder of their own, with a real git: what is refused, and that nothing else is touched."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perf.harness.measurement.side_by_side import repository as module
from perf.harness.measurement.side_by_side.repository import RefError, commit, top_level
from perf.harness.measurement.side_by_side.worktree import LOCK, PREFIX, sweep, worktree
from tests.conftest import git

pytestmark = pytest.mark.usefixtures("places")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def repository(tmp_path):
    """Two commits, `old` and `new`; a branch and a tag on the older one."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    for text in ("old", "new"):
        (root / "file.txt").write_text(text)
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", text)
        if text == "old":
            git(root, "branch", "feature/slow")
            git(root, "tag", "-a", "v1", "-m", "one")
    return root


def listed(repository):
    """The worktrees that git knows of, beside the user's own."""
    lines = git(repository, "worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")][1:]


@pytest.mark.parametrize(
    ("ref", "text"), [("HEAD", "new"), ("HEAD~1", "old"), ("main", "new"), ("feature/slow", "old"), ("v1", "old")]
)
def test_a_ref_is_the_files_of_its_commit(repository, ref, text):
    with worktree(repository, commit(repository, ref)) as place:
        assert (place / "file.txt").read_text() == text
        assert place.name.startswith(PREFIX)
    assert not place.exists()
    assert listed(repository) == []


def test_an_annotated_tag_is_the_commit_that_it_names(repository):
    assert commit(repository, "v1") == git(repository, "rev-parse", "HEAD~1")


def test_a_short_id_is_a_ref_too(repository):
    sha = git(repository, "rev-parse", "HEAD")
    assert commit(repository, sha[:8]) == sha


@pytest.mark.parametrize("ref", ["nowhere", "HEAD~9", "HEAD:file.txt", "HEAD~1..HEAD"])
def test_an_unknown_ref_is_refused_by_name_with_what_to_do(repository, ref):
    with pytest.raises(RefError) as caught:
        commit(repository, ref)
    assert str(caught.value) == (
        f"{ref!r} is neither a folder nor a commit, branch or tag of {repository}; `git branch` lists the branches"
    )


@pytest.mark.parametrize("shallow", [False, True])
def test_a_branch_that_a_clone_does_not_have_is_fetched_by_the_command_that_is_printed(repository, tmp_path, shallow):
    clone, how = tmp_path / "clone", ["--depth=1"] if shallow else ["--single-branch"]
    subprocess.run(["git", "clone", "-q", *how, "--branch=feature/slow", repository.as_uri(), clone], check=True)
    with pytest.raises(RefError) as caught:
        commit(clone, "origin/main")  # and not "did you mean origin/feature/slow?", which is head
    command = str(caught.value).partition("; fetch it first: ")[2]
    assert ("--unshallow" in command) == shallow
    subprocess.run(shlex.split(command), cwd=clone, check=True, capture_output=True)
    assert commit(clone, "origin/main") == git(repository, "rev-parse", "main")
    with pytest.raises(RefError, match=r"did you mean origin/main\?$"):
        commit(clone, "main")


def test_a_repository_without_a_commit_has_no_ref(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    with pytest.raises(RefError, match=r"; it has no commit yet$"):
        commit(tmp_path, "main")


@pytest.mark.parametrize(
    ("ref", "meant"), [("mian", "main"), ("slow", "feature/slow"), ("develop", "origin/develop"), ("V1", "")]
)
def test_a_ref_that_stands_for_another_is_asked_for(repository, ref, meant):
    """A clone has one branch of its own, and those of its origin under other names."""
    git(repository, "update-ref", "refs/remotes/origin/develop", "HEAD")
    with pytest.raises(RefError, match=rf"; did you mean {meant}\?$" if meant else "; `git branch` lists the branches"):
        commit(repository, ref)


@pytest.mark.parametrize("ref", ["--output=x", "-h", "--all", "-"])
def test_a_ref_that_looks_like_an_option_is_refused_by_name(repository, ref):
    with pytest.raises(RefError, match=rf"^'{ref}' looks like an option, not like a git ref or a folder$"):
        commit(repository, ref)
    assert not (repository / "x").exists()


def state(repository):
    """All that is the user's: files, index, stash, branches, and what HEAD is."""
    files = {
        str(path.relative_to(repository)): path.read_bytes()
        for path in repository.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    asked = ("status", "--porcelain"), ("diff", "--cached"), ("stash", "list"), ("branch", "-av"), ("reflog",)
    return files, [git(repository, *arguments) for arguments in asked]


def test_the_users_files_index_and_stash_are_not_touched(repository):
    (repository / "file.txt").write_text("stashed")
    git(repository, "stash")
    (repository / "file.txt").write_text("staged")
    git(repository, "add", "file.txt")
    (repository / "file.txt").write_text("changed since")
    (repository / "untracked.txt").write_text("mine")
    before = state(repository)
    index = (repository / ".git/index").read_bytes()
    with worktree(repository, commit(repository, "HEAD")) as place:
        assert (place / "file.txt").read_text() == "new"
        assert not (place / "untracked.txt").exists()
        assert (repository / ".git/index").read_bytes() == index
    assert state(repository) == before


def test_a_git_environment_of_the_user_is_not_taken_for_ours(repository, tmp_path, monkeypatch):
    """As in a hook of another repository, which runs with its GIT_DIR and GIT_INDEX_FILE."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    with worktree(repository, commit(repository, "HEAD~1")) as place:
        assert (place / "file.txt").read_text() == "old"
    assert not (other / ".git/index").exists()


def test_nothing_is_left_after_an_exception(repository, places):
    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), worktree(repository, commit(repository, "HEAD")) as place:
            (place / "new.txt").write_text("not committed")
            raise error
    assert not place.exists()
    assert listed(repository) == []
    assert list(places.iterdir()) == []


def test_nothing_is_left_where_git_fails(repository, places):
    with pytest.raises(RefError, match="git worktree failed"), worktree(repository, "0" * 40):
        raise AssertionError("not reached")
    assert listed(repository) == []
    assert list(places.iterdir()) == []


def test_hooks_are_not_run(repository, tmp_path):
    marks = tmp_path / "hook.ran"
    hook = repository / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {marks}\n")
    hook.chmod(0o755)
    git(repository, "checkout", "-q", "-b", "again")
    assert marks.exists()  # it works
    marks.unlink()
    with worktree(repository, commit(repository, "HEAD")):
        pass
    assert not marks.exists()


def test_two_at_once_do_not_disturb_each_other(repository):
    with worktree(repository, commit(repository, "HEAD~1")) as old:
        with worktree(repository, commit(repository, "HEAD")) as new:
            assert ((old / "file.txt").read_text(), (new / "file.txt").read_text()) == ("old", "new")
        assert (old / "file.txt").read_text() == "old"
        assert listed(repository) == [str(old)]
    assert listed(repository) == []


RUN = """
import sys, time
from pathlib import Path
from perf.harness.measurement.side_by_side.repository import commit
from perf.harness.measurement.side_by_side.worktree import worktree
repository = Path(sys.argv[1])
with worktree(repository, commit(repository, "HEAD")) as place:
    print(place, flush=True)
    sys.stdin.readline()
"""


def running(repository):
    """Another process that has a worktree, and its place."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(repository)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    return process, Path(process.stdout.readline().strip())


def finished(process):
    process.communicate("\n")
    return process.returncode


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_is_in_use_is_not(repository, places):
    killed, left = running(repository)
    alive, used = running(repository)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert (left / "file.txt").is_file()
        assert sorted(listed(repository)) == sorted([str(left), str(used)])
        with worktree(repository, commit(repository, "HEAD~1")) as place:
            assert not left.exists()
            assert (used / "file.txt").is_file()
            assert sorted(listed(repository)) == sorted([str(used), str(place)])
    finally:
        assert finished(alive) == 0
    assert listed(repository) == []
    assert [path.name for path in places.iterdir()] == []


def test_a_users_own_worktree_is_not_swept_away(repository, tmp_path):
    own = tmp_path / "review"
    git(repository, "worktree", "add", "-q", "--detach", str(own), "HEAD~1")
    sweep(repository)
    with worktree(repository, commit(repository, "HEAD")):
        pass
    assert listed(repository) == [str(own)]
    assert (own / "file.txt").read_text() == "old"


def test_the_lock_lies_beside_the_files_and_not_among_them(repository):
    with worktree(repository, commit(repository, "HEAD")) as place:
        assert sorted(path.name for path in place.iterdir()) == [".git", "file.txt"]
        assert place.with_name(place.name + LOCK).is_file()


def test_a_folder_in_a_repository_has_its_top_level(repository):
    inside = repository / "src" / "package"
    inside.mkdir(parents=True)
    assert top_level(inside) == repository.resolve()


def test_a_folder_that_is_in_no_repository_is_said_so(tmp_path):
    assert top_level(tmp_path) is None
    with pytest.raises(RefError, match=r"^'main' is neither a folder nor a commit"):
        commit(tmp_path, "main")
    for place in ("/nowhere/at/all", "../nowhere", "~/nowhere"):
        with pytest.raises(RefError, match=f"^there is no folder {place}$"):
            commit(tmp_path, place)
    with (
        pytest.raises(RefError, match=r"^git worktree failed in .*: not a git repository"),
        worktree(tmp_path, "main"),
    ):
        raise AssertionError("not reached")


def test_a_repository_that_git_refuses_is_not_said_to_be_none(repository, monkeypatch):
    """As in a container whose checkout belongs to another user; git says how to trust it."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(RefError, match=r"^git rev-parse failed in .*: detected dubious ownership .* safe\.directory"):
        top_level(repository)


def test_the_errors_of_git_before_its_last_one_are_told(repository, monkeypatch, tmp_path):
    """As where the temporary disk is full."""
    (tmp_path / "git").write_text(
        "#!/bin/sh\necho 'hint: nothing' >&2\necho 'error: unable to write file: No space left on device' >&2\n"
        "echo 'fatal: Could not reset index file' >&2\nexit 128\n"
    )
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RefError, match=r": unable to write file: No space left on device; Could not reset index file$"):
        commit(repository, "HEAD")


def test_a_machine_without_git_is_said_so(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RefError, match=r"^git cannot be run: No such file or directory$"), worktree(repository, "HEAD"):
        raise AssertionError("not reached")


def test_a_git_that_hangs_is_not_waited_for_for_ever(repository, monkeypatch, tmp_path):
    fake = tmp_path / "bin/git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec sleep 600\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "GIT_S", 0.2)
    with pytest.raises(RefError, match=r"^git worktree took more than 0\.2 s$"):
        sweep(repository)
