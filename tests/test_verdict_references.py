"""References: what is taken from qualifications of good machines, and which qualifications cannot serve."""

import pytest

from perf.harness.record.check import Check, CheckVerdict, Qualification, Standing
from perf.harness.record.run import RecordError, Run
from perf.harness.verdict.references import left_out, references_of

GOOD = Qualification(Standing.QUALIFIED, (), "Nothing.")


def check(value=100.0, verdict=CheckVerdict.PASS, name="matmul", device="cpu", low=99.0, **rest):
    return Check(name, device, verdict, "fp32", value=value, unit="FLOP/s", low=low, high=101.0, **rest)


def run(*checks, qualification=GOOD, source="a.json"):
    perf = {"environment": {"cpu_model": "CPU 1"}, "devices": {"cuda": {"name": "NVIDIA H200"}}}
    return Run(source, "", (), perf=perf, checks=checks, qualification=qualification)


def references(runs):
    return references_of(runs).references


def trained(digest, key="simple_nn, CPU 1"):
    return Check("replay", "cpu", CheckVerdict.UNSUPPORTED, "golden", details={"digest": digest, "digest_key": key})


def test_the_bits_to_which_good_machines_train_are_kept():
    spec = references_of([run(trained("0f"), source="a"), run(trained("0f"), trained("1e", "other"), source="b")])
    assert (spec.digests, spec.references) == ({"simple_nn, CPU 1": "0f", "other": "1e"}, ())


def test_two_machines_that_train_to_other_bits_are_not_both_good():
    with pytest.raises(RecordError, match=r"^b: trains to other bits than the runs before it"):
        references_of([run(trained("0f"), source="a"), run(trained("0e"), source="b")])


def test_a_reference_is_the_median_of_the_runs_and_what_they_differ_by():
    (found,) = references([run(check(90.0)), run(check(100.0)), run(check(110.0))])
    assert (found.value, found.runs, found.device_name, found.unit) == (100.0, 3, "CPU 1", "FLOP/s")
    assert found.spread == pytest.approx(0.1, rel=0.02)


def test_one_run_does_not_say_how_much_runs_differ():
    (found,) = references([run(check(100.0))])
    assert found.spread is None


def test_devices_and_metrics_are_kept_apart():
    found = references([run(check(1.0), check(2.0, device="cuda"), check(3.0, name="memory"))])
    assert [(one.check, one.device_name, one.value) for one in found] == [
        ("matmul", "CPU 1", 1.0), ("matmul", "NVIDIA H200", 2.0), ("memory", "CPU 1", 3.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "doubtful", [check(crowding=0.5, reason="busy"), check(verdict=CheckVerdict.INCONCLUSIVE, reason="busy")]
)
def test_what_was_measured_beside_other_programs_is_no_reference_and_is_named(doubtful):
    one = run(doubtful, check(2.0, name="memory"), check(3.0, name="launch", crowding=0.1))
    assert [found.check for found in references([one])] == ["memory", "launch"]
    assert left_out(one) == ["matmul fp32 on cpu: busy"]


def test_a_check_that_passed_beside_other_programs_is_named_with_a_reason():
    assert left_out(run(check(crowding=0.5))) == ["matmul fp32 on cpu: other programs used some of its cores"]


def test_a_spec_knows_the_devices_of_its_references_and_of_its_digests():
    spec = references_of([run(check(), trained("0f", "simple_nn on digits, NVIDIA H200, torch 2"))])
    assert [spec.knows(name) for name in ("CPU 1", "NVIDIA H200", "CPU 2")] == [True, True, False]


def test_a_ratio_has_a_bar_of_its_own():
    ratio = Check("loader", "cpu", CheckVerdict.PASS, value=1900.0, low=1800.0, high=2000.0)
    (found,) = references([run(check(), ratio)])
    assert found.check == "matmul"


def test_what_is_exact_needs_no_reference():
    (found,) = references([run(check(), check(0.0, name="replay", low=None))])
    assert found.check == "matmul"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (
            run(qualification=None),
            "a.json: cannot serve as a reference: not a run of pytest perf/ --perf-profile=qualify",
        ),
        (run(check(injected="matmul:slow")), "a.json: cannot serve as a reference: a fault was planted in it"),
        (run(check(verdict=CheckVerdict.FAIL)), "a.json: cannot serve as a reference: matmul fp32 on cpu is FAIL"),
        (
            run(check(), Check("preconditions", "cpu", CheckVerdict.INCONCLUSIVE, "load", reason="2.0 cores are busy")),
            "a.json: cannot serve as a reference: 2.0 cores are busy; measure again when nothing else runs",
        ),
        (run(check(verdict=CheckVerdict.INCONCLUSIVE)), "a.json: no metric that a machine could be held against"),
        (run(), "a.json: no metric that a machine could be held against"),
    ],
)
def test_what_is_not_known_to_be_good_is_no_reference(bad, says):
    with pytest.raises(RecordError) as caught:
        references_of([bad])
    assert str(caught.value) == says
