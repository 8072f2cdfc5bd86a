"""What follows from a run: where its file is kept, and the exit code of what stays undecided."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from perf.harness.plugin.state import STATE, end_undecided, kept_in
from perf.harness.record.judgement import Judgement, Verdict
from tests.conftest import ROOT

OK, FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
UNDECIDED = (Verdict.SAME, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)


class Server:
    """A storage that keeps no files: pytest-benchmark's has this, and no `get`."""

    default_machine_id = "Linux"


class Folder(Server):
    def get(self, name):
        return f"/kept/Linux/{name}"


def config(storage):
    state = SimpleNamespace(plan=SimpleNamespace(fingerprint_id="smoke-1234"))
    session = SimpleNamespace(storage=storage)
    called = SimpleNamespace(dir=ROOT)
    return SimpleNamespace(
        _benchmarksession=session, rootpath=Path("/project"), stash={STATE: state}, invocation_params=called
    )


def test_a_run_is_kept_in_the_storage_or_beside_the_project_where_that_is_a_server():
    assert kept_in(config(Folder()))[0] == Path("/kept/Linux")
    assert kept_in(config(Server()))[0] == Path("/project/.benchmarks/smoke-1234")


def test_two_runs_that_begin_in_one_second_are_told_apart():
    """Also in containers that share a folder, and have the same process id."""
    stamps = [kept_in(config(Folder()))[1] for _ in range(100)]
    assert len(set(stamps)) == 100 and all(re.fullmatch(r"\d{8}_\d{6}_[0-9a-f]{8}", stamp) for stamp in stamps)


def ended(verdicts, exitstatus=OK, gate="fail", inconclusive="warn"):
    """The number that was said to be undecided, and the exit code then."""
    state = SimpleNamespace(
        judgements=[Judgement(f"{number}", verdict) for number, verdict in enumerate(verdicts)],
        settings=SimpleNamespace(gate=gate, inconclusive=inconclusive),
    )
    session = SimpleNamespace(exitstatus=exitstatus, config=SimpleNamespace(stash={STATE: state}))
    return end_undecided(session), session.exitstatus


def test_what_is_inconclusive_is_counted_and_exits_with_10():
    assert ended(UNDECIDED) == (2, 10)
    assert ended(UNDECIDED, inconclusive="pass") == (0, OK)


@pytest.mark.parametrize("status", [FAILED, pytest.ExitCode.INTERRUPTED])
def test_a_run_that_failed_keeps_its_own_exit_code(status):
    assert ended(UNDECIDED, status) == (0, status)


@pytest.mark.parametrize("gate", ["warn", "off"])
def test_a_gate_that_does_not_fail_has_no_exit_code_of_its_own(gate):
    assert ended(UNDECIDED, gate=gate) == (0, OK)


def test_where_everything_is_decided_the_exit_code_stays():
    assert ended((Verdict.SAME, Verdict.FASTER)) == (0, OK)
