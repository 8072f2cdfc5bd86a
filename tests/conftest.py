"""What the tests share: one thread, warnings as errors, and one set of drawn digits."""

import errno
import gc
import importlib
import json
import math
import os
import pkgutil
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
import uuid
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import pytest_benchmark
import torch
from hypothesis import HealthCheck, settings

from data import load
from perf import harness
from perf.harness.machine import affinity, cpu, devices
from perf.harness.machine.affinity import usable_cores
from perf.harness.machine.devices import Device
from perf.harness.options import PROFILES, resolve
from perf.harness.record import write
from perf.harness.workload.modes import execution
from tests import fake_nvml
from tests.gpu_page import pytest_terminal_summary  # noqa: F401  # pytest finds the hook here
from tests.preloaded import Preloaded
from tests.small_training import fake_capture
from tests.user_code import HEAD

HARNESS = [module.name for module in pkgutil.walk_packages(harness.__path__, "perf.harness.")]

# No test depends on elapsed time.
settings.register_profile("stepwatch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stepwatch")

# Two threads that share their cores with anything else wait for each other at every operation; the tests measure
# nothing, and run several times faster with one. The variable is for the processes that they start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# A run that is killed while it compiles leaves half a library where torch looks for it the next time. So each run has a
# folder of its own, which the processes of xdist share.
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="stepwatch-compiled-")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = COMPILED.name

# pytest-benchmark measures nothing in a process that has it: runs inside of the tests may be parallel, and measure.
PARALLEL = os.environ.pop("PYTEST_XDIST_WORKER", None) is not None

# On GitHub, a run writes to the page of the job: the runs inside of the tests must not. xdist sets the width of a page.
for variable in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "COLUMNS"):
    os.environ.pop(variable, None)

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PERF = ROOT / "perf"
STEP = PERF / "test_training_step.py"
QUICK = (
    "--perf-profile=smoke",
    "--perf-rounds=3",
    "--perf-passes=1",
    "--perf-batch-size=64",
    "--perf-pipeline=resident",
)


# pytest-benchmark 5.2 opens the file of --benchmark-json twice and closes it once.
OPENS_TWICE = tuple(map(int, pytest_benchmark.__version__.split(".")[:2])) < (5, 3)
WARNINGS = (
    "error",
    *(["ignore:unclosed file <_io.BufferedWriter:ResourceWarning"] if OPENS_TWICE else ()),
    "ignore:Guards may run slower on Python 3.13.0:RuntimeWarning",  # torch compiles there all the same
)
STRICT = tuple(f"-W{one}" for one in WARNINGS)


# They come first: at the end, all but one process would wait for them. The tests of the very first share one long run.
LONGEST = (
    "test_trainings.py",
    "test_pretended_device.py",
    "test_plugin_paired.py",
    "test_tasks.py",
    "test_plugin_qualify.py",
)
FROZEN = [0]  # how many modules were imported when everything was last frozen


def pytest_configure(config):
    """A run inside of a test forgets afterwards what it imported. The next one needs seconds to import it again, and a
    fault that a test plants in what was forgotten is not in what is imported again.

    The process that only hands out the tests needs none of that.
    """
    if PARALLEL or not config.getoption("numprocesses", None):
        for name in ("torch._dynamo", "torchvision", "scipy.stats", *HARNESS):  # every optimizer imports the first
            importlib.import_module(name)


def pytest_sessionfinish():
    gc.unfreeze()  # libraries complain of what is left when the process ends


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One process more than cores, as a test often waits for a program. More than a few would only import torch."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else min(usable_cores(), 8) + 1


def pytest_collection_modifyitems(items):
    for item in items:
        if TESTS in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*WARNINGS), append=False)
    items.sort(key=lambda item: (*LONGEST, item.path.name).index(item.path.name))


@pytest.fixture(autouse=True)
def what_is_imported_is_not_searched_for_garbage(monkeypatch):
    """A run of pytest in this process collects garbage twice per case: 0.2 s each, for what was imported and stays.

    A run that ends leaves that frozen, as more tests follow.
    """
    if len(sys.modules) > FROZEN[0]:
        gc.collect()
        gc.freeze()
        FROZEN[0] = len(sys.modules)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setattr("gc.unfreeze", lambda: None)


@pytest.fixture
def has_cores(monkeypatch):
    """Pretends that this process may run on so many logical cores, and on so many physical ones."""

    def pretend(logical, physical=None):
        monkeypatch.setattr(affinity, "usable_cores", lambda: logical)
        monkeypatch.setattr(cpu, "physical_cores", lambda _: physical or logical)

    return pretend


@pytest.fixture(autouse=True)
def a_tests_own_modules_are_forgotten(tmp_path_factory):
    """What a test wrote and imported in this process: the next test may write another module of that name."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    written = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(written):
            del sys.modules[name]
    forget_lost()


def forget_lost():
    """A package still has the benchmarks that a run imported and forgot: a patch by name would only change these."""
    for package in (sys.modules["perf"], sys.modules.get("perf.qualification")):
        for name, found in list(vars(package).items() if package else ()):
            if isinstance(found, types.ModuleType) and found.__name__ not in sys.modules:
                delattr(package, name)


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory):
    """A data root with the drawn digits in it, made once for all processes of xdist."""
    folder = tmp_path_factory.getbasetemp()
    root = (folder.parent if PARALLEL else folder) / "digits_root"
    root.mkdir(exist_ok=True)
    load("digits", root)
    return root


def draw_few(patch):
    """Let the drawn digits be 60 and 30 samples by few hands, which are drawn in a moment."""
    patch.setattr("data.digits._SIZES_AND_SEEDS", ((60, 1), (30, 2)))
    patch.setattr("data.drawing._HANDS", 8)


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory):
    """A data root with the real MNIST in it, where the files lie beside the project; else the test is skipped."""
    files = sorted((TESTS.parent.parent / "shared" / "mnist").glob("*-ubyte.gz"))
    if len(files) != 4:
        pytest.skip("the real MNIST is not beside the project, in ../shared/mnist")
    raw = tmp_path_factory.mktemp("mnist") / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in files:
        shutil.copy(file, raw)
    return raw.parent.parent


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folder in which worktrees are made, and a git that knows nothing of this user; for child processes, too."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "places"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def plug(monkeypatch):
    """Puts a module, or None, in the place of pynvml; torch then knows one GPU, of that UUID."""
    facts = types.SimpleNamespace(uuid=uuid.UUID(fake_nvml.UUID), name="NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)

    def plug(module):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return facts

    return plug


@pytest.fixture(scope="session")
def torch_process():
    """A process that has imported torch, and runs programs."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells how a program ended that another process has forked")
    process = Preloaded()
    yield process
    process.close()


@pytest.fixture
def preloaded(request, monkeypatch):
    """Workers that need no seconds to import torch, where that can be."""
    if sys.platform != "linux":
        return
    torch_process = request.getfixturevalue("torch_process")

    def start(command, **options):
        return (torch_process.start if command[0] == sys.executable else subprocess.Popen)(command, **options)

    forking = types.SimpleNamespace(**vars(subprocess) | {"Popen": start})
    monkeypatch.setattr("perf.harness.measurement.side_by_side.link.subprocess", forking)


def git(repository, *arguments):
    """What git says; for tests that use `places`."""
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *identity, "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def read_once(digits_root, monkeypatch):
    """The drawn digits are verified and read once, not in each run: they are 55 MB."""

    def known(name, root, **options):
        return _digits(root) if (name, root) == ("digits", digits_root) else load(name, root, **options)

    monkeypatch.setattr("perf.harness.workload.workload.load", known)


@cache
def _digits(root):
    return load("digits", root)


@pytest.fixture
def perf(pytester, read_once, digits_root, preloaded, monkeypatch):
    """Runs pytest in this process on the real `perf/`, with storage and data of its own."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    common = ("-p", "no:cacheprovider", "-p", "no:xdist", f"--perf-data-root={digits_root}", "--perf-data=digits")
    storage = f"--benchmark-storage={pytester.path / 'kept'}"

    def run(*arguments, quick=True):
        with monkeypatch.context() as fewer:
            if quick:  # 20 batches of 64, and little time
                fewer.setitem(PROFILES, "smoke", replace(PROFILES["smoke"], train_samples=1_280, case_s=0.05))
            return pytester.runpytest_inprocess(*common, storage, *(QUICK if quick else ()), *map(str, arguments))

    return run


@pytest.fixture
def in_floats(monkeypatch):
    """Standard deviations in floats, for simulations: in the fractions of `statistics`, they take most of the time."""

    def variance(values):
        found = list(values)
        mean = math.fsum(found) / len(found)
        return math.fsum((value - mean) ** 2 for value in found) / (len(found) - 1)

    monkeypatch.setattr(statistics, "variance", variance)
    monkeypatch.setattr(statistics, "stdev", lambda values: math.sqrt(variance(values)))


@pytest.fixture
def graphs(monkeypatch):
    """CUDA graphs without CUDA."""
    monkeypatch.setattr(execution, "capture_cuda", fake_capture)


@pytest.fixture
def traced(monkeypatch):
    """What torch compiles is traced, and runs as eager does: for tests of what is compiled, not of the machine code."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a user's file, and returns the beginning of the name of its models."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(HEAD + text)
        return f"{name}:"

    return write


@pytest.fixture
def full(monkeypatch):
    """Folders on a full disk: a test adds them, at once or meanwhile."""
    replace, folders = write._replace, []

    def refuse(target, text, mode):
        if any(folder in target.parents for folder in folders):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(target, text, mode)

    monkeypatch.setattr(write, "_replace", refuse)
    return folders


def kept(pytester):
    """The record files of the runs so far, by name."""
    return sorted((pytester.path / "kept").rglob("*.json"))


def read(path):
    return json.loads(path.read_text())


def records(pytester):
    """The `perf` of each record of a qualification that a test has kept, oldest first."""
    found = sorted((pytester.path / "kept").rglob("*qualify_*.json"), key=os.path.getmtime)
    return [read(path)["perf"] for path in found]


def validator():
    """Of records, by perf/schema.json."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = read(PERF / "schema.json")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def settled(root, **typed):
    """The settings of a smoke run on the digits in `root`, but for what is `typed`."""
    typed = {"data": "digits", "profile": "smoke", "device": "cpu"} | typed
    return resolve({name.replace("_", "-"): text for name, text in typed.items()}, {}, "ini", Path(root))


class FakeEvent:
    """An event of a device that works while the host waits: passed when it is recorded."""

    def __init__(self, device, enable_timing):
        self.at = None

    def record(self):
        self.at = time.perf_counter()

    def elapsed_time(self, later):
        return (later.at - self.at) * 1e3


@pytest.fixture
def gpu(monkeypatch, plug):
    """A machine with one GPU, as far as it can be told without one: `cuda` is the CPU under another name."""
    facts = {"name": "Fake GPU", "multiprocessors": 7, "memory_bytes": 2**33, "driver": "1.2"}
    describe = devices.describe
    waits = []
    plug(None)
    monkeypatch.setattr(devices, "why_absent", lambda name: None)
    monkeypatch.setattr(Device, "torch_device", torch.device("cpu"))
    monkeypatch.setattr(devices, "describe", lambda device: facts if device.asynchronous else describe(device))
    monkeypatch.setattr(torch, "Event", FakeEvent)
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", lambda device: 123 * 2**20)
    monkeypatch.setattr(torch.accelerator, "memory_allocated", lambda device: 100 * 2**20)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (2**33, 2**33))
    monkeypatch.setattr("perf.harness.measurement.step_memory.MOST_ELEMENTS", 1024 * 784)
    return waits
