"""A worker of base imports and opens base's files, however head's get onto its way. Each layout is tried in a process.

Base has `WIDTH = 1`, head `WIDTH = 2`: a layout is mended where base sees 1, and refused where it names head's file.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

import data
from perf.harness.measurement.side_by_side.sealed import OwnTree, Trees, Watch, environment
from tests.conftest import ROOT

PROGRAM = """
import json, os, sys
from pathlib import Path
asked = json.loads(sys.argv[1])
{before}
os.chdir(asked["cwd"])
from perf.harness.measurement.side_by_side.sealed import Trees, libraries, seal
own, other = Path(asked["own"]), Path(asked["other"])
watch = seal(Trees.of(own, other, [*map(Path, asked["free"]), *libraries()]))
try:
    exec(asked["code"])
    said = WIDTH
except Exception as error:
    said = f"{{type(error).__name__}}: {{error}}"
print(json.dumps([said, list(watch.refused), list(watch.opened), list(watch.refused.values())]))
"""


class Places:
    """Head's tree and base's, with the same files but for the width."""

    def __init__(self, folder):
        self.head, self.base = (folder / "project").resolve(), (folder / "stepwatch-base-1").resolve()
        for tree in (self.head, self.base):
            tree.mkdir()

    def write(self, path, text="WIDTH = {width}\n", sides=("base", "head")):
        for width, tree in ((1, self.base), (2, self.head)):
            if ("base", "head")[width - 1] in sides:
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_text(text.replace("{width}", str(width)))

    def seen(self, code, *, side="base", before="", cwd="", env=(), free=()):
        """What a worker of a side sees: the width or the error, what was refused, and what was opened."""
        own, other = (self.base, self.head) if side == "base" else (self.head, self.base)
        asked = {"own": str(own), "other": str(other), "cwd": str(own / cwd), "code": textwrap.dedent(code)}
        asked["free"] = list(map(str, free))
        variables = {**os.environ, "PYTHONPATH": str(ROOT)} | {name: str(value) for name, value in env}
        variables = environment(variables, Trees(own, other))
        program = PROGRAM.format(before=textwrap.dedent(before).replace("HEAD", repr(str(self.head))))
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, json.dumps(asked)], capture_output=True, text=True, env=variables
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path)


def path(*more):
    return ("PYTHONPATH", os.pathsep.join(map(str, [ROOT, *more])))


# What stands for an editable install: a finder that knows where each package lies, as setuptools makes it.
FINDER = """
import importlib.util
class Finder:
    MAPPING = {{"pkg": HEAD + "/{folder}/pkg"}}
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        place = cls.MAPPING.get(name)
        if place:
            return importlib.util.spec_from_file_location(
                name, place + "/__init__.py", submodule_search_locations=[place])
sys.meta_path.{where}
"""
FRONT, BEHIND = "insert(0, Finder)", "append(Finder)"


@pytest.mark.parametrize("where", [FRONT, BEHIND])
def test_a_finder_of_an_editable_install_finds_bases_package(places, where):
    places.write("src/pkg/__init__.py")
    places.write("src/pkg/sizes.py")
    before = FINDER.format(folder="src", where=where)
    assert places.seen("from pkg import WIDTH", before=before)[:2] == [1, []]
    assert places.seen("from pkg.sizes import WIDTH", before=before)[:2] == [1, []]
    assert places.seen("from pkg.sizes import WIDTH", before=before, side="head")[0] == 2


def test_several_roots_of_a_monorepo_are_each_mapped(places):
    places.write("services/ml/src/service/__init__.py", "from common import WIDTH\n")
    places.write("libs/common/src/common/__init__.py")
    roots = [places.head / "services/ml/src", places.head / "libs/common/src"]
    assert places.seen("from service import WIDTH", env=[path(*roots)])[:2] == [1, []]


def test_a_path_that_a_pth_file_has_put_there_is_mapped(places):
    """As hatchling's editable installs do, and setuptools' for a project with a src folder."""
    places.write("src/pkg/__init__.py")
    assert places.seen("from pkg import WIDTH", before="sys.path.append(HEAD + '/src')")[:2] == [1, []]


def test_a_path_that_is_put_there_later_is_refused_or_mapped(places):
    places.write("src/pkg/__init__.py")
    code = f"sys.path.insert(0, {str(places.head / 'src')!r})\nfrom pkg import WIDTH"
    assert places.seen(code)[:2] == [1, []]


def test_a_finder_that_is_put_in_front_later_is_refused(places):
    places.write("src/pkg/__init__.py")
    code = FINDER.format(folder="src", where=FRONT).replace("HEAD", repr(str(places.head))) + "from pkg import WIDTH"
    said, refused, *_ = places.seen(code)
    assert said.startswith("PermissionError: [Errno 13] it is the other side's")
    assert refused == ["src/pkg/__init__.py"]


def test_a_namespace_package_has_bases_parts_only(places):
    for part in ("one", "two"):
        places.write(f"{part}/space/{part}.py")
    places.write("one/space/new.py", sides=("head",))
    env = [path(places.head / "one", places.head / "two")]
    assert places.seen("from space.one import WIDTH; import space.two", env=env)[:2] == [1, []]
    assert places.seen("import space.new", env=env)[0] == "ModuleNotFoundError: No module named 'space.new'"


def test_a_namespace_package_of_a_finder_is_mapped(places):
    places.write("src/space/part.py")
    before = """
    from importlib.machinery import ModuleSpec
    class Finder:
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name == "space":
                spec = ModuleSpec(name, None, is_package=True)
                spec.submodule_search_locations = [HEAD + "/src/space"]
                return spec
    sys.meta_path.insert(0, Finder)
    """
    assert places.seen("from space.part import WIDTH", before=before)[:2] == [1, []]


def test_what_base_lacks_is_not_there_and_says_who_has_it(places):
    places.write("src/pkg/__init__.py", sides=("head",))
    before = FINDER.format(folder="src", where=FRONT)
    said, refused, *_ = places.seen("import pkg", before=before)
    assert said == "ModuleNotFoundError: No module named 'pkg': only the other side has src/pkg/__init__.py"
    assert refused == []


def test_an_extension_that_is_built_in_heads_tree_only_is_not_there(places):
    """As of an extension built in place, and of meson-python's editable installs."""
    places.write("pkg/__init__.py")
    places.write("pkg/fast.cpython-311-x86_64-linux-gnu.so", sides=("head",))
    before = """
    import importlib.util
    class Finder:
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name == "pkg.fast":
                return importlib.util.spec_from_file_location(name, HEAD + "/pkg/fast.cpython-311-x86_64-linux-gnu.so")
    sys.meta_path.insert(0, Finder)
    """
    said, *_ = places.seen("import pkg.fast", before=before, env=[path(places.head)])
    assert said.startswith("ModuleNotFoundError: No module named 'pkg.fast': only the other side has pkg/fast.")


BUILDS = """
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "pkg":
            open(HEAD + "/build/log.txt", "w").close()
sys.meta_path.insert(0, Finder)
"""


def test_a_finder_that_builds_head_before_it_answers_is_refused_and_the_own_tree_is_found(places):
    """As meson-python's editable installs."""
    places.write("src/pkg/__init__.py")
    places.write("build/log.txt", "as it was")
    env = [path(places.head / "src")]
    assert places.seen("from pkg import WIDTH", before=BUILDS, env=env)[:2] == [1, []]
    assert (places.head / "build/log.txt").read_text() == "as it was"


def test_what_only_such_a_finder_knows_is_named(places):
    places.write("build/log.txt", "as it was")
    said, refused, *_ = places.seen("import pkg", before=BUILDS)
    assert said == "ModuleNotFoundError: No module named 'pkg': only the other side has build/log.txt"
    assert refused == ["build/log.txt"]


def test_a_file_by_its_relative_path_is_that_of_the_own_tree(places):
    places.write("config/width.txt", "{width}")
    code = "WIDTH = int(Path('width.txt').read_text())"
    assert places.seen(code, cwd="config")[:3] == [1, [], ["config/width.txt"]]
    assert places.seen(code, cwd="config", side="head")[0] == 2


def test_a_file_beside_the_module_is_that_of_the_own_tree(places):
    places.write("src/pkg/width.txt", "{width}")
    beside = "WIDTH = int(Path(__file__).with_name('width.txt').read_text())"
    places.write("src/pkg/__init__.py", f"from pathlib import Path\n{beside}\n")
    assert places.seen("from pkg import WIDTH", env=[path(places.head / "src")])[:2] == [1, []]


@pytest.mark.parametrize(
    "code",
    [
        "open({file!r})",
        "Path({file!r}).read_text()",
        "os.open({file!r}, os.O_RDONLY)",
        "open({file!r}, 'w')",
        "os.remove({file!r})",
        "Path('mine').write_text('3'); os.replace('mine', {file!r})",
        "os.link({file!r}, 'linked')",
        "os.symlink({file!r}, 'linked')",
        "os.truncate({file!r}, 0)",
        "open(os.path.join({folder!r}, 'sub', '..', 'width.txt'))",
        "import ctypes; ctypes.CDLL({file!r})",
        "import numpy; numpy.memmap({file!r})",
        "open({file!r}.encode())",
    ],
)
def test_a_file_of_head_by_its_absolute_path_is_refused_by_name(places, code):
    places.write("width.txt", "{width}")
    code = code.format(file=str(places.head / "width.txt"), folder=str(places.head))
    assert places.seen(code)[1] == ["width.txt"]
    assert (places.head / "width.txt").read_text() == "2"


def test_an_error_that_the_subject_catches_is_known_all_the_same(places):
    places.write("width.txt", "{width}")
    code = f"WIDTH = 1\ntry: open({str(places.head / 'width.txt')!r})\nexcept OSError: pass"
    places.write("pkg/reads.py", f"def read():\n    open({str(places.head / 'width.txt')!r})\n")
    assert places.seen(code)[:2] == [1, ["width.txt"]]
    read = places.seen("from pkg.reads import read; read()", env=[path(places.head)])
    assert (read[1], read[3]) == (["width.txt"], ["pkg/reads.py:2"])  # the line that opened it


def test_head_may_not_open_bases_files_either(places):
    places.write("width.txt", "{width}")
    assert places.seen(f"open({str(places.base / 'width.txt')!r})", side="head")[1] == ["width.txt"]


def test_a_link_from_bases_tree_into_heads_is_refused_unless_it_is_free(places):
    places.write("data/train.csv", "WIDTH = {width}", sides=("head",))
    (places.base / "data").symlink_to(places.head / "data")
    code = "exec(Path('data/train.csv').read_text())"
    assert places.seen(code)[1] == ["data/train.csv"]
    assert places.seen(code, free=[places.head / "data"])[:2] == [2, []]


def test_a_tracked_link_with_an_absolute_target_is_mapped(places):
    places.write("libs/common/__init__.py")
    for tree in (places.base, places.head):
        (tree / "src").mkdir()
        (tree / "src/common").symlink_to(places.head / "libs/common")
    assert places.seen("from common import WIDTH", env=[path(places.head / "src")])[:2] == [1, []]


def test_a_project_reached_by_a_link_is_the_same_project(places, tmp_path):
    places.write("src/pkg/__init__.py")
    (tmp_path / "link").symlink_to(places.head)
    before = f"sys.path.append({str(tmp_path / 'link/src')!r})"
    assert places.seen("from pkg import WIDTH", before=before)[:2] == [1, []]
    assert places.seen(f"open({str(tmp_path / 'link/src/pkg/__init__.py')!r})")[1] == ["src/pkg/__init__.py"]


def test_libraries_that_lie_in_heads_tree_are_open(places):
    places.write(".venv/lib/tool.py", sides=("head",))
    code = f"sys.path.append({str(places.head / '.venv/lib')!r})\nfrom tool import WIDTH"
    assert places.seen(code, free=[places.head / ".venv"])[:2] == [2, []]


def test_of_the_data_root_only_stepwatchs_data_sets_are_open(tmp_path):
    """In Stepwatch's own repository, `data/` holds code, too; and a data root may be the project itself."""
    head = tmp_path / "head"
    for root in (head, head / "data"):
        trees = Trees.of(tmp_path / "base", head, data.places(root))
        files = {"MNIST/raw/train": False, ".staging/digits.lock": False, "digits/manifest.json": False,
                 ".staging/mnist/new": False, "sets.py": True, "config.yaml": True}  # fmt: skip
        assert {name: trees.closed(root / name) for name in files} == files


def test_base_can_prepare_stepwatchs_data_in_the_data_root_of_head(places):
    """In a fresh clone, nothing is there yet. The library of the lock opens files of its own beside the lock."""
    root = places.head / "data"
    code = (
        f"from pathlib import Path\nfrom data.staging import staging\nroot = Path({str(root)!r})\n"
        "with staging(root, 'digits') as work:\n"
        "    (work / 'new').write_text('drawn')\n    (work / 'new').rename(root / 'digits')"
    )
    assert places.seen(code, free=data.places(root))[1] == []
    assert (root / "digits").read_text() == "drawn"


def test_one_tree_may_lie_inside_the_other(tmp_path):
    outer, inner = tmp_path, tmp_path / "old"
    below, above = Trees(inner, outer), Trees(outer, inner)
    assert [below.closed(path) for path in (outer / "a.py", inner / "a.py")] == [True, False]
    assert [above.closed(path) for path in (outer / "a.py", inner / "a.py")] == [False, True]


def test_a_folder_that_holds_the_whole_tree_does_not_open_it(tmp_path):
    """A project below /usr is not a part of the Python in /usr."""
    head = tmp_path / "src/project"
    assert Trees.of(tmp_path / "base", head, [tmp_path, head, head / ".venv"]).free == (head / ".venv",)


def test_variables_lead_into_the_own_tree(tmp_path):
    base, head = tmp_path / "base", tmp_path / "head"
    given = {
        "PYTHONPATH": f"{head}/src{os.pathsep}/elsewhere{os.pathsep}src",
        "CONFIG": f"{head}/config.yaml",
        "URL": f"file://{head}/x",
        "PATH": f"{head}/.venv/bin{os.pathsep}/usr/bin",
    }
    found = environment(given, Trees(base, head, (head / ".venv",)))
    assert found == given | {
        "PYTHONPATH": f"{base}/src{os.pathsep}/elsewhere{os.pathsep}src",
        "CONFIG": f"{base}/config.yaml",
    }


def test_other_modules_are_found_as_always():
    trees = Trees(ROOT / "nowhere", ROOT / "elsewhere")
    finder = OwnTree(trees, Watch(trees))
    assert finder.find_spec("json").origin == json.__file__
    assert finder.find_spec("no_module_of_this_name") is None
