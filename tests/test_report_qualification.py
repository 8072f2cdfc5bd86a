"""The page of a qualification: the table, what was measured, where the bars come from, the banner."""

import csv
import json
import math
import re
from dataclasses import replace

import pytest

from perf.harness.record.check import Check, CheckVerdict, Qualification, Standing
from perf.harness.record.read import RecordError, parse
from perf.harness.record.run import Run
from perf.harness.record.spec import Reference, Spec
from perf.harness.report import render
from perf.harness.report.layout import page
from perf.harness.report.qualification import check_line, metric, qualification_blocks, references, value
from perf.harness.verdict.by_spec import spec_bar
from perf.harness.verdict.machine import qualification_of as judge_all
from tests.report_runs import benchmark
from tests.report_runs import run as benchmark_run

PASS, FAIL, UNSUPPORTED = CheckVerdict.PASS, CheckVerdict.FAIL, CheckVerdict.UNSUPPORTED
CHECKS = [
    Check(
        "matmul",
        "cpu",
        PASS,
        "fp32",
        1.23e11,
        "FLOP/s",
        1.2e11,
        1.26e11,
        7.8e10,
        "50% of what it can",
        note="1024×1024",
    ),
    Check("memory", "cpu", FAIL, "copy", 1.8e10, "B/s", 1.7e10, 1.9e10, 2.2e10, "92% of a.json", "twice beyond"),
    Check("memory", "cpu", PASS, "triad", 2.8e10, "B/s", 2.7e10, 2.9e10, 2.2e10, "92% of a.json"),
    Check("launch", "cpu", UNSUPPORTED, "p50", 1.3e-6, "s", 1.2e-6, 1.4e-6, reason="nothing to judge it by"),
    Check("replay", "cpu", PASS, value=0, unit="mismatches", bar=0, bar_source="the same bits"),
]
GOOD = Qualification(Standing.INCONCLUSIVE, (), "Nothing.")
PAGE = """\
Checks

verdict      check         device              value           bar
-----------  ------------  ------  -----------------  ------------
FAIL         memory copy   cpu       18.0 GB/s ±5.6%     22.0 GB/s
UNSUPPORTED  launch p50    cpu         1.30 µs ±7.7%             –
PASS         matmul fp32   cpu     123 GFLOP/s ±2.4%  78.0 GFLOP/s
PASS         memory triad  cpu       28.0 GB/s ±3.6%     22.0 GB/s
PASS         replay        cpu          0 mismatches  0 mismatches

±: half the 95% interval of the median of the repetitions, as a share of it.

launch p50: nothing to judge it by.

matmul fp32: 1024×1024.

bar of memory copy, memory triad: 92% of a.json.
bar of matmul fp32: 50% of what it can.
bar of replay: the same bits.

NOT QUALIFIED: 1 FAIL · 3 PASS · 1 UNSUPPORTED

memory copy on cpu: twice beyond

Next: Attach the file to the ticket. Start with the first reason. It may have caused the others."""


def render_qualification(checks, found, *, width):
    return page(qualification_blocks(checks, found), width)


def test_the_page():
    assert render_qualification(CHECKS, judge_all(CHECKS), width=100) == PAGE


STEP = {
    "flop_per_step": 26_000_000, "bytes_per_step": 2_600_000, "ops_per_step": 15, "flop_per_byte": 10.0,
    "achieved_flop_per_s": 4e10, "possible_flop_per_s": 8e10, "share_of_possible": 0.5, "bound_by": "memory",
    "peak_flop_per_s": 1.2e11, "peak_source": "matmul fp32 of this run", "memory_bytes_per_s": 8e9,
    "memory_source": "memory copy of this run", "launch_s": 1e-6,
}  # fmt: skip
NOWHERE = {key: None for key in STEP} | {"bytes_per_step": 1, "flop_per_byte": 0.0, "achieved_flop_per_s": 0.0}
STEPS = [
    Check("step", "cpu", UNSUPPORTED, "bs64", details=STEP),
    Check("step", "cpu", PASS, "bs512", details=STEP | {"share_of_possible": 1.25, "bound_by": "caches"}),
]
ROOFLINE = """\
Roofline

step        device  FLOP/byte      achieved      possible  share  bound by
----------  ------  ---------  ------------  ------------  -----  --------
step bs64   cpu          10.0  40.0 GFLOP/s  80.0 GFLOP/s    50%  memory
step bs512  cpu          10.0  40.0 GFLOP/s  80.0 GFLOP/s   125%  caches

FLOP: those of matrix products, convolutions and attention. Bytes: what the operations read and
write, as if caches kept nothing.
limits of cpu: 120 GFLOP/s (matmul fp32 of this run), 8.00 GB/s (memory copy of this run).

INCONCLUSIVE:"""


PHASES = {"phase_data_wait": 0.125, "phase_forward": 0.5, "phase_backward": 0.375}


def test_where_the_time_of_a_step_goes_is_a_table_of_its_phases():
    text = render_qualification([replace(STEPS[0], details=STEP | PHASES), STEPS[1]], GOOD, width=100)
    table = """\
Where the time of an epoch of these steps goes

step       device  data wait  forward  backward
---------  ------  ---------  -------  --------
step bs64  cpu           12%      50%       38%

data wait, copy: the input pipeline. The samples/s of the steps do not include them.
"""
    assert table in text
    assert "Where the time" not in render_qualification(STEPS, GOOD, width=100)


def test_the_steps_are_shown_under_their_roofline():
    assert ROOFLINE in render_qualification([*STEPS, *CHECKS[3:4]], GOOD, width=100)


def test_what_bounds_a_step_beside_other_programs_is_not_known():
    crowded = [replace(step, crowding=0.3) for step in STEPS]
    shown = render_qualification([*crowded, *CHECKS[3:4]], GOOD, width=100).splitlines()
    rows = [line for line in shown[shown.index("Roofline") :] if line.startswith("step bs")]
    assert rows and all(row.endswith("  –") for row in rows)


def test_a_step_with_nothing_to_hold_it_against_says_so():
    text = render_qualification([replace(STEPS[0], details=NOWHERE)], GOOD, width=100)
    assert "step bs64  cpu             0  0 FLOP/s         –      –  –" in text
    assert "A step without a share has no limit: this run did not measure matmul and memory" in text
    assert "limits of cpu" not in text


@pytest.mark.parametrize(
    "details", [{}, {"bytes_per_step": "many"}, {"bytes_per_step": 1, "share_of_possible": "x", "bound_by": 3}]
)
def test_details_of_a_stranger_are_no_error(details):
    render_qualification([replace(STEPS[0], details=details)], GOOD, width=100)


def test_what_is_said_of_several_checks_is_said_once_with_their_devices_where_there_are_several():
    same = [
        replace(CHECKS[3], variant=variant, device=device) for variant in ("p50", "p99") for device in ("cpu", "cuda")
    ]
    text = render_qualification(same, GOOD, width=100)
    assert "launch p50 on cpu and cuda, launch p99 on cpu and cuda: nothing to judge it by." in text
    text = render_qualification(same[::2], GOOD, width=100)
    assert "launch p50, launch p99: nothing to judge it by." in text


@pytest.mark.parametrize("width", [45, 60, 80])
def test_a_narrow_page_keeps_every_verdict(width):
    text = render_qualification(CHECKS, judge_all(CHECKS), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("PASS") >= 3 and "UNSUPPORTED" in text and "NOT QUALIFIED" in text


@pytest.mark.parametrize("width", [45, 60, 80, 100])
@pytest.mark.parametrize("devices", [1, 2])
def test_no_page_is_so_narrow_that_a_value_is_cut(width, devices):
    """And each value has its bar."""
    long = [replace(one, device=name) for one in CHECKS for name in ("cpu", "cuda:0")[:devices]]
    long.append(
        Check("step", "cpu", PASS, "bs4096", value=49_100.0, low=48_100, high=50_100, unit="samples/s", bar=4.4e4)
    )
    text = render_qualification(long, GOOD, width=width)
    assert max(map(len, text.splitlines())) <= width
    rows = text[: text.index("±: half")]
    for check in long:
        assert value(check) in rows
        if check.bar is not None:
            assert metric(check.bar, check.unit) in rows


def test_on_a_narrow_page_names_of_checks_are_shortened_before_the_table_is_given_up():
    long = [replace(PASSED, variant="of a long name" * 4, device=name, bar=0.5) for name in ("cpu", "cuda:0")]
    text = render_qualification(long, GOOD, width=80)
    assert re.search(r"^PASS +memory of a.*….* cuda:0 ", text, re.MULTILINE)


def test_nothing_at_all_is_said_so():
    text = render_qualification([], judge_all([]), width=80)
    assert "INCONCLUSIVE: no check ran" in text


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (1.23e12, "FLOP/s", "1.23 TFLOP/s"), (2.5e10, "B/s", "25.0 GB/s"), (8.12e-6, "s", "8.12 µs"),
        (0.998, "", "0.998"), (3, "errors", "3 errors"), (None, "s", "–"), (0, "mismatches", "0 mismatches"),
    ],
)  # fmt: skip
def test_a_number_stands_in_its_unit(number, unit, text):
    assert metric(number, unit) == text


def test_a_check_in_one_line():
    assert check_line(CHECKS[1]) == "FAIL: 18.0 GB/s ±5.6%, bar 22.0 GB/s: twice beyond"
    assert check_line(CHECKS[3]) == "UNSUPPORTED: 1.30 µs ±7.7%: nothing to judge it by"
    planted = Check("matmul", "cpu", FAIL, reason="slow", injected="matmul:slow")
    assert check_line(planted) == "INJECTED matmul:slow: FAIL: slow"


def test_a_value_of_zero_has_no_relative_interval():
    assert value(Check("a", "cpu", PASS, value=0.0, low=0.0, high=0.0)) == "0"


@pytest.mark.parametrize("width", [45, 60])
def test_a_narrow_roofline_keeps_shares_and_bounds(width):
    text = render_qualification(STEPS, GOOD, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "125%  caches" in text and "Columns left out at this width" in text


def document(**perf):
    return {"benchmarks": [], "perf": {"schema_version": 1, **perf}}


def record(checks=CHECKS, found=None):
    found = found or judge_all(checks)
    return document(checks=[check.as_record() for check in checks], qualification=found.as_record())


def fleet():
    """Two records of one kind of machine, of which the second one is good."""
    good = [replace(check, verdict=CheckVerdict.PASS, reason="") for check in CHECKS]
    runs = [record(), record(good, judge_all(good))]
    for number, one in enumerate(runs):
        one["perf"] |= {"host_name": f"node{number}", "fingerprint_id": "same"}
    return [parse(json.dumps(one), f"{number}.json") for number, one in enumerate(runs)]


def test_several_machines_have_a_table_of_their_verdicts_and_are_not_called_one():
    text = render(fleet()[::-1])
    assert "B  0.json (same kind of machine and settings as A)" in text
    table = text[text.index("Machines\n") :].splitlines()
    assert [line.split()[:3] for line in table[4:6]] == [["B", "node0", "NOT"], ["A", "node1", "QUALIFIED"]]
    assert table[7].startswith("B: ") and table[7] != "B: "
    assert "Machines" not in render(fleet()[:1])
    assert "\nA, B: memory copy on cpu: twice beyond (82% of its bar)" in render(fleet()[:1] * 2)


def test_what_a_good_machine_notes_is_no_reason_for_its_verdict_and_one_without_a_name_is_its_file():
    noted = Qualification(Standing.QUALIFIED, ("cuda was not checked",), "Nothing to do.")
    runs = [replace(one, qualification=noted) for one in fleet()]
    unnamed = [replace(one, perf=one.perf | {"host_name": ""}) for one in runs]
    table = render(unnamed)
    table = table[table.index("Machines\n") :]
    assert "cuda was not checked" not in table
    assert [line.split()[1] for line in table.splitlines()[4:6]] == ["0.json", "1.json"]


def test_the_reasons_that_a_fleet_has_no_room_for_are_counted_and_no_word_is_broken():
    reasons = ("too slow", "too hot", "too old", "no GPU")
    verdict = Qualification(Standing.NOT_QUALIFIED, reasons, "Repair it.", notes=reasons[-1:])
    runs = [replace(one, qualification=verdict) for one in fleet()]
    text = render(runs, width=40)
    assert "\nA, B: too slow (and 2 more reasons)" in text
    words = {word for one in text[text.index("Machines\n") :].splitlines() for word in one.split()}
    assert {"NOT", "QUALIFIED", "UNSUPPORTED"} <= words


@pytest.mark.parametrize("format", ["json", "csv"])
def test_each_check_is_a_row_for_other_programs(format):
    text = render(fleet(), format=format)
    rows = json.loads(text) if format == "json" else list(csv.DictReader(text.splitlines()))
    assert len(rows) == 2 * len(CHECKS)
    first, check = rows[0], CHECKS[0]
    assert (first["file"], first["host"], first["qualification"]) == ("0.json", "node0", "NOT QUALIFIED")
    assert (first["name"], first["verdict"], first["unit"]) == (check.name, str(check.verdict), check.unit)
    assert float(first["value"]) == check.value
    assert first["qualification_reasons"] == "; ".join(judge_all(CHECKS).reasons) != ""
    assert rows[-1]["qualification"] == "QUALIFIED"
    mixed = json.loads(render([*fleet(), benchmark_run(benchmark("epoch"))], format="json"))
    assert len(mixed) == 2 * len(CHECKS) + 1 and len({tuple(row) for row in mixed}) == 1  # the same keys in each row


def test_what_is_recorded_is_read_and_reported():
    run = parse(json.dumps(record()), "q.json")
    assert list(run.checks) == CHECKS
    assert parse(json.dumps(record(STEPS)), "q.json").checks[1].details == STEPS[1].details
    assert run.qualification == judge_all(CHECKS)
    text = render([run])
    assert "NOT QUALIFIED: 1 FAIL" in text and "memory copy" in text
    assert "Nothing was measured" not in text
    assert "NOT QUALIFIED" in render([run], format="github")


CHECK = CHECKS[0].as_record()
STANDING = Qualification(Standing.QUALIFIED, (), "Nothing.").as_record()


@pytest.mark.parametrize(
    ("perf", "says"),
    [
        ({"checks": {}}, "perf.checks: expected a list"),
        ({"checks": [1]}, "perf.checks[0]: expected an object"),
        ({"checks": [CHECK | {"verdict": "GOOD"}]}, 'perf.checks[0].verdict: "GOOD" is unknown to this version'),
        ({"checks": [CHECK | {"value": "fast"}]}, 'perf.checks[0].value: expected a number, found "fast"'),
        ({"checks": [CHECK | {"device": None}]}, "perf.checks[0].device: expected a text"),
        ({"checks": [CHECK | {"unit": 3}]}, "perf.checks[0].unit: expected a text"),
        ({"checks": [CHECK | {"details": []}]}, "perf.checks[0].details: expected an object"),
        ({"checks": [CHECK | {"details": {"a": {}}}]}, "perf.checks[0].details.a: expected one value"),
        ({"qualification": []}, "perf.qualification: expected an object"),
        ({"checks": [CHECK]}, "perf.qualification: is missing; the file was changed, so measure again"),
        (
            {"qualification": STANDING | {"verdict": "FINE"}},
            'perf.qualification.verdict: "FINE" is unknown to this version',
        ),
        ({"qualification": STANDING | {"reasons": "no"}}, "perf.qualification.reasons: expected a list"),
        ({"qualification": {"verdict": "QUALIFIED", "reasons": []}}, "perf.qualification.next_action: is missing"),
    ],
)
def test_a_damaged_record_is_refused_with_the_place(perf, says):
    with pytest.raises(RecordError) as caught:
        parse(json.dumps(document(**perf)), "q.json")
    assert says in str(caught.value)


UNCLEAR = CheckVerdict.INCONCLUSIVE
PASSED = Check("memory", "cpu", CheckVerdict.PASS, "copy")


@pytest.mark.parametrize(
    ("standing", "checks", "complete", "says"),
    [
        (Standing.QUALIFIED, [PASSED, replace(PASSED, variant="", verdict=FAIL)], True, "memory on cpu is FAIL"),
        (Standing.NOT_QUALIFIED, [replace(PASSED, verdict=FAIL)] * 2, True, "memory copy on cpu stands twice"),
        (Standing.QUALIFIED, [replace(PASSED, value=0.9, bar=1.0, want="at least")], True, "a value beyond its bar"),
        (Standing.QUALIFIED, [replace(PASSED, value=7, bar=0, want="at most")], True, "a value beyond its bar"),
        (Standing.QUALIFIED, [replace(PASSED, value=None, bar=1.0)], True, "is PASS with a bar and no value"),
        (Standing.QUALIFIED, [replace(PASSED, value=math.nan, bar=1.0)], True, "is PASS with a bar and no value"),
        (Standing.QUALIFIED, [replace(PASSED, value=-7, bar=0, want="at most")], True, "is PASS with a value below 0"),
        (Standing.QUALIFIED, [replace(PASSED, value=5.0, low=9.0, high=1.0)], True, "outside its own interval"),
        (Standing.QUALIFIED, [replace(PASSED, value=5.0, low=5.0 + 1e-12, high=5.0 + 2e-12)], True, ""),
        (Standing.QUALIFIED, [replace(PASSED, value=1.0, bar=1.0, want="at least")], True, ""),
        (Standing.QUALIFIED, [replace(PASSED, value=0, bar=0, want="at most")], True, ""),
        (Standing.PARTLY, [replace(PASSED, verdict=FAIL)], True, "memory copy on cpu is FAIL"),
        (Standing.INCONCLUSIVE, [replace(PASSED, verdict=FAIL)], True, "memory copy on cpu is FAIL"),
        (Standing.NOT_QUALIFIED, [replace(PASSED, verdict=FAIL)], True, ""),
        (Standing.QUALIFIED, [replace(PASSED, verdict=UNCLEAR)], True, "memory copy on cpu is INCONCLUSIVE"),
        (Standing.PARTLY, [replace(PASSED, verdict=UNCLEAR)], True, "memory copy on cpu is INCONCLUSIVE"),
        (Standing.INCONCLUSIVE, [replace(PASSED, verdict=UNCLEAR)], True, ""),
        (Standing.QUALIFIED, [replace(PASSED, injected="memory:slow")], True, "is PASS (INJECTED memory:slow)"),
        (Standing.INCONCLUSIVE, [replace(PASSED, injected="memory:slow")], True, ""),
        (Standing.QUALIFIED, [PASSED], False, "the run did not finish"),
        (Standing.INCONCLUSIVE, [PASSED], False, ""),
        (Standing.PARTLY, [replace(PASSED, verdict=CheckVerdict.UNJUDGED)], True, "no check was judged"),
        (Standing.QUALIFIED, [], True, "no check was judged"),
        (Standing.QUALIFIED, [PASSED, replace(PASSED, variant="", verdict=CheckVerdict.UNJUDGED)], True, ""),
    ],
)  # fmt: skip
def test_a_verdict_that_the_checks_of_its_record_contradict_is_refused(standing, checks, complete, says):
    told = record(checks)
    told["perf"] |= {"complete": complete, "qualification": Qualification(standing, (), "Nothing.").as_record()}
    if not says:
        assert parse(json.dumps(told), "q.json").qualification.standing is standing
        return
    with pytest.raises(RecordError) as caught:
        parse(json.dumps(told), "q.json")
    assert str(caught.value).startswith(f"q.json: perf.qualification.verdict: {standing}, but ")
    assert says in str(caught.value) and "the file was changed, so measure again" in str(caught.value)


def test_what_was_qualified_by_the_rules_of_an_older_version_says_so():
    told = record([PASSED])
    told["perf"] |= {"qualification": Qualification(Standing.QUALIFIED, (), "Nothing.").as_record()}
    told["perf"] |= {"devices": {"cpu": {"name": "CPU"}, "cuda": {"absent": "no driver"}}}
    text = " ".join(render([parse(json.dumps(told), "q.json")]).split())
    rest = "preconditions, matmul fp32, memory triad, cores, patterns, sustained, numerics, replay self, loader"
    lacking = f"not judged on cpu, and required of its kind (CPU): {rest}"
    said = "stored as QUALIFIED, and PARTLY QUALIFIED by the rules of this version: not"
    assert f"{said.removesuffix('not')}{lacking}" in text
    (row,) = json.loads(render([parse(json.dumps(told), "q.json")], format="json"))
    assert row["qualification"] == "PARTLY QUALIFIED" and row["qualification_reasons"].startswith(said)
    both = render([parse(json.dumps(told), "q.json"), parse(json.dumps(told), "r.json")], width=1000)
    assert f"A, B: {said.removesuffix('not')}{lacking}" in both
    assert both.count("PARTLY QUALIFIED  1 PASS\n") == 2
    told["perf"] |= {"qualification": Qualification(Standing.PARTLY, (), "Nothing.").as_record()}
    assert "by the rules" not in render([parse(json.dumps(told), "q.json")])


def test_a_run_with_a_planted_fault_is_marked_wherever_its_verdict_is():
    drill = replace(PASSED, injected="memory:slow")
    runs = [replace(one, checks=(drill,), qualification=judge_all([drill])) for one in fleet()]
    text = render(runs)
    assert text.count("INCONCLUSIVE (INJECTED): 1 PASS") == 2  # below the checks of each
    assert text.count("INCONCLUSIVE (INJECTED)  1 PASS") == 2  # among the machines
    rows = json.loads(render(runs, format="json"))
    assert {row["qualification"] for row in rows} == {"INCONCLUSIVE (INJECTED)"}


@pytest.mark.parametrize("odd", [None, 3, {"host": 3}, {"host": {"known": []}}, {"host": {"known": {}}}])
def test_the_machine_is_identified_above_the_checks_if_the_record_says_it(odd):
    known = {"vendor": "Dell Inc.", "serial": "7XKQ9Z3", "governor": "performance"}
    told = record() | {}
    told["perf"]["hardware"] = {"host": {"known": known, "unknown": {}}, "cuda:0": {"known": {"UUID": "GPU-1"}}}
    lines = render([parse(json.dumps(told), "q.json")]).splitlines()
    assert (
        lines.index("host: vendor Dell Inc., serial 7XKQ9Z3")
        < lines.index("cuda:0: UUID GPU-1")
        < lines.index("Checks")
    )
    told["perf"]["hardware"] = odd
    assert "host:" not in render([parse(json.dumps(told), "q.json")])


def test_a_second_measurement_is_shown_beside_the_first():
    twice = Check("matmul", "cpu", FAIL, "fp32", 8e10, "FLOP/s", 7.9e10, 8.1e10, 9e10, "x", "slow", want="at least",
                  again=8.2e10, again_low=8.1e10, again_high=8.3e10)  # fmt: skip
    text = render([parse(json.dumps(record([twice])), "q.json")])
    assert "matmul fp32, measured again: 82.0 GFLOP/s ±1.2%." in text and "≥ 90.0 GFLOP/s" in text
    third = replace(twice, third=5.92e10, third_low=5.6e10, third_high=6.2e10)
    said = "matmul fp32, the middle of three measurements, the others: 82.0 GFLOP/s ±1.2% and 59.2 GFLOP/s ±5.1%."
    assert said in " ".join(render([parse(json.dumps(record([third])), "q.json")]).split())


def test_references_are_listed_with_their_bars_and_what_they_rest_on():
    key = {"device": "CPU 1"}
    found = (
        Reference("matmul", "fp32", "FLOP/s", 1.23e11, 0.02, 6, 5, key),
        Reference("launch", "p50", "s", 2e-6, 0.0, 3, 1, key),
    )
    spec = Spec("", found, {"simple_nn on digits": "0f"})
    bars = [spec_bar(one, "spec.json") for one in found]
    fine, lacking = (
        Qualification(Standing.QUALIFIED, ("no cuda",), ""),
        Qualification(Standing.PARTLY, ("no memory", "no x"), ""),
    )
    judged = [Run(name, "", (), qualification=one) for name, one in {"1": fine, "2": lacking, "3": fine}.items()]
    left_out = ["step bs64: node2 stands apart"]
    lines = references(spec, bars, "spec.json", 100, ["b.json: busy"], left_out, judged).splitlines()
    assert lines[4:7] == [
        "check        device       median  spread             rests on            bar",
        "-----------  ------  -----------  ------  -------------------  -------------",
        "matmul fp32  CPU 1   123 GFLOP/s    2.0%           5 machines  ≥ 113 GFLOP/s",
    ]
    assert lines[7].split() == [
        "launch",
        "p50",
        "CPU",
        "1",
        "2.00",
        "µs",
        "0%",
        "3",
        "runs",
        "of",
        "1",
        "machine",
        "≤",
        "2.50",
        "µs",
    ]
    assert {
        "skipped: b.json: busy",
        "left out: step bs64: node2 stands apart",
        "digest 0f: simple_nn on digits",
        "judged by this spec, 1, 3: QUALIFIED",
        "judged by this spec, 2: PARTLY QUALIFIED: no memory; no x",
    } <= set(lines)
    empty = references(Spec("", (), {"simple_nn on digits": "0f"}), (), "spec.json", 80)
    assert "References" not in empty and "Wrote spec.json. It has no bar, and would judge no rate and no time." in empty
    assert "It has no bar" not in " ".join(lines)
    other = replace(found[0], key=key | {"torch": "2.13"})
    assert "only for" not in " ".join(lines)
    both = Spec("", (*found, replace(found[0], key=key | {"torch": "2.11"}), other), {})
    told = references(replace(both, references=both.references[1:]), bars[:1] * 3, "spec.json", 100)
    (head,) = [line for line in told.splitlines() if line.startswith("check ")]
    of = slice(head.index("only for"), head.index("median"))
    rows = [line[of].split("  ")[0].strip() for line in told.splitlines() if " CPU 1 " in line]
    assert rows == ["–", "torch 2.11", "torch 2.13"]
