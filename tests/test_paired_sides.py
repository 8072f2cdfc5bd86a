"""Base and head: which project, which folder, which Python; and that base's code is really the ref's."""

import contextlib
import hashlib
import importlib
import os
import shutil
import sys
import zlib
from pathlib import Path

import pytest

from perf.harness.measurement.side_by_side import sides as module
from perf.harness.measurement.side_by_side.link import SideError
from perf.harness.measurement.side_by_side.sides import SideUnusable, Subject, sides, subject_of
from perf.harness.measurement.side_by_side.worker import CHECKOUT
from perf.harness.options import resolve
from perf.harness.workload.axes import Axes
from tests.conftest import git

pytestmark = pytest.mark.usefixtures("places", "preloaded")

FACTORY = """
from torch import nn
from {package}.layers import WIDTH

def factory():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))

factory.input_shape = {shape}
factory.classes = 10
"""


def settled(root="/", **typed):
    return resolve({name.replace("_", "-"): text for name, text in typed.items()}, {}, "ini", Path(root))


class Project:
    """A user's project with a package of its own, in git, imported into this process as pytest would."""

    def __init__(self, root, package, monkeypatch, folder="src"):
        self.root, self.package = root, package
        self.source = root / folder
        (self.source / package).mkdir(parents=True)
        git(root, "init", "-q", "-b", "main")
        monkeypatch.syspath_prepend(str(self.source))

    @property
    def model(self):
        return f"{self.package}.networks:factory"

    def commit(self, width, shape="(1, 28, 28)"):
        package = self.source / self.package
        (package / "__init__.py").touch()
        (package / "layers.py").write_text(f"WIDTH = {width}\n")
        (package / "networks.py").write_text(FACTORY.format(package=self.package, shape=shape))
        git(self.root, "add", ".")
        git(self.root, "commit", "-q", "-m", f"{width}")
        importlib.invalidate_caches()
        return git(self.root, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    """Each test has a package of another name: what is imported stays imported."""
    package = f"pkg_{zlib.crc32(request.node.name.encode())}"
    yield Project(tmp_path / "project", package, monkeypatch)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def test_the_suites_own_model_is_this_checkout():
    for own in (settled(), settled(model="resnet18"), settled(model="hf:gpt2")):
        assert subject_of(own) == Subject(CHECKOUT, (CHECKOUT,), Path.cwd())


def test_a_users_model_is_the_project_that_holds_it_and_ours_comes_first(project):
    project.commit(8)
    subject = subject_of(settled(model=project.model))
    file = project.source.resolve() / project.package / "networks.py"
    assert subject == Subject(project.root.resolve(), (CHECKOUT, project.source.resolve()), Path.cwd(), file)
    assert project.package not in sys.modules  # the project's code runs in no judge


def test_a_model_in_a_packages_init_has_its_root_beside_the_package(project):
    project.commit(8)
    subject = subject_of(settled(model=f"{project.package}:factory"))
    assert subject.roots == (CHECKOUT, project.source.resolve())


def test_a_model_in_no_repository_has_its_own_folder_for_a_project(tmp_path, monkeypatch):
    (tmp_path / "loose_networks.py").write_text("factory = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    subject = subject_of(settled(model="loose_networks:factory"))
    assert (subject.root, subject.roots[1:]) == (tmp_path.resolve(), (tmp_path.resolve(),))


def test_a_model_without_a_file_is_refused():
    with pytest.raises(
        SideUnusable, match=r"^--perf-model=sys:exit: there is no file of a module 'sys' on the import path; run from "
    ):
        subject_of(settled(model="sys:exit"))


def test_a_package_in_src_is_found_there(tmp_path, monkeypatch):
    (tmp_path / "src" / "packaged").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SideUnusable, match=r"module 'packaged\.train' on the import path; set PYTHONPATH=src$"):
        subject_of(settled(model="packaged.train:Task"))


def test_another_checkout_has_the_same_folders_elsewhere(tmp_path):
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    assert Subject(CHECKOUT, (CHECKOUT,), CHECKOUT).at(other) == Subject(other, (other,), other)
    mine = Subject(Path("/mine"), (CHECKOUT, Path("/mine/src")), Path("/mine/deep/new"), Path("/mine/src/a/b.py"))
    assert mine.at(other) == Subject(other, (CHECKOUT, other / "src"), other / "deep", other / "src/a/b.py")


def test_a_project_nested_around_this_checkout_varies_and_the_checkout_does_not(tmp_path):
    outer = CHECKOUT.parent
    nested = Subject(outer, (CHECKOUT, outer / "src"), CHECKOUT, outer / "src/a.py")
    assert nested.at(tmp_path).roots == (CHECKOUT, tmp_path / "src")


def test_a_model_within_this_checkout_varies_with_it(tmp_path):
    own = Subject(CHECKOUT, (CHECKOUT, CHECKOUT / "examples"), Path("/"), CHECKOUT / "examples/a.py")
    assert own.at(tmp_path) == Subject(
        tmp_path, (tmp_path, tmp_path / "examples"), Path("/"), tmp_path / "examples/a.py"
    )


@pytest.fixture
def opened():
    with contextlib.ExitStack() as held:
        yield lambda settings: held.enter_context(sides(settings, 1))


def test_head_is_the_working_tree_and_base_the_ref(project, opened):
    old, new = project.commit(8), project.commit(16)
    base, head = opened(settled(model=project.model, against="HEAD~1"))
    assert (base.name, head.name) == ("base", "head")
    assert (base.title, head.title) == (f"HEAD~1 ({old[:10]})", f"the working tree project at {new[:10]}")
    assert head.subject.root == project.root.resolve()
    layers = [side.subject.roots[1] / project.package / "layers.py" for side in (base, head)]
    assert [path.read_text() for path in layers] == ["WIDTH = 8\n", "WIDTH = 16\n"]
    assert base.python == head.python == sys.executable
    assert base.start == head.start
    assert base.start["options"]["threads"] == "1"


@pytest.mark.parametrize("file", ["layers.py", "new.py"])
def test_heads_title_says_that_it_is_not_its_commit(project, opened, file):
    sha = project.commit(8)
    index = (project.root / ".git/index").read_bytes()
    (project.source / project.package / file).write_text("WIDTH = 16\n")
    _, head = opened(settled(model=project.model, against="HEAD"))
    assert head.title == f"the working tree project at {sha[:10]} + uncommitted changes"
    assert (project.root / ".git/index").read_bytes() == index


def test_heads_title_names_what_a_merge_of_a_ci_system_merges(project, opened):
    project.commit(8)
    git(project.root, "checkout", "-q", "-b", "mine")
    mine = project.commit(16)
    git(project.root, "checkout", "-q", "-")
    (project.root / "other.txt").write_text("others'")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-q", "-m", "of others")
    git(project.root, "merge", "-q", "--no-ff", "-m", "merge", "mine")
    merge = git(project.root, "rev-parse", "HEAD")
    _, head = opened(settled(model=project.model, against="HEAD~1"))
    assert head.title == f"the working tree project at {merge[:10]} (which merges {mine[:10]})"


def test_a_short_id_is_its_own_title(project, opened):
    old = project.commit(8)
    base, _ = opened(settled(model=project.model, against=old[:12]))
    assert base.title == old[:10]


def test_the_worktree_goes_when_the_sides_do(project):
    project.commit(8)
    with sides(settled(model=project.model, against="HEAD"), 1) as (base, _):
        assert base.subject.root.is_dir()
    assert not base.subject.root.exists()
    assert len(git(project.root, "worktree", "list").splitlines()) == 1


def test_a_folder_is_taken_for_another_checkout(project, tmp_path, monkeypatch, opened):
    project.commit(8)
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(project.root), str(other))
    base, _ = opened(settled(model=project.model, against=str(other)))
    assert (base.subject.root, base.title) == (other.resolve(), str(other))
    assert base.subject.roots == (CHECKOUT, other.resolve() / "src")
    monkeypatch.chdir(tmp_path)
    base, _ = opened(settled(model=project.model, against="other"))  # like a branch, but there is none of that name
    assert base.subject.root == other.resolve()


def test_two_folders_are_compared_where_git_cannot_be_run(project, tmp_path, monkeypatch, opened):
    project.commit(8)
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(project.root), str(other))
    monkeypatch.setenv("PATH", "")
    base, head = opened(settled(model=project.model, against=f"{other}/src"))  # what a project is, git would know
    assert head.title == "the working tree src"
    assert (base.subject.root, head.subject.root) == (other.resolve() / "src", project.source.resolve())


def test_a_name_that_is_a_branch_and_a_folder_is_the_branch(project, tmp_path, monkeypatch, opened):
    sha = project.commit(8)
    git(project.root, "branch", "twofold")
    git(tmp_path, "clone", "-q", str(project.root), "twofold")
    monkeypatch.chdir(tmp_path)
    base, _ = opened(settled(model=project.model, against="twofold"))
    assert base.title == f"twofold ({sha[:10]})"
    base, _ = opened(settled(model=project.model, against="./twofold"))
    assert base.subject.root == (tmp_path / "twofold").resolve()


def test_a_folder_without_a_model_is_refused_for_the_suites_own(tmp_path, opened):
    with pytest.raises(SideUnusable) as caught:
        opened(settled(against=str(tmp_path)))
    assert str(caught.value) == (
        f"--perf-against={tmp_path}: it has no model/ and data/; name a checkout of the project"
    )


def test_a_folder_without_the_users_module_is_refused(project, tmp_path, opened):
    project.commit(8)
    with pytest.raises(
        SideUnusable, match=rf"it has no src/{project.package}/networks.py; name a checkout of the project$"
    ):
        opened(settled(model=project.model, against=str(tmp_path)))


@pytest.mark.parametrize("option", ["against", "against_python"])
def test_an_installed_package_is_refused(tmp_path, monkeypatch, opened, option):
    """Its environment may lie in the project's folder, but in none of its commits; and it has head's torch in it."""
    installed = Project(tmp_path / "project", "installed_package", monkeypatch, "venv/site-packages")
    installed.commit(8)
    with pytest.raises(SideUnusable, match=r"^--perf-model=installed_package\.networks:factory: it is installed in "):
        opened(settled(model=installed.model, **{option: {"against": "HEAD"}.get(option, sys.executable)}))


def test_an_unknown_ref_is_refused_with_its_option(project, opened):
    project.commit(8)
    with pytest.raises(SideUnusable, match=r"^--perf-against: 'nowhere' is neither a folder nor a commit"):
        opened(settled(model=project.model, against="nowhere"))


def test_a_ref_of_a_project_without_git_is_refused(tmp_path, monkeypatch, opened):
    (tmp_path / "lone_networks.py").write_text("factory = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    says = r"^--perf-against: 'main' is no folder, and .* is in no git repository; name a folder"
    with pytest.raises(SideUnusable, match=says):
        opened(settled(model="lone_networks:factory", against="main"))


def test_a_python_that_does_not_exist_is_refused_by_name(opened):
    with pytest.raises(SideUnusable) as caught:
        opened(settled(against_python="/nowhere/python"))
    assert str(caught.value) == (
        "--perf-against-python=/nowhere/python: no such program; give the path of a Python that has torch"
    )


def test_another_python_alone_measures_the_same_code(opened):
    base, head = opened(settled(against_python=sys.executable))
    assert base.subject == head.subject
    assert base.title == f"the same code on {sys.executable}"
    assert base.python == sys.executable  # the link itself: a virtual environment's python is one


def test_both_sides_get_the_settings_of_this_run(opened):
    base, _ = opened(settled(against_python=sys.executable, batch_size="8,16", pipeline="resident", seed="3"))
    assert base.start["options"] == {
        "device": "cpu,cuda",
        "execution": "eager",
        "precision": "fp32",
        "model": "simple_nn",
        "data-root": "/",
        "data": "auto",
        "profile": "standard",
        "seed": "3",
        "threads": "1",
        "batch-size": "8,16",
        "pipeline": "resident",
    }


def test_a_worker_is_told_its_folders_and_its_threads(monkeypatch, opened):
    seen = []
    monkeypatch.setattr(module, "Link", lambda command, start, env: seen.append((command, start, env)))
    base, _ = opened(settled(against_python=sys.executable))
    base.launch({"kind": "compute", "share": 0.05})
    base.launch()
    (command, start, env), (_, plain, _) = seen
    assert command[0] == sys.executable
    assert (start["root"], start["roots"]) == (str(CHECKOUT), [str(CHECKOUT)])
    assert start["inject"] == {"kind": "compute", "share": 0.05}
    assert "inject" not in plain
    assert env["OMP_NUM_THREADS"] == "1"
    assert env["MALLOC_MMAP_THRESHOLD_"] == "33554432"
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # the user's own
    base.launch()
    assert seen[-1][2]["MALLOC_MMAP_THRESHOLD_"] == "65536"


def asked(side, limit_s=120):
    with contextlib.closing(side.launch()) as link:
        return link.ask("cases", limit_s, kinds=["training_step"])


def imported(side, limit_s=120):
    """The files of a side that are imported, by the side's own account."""
    with contextlib.closing(side.launch()) as link:
        return link.ask("load", limit_s)["sources"]


def test_a_crash_is_told_with_its_line_in_the_project(project, opened):
    project.commit(8, shape="(3, 8, 8)")
    networks = project.source / project.package / "networks.py"
    text = networks.read_text().replace("784", "192") + "\ncalls = []\n"  # it crashes only after it has been tried
    networks.write_text(text + "factory.loss = lambda a, b: a.sum() if calls.append(1) or len(calls) < 5 else 1 / 0\n")
    _, head = opened(settled(model=project.model, against="HEAD", device="cpu", batch_size="8"))
    with contextlib.closing(head.launch()) as link:
        link.ask("load", 120)
        with pytest.raises(SideError) as caught:
            link.ask("prepare", 120, kind="training_step", device="cpu", batch_size=8, pipeline=None)
    line = networks.read_text().count("\n")
    assert str(caught.value) == f"src/{project.package}/networks.py:{line}: ZeroDivisionError: division by zero"


def test_a_worker_of_base_imports_the_refs_code_even_where_heads_is_on_the_path(project, monkeypatch, opened):
    """Also without the module in base: head's must never be measured in its place."""
    (project.root / "README").touch()
    git(project.root, "add", ".")
    git(project.root, "commit", "-q", "-m", "nothing yet")
    project.commit(8)
    project.commit(16, shape="(1, 32, 32)")
    monkeypatch.setenv("PYTHONPATH", str(project.source))
    settings = {"model": project.model, "device": "cpu", "batch_size": "64"}
    base, head = opened(settled(against="HEAD~1", **settings))
    old, new = asked(base), asked(head)
    assert (old["shapes"], new["shapes"]) == ("1×28×28 to 10 classes", "1×32×32 to 10 classes")
    sources = imported(base)
    layers = base.subject.root / f"src/{project.package}/layers.py"
    assert sources[f"src/{project.package}/layers.py"] == hashlib.sha256(layers.read_bytes()).hexdigest()
    assert not any(path.startswith(("perf/", "model/", "data/")) for path in sources)
    assert new["cases"] == {"training_step": [list(Axes("cpu", 64, None))]}
    empty, _ = opened(settled(against="HEAD~2", **settings))
    with pytest.raises(SideError, match=r"^UnknownModel: .*No module named"):
        asked(empty)
    installed = project.root.parent / "installed"  # a copy that is in neither tree, as of an earlier release
    shutil.copytree(project.source, installed)
    monkeypatch.setenv("PYTHONPATH", f"{project.source}{os.pathsep}{installed}")
    with pytest.raises(SideError, match=rf"^UnknownModel: {project.package}.networks is not in .*, but in {installed}"):
        asked(empty)
