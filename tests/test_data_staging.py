"""The place where files are made: one process at a time, swept before and after."""

import pytest
from filelock import FileLock

from data import DataError
from data.staging import left_over, staging


def test_it_is_empty_at_first_and_gone_at_last(tmp_path):
    root = tmp_path / "not" / "yet"
    with staging(root, "things") as work:
        assert list(work.iterdir()) == []
        assert left_over(root, "things")
    assert not left_over(root, "things")


def test_it_is_gone_after_a_failure(tmp_path):
    with pytest.raises(ZeroDivisionError), staging(tmp_path, "things") as work:
        (work / "half").write_text("a file")
        raise ZeroDivisionError
    assert not left_over(tmp_path, "things")


def test_what_a_killed_process_left_is_swept(tmp_path):
    half = tmp_path / ".staging/things/half"
    half.parent.mkdir(parents=True)
    half.write_text("a file")
    assert left_over(tmp_path, "things")
    with staging(tmp_path, "things") as work:
        assert list(work.iterdir()) == []


def test_a_lock_that_another_keeps_too_long_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("data.staging._LOCK_TIMEOUT_S", 0.05)
    lock = tmp_path / ".staging/things.lock"
    lock.parent.mkdir()
    with (
        FileLock(lock),
        pytest.raises(DataError, match=r"another process .*things\.lock.*Wait"),
        staging(tmp_path, "things"),
    ):
        pytest.fail("entered a locked place")
