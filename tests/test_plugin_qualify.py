"""`pytest perf/ --perf-profile=qualify`, in this process, on a clock that only operations of torch advance: each check
passes, and fails with its fault; the banner, the file, and what is refused."""

import json
import os
from fnmatch import fnmatch
from xml.etree import ElementTree

import psutil
import pytest
import torch

from perf.__main__ import main
from perf.harness.machine import load, memory
from perf.harness.measurement.checks import exact, faults, probes, steps
from perf.harness.measurement.checks.attempt import Attempt
from perf.harness.options import FAULTS
from perf.harness.record.checksum import of_run
from tests.conftest import PERF, read, records
from tests.fake_nvml import Nvml

pytest_plugins = ["pytester", "tests.qualifications"]

# Checks whose bar is a measured reference on a CPU, and what is planted in each.
BY_SPEC = {"matmul": "slow", "memory": "slow", "copies": "slow", "launch": "slow", "step": "sleep", "disk": "slow"}


def chosen(perf):
    """The checks of a record without the preconditions, which always run."""
    return [one for one in perf["checks"] if one["check"] != "preconditions"]


def spec_of_itself(pytester):
    """A spec from the only record that there is, as if it were those of three runs, at other times."""
    (kept,) = (pytester.path / "kept").rglob("qualify_*.json")
    copies = [kept, *(pytester.path / f"again{number}.json" for number in (1, 2))]
    for number, copy in enumerate(copies[1:]):
        made = read(kept) | {"datetime": f"2026-11-1{number}T00:00:00"}
        made["perf"]["checksum"] = of_run(made)
        copy.write_text(json.dumps(made))
    spec = pytester.path / "spec.json"
    assert main(["spec", *map(str, copies), f"--output={spec}"]) == 0
    return spec


def verdicts(perf):
    return {check["verdict"] for check in chosen(perf)}


def test_exact_checks_pass_and_the_machine_is_qualified(qualify, pytester):
    result = qualify(check="numerics,replay")
    assert result.ret == 10
    result.assert_outcomes(passed=6, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*Stepwatch: qualification*",
            "PARTLY QUALIFIED: 6 PASS · 1 UNJUDGED",
            "not judged on cpu, and required of its kind (CPU): matmul fp32, memory, cores, *",
            "not selected: *",
            "Next: Run the other checks, too: leave out what selects some of them (--perf-check, -k).",
            "Kept as *; attach it to the ticket.",
        ]
    )
    (perf,) = records(pytester)
    assert perf["complete"] and perf["profile"] == "qualify"
    assert perf["telemetry"]["cpu"]["samples"] >= 2
    assert perf["qualification"]["verdict"] == "PARTLY QUALIFIED"
    assert perf["qualification"]["reasons"][1].startswith("not selected: matmul, memory,")
    assert {one["variant"] for one in perf["checks"]} > {"load", "load between", "load after"}
    assert [(one["check"], one["variant"], one["device"]) for one in chosen(perf)] == [
        ("numerics", "fp32", "cpu"), ("numerics", "bf16", "cpu"), ("replay", "self", "cpu"),
        ("replay", "golden", "cpu"),
    ]  # fmt: skip
    assert all(one["value"] <= one["bar"] and one["bar_source"] for one in chosen(perf)[:3])
    worst = max(
        exact.accuracies(torch.device("cpu"), "fp32", perf["settings"]["seed"]), key=lambda one: one.error / one.bar
    )
    assert chosen(perf)[0]["note"].startswith(
        f"the value and the bar are those of {worst.name}, the closest to its bar"
    )


def test_an_overheated_device_is_found_in_the_samples_of_its_telemetry(qualify, pytester):
    qualify("--perf-inject=sustained:throttle", check="sustained")
    (perf,) = records(pytester)
    found, _ = chosen(perf)
    assert found["reason"] == (
        f"slowed itself down for {found['value']:.1%} of the time (hw_thermal_slowdown), and again when measured a "
        "second time"
    )
    assert 0.25 < found["value"] < 0.4 and found["details"]["throttled_sw_power_cap_share"] == 1.0
    assert perf["telemetry"]["cpu"]["throttled_share"] > 0.25  # the run's, whose faults the record names
    qualify(check="sustained")
    assert chosen(records(pytester)[-1])[0]["verdict"] == "PASS"


MEASURED_AGAIN = ("clock:drift", "convergence:slow", "sustained:late", "sustained:throttle")


@pytest.mark.parametrize(
    "planted", [f"{check}:{kind}" for check in ("numerics", "replay", "sustained", "loader", "errors", "convergence",
                                                "cores", "numa", "patterns", "clock")
                for kind in FAULTS[check]] + ["copies:corrupt"],
)  # fmt: skip
def test_each_fault_is_found_and_is_stamped_everywhere(qualify, pytester, planted):
    check = planted.split(":")[0]
    result = qualify(f"--perf-inject={planted}", "--junitxml=j.xml", check=check)
    assert result.ret == 1
    perf = records(pytester)[-1]
    assert 'name="qualification" value="NOT QUALIFIED (INJECTED)"' in (pytester.path / "j.xml").read_text()
    assert "NOT QUALIFIED (INJECTED): " in result.stdout.str()
    assert "FAIL" in verdicts(perf)
    assert perf["qualification"]["verdict"] == "NOT QUALIFIED"
    assert {one["injected"] for one in chosen(perf)} == {planted}
    if planted in MEASURED_AGAIN:
        assert any(one["verdict"] == "FAIL" and one["again"] is not None for one in chosen(perf))
    text = result.stdout.str()
    assert f"INJECTED  {planted}: this run says nothing about the machine" in text  # before
    assert f"FAIL (INJECTED {planted})" in text  # in the table
    assert f"INJECTED {planted}: found" in text  # in the banner
    assert f"INJECTED {planted}: FAIL" in text  # in pytest's own summary


@pytest.mark.parametrize(("check", "kind"), BY_SPEC.items())
def test_a_slower_component_fails_against_the_reference_of_this_machine(qualify, pytester, check, kind, capsys):
    clean = qualify("--perf-batch-size=64", check=check)
    spec = spec_of_itself(pytester)
    assert clean.ret in (0, 10)  # without a reference there may be nothing to judge by
    planted = (f"--perf-spec={spec}", f"--perf-inject={check}:{kind}", "--perf-batch-size=64")
    assert qualify(*planted, check=check).ret == 1
    found = chosen(records(pytester)[-1])
    assert {one["verdict"] for one in found} == {"FAIL"}
    assert all(one["bar_source"].endswith("of the median of 3 runs of 1 machine in spec.json") for one in found)
    assert all(one["reason"].count("again when measured a second time") == 1 for one in found)


def test_a_device_that_is_slow_from_the_start_fails_against_the_reference(qualify, pytester):
    qualify(check="sustained")
    spec = spec_of_itself(pytester)
    assert qualify(f"--perf-spec={spec}", check="sustained").ret == 10  # nothing failed, and a part was selected
    assert qualify(f"--perf-spec={spec}", "--perf-inject=sustained:late", check="sustained").ret == 1
    clean, planted = (
        {one["variant"]: one["verdict"] for one in chosen(perf)}["rate"] for perf in records(pytester)[-2:]
    )
    assert (clean, planted) == ("PASS", "FAIL")


@pytest.mark.parametrize("kind", FAULTS["replay"])
def test_training_comes_to_the_bits_that_a_good_machine_came_to_and_a_fault_to_others(qualify, pytester, kind):
    qualify(check="replay")
    spec = spec_of_itself(pytester)
    result = qualify(f"--perf-spec={spec}", check="replay")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["bar of replay golden: the digest of the same training in spec.json*"])
    result = qualify(f"--perf-spec={spec}", f"--perf-inject=replay:{kind}", check="replay")
    result.assert_outcomes(passed=3, failed=2)
    golden = chosen(records(pytester)[-1])[1]
    assert (golden["variant"], golden["verdict"], golden["value"]) == ("golden", "FAIL", 1)
    assert golden["details"]["digest"] in golden["reason"]


def test_a_busy_machine_is_inconclusive_and_no_failure(qualify, pytester, monkeypatch):
    monkeypatch.setattr(load, "look", lambda seconds: load.Load(1.25, 0.25))
    result = qualify(check="preconditions")
    assert result.ret == 10
    (perf,) = records(pytester)
    assert perf["qualification"]["verdict"] == "INCONCLUSIVE"
    assert [one["variant"] for one in perf["checks"]] == ["load", "load between", "load after"]
    assert {one["reason"] for one in perf["checks"]} == {"others take 1.5 cores"}


@pytest.mark.parametrize(("busy", "said"), [(2.0, 1), (0.0, 0)])
def test_a_busy_machine_is_said_at_the_beginning(qualify, monkeypatch, busy, said):
    monkeypatch.setattr(load, "look", lambda seconds: load.Load(busy, None))
    result = qualify(check="preconditions")
    line = "others take 2.0 cores (allowed: *): checks that need the cores will be INCONCLUSIVE. Stop *"
    found = [text for text in result.outlines if text.endswith("or end this run with Ctrl-C")]
    assert len(found) == said
    if said:
        result.stdout.fnmatch_lines([line])


def test_what_others_may_take_is_set_or_follows_from_what_one_busy_core_does(qualify, pytester, monkeypatch):
    for user in ("plugin.qualify", "machine.affinity"):
        monkeypatch.setattr(f"perf.harness.{user}.usable_cores", lambda: 64)
    monkeypatch.setattr(probes, "slower_beside_one", lambda device: 0.5)
    monkeypatch.setattr(load, "look", lambda seconds: load.Load(0.2, 0.0))
    qualify(check="preconditions")
    qualify("--perf-busy-limit=0.5", check="preconditions")
    measured, given = (record["checks"][0] for record in records(pytester))
    assert (measured["verdict"], measured["bar"], measured["value"]) == ("INCONCLUSIVE", 0.16, 0.2)
    assert (given["verdict"], given["bar"], given["bar_source"]) == ("PASS", 0.5, "--perf-busy-limit=0.5")
    assert measured["bar_source"].startswith("one busy core slows matrix products by 50% here")
    assert "--perf-busy-limit" not in str(records(pytester)[1]["qualification"]["reasons"])
    monkeypatch.setattr(load, "look", lambda seconds: load.Load(3.6e-12, 0.0))
    qualify("--perf-busy-limit=4", check="preconditions")
    last = records(pytester)[-1]
    more = "--perf-busy-limit=4 lets other programs take more than the usual 3.2 cores"
    assert more in last["qualification"]["reasons"] and last["checks"][0]["value"] == 0


def test_a_planted_load_is_seen_by_the_meter_and_is_gone_afterwards(qualify, clock, pytester, monkeypatch):
    """The programs are real; the meter counts a core for each of them that runs."""
    mark = f"# {pytester.path}"
    monkeypatch.setattr(faults, "PROGRAM", f"{faults.PROGRAM}\n{mark}")

    def running():
        return [one for one in psutil.process_iter(["cmdline"]) if mark in "".join(one.info["cmdline"] or ())]

    monkeypatch.setattr(load, "foreign_cpu_s", lambda: len(running()) * clock.now)
    ours = {child.pid for child in psutil.Process().children(recursive=True)}
    seen = []
    look = load.look
    monkeypatch.setattr(load, "look", lambda seconds: seen.append([one.pid for one in running()]) or look(seconds))
    result = qualify("--perf-inject=preconditions:load", check="preconditions")
    assert result.ret == 10
    (perf,) = records(pytester)
    assert {(one["verdict"], round(one["value"], 6)) for one in perf["checks"]} == {("INCONCLUSIVE", 1.0)}
    assert [len(pids) for pids in seen] == [1, 1, 1] and not ours & {pid for pids in seen for pid in pids}
    assert running() == []
    result.stdout.fnmatch_lines(["INJECTED preconditions:load: found"])


def test_two_runs_measure_the_same_to_the_last_bit(qualify, pytester):
    """So no check reaches a real clock, a real load or a real limit in these tests: no speed changes what they find."""
    timed = [name for name in FAULTS if name not in ("numerics", "replay", "convergence")]
    for _ in range(2):
        qualify("--perf-batch-size=64", check=",".join(timed))
    first, second = (record["checks"] for record in records(pytester))
    assert {one["check"] for one in first} == set(timed)
    for one, again in zip(first, second, strict=True):
        for check in (one, again):
            if check["check"] == "sustained":
                check["details"] = None  # what the host says of its clock and its memory
        assert one == again


def test_where_nothing_can_be_checked_nothing_is_green(qualify, pytester, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    result = qualify(check="matmul", device="cuda")
    assert result.ret == 10
    result.stdout.fnmatch_lines(["INCONCLUSIVE: no check ran", "nothing was judged", "cuda was not checked: unplugged"])
    (perf,) = records(pytester)
    assert chosen(perf) == []
    result = qualify("--perf-require-check=matmul", check="matmul", device="cuda")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["NOT QUALIFIED: no check ran", "matmul is required, but did not run"])


def test_a_spec_of_other_machines_is_refused(qualify, pytester):
    spec = pytester.path / "spec.json"
    reference = {"variant": "copy", "unit": "B/s", "value": 1.0, "spread": 0.0, "runs": 3, "machines": 3}
    for check, device, says in (
        ("memory", "Intel Xeon 9999", "--perf-spec: spec.json is of Intel Xeon 9999, and says nothing of "),
        ("memry", "Intel Xeon 9999", "--perf-spec: spec.json: there is no check 'memry'"),
    ):
        references = [reference | {"check": check, "key": {"device": device}}]
        spec.write_text(json.dumps({"stepwatch_spec": 2, "references": references}))
        result = qualify(f"--perf-spec={spec}", check="memory")
        assert result.ret == 4
        result.stderr.fnmatch_lines([f"*{says}*"])
    assert records(pytester) == []


CHECK = PERF / "qualification" / "test_memory.py"


@pytest.mark.parametrize(
    ("place", "more", "count"),
    [(PERF, ("-k", "memory and copy"), 1), (CHECK, (), 2), (f"{CHECK}::test_memory[cpu-copy]", (), 1),
     (PERF, ("-k", "nothing"), 0)],
)  # fmt: skip
def test_the_load_is_looked_at_whatever_is_selected(perf, place, more, count):
    result = perf(place, "--perf-profile=qualify", "--perf-device=cpu", "--collect-only", "-q", *more, quick=False)
    names = [line.rpartition("::")[2] for line in result.outlines if "::test_" in line]
    loads = [f"test_preconditions[cpu-load{when}]" for when in ("", " between", " after") if count]
    assert [name for name in names if name.startswith("test_preconditions")] == loads
    assert len(names) == len(loads) + count


def test_a_file_that_is_no_record_does_not_stop_a_spec(qualify, pytester, capsys):
    qualify(check="memory")
    spec_of_itself(pytester)
    good = [str(path) for path in sorted(pytester.path.glob("again*.json"))]
    (kept,) = (pytester.path / "kept").rglob("qualify_*.json")
    bad = [pytester.path / name for name in ("cut.json", "empty.json")]
    bad[0].write_text(kept.read_text()[:1000])
    bad[1].write_text("")
    capsys.readouterr()
    assert main(["spec", *good, str(kept), *map(str, bad), "--output=s.json"]) == 0
    made_from = json.loads((pytester.path / "s.json").read_text())["made_from"]
    assert [one["file"] for one in made_from] == [one.rpartition("/")[2] for one in [*good, str(kept)]]
    assert [set(one) for one in made_from] == [{"file", "host", "datetime", "checksum"}] * (len(good) + 1)
    out = " ".join(capsys.readouterr().out.split())
    assert "cut.json: line" in out and "empty.json: empty file" in out and out.count("skipped: ") == 2
    lacking = "not judged on cpu, and required of its kind (CPU): matmul fp32, cores,"  # but not memory
    assert f"judged by this spec, all runs that it was made from are PARTLY QUALIFIED: {lacking}" in out
    assert main(["spec", *good, str(kept), *map(str, bad), "--output=s.json", "--strict"]) == 4
    assert "cut.json: line" in capsys.readouterr().err
    assert main(["spec", *good, "misspelt.json", "--output=s.json"]) == 4
    assert "misspelt.json: cannot be read: No such file or directory" in capsys.readouterr().err
    assert main(["spec", *map(str, bad), "--output=s.json"]) == 4
    said = capsys.readouterr().err
    assert "2 files: none of them can be read: " in said and "cut.json" in said and "empty.json: empty file" in said


def test_a_run_does_not_confirm_itself_and_is_not_overwritten(qualify, pytester, capsys):
    target = pytester.path / "q.json"
    qualify(f"--benchmark-json={target}", check="memory")
    capsys.readouterr()
    before = target.read_text()
    assert main(["spec", str(target), f"{pytester.path}/./q.json", "--output=spec.json"]) == 4
    assert "q.json: is given more than once" in capsys.readouterr().err
    for command in (["spec", str(target)], ["report", str(target)], ["report", "--format=csv", str(target)]):
        assert main([*command, f"--output={target}"]) == 4
        assert "q.json: --output would overwrite a run; name another file" in capsys.readouterr().err
    assert target.read_text() == before
    table = pytester.path / "table.csv"
    assert main(["report", "--format=csv", str(target), f"--output={table}"]) == 0
    assert (
        main(["report", "--format=csv", str(target), f"--output={table}"]) == 0
    )  # what was made of it may be made anew


def test_a_run_that_ends_at_its_first_failure_is_not_whole(qualify, pytester):
    result = qualify("-x", "--perf-inject=numerics:nan", check="numerics,replay")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["not reached: replay", "reached only in part: preconditions, numerics"])
    (partial,) = (pytester.path / "kept").rglob("*.json")
    assert partial.name.startswith("partial_qualify_")
    assert not read(partial)["perf"]["complete"]


def test_what_cannot_be_judged_is_no_pass(qualify, pytester):
    result = qualify(check="memory")
    assert result.ret == 10
    result.assert_outcomes(passed=3, skipped=2)
    (perf,) = records(pytester)
    assert {one["verdict"] for one in chosen(perf)} == {"UNJUDGED"}
    assert all(one["value"] > 0 for one in chosen(perf))  # measured all the same
    assert perf["qualification"]["verdict"] == "PARTLY QUALIFIED"
    assert perf["qualification"]["reasons"][0] == (
        "not judged on cpu, and required of its kind (CPU): matmul fp32, memory, cores, patterns, sustained, "
        "numerics, replay self, loader"
    )


def test_a_required_check_that_cannot_be_judged_is_a_failure(qualify, pytester):
    result = qualify("--perf-require-check=memory", "--junitxml=j.xml", check="memory,replay")
    assert result.ret == 1
    result.assert_outcomes(passed=4, failed=1, skipped=2)  # once, when the last of its metrics is known
    (perf,) = records(pytester)
    assert perf["qualification"]["reasons"][0] == "memory is required, but cannot be judged on cpu"
    result.stdout.fnmatch_lines(["*memory is required, but cannot be judged on cpu: no bar is known; *"])
    assert ElementTree.parse(pytester.path / "j.xml").getroot()[0].get("failures") == "1"


def test_a_required_check_of_which_one_metric_can_be_judged_is_met(qualify):
    result = qualify("--perf-require-check=matmul", check="matmul")
    result.assert_outcomes(passed=4, skipped=1)  # of bf16, the limit of a CPU is not known


def test_an_absent_device_is_skipped_with_its_reason(qualify, monkeypatch):
    monkeypatch.setattr("perf.harness.machine.devices.why_absent", lambda name: None if name == "cpu" else "unplugged")
    result = qualify("-rs", check="replay", device="cpu,cuda")
    result.assert_outcomes(passed=4, skipped=9)
    result.stdout.fnmatch_lines(["cuda was not checked: unplugged", "SKIPPED*cuda: unplugged"])


def test_every_check_runs_on_each_of_several_gpus(qualify, pytester, gpu, plug, monkeypatch):
    """As far as it can be told without one: both are the CPU under another name."""
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    monkeypatch.setattr(probes, "under_copies", lambda device, look: [look()])
    plug(Nvml("rows"))
    chosen = ("preconditions", "replay", "errors")
    result = qualify("--perf-batch-size=64", check=",".join(chosen), device="cuda")
    (perf,) = records(pytester)
    found = {one: [check for check in perf["checks"] if check["device"] == one] for one in ("cuda:0", "cuda:1")}
    assert set(perf["devices"]) == set(found)
    assert [one["verdict"] for one in found["cuda:0"]] == [one["verdict"] for one in found["cuda:1"]]
    for checks in found.values():
        metrics = [(one["check"], one["variant"]) for one in checks]
        assert {name for name, _ in metrics} == set(chosen)
        assert ("preconditions", "configuration") in metrics
        assert metrics[-2:] == [("preconditions", "load after"), ("preconditions", "configuration after")]
        for one in checks:
            if one["variant"].startswith("configuration"):
                assert one["verdict"] == "FAIL"  # the fake one's
                assert one["reason"].startswith("its power is limited to 650 W; the default is 700 W")
    assert "preconditions configuration on cuda:1: its power is limited" in " ".join(result.stdout.str().split())


def test_a_gpu_that_reports_an_error_or_is_lost_during_the_run_fails(qualify, pytester, gpu, plug, monkeypatch):
    nvml = Nvml("rows")
    plug(nvml)
    digest = exact.trained_digest
    meanwhile = []

    def trained_digest(*arguments):
        for happens in meanwhile:
            happens()
        return digest(*arguments)

    monkeypatch.setattr(exact, "trained_digest", trained_digest)
    for happens, reason in (
        (lambda: nvml.xids.append(13), "Xid 13 1"),  # a program's
        (lambda: nvml.xids.append(48), "Xid 48 1"),
        (lambda: setattr(nvml, "lacks", ("everything",)), "its counters could be read when the run began, but now: *"),
    ):
        meanwhile[:] = [happens, meanwhile.clear]
        qualify(check="replay,errors", device="cuda")
        found = next(one for one in chosen(records(pytester)[-1]) if one["variant"] == "uncorrected")
        assert found["check"] == "errors" and fnmatch(found["reason"], reason)
        assert found["verdict"] == ("PASS" if reason.startswith("Xid 13") else "FAIL")


def test_a_loader_is_tried_with_and_without_workers_and_its_stalls_are_times(qualify, pytester):
    qualify(check="loader")
    (perf,) = records(pytester)
    supply, resident, stall = chosen(perf)
    said = supply["note"].removesuffix(" of what the training step takes").split(", ")
    ratios = {one.rpartition(" ")[0]: float(one.rpartition(" ")[2]) for one in said}
    assert list(ratios) == [str(loader) for loader in steps.loaders()]
    assert [one["verdict"] for one in (supply, resident, stall)] == ["UNJUDGED", "PASS", "UNJUDGED"]
    assert (supply["unit"], resident["unit"], resident["bar"]) == ("samples/s", "", 1.2)
    assert (stall["unit"], stall["note"]) == ("s", max(ratios, key=ratios.get))
    assert stall["value"] > 0


def test_pinned_copies_are_held_against_the_link_that_was_negotiated(qualify, pytester, gpu, plug, monkeypatch):
    """The fake one's is PCIe 4 with 8 lanes: 15.8 GB/s, of which 10 are too few; of pageable ones nothing is known."""
    monkeypatch.setattr(probes, "under_copies", lambda device, look: [look()])
    monkeypatch.setattr(probes, "why_not_pinned", lambda device: "")
    monkeypatch.setattr(probes, "copy", lambda *arguments: (probes.Measured((1e10,) * 20), 0))
    plug(Nvml())
    qualify(check="copies", device="cuda")
    (perf,) = records(pytester)
    found = {one["variant"]: (one["verdict"], one["bar"]) for one in chosen(perf)}
    assert found["in pinned"] == found["out pinned"] == ("FAIL", 0.75 * 8 * 1.969e9)
    assert found["in pageable"] == found["out pageable"] == ("UNJUDGED", None)
    assert "PCIe 4 ×8 as negotiated under load" in chosen(perf)[0]["bar_source"]


def test_where_torch_pins_no_memory_the_pinned_copies_are_not_judged(qualify, pytester, gpu, plug, monkeypatch):
    monkeypatch.setattr(probes, "why_not_pinned", lambda device: "torch pins no memory for cuda")
    monkeypatch.setattr(probes, "copy", lambda *arguments: (probes.Measured((1e10,) * 20), 0))
    plug(Nvml())
    qualify(check="copies", device="cuda")
    (perf,) = records(pytester)
    found = {one["variant"]: (one["verdict"], one["value"], one["reason"]) for one in chosen(perf)}
    assert found["in pinned"] == found["out pinned"] == ("UNSUPPORTED", None, "torch pins no memory for cuda")
    assert found["in pageable"][1] == 1e10


def test_a_link_with_fewer_lanes_and_nothing_else_wrong_is_inconclusive(qualify, pytester, gpu, plug, monkeypatch):
    monkeypatch.setattr(probes, "under_copies", lambda device, look: [look()])
    monkeypatch.setattr(Nvml, "nvmlDeviceGetCurrPcieLinkGeneration", lambda self, handle: 5)
    plug(Nvml("limits"))
    qualify(check="preconditions", device="cuda")
    (perf,) = records(pytester)
    found = {one["variant"]: (one["verdict"], one["reason"]) for one in perf["checks"]}
    said = "it has 8 PCIe lanes under load, and says that 16 are possible: check that the slot has so many"
    assert found["configuration"] == found["configuration after"] == ("INCONCLUSIVE", said)


def test_of_each_product_the_clock_that_it_ran_with_is_looked_at(qualify, monkeypatch):
    asked = []
    monkeypatch.setattr(Attempt, "clock", lambda self, dtype: asked.append(dtype))
    qualify(check="matmul")
    assert asked == ["fp32", "bf16"]


@pytest.mark.parametrize(("option", "seconds"), [("--perf-quick", 30.0), ("--perf-full", 600.0)])
def test_a_full_run_keeps_the_device_busy_for_ten_minutes(qualify, monkeypatch, option, seconds):
    asked = []
    monkeypatch.setattr(
        probes, "sustained", lambda device, length, fault: asked.append(length) or probes.Measured((1.0,) * 20)
    )
    assert qualify(option, check="sustained").ret == 10
    assert asked == [seconds]


def test_the_memory_of_a_device_is_freed_before_and_after_each_check(qualify, pytester, monkeypatch):
    freed = []
    monkeypatch.setattr(memory, "free", lambda device: freed.append(device.name))
    qualify(check="clock")
    (perf,) = records(pytester)
    assert freed == ["cpu"] * 2 * len(perf["checks"])


def test_inconclusive_can_be_made_a_failure(qualify, monkeypatch):
    monkeypatch.setattr(load, "look", lambda seconds: load.Load(1.25, 0.25))
    result = qualify("--perf-inconclusive=fail", check="preconditions")
    assert result.ret == 1
    result.assert_outcomes(failed=3)


def test_all_that_a_cpu_needs_qualifies_it_and_less_does_not(qualify, pytester, capsys):
    """The first run has no bar for the memory: it is made a reference of itself, three times."""
    result = qualify("--perf-batch-size=64", "--junitxml=j.xml")
    assert result.ret == 10
    result.stdout.fnmatch_lines(
        [
            "PARTLY QUALIFIED: *",
            "not judged on cpu, and required of its kind (CPU): memory, sustained rate, *",
        ]
    )
    properties = ElementTree.parse(pytester.path / "j.xml").getroot().iter("property")
    assert [(one.get("name"), one.get("value")) for one in properties] == [("qualification", "PARTLY QUALIFIED")]
    (kept,) = (pytester.path / "kept").rglob("qualify_*.json")
    spec = spec_of_itself(pytester)
    capsys.readouterr()
    assert main(["report", str(kept), f"--spec={spec}"]) == 0  # the stored run, by a spec that was made later
    out = " ".join(capsys.readouterr().out.split())
    assert "QUALIFIED: " in out and "PARTLY" not in out and "of the median of 3 runs of 1 machine in spec.json" in out
    result = qualify("--perf-batch-size=64", f"--perf-spec={spec}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["QUALIFIED: *"])
    result = qualify("--perf-batch-size=128", f"--perf-spec={spec}", check="step")
    assert records(pytester)[-1]["checks"][2]["reason"] == "spec.json has no reference for it"
    result = qualify("--perf-batch-size=64", f"--perf-spec={spec}", "-k", "not bf16")
    assert result.ret == 10
    part = max((pytester.path / "kept").rglob("qualify_*.json"), key=os.path.getmtime)
    assert main(["report", str(part), f"--spec={spec}"]) == 10
    result.stdout.fnmatch_lines(["PARTLY QUALIFIED: *", "only a part of the metrics was selected: *deselected"])


def test_the_load_is_looked_at_before_between_and_after_the_other_checks(qualify, pytester):
    qualify(check="memory,sustained,numerics")
    (perf,) = records(pytester)
    assert [f"{one['check']} {one['variant']}".strip() for one in perf["checks"]] == [
        "preconditions load", "memory copy", "memory triad", "sustained", "sustained rate",
        "preconditions load between", "numerics fp32", "numerics bf16", "preconditions load after",
    ]  # fmt: skip


@pytest.mark.parametrize(("expected", "code"), [(2, 10), (3, 1)])
def test_fewer_devices_than_are_expected_do_not_qualify(qualify, gpu, plug, monkeypatch, expected, code):
    """Without that, both GPUs would be INCONCLUSIVE, because their slots may have fewer lanes."""
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    monkeypatch.setattr(probes, "under_copies", lambda device, look: [look()])
    monkeypatch.setattr(Nvml, "nvmlDeviceGetCurrPcieLinkGeneration", lambda self, handle: 5)
    plug(Nvml("rows", "limits"))
    result = qualify(f"--perf-expect-devices={expected}", check="numerics", device="cuda")
    said = f"--perf-expect-devices={expected}: this run can check 2 besides the CPU (cuda:0, cuda:1)"
    assert (result.ret, said in " ".join(result.stdout.str().split())) == (code, expected == 3)


def test_a_machine_without_a_device_that_is_expected_has_none(qualify):
    result = qualify("--perf-expect-devices=1", check="numerics")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["--perf-expect-devices=1: this run can check none besides the CPU"])


def test_junit_counts_a_fail_as_a_failure_and_the_rest_as_skips(qualify, pytester):
    qualify("--perf-inject=replay:weight", "--junitxml=j.xml", check="replay,memory")
    suite = ElementTree.parse(pytester.path / "j.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("skipped"), suite.get("errors")) == ("1", "3", "0")


def test_an_interrupted_run_qualifies_nothing_and_keeps_what_is_known(qualify, pytester, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("perf.harness.measurement.checks.exact.trained_digest", interrupt)
    result = qualify(check="numerics,replay")
    assert result.ret == 2
    (perf,) = records(pytester)
    assert len(chosen(perf)) == 2
    assert perf["qualification"]["reasons"][0] == "the run did not finish"
    assert perf["qualification"]["reasons"][-2:] == ["not reached: replay", "reached only in part: preconditions"]
    assert not perf["complete"]


def test_a_check_that_crashes_is_a_failure_and_the_next_one_runs(qualify, pytester, monkeypatch):
    def crash(*arguments):
        raise RuntimeError("the device is gone\nmore")

    monkeypatch.setattr("perf.harness.measurement.checks.exact.accuracies", crash)
    result = qualify("--tb=line", check="numerics,replay")
    assert result.ret == 1
    result.assert_outcomes(failed=2, passed=4, skipped=1)
    (perf,) = records(pytester)
    assert chosen(perf)[0]["reason"] == "the check crashed: RuntimeError: the device is gone"


def test_a_device_that_stops_working_is_said_once_and_its_other_checks_are_not_tried(qualify, pytester, monkeypatch):
    tried = []

    def crash(*arguments):
        tried.append(arguments)
        raise torch.AcceleratorError("CUDA error: an illegal memory access")

    monkeypatch.setattr("perf.harness.measurement.checks.exact.accuracies", crash)
    assert qualify("--tb=line", check="numerics").ret == 1
    (perf,) = records(pytester)
    first, second = chosen(perf)
    assert (first["verdict"], len(tried)) == ("FAIL", 1)
    assert first["reason"] == "the check crashed: AcceleratorError: CUDA error: an illegal memory access"
    assert second["verdict"] == "INCONCLUSIVE"
    assert second["reason"].startswith("not checked, as cpu stopped working in numerics fp32: AcceleratorError: CUDA ")


def test_the_record_fits_its_schema_and_is_reported(qualify, pytester, capsys):
    jsonschema = pytest.importorskip("jsonschema")
    target = pytester.path / "q.json"
    qualify(f"--benchmark-json={target}", "--perf-batch-size=64", check="replay,memory,step")
    jsonschema.validate(json.loads(target.read_text()), json.loads((PERF / "schema.json").read_text()))
    capsys.readouterr()
    assert main(["report", str(target)]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("Checks", "Roofline", "PARTLY QUALIFIED: ", "replay"))


def test_each_step_is_held_against_what_the_run_has_measured(qualify, pytester):
    result = qualify("--perf-batch-size=64,512", check="matmul,memory,launch,step")
    (perf,) = records(pytester)
    found = {f"{one['check']} {one['variant']}": one for one in chosen(perf)}
    assert [name for name in found if name.startswith("step")] == ["step bs64", "step bs512"]
    for size in (64, 512):
        step = found[f"step bs{size}"]
        details = step["details"]
        # Both layers forward, and the gradients of their weights and of the second one's input.
        assert details["flop_per_step"] == 2 * size * (2 * 784 * 128 + 3 * 128 * 10)
        assert details["bytes_per_step"] > 4 * (2 * 784 * size + 5 * 784 * 128)  # images and weights alone
        assert details["achieved_flop_per_s"] == pytest.approx(details["flop_per_step"] * step["value"] / size)
        assert details["peak_flop_per_s"] == found["matmul fp32"]["value"]
        assert details["memory_bytes_per_s"] == found["memory copy"]["value"]
        assert details["launch_s"] == found["launch p50"]["value"]
        assert details["share_of_possible"] > 0 and details["bound_by"]
    assert found["memory copy"]["details"] == {}
    text = result.stdout.str()
    assert "Roofline" in text and "(memory copy of this run)" in text


def test_a_step_without_limits_has_a_count_and_no_share(qualify, pytester, monkeypatch):
    monkeypatch.setattr("perf.harness.measurement.checks.attempt.clock_hz", lambda: None)
    result = qualify("--perf-batch-size=64", check="step")
    (perf,) = records(pytester)
    (step,) = chosen(perf)
    assert step["details"]["bytes_per_step"] > 0
    assert (step["details"]["share_of_possible"], step["details"]["bound_by"]) == (None, None)
    result.stdout.fnmatch_lines(["A step without a share has no limit: *"])


def test_a_step_that_sleeps_is_bound_by_nothing_of_the_device(qualify, clock, pytester, monkeypatch):
    monkeypatch.setattr(steps.time, "sleep", lambda seconds: clock.sleep(20 * seconds))
    qualify("--perf-inject=step:sleep", "--perf-batch-size=512", check="matmul,memory,launch,step")
    (perf,) = records(pytester)
    assert chosen(perf)[-1]["details"]["bound_by"] == "overhead"


def test_plain_runs_have_no_checks_and_qualifications_no_benchmarks(qualify, perf):
    result = perf("--collect-only", "-q", PERF)
    assert "qualification" not in result.stdout.str()
    result = qualify("--collect-only", "-q")
    assert "test_training_step" not in result.stdout.str()
    assert "test_replay[cpu-self]" in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--perf-check=heat"], "--perf-check: 'heat' is not one of preconditions, matmul,"),
        (["--perf-inject=matmul"], "--perf-inject: 'matmul' is none of preconditions:load, matmul:slow,"),
        (["--perf-inject=matmul:cold"], "--perf-inject: 'matmul:cold' is none of"),
        (
            ["--perf-inject=clock:source,clock:drift"],
            "--perf-inject: clock:source and clock:drift are faults of one check",
        ),
        (["--perf-check=replay", "--perf-inject=matmul:slow"], "--perf-check leaves out matmul"),
        (["--perf-check=replay", "--perf-require-check=memory"], "--perf-check leaves out memory"),
        (["--perf-busy-limit=-1"], "--perf-busy-limit: '-1' is not a number of cores above 0"),
        (["--perf-busy-limit=1000"], " cores taken, a good machine fails; allow less than "),
        (["--perf-busy-limit=all"], "--perf-busy-limit: 'all' is not a number of cores above 0"),
        (["--perf-quick", "--perf-full"], "--perf-quick and --perf-full exclude each other"),
        (["--perf-spec=nowhere.json"], "--perf-spec: nowhere.json: cannot be read: No such file"),
        (["--perf-against=HEAD"], "--perf-against and --perf-profile=qualify exclude each other"),
        (["--benchmark-disable"], "--benchmark-disable and --perf-profile=qualify exclude each other"),
        (["--benchmark-skip"], "--benchmark-skip and --perf-profile=qualify exclude each other"),
        (["--perf-against-python=python3"], "--perf-against-python and --perf-profile=qualify exclude each other"),
        (["--benchmark-compare"], "--benchmark-compare and --perf-profile=qualify exclude each other"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(qualify, pytester, arguments, says):
    result = qualify(*arguments)
    assert result.ret == 4
    assert says in result.stderr.str() + result.stdout.str()
    assert records(pytester) == []


@pytest.mark.parametrize(
    "argument", ["--perf-check=replay", "--perf-inject=replay:weight", "--perf-full", "--perf-require-check=replay"]
)
def test_options_of_a_qualification_belong_to_one(perf, argument):
    result = perf(argument, PERF)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{argument.split('=')[0]} works only with --perf-profile=qualify*"])


def test_the_folder_of_the_checks_is_refused_without_the_profile(perf):
    result = perf(PERF / "qualification")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*checks run only with --perf-profile=qualify*"])


def test_anything_but_a_check_is_refused_with_the_profile(perf):
    result = perf("--perf-profile=qualify", PERF / "test_training_step.py")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*test_training_step.py::*: --perf-profile=qualify runs only the checks: *"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("option", "flag"), [("--perf-inject=cores:slow", "inject"), ("--perf-require-check=numa", "require-check")]
)
def test_a_check_of_cpus_alone_is_not_silently_left_out(qualify, gpu, option, flag):
    name = option.rpartition("=")[2].partition(":")[0]
    said = f"{name}: only a CPU has such a check, and --perf-device=cuda names none"
    result = qualify(option, check=f"{name},errors", device="cuda")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: --perf-{flag}: {said}"])
    assert said in " ".join(qualify(check=f"{name},errors", device="cuda").stdout.str().split())


def test_a_run_says_beforehand_how_long_it_and_each_of_its_checks_will_take(qualify):
    result = qualify(check="numerics,replay,errors")
    result.stdout.fnmatch_lines(["10 metrics: about 15 s (preconditions 6 s, numerics 2 s, replay 2 s)"])


def test_a_full_run_promises_its_ten_minutes(qualify, monkeypatch):
    monkeypatch.setattr("perf.qualification.test_sustained.FULL_S", 30.0)  # the promise is of the mark, and is kept
    result = qualify("--perf-full", check="sustained")
    result.stdout.fnmatch_lines(["5 metrics: about 10 min (sustained 10 min, preconditions 6 s)"])
