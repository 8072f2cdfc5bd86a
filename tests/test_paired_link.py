"""The parent's end of a worker, against small real programs: replies, deaths, silence, and what is left afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from perf.harness.measurement.side_by_side.link import END_S, MOST_SAID, Link, SideError, SideLost, command

ROOT = Path(__file__).resolve().parent.parent
PERF = ROOT / "perf"
# Long beside what a Python takes to start on a busy machine.
WORKER = "perf/harness/measurement/side_by_side/worker.py"
LIMIT_S = 60.0
HEADER = """\
import json, os, signal, subprocess, sys, time
start = json.loads(sys.stdin.readline())

answered = 0

def reply(message):
    global answered
    answered += 1
    print(json.dumps({"number": answered, **message}), flush=True)

"""


@pytest.fixture
def start(tmp_path):
    """Starts a worker that runs a few lines of Python; `start` and `reply` are there."""
    links = []

    def made(lines, *, header=HEADER, env=None, **start):
        script = tmp_path / f"worker_{len(links)}.py"
        script.write_text(header + textwrap.dedent(lines))
        links.append(Link([sys.executable, "-S", str(script)], start, env))
        return links[-1]

    yield made
    for link in links:
        link.close()


def gone(pid):
    """Whether the process has ended; one that has, and waits for its parent to notice, is a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def ends(pid, limit_s=LIMIT_S):
    end = time.monotonic() + limit_s
    while not gone(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return gone(pid)


ECHO = "for line in sys.stdin: reply({'got': json.loads(line), 'start': start})"


def test_each_request_has_its_reply_in_order(start):
    link = start(ECHO, root="/here")
    link.request("visit", steps=3)
    link.request("finish")
    first, second = link.reply(LIMIT_S), link.reply(LIMIT_S)
    assert first["got"] == {"do": "visit", "with": {"steps": 3}, "number": 1}
    assert second["got"] == {"do": "finish", "with": {}, "number": 2}
    assert first["start"] == {"root": "/here", "parent": os.getpid()}
    assert link.ask("load", LIMIT_S)["got"]["do"] == "load"


def test_replies_in_pieces_and_several_at_once_are_told_apart(start):
    link = start(
        """
        sys.stdin.readline()
        sys.stdout.write('{"a": 1, "number": 1}\\n{"number": 2, "b": '); sys.stdout.flush()
        sys.stdin.readline()
        sys.stdout.write('2}\\n'); sys.stdout.flush()
        time.sleep(600)
        """
    )
    link.request("load")
    assert link.reply(LIMIT_S) == {"a": 1}
    link.request("load")
    assert link.reply(LIMIT_S) == {"b": 2}


def test_the_environment_is_the_one_given(start):
    link = start(
        "sys.stdin.readline(); reply({'threads': os.environ['OMP_NUM_THREADS']})", env={"OMP_NUM_THREADS": "7"}
    )
    assert link.ask("load", LIMIT_S) == {"threads": "7"}


def test_an_error_reply_is_raised_and_the_worker_lives_on(start):
    link = start("for line in sys.stdin: reply({'error': 'RuntimeError: no'} if 'prepare' in line else {'fine': 1})")
    with pytest.raises(SideError, match=r"^RuntimeError: no$") as caught:
        link.ask("prepare", LIMIT_S)
    assert not isinstance(caught.value, SideLost)
    assert link.ask("finish", LIMIT_S) == {"fine": 1}


def test_an_error_is_told_with_its_place_first(start):
    link = start("for line in sys.stdin: reply({'error': 'RuntimeError: no', 'place': 'model/networks.py:20'})")
    with pytest.raises(SideError, match=r"^model/networks.py:20: RuntimeError: no$") as caught:
        link.ask("prepare", LIMIT_S)
    assert caught.value.what == "RuntimeError: no"


@pytest.mark.parametrize("garbage", ["Hello, world", "{", "5", '"error"', "[1, 2]", "\\xff", "{}", '{"number": 2}'])
def test_a_reply_that_is_none_ends_the_worker(start, garbage):
    link = start(f"sys.stdin.readline(); print({garbage!r}, flush=True); time.sleep(600)")
    with pytest.raises(SideLost, match=r"^its process answered b'"):
        link.ask("load", LIMIT_S)
    assert gone(link.pid)


def test_a_death_by_exit_code_says_the_code_and_the_last_line_of_stderr(start):
    link = start("sys.stderr.write('first\\nlast words\\n'); sys.exit(3)")
    with pytest.raises(SideLost, match=r"^its process ended by itself with exit code 3: last words$"):
        link.ask("load", LIMIT_S)


def test_a_death_by_exit_code_without_a_word_says_the_code(start):
    link = start("os._exit(9)")
    with pytest.raises(SideLost, match=r"^its process ended by itself with exit code 9$"):
        link.ask("load", LIMIT_S)


def test_a_death_by_signal_says_the_signal(start):
    link = start("print('Out of memory', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(SideLost, match=r"was ended by signal 9, as the kernel does where memory runs out: Out"):
        link.ask("load", LIMIT_S)


def test_a_last_line_of_any_length_is_cut(start):
    link = start("sys.stderr.write('x' * 100_000); sys.exit(1)")
    with pytest.raises(SideLost, match=r"^its process ended by itself with exit code 1: x{200}$"):
        link.ask("load", LIMIT_S)


def test_a_wait_that_something_else_ends_ends_the_worker(start, monkeypatch):
    """Its reply would be taken for that to the next request."""
    link = start("time.sleep(60)")
    link.request("anything")
    monkeypatch.setattr(link, "_line", lambda limit_s: pytest.fail("another plugin's time limit"))
    with pytest.raises(pytest.fail.Exception):
        link.reply(LIMIT_S)
    assert gone(link.pid)


def test_a_worker_that_does_not_answer_is_ended_within_its_limit(start):
    link = start("print('thinking', file=sys.stderr, flush=True); reply({}); time.sleep(600)")
    link.request("load")
    link.reply(LIMIT_S)  # it runs
    with pytest.raises(SideLost, match=r"^its process did not answer for 0\.2 s: thinking$"):
        link.ask("visit", 0.2)
    assert gone(link.pid)


def test_a_worker_that_closes_its_replies_and_stays_is_ended_too(start, monkeypatch):
    monkeypatch.setattr("perf.harness.measurement.side_by_side.link.END_S", 0.2)
    link = start("os.close(1)\ntime.sleep(30)")  # waited for, it ends by itself
    with pytest.raises(SideLost, match=r"its process closed its replies$"):
        link.ask("load", LIMIT_S)
    assert gone(link.pid)


def test_a_process_that_the_kernel_cannot_end_yet_is_left_to_it(start, monkeypatch):
    link = start("sys.stdin.read()")
    wait = link._process.wait
    limits = []

    def stuck(timeout=None):
        limits.append(timeout)
        raise subprocess.TimeoutExpired("worker", timeout)

    monkeypatch.setattr(link._process, "wait", stuck)
    link.close()
    assert limits == [END_S]
    assert wait(LIMIT_S) == -signal.SIGKILL


def test_a_worker_that_answers_without_end_is_ended(start, monkeypatch):
    monkeypatch.setattr("perf.harness.measurement.side_by_side.link.MOST_BYTES", 1 << 20)
    link = start("while True: sys.stdout.write('x' * 1000); sys.stdout.flush()")
    with pytest.raises(SideLost, match=r"answers without end"):
        link.ask("load", LIMIT_S)
    assert gone(link.pid)


def test_an_error_says_whether_the_side_opens_files_of_the_other(start):
    link = start("for line in sys.stdin: reply({'error': 'it opens', 'strange': 'load' in line})")
    for do, strange in (("load", True), ("finish", False)):
        with pytest.raises(SideError) as caught:
            link.ask(do, LIMIT_S)
        assert caught.value.strange is strange


def test_a_worker_that_never_ends_its_line_is_ended_within_its_limit(start):
    link = start("while True: sys.stdout.write('x' * 1000); sys.stdout.flush()")
    with pytest.raises(SideLost, match=r"did not answer for 0\.3 s"):
        link.ask("load", 0.3)
    assert gone(link.pid)


def test_a_request_to_a_worker_that_has_gone_says_how_it_went(start):
    link = start("sys.stdin.close(); sys.exit(5)")
    assert ends(link.pid)
    with pytest.raises(SideLost, match="exit code 5"):
        link.ask("load", LIMIT_S)


def test_close_ends_the_worker_and_what_it_started(start):
    link = start(
        """
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        reply({"child": child.pid})
        time.sleep(600)
        """
    )
    child = link.reply(LIMIT_S)["child"]
    assert not gone(link.pid) and not gone(child)
    link.close()
    assert gone(link.pid)
    assert ends(child)
    link.close()  # once more does nothing


def test_close_ends_what_has_left_the_workers_group(start):
    link = start(
        """
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
        reply({"child": child.pid})
        time.sleep(600)
        """
    )
    child = link.reply(LIMIT_S)["child"]
    link.close()
    assert gone(link.pid) and ends(child)


def test_a_worker_that_prints_without_end_fills_nothing(start):
    link = start(
        """
        for _ in range(1000):
            os.write(2, b"x" * (1 << 16))
        os.write(2, b"\\nlast words\\n")
        sys.exit(3)
        """
    )
    with pytest.raises(SideLost, match=r"exit code 3: last words$"):
        link.ask("load", LIMIT_S)
    assert len(link._said) == MOST_SAID


def test_close_ends_a_worker_that_ignores_signals(start):
    link = start(
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        reply({})
        while True: time.sleep(600)
        """
    )
    link.reply(LIMIT_S)
    link.close()
    assert gone(link.pid)


def test_an_interrupt_of_the_terminal_does_not_reach_the_worker(start):
    link = start("reply({'group': os.getpgid(0)}); time.sleep(600)")
    assert link.reply(LIMIT_S)["group"] != os.getpgid(0)


def test_a_program_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(SideLost, match=rf"^{tmp_path}/python9 cannot be started: No such file or directory$"):
        Link([f"{tmp_path}/python9"], {})


def test_a_program_that_is_none_is_named(tmp_path):
    script = tmp_path / "python9"
    script.write_text("no program")
    script.chmod(0o755)
    with pytest.raises(SideLost, match=r"python9 cannot be started: Exec format error$"):
        Link([str(script)], {})


@pytest.fixture
def stub(tmp_path):
    """A copy of the real worker's start-up in a checkout where everything behind it is a few lines."""
    real = (ROOT / WORKER).read_text()
    folder = tmp_path / "checkout/perf/harness"
    worker = tmp_path / "checkout" / WORKER
    worker.parent.mkdir(parents=True)
    worker.write_text(real)
    (folder / "workload").mkdir()
    for package in (".", "..", "measurement", "measurement/side_by_side", "workload"):
        (folder / package / "__init__.py").touch()
    sealed = "measurement/side_by_side/sealed.py"
    shutil.copy(PERF / "harness" / sealed, folder / sealed)
    (folder / "options.py").write_text(
        "class Settings: threads, model = None, 'simple_nn'\ndef resolve(*arguments): return Settings()\n"
    )
    (folder / "workload/plan.py").write_text(
        """
import os, sys
class Data: digest = "abc"
class Recipe: brings_data = False
class Network: data, recipe = Data(), Recipe()
class Plan:
    @classmethod
    def of(cls, settings): return cls()
    def network(self): return Network()
    def prepared(self):
        print("the subject prints")
        os.write(1, b"and writes to its stdout\\n")
        os.system("echo and so does a child")
        return self
"""
    )
    return worker


START = {"root": "/", "roots": [], "options": {}, "cwd": "/", "other": None, "free": []}


def test_a_subject_that_prints_does_not_disturb(stub):
    link = Link([sys.executable, "-P", str(stub)], START)
    try:
        assert link.ask("load", LIMIT_S)["data"] == "abc"
        assert link.ask("load", LIMIT_S)["data"] == "abc"
    finally:
        link.close()


def test_an_error_in_the_subject_is_one_line(stub):
    (stub.parents[2] / "workload/plan.py").write_text(
        "class Plan:\n @classmethod\n def of(cls, settings): raise ValueError('one\\ntwo')\n"
    )
    link = Link([sys.executable, "-P", str(stub)], START)
    try:
        with pytest.raises(SideError, match=r"^ValueError: one$"):
            link.ask("load", LIMIT_S)
    finally:
        link.close()


def test_the_workers_command_keeps_its_own_folder_off_the_path():
    python, flag, script = command("/usr/bin/python3")
    assert (python, flag) == ("/usr/bin/python3", "-P")
    assert Path(script) == ROOT / WORKER


PARENT = """
import sys, time
from perf.harness.measurement.side_by_side.link import Link
link = Link([sys.executable, "-P", {stub!r}], {start!r})
link.ask("load", 60)
print(link.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends a child with its parent")
def test_a_worker_ends_when_its_parent_is_killed(stub):
    """Also a busy one: this one's stdin stays open in another process, so that it cannot be its end that ends it."""
    code = PARENT.format(stub=str(stub), start=START)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        pid = int(parent.stdout.readline())
        kept = [
            os.open(f"/proc/{pid}/fd/0", os.O_WRONLY)  # a second writer of its stdin
        ]
        try:
            assert not gone(pid)
            parent.kill()
            parent.wait()
            assert ends(pid)
        finally:
            for descriptor in kept:
                os.close(descriptor)


def test_a_worker_whose_parent_is_another_than_it_was_told_ends(stub):
    worker = subprocess.run(
        [sys.executable, "-P", str(stub)], input=json.dumps({**START, "parent": 1}) + "\n", text=True, check=False
    )
    assert worker.returncode == 1


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="this system has no scores of processes")
def test_the_kernel_ends_a_worker_before_what_keeps_the_results(stub):
    before = Path("/proc/self/oom_score_adj").read_text()
    link = Link([sys.executable, "-P", str(stub)], START)
    link.ask("load", LIMIT_S)
    assert Path(f"/proc/{link.pid}/oom_score_adj").read_text().strip() == "1000"
    assert Path("/proc/self/oom_score_adj").read_text() == before
    link.close()
