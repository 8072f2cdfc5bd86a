"""A stored qualification is judged by a spec that was made later."""

from dataclasses import replace

import pytest
from msgspec import structs

from perf.harness.record.check import Check, CheckVerdict, Qualification, Standing
from perf.harness.record.run import RecordError, Run
from perf.harness.record.spec import Reference, Spec
from perf.harness.verdict.checks import NO_BAR, MetricValue
from perf.harness.verdict.keys import key_of
from perf.harness.verdict.rejudged import lacking_today, rejudged, today
from perf.harness.verdict.required import required_of
from perf.harness.verdict.tally import standing_exit

PERF = {
    "environment": {"cpu_model": "CPU 1", "threads": 2},
    "devices": {"cpu": {"name": "CPU"}, "cuda": {"absent": "-"}},
}
BEFORE = Qualification(Standing.PARTLY, ("not selected: loader",), "", selection=("not selected: loader",))
FREE = 0.0


def check(value=100.0, verdict=CheckVerdict.UNJUDGED, **rest):
    known = {
        "variant": "copy",
        "unit": "B/s",
        "low": 0.99 * value,
        "high": 1.01 * value,
        "crowding": FREE,
        "reason": "no bar",
    }
    return Check("memory", "cpu", verdict, value=value, **(known | rest))


def spec(value=100.0, digests=(), **perf):
    key = key_of("memory", "cpu", PERF | perf)
    return Spec("later.json", (Reference("memory", "copy", "B/s", value, 0.01, 5, 5, key),), dict(digests))


def judged(*checks, by=None, qualification=BEFORE, complete=True):
    run = Run("a.json", "", (), perf=PERF, checks=checks, qualification=qualification, complete=complete)
    return rejudged(run, by or spec())


def test_what_had_no_bar_has_one_now():
    found = judged(check())
    (one,) = found.checks
    assert (one.verdict, one.bar, one.want, one.reason) == (CheckVerdict.PASS, 92.0, "at least", "")
    assert one.bar_source == "92% of the median of 5 machines in later.json"
    assert found.qualification.standing is Standing.PARTLY
    assert found.qualification.reasons[-1] == "not selected: loader"


def test_what_is_slow_by_the_spec_alone_was_measured_only_once():
    (one,) = judged(check(80.0)).checks
    assert (one.verdict, one.reason) == (CheckVerdict.INCONCLUSIVE, "below the bar, and not measured a second time")
    found = judged(check(80.0), qualification=structs.replace(BEFORE, selection=())).qualification
    assert found.next_action.startswith("Measure this machine again, with --perf-spec=later.json. ")
    twice = check(80.0, again=81.0, again_low=80.5, again_high=81.5)
    (one,) = judged(twice).checks
    assert (one.verdict, one.reason) == (CheckVerdict.FAIL, "below the bar, and again when measured a second time")
    (one,) = judged(check(80.0, again=81.0, again_low=80.5, again_high=81.5, crowding=1.0)).checks
    assert one.verdict is CheckVerdict.INCONCLUSIVE


def test_a_value_that_was_measured_three_times_is_judged_by_all_three():
    again = {"again": 70.0, "again_low": 69.0, "again_high": 71.0}
    for third, verdict in ((95.0, CheckVerdict.INCONCLUSIVE), (81.0, CheckVerdict.FAIL)):
        (one,) = judged(check(80.0, **again, third=third, third_low=third, third_high=third)).checks
        assert one.verdict is verdict


def test_a_record_of_another_set_up_stays_unjudged_and_says_why():
    (one,) = judged(check(), by=spec(environment={"cpu_model": "CPU 1", "threads": 4})).checks
    assert (one.verdict, one.reason) == (CheckVerdict.UNJUDGED, "not comparable with later.json: threads: 4 → 2")


def test_the_stricter_of_two_bars_holds():
    own = {"bar": 95.0, "bar_source": "own", "want": "at least", "verdict": CheckVerdict.PASS}
    assert judged(check(**own)).checks[0].bar_source == "own"
    assert judged(check(**own), by=spec(200.0)).checks[0].verdict is CheckVerdict.INCONCLUSIVE


def test_what_failed_or_was_unclear_for_another_reason_stays():
    failed = check(verdict=CheckVerdict.FAIL, reason="bytes arrive changed")
    unclear = check(verdict=CheckVerdict.INCONCLUSIVE, reason="the measurement is wrong")
    found = judged(failed, unclear)
    assert found.checks == (failed, unclear)
    assert found.qualification.standing is Standing.NOT_QUALIFIED


def test_what_another_virtual_machine_explains_is_not_failed_by_its_own_bar_later():
    own = {"bar": 95.0, "bar_source": "own", "want": "at least", "reason": "but another virtual machine"}
    twice = check(80.0, CheckVerdict.INCONCLUSIVE, again=80.0, again_low=79.0, again_high=81.0, **own)
    assert judged(twice, by=spec(80.0)).checks == (twice,)
    (one,) = judged(twice).checks  # good machines are faster
    assert (one.verdict, one.bar) == (CheckVerdict.FAIL, 92.0)


@pytest.mark.parametrize("busy", [MetricValue(80.0, 79.0, 81.0, 0.2), MetricValue(80.0, 79.0, 81.0, FREE, sharers=1)])
def test_what_was_disturbed_in_any_of_its_measurements_is_not_failed_later(busy):
    """The record keeps the crowding of one measurement only: here that of the one that was not disturbed."""
    twice = check(
        80.0, CheckVerdict.INCONCLUSIVE, again=80.0, again_low=79.0, again_high=81.0,
        bar=95.0, bar_source="own", want="at least", reason=f"below the bar, but {busy.disturbance}",
    )  # fmt: skip
    assert judged(twice).checks == (twice,)


def test_what_explains_a_slow_step_is_said_anew():
    step = Check("step", "cpu", CheckVerdict.FAIL, "bs64", 9.0, reason="below the bar; unexplained: memory passed")
    crashed = Check("step", "cpu", CheckVerdict.FAIL, "bs512", reason="the check crashed: ValueError: no")
    assert judged(check(), crashed).checks[1] == crashed
    was_slow = check(80.0, again=81.0, again_low=80.5, again_high=81.5)
    for memory, why in (
        (check(80.0), "unexplained: memory copy could not be judged"),
        (was_slow, "explained by memory copy"),
        (check(), "unexplained: memory copy passed"),
    ):
        assert judged(memory, step).checks[1].reason == f"below the bar; {why}"


@pytest.mark.parametrize(("digest", "verdict"), [("0f", CheckVerdict.PASS), ("0e", CheckVerdict.FAIL)])
def test_bits_are_compared_with_those_of_the_spec(digest, verdict):
    golden = Check(
        "replay", "cpu", CheckVerdict.UNJUDGED, "golden", details={"digest": digest, "digest_key": "net, CPU 1"}
    )
    (one,) = judged(golden, by=spec(digests={"net, CPU 1": "0f"})).checks
    assert (one.verdict, one.bar) == (verdict, 0)
    (one,) = judged(golden, by=spec(digests={"net, CPU 2": "0f"})).checks
    assert (one.verdict, one.reason) == (CheckVerdict.UNJUDGED, "not comparable with later.json: CPU 2 → CPU 1")


def test_a_machine_that_lacked_something_still_lacks_it_and_a_part_is_still_a_part():
    lacking = Qualification(Standing.NOT_QUALIFIED, ("7 of 8",), "", lacking=("7 of 8",))
    assert judged(check(), qualification=lacking).qualification.standing is Standing.NOT_QUALIFIED
    assert judged(check(), complete=False).qualification.standing is Standing.INCONCLUSIVE


@pytest.mark.parametrize(
    ("standings", "code"),
    [("QUALIFIED", 0), ("PARTLY QUALIFIED", 10), ("INCONCLUSIVE", 10), ("NOT QUALIFIED", 1),
     ("QUALIFIED,PARTLY QUALIFIED", 10), ("INCONCLUSIVE,NOT QUALIFIED,QUALIFIED", 1)],
)  # fmt: skip
def test_the_exit_code_is_that_of_the_worst_machine(standings, code):
    assert standing_exit(map(Standing, standings.split(","))) == code


def test_only_a_qualification_can_be_judged_by_a_spec():
    with pytest.raises(RecordError, match=r"a.json: not a qualification, so that no spec can judge it"):
        judged(qualification=None)


def test_what_no_spec_judges_stays_as_it_is():
    other = Check("errors", "cpu", CheckVerdict.UNJUDGED, value=3.0, unit="errors", low=3.0, high=3.0, reason="why")
    bare = [check(low=None, high=None), check(unit=""), check(value=0.0, low=None, unit="")]
    assert judged(other, *bare).checks == (other, *bare)


def test_a_machine_of_which_not_all_was_judged_is_qualified_in_part_only():
    whole = structs.replace(BEFORE, selection=())
    found = judged(check(), qualification=whole).qualification
    assert found.standing is Standing.PARTLY
    (said,) = found.reasons  # the GPU is absent
    assert said.startswith("not judged on cpu, and required of its kind (CPU): preconditions, matmul fp32, ")
    assert judged(check(), qualification=whole, complete=False).qualification.standing is Standing.INCONCLUSIVE


def stored(standing, *checks, **perf):
    found = None if standing is None else Qualification(standing, (), "")
    return Run("a.json", "", (), perf=PERF | perf, checks=checks, qualification=found)


def every_check():
    return [
        Check(name, "cpu", CheckVerdict.PASS, variant)
        for name, variants in required_of("cpu", "CPU 1").checks.items()
        for variant in variants
    ]


def test_a_stored_qualified_is_partly_qualified_where_todays_rules_ask_for_more():
    checks = every_check()
    assert lacking_today(stored(Standing.QUALIFIED, *checks)) == []
    assert today(stored(Standing.QUALIFIED, *checks)).standing is Standing.QUALIFIED
    older = stored(Standing.QUALIFIED, *checks[:-1])
    assert lacking_today(older) == ["not judged on cpu, and required of its kind (CPU): loader supply"]
    assert today(older).standing is Standing.PARTLY
    assert today(stored(Standing.NOT_QUALIFIED, *checks[:-1])).standing is Standing.NOT_QUALIFIED
    assert today(stored(None)) is None
    for unknown in (None, ["cpu"], {}):  # a record may hold anything
        assert lacking_today(stored(Standing.QUALIFIED, devices=unknown)) == []
    assert len(lacking_today(stored(Standing.QUALIFIED, devices={"cpu": "CPU", "cuda": {"name": "H200"}}))) == 2


def test_a_value_that_is_missing_is_said_and_not_a_bar():
    missing = replace(check(), value=None, low=None, high=None, reason=NO_BAR)
    assert judged(missing).checks[0].reason == "the record has no value"
