"""With how many threads a CPU trains fastest, and where more than one are worth it."""

import json
import subprocess
import sys
import types

import pytest

from perf.harness.measurement import thread_count as threads
from perf.harness.verdict.speedups import Speedups
from perf.harness.verdict.thread_gain import gain, worth
from tests import report_runs
from tests.conftest import PERF, STEP, kept, read

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(("cores", "tried"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_the_numbers_that_are_tried_are_powers_of_two_and_all_cores(cores, tried):
    assert threads.thread_counts(cores) == tried


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({1: [1.0], 2: [0.5]}, 2),
        ({1: [1.0], 2: [0.96]}, 1),  # not worth it
        ({1: [1.0, 4.0], 2: [1.2, 2.0]}, 2),  # slower at one batch size, twice as fast at the other
        ({1: [1.0, 4.0], 2: [4.0, 1.0]}, 1),
        ({1: [4.0], 2: [2.0], 4: [1.0], 8: [1.1]}, 4),
        ({1: [4.0], 2: [2.0], 4: [1.04], 8: [1.0]}, 4),
    ],
)
def test_the_fewest_threads_that_train_nearly_as_fast_as_the_best_are_chosen(times, best):
    assert threads.fewest(times) == best


class Steps:
    """A step takes 0.01 s, and ten times as long while it warms up, for the first 0.2 s."""

    now, made = 0.0, 0

    def clock(self):
        return self.now

    def __call__(self):
        self.made += 1
        self.now += 0.1 if self.now < 0.2 else 0.01


def test_the_time_of_a_step_is_that_after_it_has_warmed_up():
    steps = Steps()
    assert threads.step_s(steps, steps.clock) == pytest.approx(0.01)
    assert steps.now == pytest.approx(threads.TRY_S)


def test_a_step_that_takes_longer_than_the_time_for_it_is_made_twice():
    steps = Steps()
    steps.now = 1.0
    long = lambda: [steps() for _ in range(1000)]  # noqa: E731
    assert threads.step_s(long, steps.clock) == pytest.approx(10.0)
    assert steps.made == 2000


def test_the_number_comes_from_a_process_of_its_own(torch_process):
    asked = json.dumps({"models": ["simple_nn"], "sizes": [4], "path": [], "threads": None})
    done = torch_process.run([sys.executable, "-P", threads.__file__], input=asked)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["steps"], answer["loaded"]) == (["simple_nn at batch 4"], None)
    assert [*answer["times"]] == ["1"]  # the tests have one thread
    assert answer["times"]["1"][0] > 0


def test_what_a_users_module_prints_is_not_the_answer(tmp_path, torch_process):
    (tmp_path / "noisy.py").write_text(
        "print('loading')\nfrom torch import nn\n"
        "def net():\n    print('building')\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    asked = json.dumps({"models": ["noisy:net"], "sizes": [4], "path": [str(tmp_path)], "threads": [2]})
    done = torch_process.run([sys.executable, "-P", threads.__file__], input=asked)
    assert [*json.loads(done.stdout)["times"]] == ["2"]
    assert "loading\nbuilding\n" in done.stderr


@pytest.fixture
def answer(monkeypatch):
    """What the other process prints, and says; its exit code."""

    def set_to(stdout, stderr="", code=0):
        done = subprocess.CompletedProcess([], code, stdout, stderr)
        fake = types.SimpleNamespace(run=lambda *arguments, **options: done)
        monkeypatch.setattr("perf.harness.plugin.step_times.subprocess", fake)

    return set_to


def test_a_run_takes_the_number_and_says_so(perf, pytester, answer):
    answer('{"steps": ["a", "b"], "times": {"1": [2.0, 2.0], "2": [1.0, 1.5]}, "loaded": null}')
    result = perf(STEP, "--perf-device=cpu", "--perf-threads=auto")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["threads   2, chosen by --perf-threads=auto"])
    record = read(kept(pytester)[-1])["perf"]
    assert (record["settings"]["threads"], record["fingerprint"]["threads"]) == (2, 2)


def test_a_number_that_a_user_gives_is_not_called_chosen(perf):
    assert "chosen by" not in perf(STEP, "--perf-device=cpu", "--perf-threads=1").stdout.str()


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        ("Traceback\nRecipeError: no such model\n", "RecipeError: no such model"),
        ("", "its process ended with exit code 3"),
    ],
)
def test_where_no_number_can_be_found_the_run_is_refused(perf, answer, stderr, says):
    answer("", stderr, 3)
    result = perf(STEP, "--perf-device=cpu", "--perf-threads=auto")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --perf-threads=auto: {says}"])


def rows(*steps, seconds=1.0):
    run = report_runs.run(
        *(report_runs.benchmark("training_step", batch=batch, seconds=seconds, one_thread_s=one, all_threads_s=every)
          for batch, one, every in steps)
    )  # fmt: skip
    return Speedups.of([run]).rows


def test_all_threads_are_worth_it_where_they_save_a_tenth():
    found = rows((64, 1.0, 1.2), (512, 1.1, 1.0), (4096, 1.09, 1.0))
    faster, alike = worth(found)
    assert [row.batch_size for row in faster] == [512]
    assert [row.batch_size for row in alike] == [64, 4096]
    assert gain(found[0]) == pytest.approx(1 / 1.2)


@pytest.mark.parametrize("unknown", [None, 0.0])
def test_where_one_of_the_times_is_not_known_nothing_is_said(unknown):
    assert worth(rows((64, unknown, 1.0), (512, 1.0, unknown))) == ([], [])


def test_a_moment_in_which_threads_waited_for_each_other_is_not_their_time():
    found = rows((64, 0.5, 10.0), (512, 0.5, 2.0), (4096, 0.5, 2.1))  # the median of all rounds is 1.0
    assert [gain(row) for row in found] == [0.5, 0.25, 0.5]
    found = rows((64, 1.0, 4.0), (512, 1.0, 4.2), seconds=2.0)
    assert [gain(row) for row in found] == [0.25, 0.5]


def test_each_training_step_of_a_cpu_is_tried_with_one_thread(perf, pytester, has_cores):
    has_cores(2)
    perf(STEP, PERF / "test_inference.py", "--perf-device=cpu", "--perf-threads=2").assert_outcomes(passed=2)
    step, inference = (one["extra_info"] for one in read(kept(pytester)[-1])["benchmarks"])
    assert step["one_thread_s"] > 0 and step["all_threads_s"] > 0
    assert "one_thread_s" not in inference


def test_with_one_thread_there_is_nothing_to_try(perf, pytester):
    perf(STEP, "--perf-device=cpu", "--perf-threads=1").assert_outcomes(passed=1)
    assert "one_thread_s" not in read(kept(pytester)[-1])["benchmarks"][0]["extra_info"]
