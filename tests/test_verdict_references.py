"""References: what is taken from qualifications of good machines, and which runs, metrics and machines are left out."""

import math
import statistics
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.record.check import Check, CheckVerdict, Qualification, Standing
from perf.harness.record.run import RecordError, Run
from perf.harness.statistics.intervals import log_deviation, robust_spread
from perf.harness.verdict.by_spec import spec_bar
from perf.harness.verdict.references import machine_of, references_of

GOOD = Qualification(Standing.PARTLY, (), "Nothing.")
QUIET = Check("preconditions", "cpu", CheckVerdict.PASS, "load")


def check(value=100.0, verdict=CheckVerdict.PASS, name="matmul", device="cpu", low=99.0, unit="FLOP/s", **rest):
    return Check(name, device, verdict, "fp32", value=value, unit=unit, low=low, high=101.0, **rest)


def run(*checks, qualification=GOOD, source="a.json", host="node1", complete=True, quiet=True, **facts):
    perf = {
        "environment": {"cpu_model": "CPU 1", "threads": 2, **facts},
        "devices": {"cuda": {"name": "NVIDIA H200"}},
        "host_name": host,
    }
    checks = (*([QUIET] if quiet else ()), *checks)
    return Run(source, "", (), perf=perf, checks=checks, qualification=qualification, complete=complete)


def machines(*values, **rest):
    """A run of each machine `node0`, `node1`, …, whose only metric has this value."""
    return [
        run(check(value, **rest), source=f"{place}.json", host=f"node{place}") for place, value in enumerate(values)
    ]


def trained(digest, key="simple_nn, CPU 1"):
    return Check("replay", "cpu", CheckVerdict.UNJUDGED, "golden", details={"digest": digest, "digest_key": key})


def test_a_reference_is_the_median_of_the_machines_and_what_they_differ_by():
    made = references_of(machines(98.0, 100.0, 101.0))
    (found,) = made.spec.references
    assert (found.value, found.runs, found.machines, found.unit) == (100.0, 3, 3, "FLOP/s")
    assert found.key == {"device": "CPU 1", "threads": 2} and found.rests_on == "3 machines"
    assert found.spread == pytest.approx(0.0154, abs=1e-4)  # of few, each counts
    assert (made.skipped, made.left_out) == ([], [])


def test_runs_that_do_not_name_their_machine_count_as_one():
    (found,) = references_of([run(check(), source=source, host="") for source in "abcd"]).spec.references
    assert found.rests_on == "4 runs of 1 machine"


@pytest.mark.parametrize(
    ("known", "counted"),
    [
        ({"host": {"board serial": "PF1A2B3C"}}, "board serial PF1A2B3C"),
        ({"host": {"serial": "VMware-56 4d 1f"}}, "serial VMware-56 4d 1f"),
        ({"host": {}, "cuda": {"UUID": "GPU-7e0c1f2a"}}, "UUID GPU-7e0c1f2a"),
        ({"host": {"board serial": "Default string", "serial": "To be filled by O.E.M."}}, "a"),
        ({"host": {"board serial": "0123456789", "serial": "System Serial Number"}}, "a"),
        ({"host": {"board serial": "None", "serial": "0000000000"}}, "a"),
        ({"host": {"board serial": "Not Specified"}, "cuda": {}}, "a"),
        ("nothing", "a"),
    ],
)
def test_a_machine_is_known_by_a_serial_number_where_it_has_one(known, counted):
    facts = {name: {"known": one} for name, one in known.items()} if isinstance(known, dict) else known
    assert machine_of(replace(run(), perf={"host_name": "a", "hardware": facts})) == counted


def test_how_busy_a_run_might_be_is_what_its_own_preconditions_say():
    strict = Check("preconditions", "cpu", CheckVerdict.PASS, "load", bar=0.01)
    lax = Check("preconditions", "cpu", CheckVerdict.PASS, "load", bar=1.0)
    for bar, left in ((strict, 1), (lax, 0)):
        runs = [*machines(99.0, 100.0, 101.0), run(bar, check(crowding=0.05 if bar is strict else 0.5), quiet=False)]
        assert len(references_of(runs).left_out) == left


def test_the_strictest_of_the_loads_that_were_allowed_counts():
    loads = [Check("preconditions", "cpu", CheckVerdict.PASS, name, bar=bar) for name, bar in (
        ("load", 1.0), ("load between", 0.05), ("load after", 1.0), ("configuration", 0.01))]  # fmt: skip
    other = Check("matmul", "cpu", CheckVerdict.PASS, "load", bar=0.01)
    for crowding, left in ((0.05, 0), (0.06, 1)):
        busy = run(*loads, other, check(crowding=crowding), quiet=False)
        assert len(references_of([*machines(99.0, 100.0, 101.0), busy]).left_out) == left


def test_a_machine_that_was_measured_often_counts_once():
    slow = [run(check(80.0), source=f"s{number}", host="node9") for number in range(9)]
    made = references_of([*machines(99.0, 100.0, 101.0), *slow])
    (found,) = made.spec.references
    assert (found.value, found.machines, found.runs) == (100.0, 3, 3)
    assert made.left_out == ["matmul fp32: node9 stands apart: 80% of the median"]


def test_three_machines_differ_by_what_their_medians_do_and_two_by_what_all_their_runs_do():
    def spread(*middles):
        runs = [run(check(value), source=str(value), host=f"node{middle}")
                for middle in middles for value in (middle - 5.0, middle, middle + 5.5)]  # fmt: skip
        (found,) = references_of(runs).spec.references
        return found.spread

    assert spread(99.0, 100.0, 101.0) == pytest.approx(log_deviation([99.0, 100.0, 101.0]))
    assert spread(99.0, 100.0) == pytest.approx(log_deviation([94.0, 99.0, 104.5, 95.0, 100.0, 105.5]))


@pytest.mark.parametrize(("count", "spread"), [(15, log_deviation), (16, robust_spread)])
def test_the_spread_of_16_machines_is_a_robust_one(count, spread):
    values = [100 * math.exp(0.001 * place) for place in range(count)]
    (found,) = references_of(machines(*values)).spec.references
    assert found.spread == pytest.approx(spread(values))


def test_of_two_machines_that_differ_too_much_the_further_one_is_named():
    runs = [run(check(value), source=str(value), host=host) for value, host in ((50, "a"), (100, "b"), (101, "b"))]
    with pytest.raises(RecordError, match="the furthest: a, 50%"):
        references_of(runs)


def test_fewer_than_three_say_too_little_and_three_runs_of_one_machine_are_called_that():
    with pytest.raises(RecordError, match=r"matmul fp32: rests on 2 runs of 1 machine, and a bar needs 3$"):
        references_of([run(check(), source="a"), run(check(), source="b")])
    (found,) = references_of([run(check(), source=source) for source in "abc"]).spec.references
    assert found.rests_on == "3 runs of 1 machine"


def test_of_three_machines_none_stands_apart_but_all_that_they_differ_by_counts():
    (found,) = references_of(machines(100.0, 100.0, 92.0)).spec.references
    assert (found.machines, found.spread) == (3, pytest.approx(0.048, abs=1e-3))
    made = references_of(machines(100.0, 100.0, 100.0, 80.0))
    assert made.left_out == ["matmul fp32: node3 stands apart: 80% of the median"]


def test_what_differs_so_much_that_its_bar_would_find_nothing_has_none():
    """A step that took from 240,000 to 28,000 samples/s in three runs had a bar at 12% of their median."""
    made = references_of([*machines(50.0, 100.0, 101.0), *machines(7.0, 7.0, 7.0, unit="s")])
    (found,) = made.spec.references
    assert found.unit == "s"
    assert made.left_out == [
        "matmul fp32 (spread 40%, bar at 4% of the median; the furthest: node0, 50%): the values differ so much that "
        "a bar would find nothing; measure while nothing else runs, and more often"
    ]
    with pytest.raises(
        RecordError, match=r"matmul fp32 \(spread 16%, bar at 374% of the median; the furthest: node2, "
    ):
        references_of(machines(7.0, 7.0, 9.3, unit="s"))
    runs = [run(check(value), check(value, name="step"), source=str(value)) for value in (50.0, 100.0, 101.0)]
    both = (
        r"matmul fp32 \(spread 40%, bar at 4% of the median\), step fp32 \(spread 40%, bar at 4% of the median\): the"
    )
    with pytest.raises(RecordError, match=both):
        references_of(runs)


@pytest.mark.parametrize("one_machine", [False, True])
@pytest.mark.parametrize("count", [3, 4, 5, 8, 15, 16, 30])
def test_of_good_machines_about_one_in_a_hundred_is_beyond_the_bar(in_floats, count, one_machine):
    """Machines left out and robust deviations of few made it four in a hundred; three deviations of three, five."""
    draws, bars, beyond, spread = Random(1), 0, 0, 0.08  # so much that the least slack makes no difference
    for _ in range(1_000):
        values = [100 * math.exp(draws.gauss(0.0, spread)) for _ in range(count + 1)]
        runs = machines(*values[1:])
        if one_machine:
            runs = [run(*one.checks[1:], source=one.source) for one in runs]
        made = references_of([*runs, *machines(1.0, 1.0, 1.0, name="other")])
        for found in made.spec.references:
            if found.check == "matmul":  # a few of three differ too much
                bars += 1
                beyond += values[0] < spec_bar(found, "").value
    assert bars > 600 and beyond / bars < 0.013 + 3 * math.sqrt(0.013 / bars)


def test_metrics_without_a_bar_for_the_same_reason_are_named_together():
    both = [run(check(), check(name="memory"), source=source) for source in "ab"]
    with pytest.raises(RecordError, match=r"made: matmul fp32, memory fp32: rests on 2 runs of 1 machine, and a bar"):
        references_of(both)


@given(st.integers(5, 30), st.floats(0.0, 0.4), st.sampled_from([0.25, 0.5, 0.8, 1.25, 4.0]), st.integers(0, 10**6))
def test_up_to_two_of_five_machines_that_are_wrong_change_nothing(count, share, factor, seed):
    """They are named, whichever they are, and the reference is that of the good ones to within what these differ by."""
    random, wrong = Random(seed), int(count * share)
    good = [100.0 * math.exp(random.gauss(0.0, 0.005)) for _ in range(count - wrong)]
    values = [(f"good{place}", value) for place, value in enumerate(good)]
    values += [(f"wrong{place}", 100.0 * factor) for place in range(wrong)]
    random.shuffle(values)
    made = references_of([run(check(value), source=host, host=host) for host, value in values])
    (found,) = made.spec.references
    named = {line.split()[2] for line in made.left_out}
    assert named >= {host for host, _ in values if host.startswith("wrong")}
    assert min(good) <= found.value <= max(good)
    assert abs(found.value / statistics.median(good) - 1) < 0.01 and found.spread < 0.02


def test_copies_of_a_file_are_one_run():
    first, other = (replace(run(check(100.0), source=name), datetime=f"2026-11-2{name}") for name in "12")
    made = references_of([first, other, replace(first, source="3"), replace(other, datetime="2026-11-29", source="4")])
    assert made.skipped == ["3: a copy of 1"] and made.spec.references[0].runs == 3


def test_copies_with_another_host_and_date_are_no_other_machines():
    """No two machines measure three rates to the last bit."""

    def machine(name, *rates):
        checks = [replace(check(rate), variant=str(place)) for place, rate in enumerate(rates)]
        return replace(run(*checks, source=name, host=name), datetime=name)

    good = [machine(name, 100.0 + number, 50.0, 70.0) for number, name in enumerate("abc")]
    made = references_of([*good, machine("d", 101.0, 50.0, 70.0), machine("e", 100.0, 50.0, 70.5)])
    assert made.skipped == ["d: a copy of b"]
    assert {one.machines for one in made.spec.references} == {4}


def test_what_was_measured_otherwise_is_another_metric():
    runs = [run(check(100.0), source=f"a{n}", host=f"a{n}", threads=2) for n in range(3)]
    runs += [run(check(200.0), source=f"b{n}", host=f"b{n}", threads=4) for n in range(3)]
    found = references_of(runs).spec.references
    assert [(one.value, one.key["threads"]) for one in found] == [(100.0, 2), (200.0, 4)]
    (said,) = references_of([*runs[:3], *runs[4:]]).left_out
    assert said == "matmul fp32 (threads 4): rests on 2 runs of 2 machines, and a bar needs 3"


def test_a_run_that_is_not_whole_conclusive_and_quiet_is_skipped_with_the_reason_or_refused():
    busy = Check("preconditions", "cpu", CheckVerdict.INCONCLUSIVE, "load", reason="others take 2.0 cores")
    unclear = Qualification(Standing.INCONCLUSIVE, ("preconditions load on cpu: others take 2.0 cores", "more"), "")
    settled = Check("preconditions", "cpu", CheckVerdict.PASS, "configuration")
    bad = {
        "not a run of pytest perf/ --perf-profile=qualify": run(qualification=None),
        "a fault was planted in it": run(check(injected="matmul:slow")),
        "the run did not finish": run(check(), complete=False),
        "matmul fp32 on cpu is FAIL": run(check(verdict=CheckVerdict.FAIL)),
        "it is INCONCLUSIVE: preconditions load on cpu: others take 2.0 cores": run(
            check(), busy, qualification=unclear
        ),
        "it does not say whether other programs ran": run(
            check(), settled, Check("matmul", "cpu", CheckVerdict.PASS, "load"), quiet=False
        ),
    }
    for reason, one in bad.items():
        made = references_of([*machines(99.0, 100.0, 101.0), one])
        assert made.skipped == [f"a.json: {reason}"] and made.spec.references[0].machines == 3
        assert [run.source for run in made.used] == ["0.json", "1.json", "2.json"]
        with pytest.raises(RecordError) as caught:
            references_of([*machines(99.0, 100.0, 101.0), one], strict=True)
        assert str(caught.value) == f"a.json: cannot serve as a reference: {reason}"
        with pytest.raises(RecordError, match=r"a\.json: no reference can be made: a\.json: "):
            references_of([one])


@pytest.mark.parametrize(
    "doubtful", [{"crowding": 0.5, "reason": "busy"}, {"verdict": CheckVerdict.INCONCLUSIVE, "reason": "busy"}]
)
def test_what_was_measured_beside_other_programs_is_no_reference_and_is_named(doubtful):
    runs = [run(check(**doubtful), check(2.0, name="memory"), source=f"{n}") for n in range(3)]
    made = references_of(runs)
    assert [found.check for found in made.spec.references] == ["memory"]
    assert made.left_out == [f"{n}: matmul fp32 on cpu: busy" for n in range(3)]


def test_a_check_that_passed_beside_other_programs_is_named_with_a_reason():
    made = references_of([*machines(99.0, 100.0, 101.0), run(check(crowding=0.5))])
    assert made.left_out == ["a.json: matmul fp32 on cpu: other programs used some of its cores"]


def test_what_is_exact_and_what_is_a_ratio_need_no_reference():
    ratio = Check("loader", "cpu", CheckVerdict.PASS, value=1900.0, low=1800.0, high=2000.0)
    nothing = [check(0.0, name="replay", low=None), check(0.0, name="sustained", low=0.0)]
    runs = [run(check(), ratio, *nothing, source=f"{n}") for n in range(3)]
    assert [found.check for found in references_of(runs).spec.references] == ["matmul"]


def test_the_bits_to_which_most_machines_train_are_kept_and_others_are_named():
    runs = [run(trained(digest), source=source) for source, digest in (("a", "0f"), ("b", "0f"), ("c", "0e"))]
    made = references_of(runs)
    assert made.spec.digests == {"simple_nn, CPU 1": "0f"}
    assert made.left_out == ["replay golden: c trains to other bits than 2 others"]
    with pytest.raises(
        RecordError, match=r"replay golden: these runs train to different bits: a, c \(simple_nn, CPU 1\)"
    ):
        references_of([runs[0], runs[2]])


def test_a_spec_knows_the_devices_of_its_references_and_of_its_digests():
    runs = [run(check(), trained("0f", "simple_nn on digits, NVIDIA H200, torch 2"), source=f"{n}") for n in range(3)]
    spec = references_of(runs).spec
    assert [spec.knows(name) for name in ("CPU 1", "NVIDIA H200", "CPU 2")] == [True, True, False]
