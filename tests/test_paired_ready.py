"""What makes base ready, and what git says of both sides: submodules, the user's command, merge base, trailers."""

import os
from pathlib import Path

import pytest

from perf.harness.measurement.side_by_side.listing import lacking
from perf.harness.measurement.side_by_side.repository import RefError, commit, same_tree, submodules, trailers
from perf.harness.measurement.side_by_side.sides import Side, SideUnusable, Subject, acceptances, same_code, sides
from perf.harness.measurement.side_by_side.worktree import SetupFailed, make_ready, own_links, worktree
from perf.harness.options import resolve
from tests.conftest import git

pytestmark = pytest.mark.usefixtures("places")

NETS = "def factory(): ...\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with one commit on `main`, in which the process runs."""
    made = tmp_path / "project"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    save(made, "base", **{"nets.py": NETS, ".gitignore": "generated.py\ndata/\n"})
    monkeypatch.chdir(made)
    return made


def save(folder, message, **files):
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def settled(**typed):
    typed = {"model": "nets.py:factory", "against": "main", **typed}
    return resolve({name.replace("_", "-"): text for name, text in typed.items()}, {}, "", Path("/"))


def with_submodule(root, tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q", "-b", "main")
    old = save(library, "old", **{"width.py": "WIDTH = 1\n"})
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "libs/library")
    save(root, "with a submodule")
    return library, old


def test_the_submodules_of_base_are_there_in_its_own_commit(root, tmp_path):
    _, old = with_submodule(root, tmp_path)
    base = git(root, "rev-parse", "HEAD")
    save(root / "libs/library", "new", **{"width.py": "WIDTH = 2\n"})
    save(root, "a newer one")
    assert submodules(root, base) == {"libs/library": old}
    with worktree(root, base) as place:
        assert (place / "libs/library/width.py").read_text() == "WIDTH = 1\n"
        assert (root / "libs/library/width.py").read_text() == "WIDTH = 2\n"
    assert len(git(root, "worktree", "list").splitlines()) == 1


def test_a_submodule_that_nobody_has_is_said(root, tmp_path):
    library, _ = with_submodule(root, tmp_path)
    base = git(root, "rev-parse", "HEAD")
    git(root, "submodule", "deinit", "-f", "--all")
    library.rename(tmp_path / "moved")
    with pytest.raises(RefError, match=r"^git submodule failed in .*stepwatch-base-"), worktree(root, base):
        pass


def test_the_merge_base_is_where_the_branch_left(root):
    left = git(root, "rev-parse", "HEAD")
    git(root, "checkout", "-q", "-b", "mine")
    save(root, "mine")
    git(root, "checkout", "-q", "main")
    save(root, "others")
    git(root, "checkout", "-q", "mine")
    assert commit(root, "main...") == left != commit(root, "main")
    with sides(settled(against="main..."), 1) as (base, _):
        assert base.title == f"main... ({left[:10]})"


def test_without_a_common_commit_the_merge_base_says_what_to_fetch(root):
    git(root, "checkout", "-q", "--orphan", "alone")
    save(root, "alone")
    with pytest.raises(RefError, match=r"^main and HEAD have no common commit in .*; in CI, fetch the whole history"):
        commit(root, "main...")
    with pytest.raises(RefError, match=r"^'nowhere' is neither a folder"):
        commit(root, "nowhere...")


def test_the_command_runs_in_bases_folder_and_knows_heads(root):
    (root / "generated.py").write_text("WIDTH = 2\n")
    setup = 'pwd > where && cp "$STEPWATCH_HEAD/generated.py" .'
    with sides(settled(against_setup=setup), 1) as (base, head):
        place = base.subject.root
        assert (place / "where").read_text().strip() == str(place)
        assert (place / "generated.py").read_text() == "WIDTH = 2\n"
        assert head.subject.root == root.resolve()
    assert not (root / "where").exists()


@pytest.mark.parametrize(
    ("setup", "says"),
    [
        ("echo first; echo 'no compiler'; exit 3", "it ended with exit code 3: no compiler$"),
        ("exit 1", "it ended with exit code 1: it printed nothing$"),
        ("no_program_of_this_name", "it ended with exit code 127: .*not found"),
    ],
)
def test_a_command_that_fails_is_one_line_with_the_end_of_what_it_said(root, setup, says):
    with pytest.raises(SideUnusable, match=f"^--perf-against-setup=.*: {says}"), sides(settled(against_setup=setup), 1):
        pass
    assert len(git(root, "worktree", "list").splitlines()) == 1


def test_a_command_that_takes_too_long_is_ended(root, monkeypatch):
    monkeypatch.setattr("perf.harness.measurement.side_by_side.worktree.SETUP_S", 0.2)
    with pytest.raises(SetupFailed, match="more than"):
        make_ready(root, "exec sleep 60", os.environ)


def test_stepwatch_is_not_compared_with_itself_where_a_user_means_their_own(root):
    refused = pytest.raises(SideUnusable, match=r"^--perf-against=main: without --perf-model=.* and you are in ")
    with refused as caught, sides(settled(model="simple_nn"), 1):
        pass
    assert str(root.resolve()) in str(caught.value)


def test_a_folder_is_not_made_ready(root, tmp_path):
    git(tmp_path, "clone", "-q", str(root), "other")
    settings = settled(against=str(tmp_path / "other"), against_setup="true")
    with pytest.raises(SideUnusable, match=r"it makes a git ref ready; the folder .* is yours"), sides(settings, 1):
        pass


def test_links_that_the_command_makes_are_followed_and_those_of_a_commit_are_not(root):
    (root / "data").mkdir()
    (root / "tracked").symlink_to(root / "nets.py")
    save(root, "a link")
    with sides(settled(against_setup='ln -s "$STEPWATCH_HEAD/data" data'), 1) as (base, _):
        assert own_links(base.subject.root) == [root.resolve() / "data"]
        assert root.resolve() / "data" in base.free
        assert root.resolve() / "nets.py" not in base.free


def test_a_side_runs_where_pytest_was_called(root, monkeypatch):
    (root / "deep/new").mkdir(parents=True)
    monkeypatch.chdir(root / "deep/new")
    with sides(settled(model="../../nets.py:factory"), 1) as (base, head):
        assert head.subject.cwd == root.resolve() / "deep/new"
        assert base.subject.cwd == base.subject.root  # of the nearest folder that base has
        assert base.start["options"]["model"] == f"{base.subject.root}/nets.py:factory"


def test_another_name_of_bases_model_is_that_of_bases_tree(root):
    with sides(settled(base_model="old.py:make"), 1) as (base, head):
        assert base.start["options"]["model"] == f"{base.subject.root}/old.py:make"
        assert head.start["options"]["model"] == f"{root.resolve()}/nets.py:factory"


def test_the_same_code_is_said_of_the_same_tree_only(root):
    def same():
        with sides(settled(), 1) as (base, head):
            return same_code(base, head)

    assert same()
    (root / ".benchmarks").mkdir()
    (root / ".benchmarks/run.json").touch()  # what a gate writes
    assert same()
    (root / "package.egg-info").mkdir()
    (root / "package.egg-info/PKG-INFO").touch()  # what `pip install -e .` writes
    assert same()
    (root / ".benchmarks/run.json").unlink()
    (root / "package.egg-info/PKG-INFO").unlink()
    (root / "new.txt").touch()
    assert not same()
    (root / "new.txt").unlink()
    git(root, "checkout", "-q", "-b", "mine")
    save(root, "words", README="words")
    assert not same()
    save(root, "back", README="")
    git(root, "rm", "-q", "README")
    save(root, "gone")
    assert same()
    assert same_tree(root, "main")


def test_acceptances_are_the_trailers_of_the_commits_since_base(root):
    save(root, "before\n\nPerf-Accept: *: of main")
    base = git(root, "rev-parse", "HEAD")
    git(root, "checkout", "-q", "-b", "mine")
    save(root, "words\n\nPerf-Accept: in the middle\n\nmore words")
    one = save(root, "one\n\nSigned-off-by: me\nPerf-Accept: training_step*: twice\n the layers")
    two = save(root, "two\n\nPerf-Accept: epoch: a\nperf-accept: inference: b")
    short = {sha: git(root, "rev-parse", "--short", sha) for sha in (one, two)}
    assert trailers(root, base, "Perf-Accept") == [
        (short[two], "epoch: a"),
        (short[two], "inference: b"),
        (short[one], "training_step*: twice the layers"),
    ]
    with sides(settled(), 1) as (base, head):
        assert len(acceptances(base, head)) == 3


def test_two_folders_accept_nothing(root, tmp_path):
    save(root, "words\n\nPerf-Accept: *: all")
    git(tmp_path, "clone", "-q", str(root), "other")
    git(tmp_path / "other", "checkout", "-q", "--orphan", "alone")
    save(tmp_path / "other", "alone")
    with sides(settled(against=str(tmp_path / "other")), 1) as (base, head):
        assert acceptances(base, head) == []
        assert not same_code(base, head)


def test_what_head_reads_and_no_commit_has_is_named_with_what_helps(root, tmp_path):
    (root / "generated.py").touch()
    base_tree = tmp_path / "base"
    base_tree.mkdir()
    base, head = (
        Side(name, name, "python", Subject(tree, (), tree), {}) for name, tree in (("base", base_tree), ("head", root))
    )
    said = lacking(base, head, ["nets.py", "generated.py"])
    assert said.startswith("head reads generated.py, which no commit has: make base ready with a command, as --perf-")
    assert """--perf-against-setup='ln -s "$STEPWATCH_HEAD/generated.py" .'""" in said
    (base_tree / "generated.py").touch()
    assert lacking(base, head, ["nets.py", "generated.py"]) == ""
