"""The load meter: what counts as foreign, what the quota withholds, and rates over the time that has really passed."""

import subprocess
import sys
import types

import psutil
import pytest

from perf.harness.machine import affinity, cpu, load


@pytest.fixture
def times(monkeypatch):
    """The CPU times of the machine, of this process, and of one child of it; a test may change them."""
    machine = types.SimpleNamespace(user=60.0, nice=5.0, system=20.0, idle=900.0, iowait=7.0, irq=1, softirq=2, steal=4)
    child = types.SimpleNamespace(user=10.0, system=3.0, children_user=0.25, children_system=0.125)
    own = types.SimpleNamespace(user=20.0, system=1.0, children_user=5.0, children_system=0.5)
    monkeypatch.setattr("psutil.cpu_times", lambda: machine)
    monkeypatch.setattr(affinity, "cores", list)
    monkeypatch.setattr(load, "descendants", lambda: [77])
    monkeypatch.setattr("psutil.Process", lambda pid: types.SimpleNamespace(cpu_times={77: lambda: child}[pid]))
    monkeypatch.setattr("os.times", lambda: own)
    return types.SimpleNamespace(machine=machine, own=own)


def test_foreign_is_all_work_and_all_steal_but_ours_and_our_childrens(times):
    assert load.foreign_cpu_s() == (60 + 5 + 20 + 1 + 2 + 4) - (10 + 3 + 0.375) - (20 + 1) - (5 + 0.5)


def test_the_process_that_this_one_works_for_is_not_foreign(times, monkeypatch):
    before = load.foreign_cpu_s()
    waits = types.SimpleNamespace(user=8.0, system=0.25, children_user=1.0, children_system=0.0)
    by_pid, child = {88: lambda: waits}, psutil.Process
    monkeypatch.setattr(
        "psutil.Process", lambda pid: types.SimpleNamespace(cpu_times=by_pid[pid]) if pid in by_pid else child(pid)
    )
    monkeypatch.setattr(load, "works_for", {88})
    assert load.foreign_cpu_s() == before - 9.25


@pytest.mark.parametrize(("ours", "shown", "working"), [([1, 3], 3, 40 + 60), ([0, 1, 3], 3, 92), ([1, 3], 2, 20 + 40)])
def test_on_a_part_of_the_cores_only_the_work_on_these_counts(times, monkeypatch, ours, shown, working):
    """Core 2 is switched off. A container may show only its own cores, with numbers of their own."""
    each = [types.SimpleNamespace(user=user, idle=1.0) for user in (20.0, 40.0, 60.0)][:shown]
    monkeypatch.setattr("psutil.cpu_times", lambda percpu=False: each if percpu else times.machine)
    monkeypatch.setattr(cpu, "online", lambda: [0, 1, 3])
    monkeypatch.setattr(affinity, "cores", lambda: ours)
    assert load.foreign_cpu_s() == working - 13.375 - 21 - 5.5


def test_a_system_that_counts_no_steal_and_no_interrupts_counts_the_rest(times):
    for kind in ("iowait", "irq", "softirq", "steal"):
        delattr(times.machine, kind)
    assert load.foreign_cpu_s() == 85 - 13.375 - 21 - 5.5


def test_a_sandbox_that_counts_nothing_does_not_look_free(times):
    for kind in vars(times.machine):
        setattr(times.machine, kind, 0.0)
    assert load.foreign_cpu_s() is None


def test_a_child_that_ends_meanwhile_is_read_again_but_not_for_ever(times, monkeypatch):
    found = load.foreign_cpu_s()
    listed = []

    def children(ended):
        listed.append(1)
        if len(listed) <= ended:
            raise psutil.NoSuchProcess(77)
        return [77]

    monkeypatch.setattr(load, "descendants", lambda: children(2))
    assert load.foreign_cpu_s() == found
    monkeypatch.setattr(load, "descendants", lambda: children(1000))
    assert load.foreign_cpu_s() is None


def test_descendants_are_those_of_every_thread_and_of_every_child(tmp_path, monkeypatch):
    for task, pids in (("self/7", "101 102 "), ("self/8", ""), ("self/9", "103 "), ("102/102", "104 "), ("104/1", "")):
        (tmp_path / task).mkdir(parents=True)
        (tmp_path / task / "children").write_text(pids)
    monkeypatch.setattr(load, "CHILDREN", f"{tmp_path.relative_to('/')}/{{pid}}/*/children")
    assert sorted(load.descendants()) == [101, 102, 103, 104]


def test_where_the_kernel_has_no_list_psutil_finds_the_descendants(monkeypatch):
    monkeypatch.setattr(load, "CHILDREN", "nowhere/{pid}/*/children")
    found = types.SimpleNamespace(children=lambda recursive: [types.SimpleNamespace(pid=5)] * recursive)
    monkeypatch.setattr("psutil.Process", lambda: found)
    assert load.descendants() == [5]


@pytest.fixture
def taken(monkeypatch):
    """What others took and the quota withheld so far [s]; a wait of n seconds adds n times `rate` and `quota`."""
    state = types.SimpleNamespace(now=10.0, others=100.0, withheld=3.0, rate=0.75, quota=0.5)
    monkeypatch.setattr(load, "foreign_cpu_s", lambda: state.others)
    monkeypatch.setattr(load, "withheld_s", lambda: state.withheld)

    def wait(seconds):
        late = seconds + 1.0  # it wakes up a second too late
        state.now += late
        state.others = None if state.others is None else state.others + late * state.rate
        state.withheld = None if state.withheld is None else state.withheld + late * state.quota

    state.look = lambda seconds: load.look(seconds, clock=lambda: state.now, wait=wait)
    return state


def test_what_others_take_is_over_the_time_that_has_passed(taken):
    assert taken.look(2.0) == load.Load(0.75, 0.5)
    taken.rate, taken.quota = -0.5, -0.5  # the kernel rounds each of the times that are subtracted
    assert taken.look(2.0) == load.Load(0.0, 0.0)


def test_what_the_system_does_not_say_is_none(taken):
    taken.others = taken.withheld = None
    assert taken.look(2.0) == load.Load(None, None)


@pytest.mark.parametrize(
    ("found", "threads", "missing"),
    [
        (load.Load(0.5, None), 1, 0.0), (load.Load(0.5, 0.0), 2, 0.5), (load.Load(1.5, 0.25), 1, 0.75),
        (load.Load(0.0, 0.25), 1, 0.25), (load.Load(None, 0.25), 1, None),
        (load.Load(0.0, 0.0), 4, 0.0), (load.Load(0.5, 0.0), 4, 0.5),
    ],
)  # fmt: skip
def test_cores_are_missing_that_others_take_or_the_quota_withholds(has_cores, found, threads, missing):
    has_cores(2)
    assert found.missing_cores(threads) == missing


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the CPU time of another process by its number")
def test_the_cpu_time_of_another_process_is_the_kernels():
    busy = "import time\nwhile time.process_time() < 0.1: pass\nprint(time.process_time(), flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        own_s = float(process.stdout.readline())
        assert own_s <= load.cpu_s(process.pid) < own_s + 0.1
        process.communicate("\n")
    assert load.cpu_s(process.pid) is None  # it has ended


def test_a_case_that_is_too_short_to_count_in_is_counted_from_an_earlier_reading_on():
    """Others use half a core until 10 s, and two from then on; the quota withholds a quarter of one."""
    now = 0.0
    company = load.Company(lambda: now, lambda: 0.5 * min(now, 10.0) + 2.0 * max(now - 10.0, 0.0), lambda: now / 4)

    def case(begin, end):
        nonlocal now
        now = begin
        company.begin()
        now = end
        found = company.load()
        assert found.withheld_cores in (None if found.others_cores is None else pytest.approx(0.25),)
        return found.others_cores

    assert case(0.1, 0.2) is None  # nothing was seen before
    assert case(0.25, 0.3) == pytest.approx(0.5)  # since the object was made
    assert case(8.0, 9.0) == pytest.approx(0.5)
    assert case(10.0, 10.1) == pytest.approx((0.5 * 1.0 + 2.0 * 0.1) / 1.1)  # since the end of the case before
    assert case(11.0, 12.0) == pytest.approx(2.0)  # long enough: nothing before it counts


def test_a_load_that_the_system_does_not_count_is_unknown():
    clock = iter([0.0, 1.0, 2.0])
    company = load.Company(lambda: next(clock), lambda: None, lambda: None)
    company.begin()
    assert company.load() == load.Load(None, None)
