"""Programs that are forked behave as those that are started, and a patch reaches what a run imports."""

import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tests import conftest
from tests.conftest import HARNESS, PERF, forget_lost

pytest_plugins = ["pytester"]

PROGRAMS = {
    "ends": "print('fine')",
    "has a code": "import sys; sys.exit(3)",
    "says why": "import sys; sys.exit('no such file')",
    "raises": "raise ValueError('mine')",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "reads and is told": "import os, sys; print(input(), sys.argv[1:], os.environ['HERE'], os.getcwd(), __name__)",
    "has its own environment": "import os; print(os.environ.get('OMP_NUM_THREADS'))",
    "tidies up": "import atexit; atexit.register(print, 'last'); print('first', flush=True)",
}


@pytest.mark.parametrize("does", PROGRAMS)
def test_a_program_ends_and_prints_as_one_that_is_started(torch_process, tmp_path, does):
    command = [sys.executable, "-c", PROGRAMS[does], "-x", "two words"]
    given = {"input": "a line\n", "cwd": tmp_path, "env": {"HERE": "é", "PYTHONUTF8": "1"}}
    started = subprocess.run(command, **given, capture_output=True, text=True, check=False)
    forked = torch_process.run(command, **given)
    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]


def test_a_script_and_a_module_find_what_they_would_find(torch_process, tmp_path):
    (tmp_path / "beside.py").write_text("print(__name__)\n")
    (tmp_path / "program.py").write_text("import beside, sys\nprint(__name__, sys.argv)\n")
    asked = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path)}}
    module, script = [sys.executable, "-m", "program", "1"], [sys.executable, "-P", "program.py", "1"]
    assert torch_process.run(module, **asked).stdout == f"beside\n__main__ ['{tmp_path / 'program.py'}', '1']\n"
    assert torch_process.run(script, **asked).stdout == "beside\n__main__ ['program.py', '1']\n"


def test_nothing_of_one_program_or_of_the_tests_is_in_the_next(torch_process):
    asked = "import sys; print([name for name in ('perf', 'tests', 'mine') if name in sys.modules]); "
    command = [sys.executable, "-c", asked + "sys.modules['mine'] = sys"]
    assert [torch_process.run(command).stdout for _ in range(2)] == ["[]\n"] * 2


def test_a_program_has_its_parent_its_session_and_its_signals(torch_process):
    asks = "import os, time; print(os.getppid(), os.getsid(0) == os.getpid(), flush=True); time.sleep(60)"
    pipe = subprocess.PIPE
    with torch_process.start([sys.executable, "-c", asks], stdout=pipe, text=True, start_new_session=True) as program:
        assert program.stdout.readline() == f"{os.getpid()} True\n"
        assert program.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0)
        program.send_signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM


def test_a_worker_of_a_program_is_a_fork_and_no_other_program_is(torch_process, tmp_path):
    (tmp_path / "worker.py").write_text("import sys; print('torch' in sys.modules)\n")
    asks = (
        "import subprocess, sys\n"
        "for worker in (True, False):\n"
        "    command = [sys.executable, '-P', 'worker.py']\n"
        "    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=worker) as program:\n"
        "        print(program.stdout.read())\n"
    )
    assert torch_process.run([sys.executable, "-c", asks], cwd=tmp_path).stdout.split() == ["True", "False"]


def test_the_longest_files_come_first_and_a_process_more_than_cores_runs_them(monkeypatch):
    files = ["test_docs.py", "test_tasks.py", "test_axes.py", "test_trainings.py"]
    items = [types.SimpleNamespace(path=Path(name)) for name in files]
    conftest.pytest_collection_modifyitems(items)
    assert [item.path.name for item in items] == [files[3], files[1], files[0], files[2]]
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    for cores, processes in ((2, 3), (64, 9)):
        monkeypatch.setattr(conftest, "usable_cores", lambda cores=cores: cores)
        assert conftest.pytest_xdist_auto_num_workers() == processes
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "1")
    assert conftest.pytest_xdist_auto_num_workers() is None


def test_what_a_test_replaces_by_name_is_what_the_next_run_uses(perf, monkeypatch):
    name = "perf.test_largest_batch"
    assert perf(PERF / "test_largest_batch.py", "--collect-only").ret == 0
    assert name not in sys.modules
    assert not set(HARNESS) - set(sys.modules)
    forget_lost()
    monkeypatch.setattr(f"{name}.largest", replaced := object())
    assert sys.modules[name].largest is replaced
