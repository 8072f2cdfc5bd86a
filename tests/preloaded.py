"""Programs that need torch, without the seconds that each of them would import it: forks of a process that has done so.

Nothing of Stepwatch or of the tests is imported before the fork. Run as a script, this is the process that forks. Some
tests of each kind still start their programs as users do.
"""

import atexit
import contextlib
import importlib
import io
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import psutil

# Every optimizer imports torch._dynamo. What pytest rewrites when it loads plugins must not be here.
SLOW_TO_IMPORT = ("torch", "torch._dynamo", "torchvision", "scipy.stats")
MOST_BYTES = 1 << 17  # of a request: a command line and an environment


class Program:
    """A program that has been asked for, with what the tests use of `subprocess.Popen`."""

    def __init__(self, pid, codes, pipes):
        self.pid, self.returncode = pid, None
        self.stdin, self.stdout, self.stderr = pipes
        self._codes = codes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._codes], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = int(self._codes.readline())
            self._codes.close()
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


class Preloaded:
    """The process that has imported torch."""

    def __init__(self, asking=None):
        """With a socket, that on which a running one is asked."""
        if asking is not None:
            self._socket = asking
            return
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs, stdout=subprocess.DEVNULL)

    @property
    def pid(self):
        return self._process.pid

    def started(self):
        """The programs that run, and for each the process that waits for it."""
        return psutil.Process(self.pid).children(recursive=True)

    def close(self):
        self._socket.close()
        self._process.wait()

    def start(
        self, command, *, stdin=None, stdout=None, stderr=None, cwd=None, env=None, start_new_session=False,
        bufsize=-1, text=False,
    ):  # fmt: skip
        """Like `subprocess.Popen`. The command is the Python of these tests with -P SCRIPT, -m MODULE or -c CODE."""
        python, how, what, *arguments = map(str, command)
        assert python == sys.executable and how in ("-P", "-m", "-c")
        ours, theirs = [], []
        for number, given in enumerate((stdin, stdout, stderr)):
            if given == subprocess.PIPE:
                reading, writing = os.pipe()
                mine, its, mode = (writing, reading, "wb") if number == 0 else (reading, writing, "rb")
                pipe = os.fdopen(mine, mode, buffering=bufsize)
                ours.append(io.TextIOWrapper(pipe) if text else pipe)
                theirs.append(its)
            else:
                ours.append(None)
                given = theirs[1] if given == subprocess.STDOUT else number if given is None else given
                theirs.append(os.dup(given if isinstance(given, int) else given.fileno()))
        reading, writing = os.pipe()
        asked = {
            "how": how, "what": what, "arguments": arguments, "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env), "session": start_new_session, "parent": os.getpid(),
        }  # fmt: skip
        socket.send_fds(self._socket, [json.dumps(asked).encode()], [*theirs, writing, self._socket.fileno()])
        for descriptor in (*theirs, writing):
            os.close(descriptor)
        codes = os.fdopen(reading)
        return Program(int(codes.readline()), codes, ours)

    def run(self, command, *, input="", cwd=None, env=None):
        """Like `subprocess.run` with `capture_output` and `text`."""
        with contextlib.ExitStack() as held:
            files = [held.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            files[0].write(input)
            files[0].seek(0)
            started = self.start(command, stdin=files[0], stdout=files[1], stderr=files[2], cwd=cwd, env=env)
            code = started.wait()
            for file in files[1:]:
                file.seek(0)
            return subprocess.CompletedProcess(command, code, *(file.read() for file in files[1:]))


def main():
    """Fork a program for each request that arrives on stdin, which is a socket, until that is closed."""
    requests = socket.socket(fileno=os.dup(0))
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets those that watch
    while True:
        request, descriptors, *_ = socket.recv_fds(requests, MOST_BYTES, 5)
        if not request:
            return
        if os.fork() == 0:
            watch(json.loads(request), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def watch(asked, descriptors):
    """Start the program, say its process id, and when it has ended its code, as `subprocess` has it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    *standard, codes, asking = descriptors
    if (pid := os.fork()) == 0:
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        for descriptor in (*standard, codes):
            os.close(descriptor)
        fork_workers(Preloaded(socket.socket(fileno=asking)))
        end(become(asked))
    for descriptor in (*standard, asking):
        os.close(descriptor)
    os.write(codes, f"{pid}\n".encode())
    os.write(codes, f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())
    os._exit(0)


def fork_workers(preloaded):
    """A worker that this program starts is a fork, too."""

    class Popen(subprocess.Popen):
        def __new__(cls, command, *arguments, start_new_session=False, **options):
            if start_new_session and command[:2] == [sys.executable, "-P"]:
                return preloaded.start(command, *arguments, start_new_session=True, **options)
            return super().__new__(cls)

    subprocess.Popen = Popen


def become(asked):
    """Run the program in this process; returns its exit code."""
    if asked["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    me, parent = os.getpid(), os.getppid
    os.getppid = lambda: asked["parent"] if os.getpid() == me else parent()  # two processes lie between
    random.seed()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = os.fdopen(number, "r" if number == 0 else "w", buffering=1 if number == 2 else -1, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.modules["torch"]._import_device_backends()  # as at the end of torch's import: it looks for them on that path
    sys.argv = [asked["what"] if asked["how"] != "-c" else "-c", *asked["arguments"]]
    if asked["how"] != "-P":
        sys.path.insert(0, asked["cwd"] if asked["how"] == "-m" else "")
    try:
        if asked["how"] == "-m":
            runpy.run_module(asked["what"], run_name="__main__", alter_sys=True)
        elif asked["how"] == "-P":
            runpy.run_path(asked["what"], run_name="__main__")
        else:
            exec(compile(asked["what"], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            return exit.code or 0
        print(exit.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end(code):
    """End this process as Python does, but for tidying up its memory, which takes a second."""
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
