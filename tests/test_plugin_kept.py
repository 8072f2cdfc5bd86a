"""The record of a run that decides: it overwrites no other one, and a full disk does not take the verdict with it."""

import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from perf.harness.measurement.checks import exact
from perf.harness.plugin import state
from perf.harness.plugin.kept import keep_elsewhere
from tests.conftest import PERF, read

pytest_plugins = ["pytester", "tests.qualifications"]


@pytest.fixture
def fill(monkeypatch, full):
    """Fills folders as soon as a training of a replay begins."""
    digest = exact.trained_digest

    def trained(*arguments):
        full.extend(fill)
        return digest(*arguments)

    fill = []
    monkeypatch.setattr(exact, "trained_digest", trained)
    return fill.append


def test_its_name_has_the_host_the_devices_and_a_random_part(qualify, pytester, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "node 17/b")
    qualify(check="numerics")
    (kept,) = (pytester.path / "kept").rglob("*.json")
    assert re.fullmatch(r"qualify_node-17-b_cpu_\d{8}_\d{6}_[0-9a-f]{8}\.json", kept.name)


def test_two_containers_with_one_clock_and_one_random_part_keep_two_records(qualify, pytester, monkeypatch):
    """The second claims the name of the first, and goes elsewhere: even then nothing is overwritten."""
    elsewhere = pytester.mkdir("elsewhere")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))
    monkeypatch.setattr(secrets, "token_hex", lambda count: "00")
    monkeypatch.setattr(state, "STAMP", "always")
    assert qualify(check="numerics").ret == qualify(check="numerics").ret
    (first,) = (pytester.path / "kept").rglob("qualify_*.json")
    (second,) = elsewhere.glob("*.json")
    assert first.name == second.name
    assert read(first)["perf"]["qualification"] == read(second)["perf"]["qualification"]


CONTAINER = ["unshare", "-Urpuf", "--mount-proc"]  # namespaces of its own for users, processes and the host's name


def no_containers():
    """Why no container can be made here; None if one can."""
    try:
        done = subprocess.run([*CONTAINER, "hostname", "node"], capture_output=True, text=True)
    except FileNotFoundError:
        return "this system has no unshare"
    return done.stderr.strip() or None


@pytest.fixture
def contained(tmp_path, digits_root):
    """Starts a qualification in a container, after a command of its shell; there is no home."""
    if why_not := no_containers():
        pytest.skip(f"no container can be made: {why_not}")
    run = [sys.executable, "-m", "pytest", str(PERF), "-p", "no:cacheprovider", "--perf-profile=qualify",
           "--perf-check=clock", "--perf-device=cpu", "--perf-data=digits", f"--perf-data-root={digits_root}",
           f"--benchmark-storage={tmp_path}/kept"]  # fmt: skip
    kept_out = ("HOME", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
    env = {name: value for name, value in os.environ.items() if name not in kept_out}

    def start(before):
        inside = [*CONTAINER, "sh", "-c", f"{before} && exec {shlex.join(run)}"]
        return subprocess.Popen(
            inside, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.mark.parametrize(
    ("disk", "says"),
    [
        ("mount -t tmpfs -o size=64k none kept && { head -c 64k /dev/zero > kept/full || true; }",
         "No space left on device"),
        ("mount -t tmpfs -o ro none kept", "Read-only file system"),
    ],
)  # fmt: skip
def test_a_real_disk_that_takes_no_record_is_found_before_anything_is_measured(contained, tmp_path, disk, says):
    (tmp_path / "kept").mkdir()
    one = contained(disk)
    out, err = one.communicate()
    assert one.returncode == 4, out + err
    assert f"cannot be written: {says}" in err and "Traceback" not in out + err
    assert "test_clock" not in out


def test_real_containers_that_share_a_folder_at_one_time_keep_a_record_each(contained, tmp_path):
    """In both, the process has the number 1, and the host has one name."""
    both = [contained("hostname node") for _ in range(2)]
    said = [one.communicate() for one in both]
    assert [one.returncode for one in both] == [10, 10], said
    records = sorted((tmp_path / "kept").rglob("*.json"))
    assert len(records) == 2
    assert all(re.fullmatch(r"qualify_node_cpu_\d{8}_\d{6}_[0-9a-f]{8}\.json", one.name) for one in records)
    assert all(read(one)["perf"]["qualification"]["verdict"] in ("PARTLY QUALIFIED", "INCONCLUSIVE") for one in records)


def test_a_full_disk_is_found_before_anything_is_measured(qualify, pytester, full):
    full.append(pytester.path / "kept")
    result = qualify(check="numerics")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*kept/*: cannot be written: No space left on device, so the record of this run would be lost; free space *"]
    )
    assert "test_numerics" not in result.stdout.str()


@pytest.mark.parametrize(("planted", "code"), [((), 10), (("--perf-inject=replay:weight",), 1)])
def test_a_disk_that_fills_meanwhile_costs_neither_verdict_nor_record(
    qualify, pytester, monkeypatch, fill, planted, code
):
    elsewhere = pytester.mkdir("elsewhere")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))
    fill(pytester.path / "kept")
    result = qualify(*planted, check="numerics,replay")
    assert result.ret == code
    (kept,) = elsewhere.glob("*.json")
    result.stdout.fnmatch_lines(
        [
            f"{'NOT' if planted else 'PARTLY'} QUALIFIED*",
            f"*kept/*{kept.name}: cannot be written: No space left on device",
            f"Kept as {kept} instead{'' if planted else '; attach it to the ticket.'}",
        ]
    )
    record = read(kept)["perf"]
    assert record["complete"] and len(record["checks"]) == 7
    (partial,) = (pytester.path / "kept").rglob("*.json")  # what was known when the disk was full
    assert partial.name == f"partial_{kept.name}" and len(read(partial)["perf"]["checks"]) == 4


def test_a_record_that_goes_elsewhere_replaces_nothing_there(tmp_path, monkeypatch):
    temporary, home = tmp_path / "temporary", tmp_path / "home"
    temporary.mkdir()
    (temporary / "q.json").write_text("mine")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    monkeypatch.setattr(Path, "home", lambda: home)
    assert keep_elsewhere("q.json", {"a": 1}) == home / "q.json"
    assert read(home / "q.json") == {"a": 1}
    assert (temporary / "q.json").read_text() == "mine"


def test_where_no_folder_can_be_written_the_verdict_is_printed_all_the_same(qualify, pytester, monkeypatch, fill):
    temporary = pytester.mkdir("temporary")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    monkeypatch.setattr(Path, "home", lambda: pytester.path / "home")
    fill(pytester.path)
    target = pytester.path / "q.json"
    summary = pytester.path / "s.md"
    result = qualify(f"--benchmark-json={target}", f"--perf-summary={summary}", check="replay")
    assert result.ret == 10
    result.stdout.fnmatch_lines(
        [
            f"--perf-summary: {summary}: cannot be written: No space left on device",
            "PARTLY QUALIFIED*",
            f"{target}: cannot be written: No space left on device",
            "The record is lost: no other folder can be written either. Copy what is printed above.",
        ]
    )
