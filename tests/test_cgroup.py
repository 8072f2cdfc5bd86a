"""What control groups allow and withhold, from the kernel's files of v1 and v2."""

import pytest

from perf.harness.machine import cgroup, memory

GIB = 2**30
V2 = {
    "cpu.max": "150000 100000", "cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 1500000",
    "memory.max": str(4 * GIB), "memory.current": str(3 * GIB), "memory.stat": f"anon 5\ninactive_file {GIB}",
}  # fmt: skip
V1 = {
    "cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000",
    "cpu/cpu.stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000",
    "memory/memory.limit_in_bytes": str(4 * GIB), "memory/memory.usage_in_bytes": str(3 * GIB),
    "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}",
}  # fmt: skip
IN_V2, IN_V1 = "0::{}", "4:memory:{}\n3:cpu,cpuacct:{}\n1:name=systemd:/elsewhere\n0::/"


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes the kernel's files of the groups at `path`, and says that this process is in the group at `listed`."""
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "OF_PROCESS", tmp_path / "self")

    def write(files, path="", listed="/", version=IN_V2):
        for name, text in files.items():
            controller, _, file = name.rpartition("/")
            target = tmp_path / controller / path.strip("/") / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(f"{text}\n")
        (tmp_path / "self").write_text(version.format(*[listed] * version.count("{}")) + "\n")

    return write


def found():
    return cgroup.quota_cores(), cgroup.withheld_s(), cgroup.memory_limit_bytes(), cgroup.memory_left_bytes()


@pytest.mark.parametrize(("files", "version"), [(V2, IN_V2), (V1, IN_V1)])
@pytest.mark.parametrize(
    ("path", "listed"),
    [
        ("", "/"),  # a container with a namespace of its own
        ("user.slice/job", "/user.slice/job"),
        ("user.slice", "/user.slice/job"),  # the group around it has the limits
        ("", "/docker/5714f7cc"),  # a container that sees its path on the host
        ("", "/../../job"),  # a process that has left its namespace
    ],
)  # fmt: skip
def test_the_limits_of_this_process_are_found_wherever_its_group_is(groups, files, version, path, listed):
    groups(files, path, listed, version)
    assert found() == (1.5, 1.5, 4 * GIB, 2 * GIB)


def test_a_group_is_bound_by_the_groups_around_it(groups):
    groups(V2)
    groups({"cpu.max": "200000 100000", "cpu.stat": "throttled_usec 500000", "memory.max": str(2 * GIB),
            "memory.current": str(GIB)}, "job", "/job")  # fmt: skip
    assert found() == (1.5, 2.0, 2 * GIB, GIB)


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"cpu.max": "max 100000", "memory.max": "max", "memory.current": "5"}, IN_V2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000",
          "memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "5"}, IN_V1),
        ({}, IN_V2),
    ],
)  # fmt: skip
def test_no_limit_is_none(groups, files, version):
    groups(files, version=version)
    assert found() == (None, None, None, None)


def test_a_system_without_groups_has_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "OF_PROCESS", tmp_path / "absent")
    assert found() == (None, None, None, None)


def test_a_group_that_has_used_more_than_its_limit_has_nothing_left(groups):
    groups(V2 | {"memory.current": str(6 * GIB)})
    assert cgroup.memory_left_bytes() == 0


@pytest.mark.parametrize(("left", "available"), [(None, 8 * GIB), (GIB, GIB), (16 * GIB, 8 * GIB)])
def test_no_more_memory_is_available_than_the_groups_allow(monkeypatch, left, available):
    """Without that, a check of a share of the free memory would be ended with its container."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 8 * GIB}))
    monkeypatch.setattr(cgroup, "memory_left_bytes", lambda: left)
    assert memory.available_bytes() == available
