"""What a reviewer reads: the summary of a gate, whatever its size and its names, and GitHub's annotations."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.record import Benchmark, Case, Run
from perf.harness.record.judgement import GateRun, Judgement, Verdict
from perf.harness.report import render, summary_page, workflow_commands
from perf.harness.report.reviewer import MARKER, MOST_BYTES

GATE = GateRun(
    base="main (0123456789)", head="the working tree x at 9876543210", min_effect=0.025, seconds=33.0, threads=1,
    others_cores=0.04, notes=("torch: base 2.11, head 2.15",), command="pytest perf/ --perf-against=main",
)  # fmt: skip
PERF = {"environment": {"cpu_model": "EPYC", "cpu_cores": 2, "torch": "2.15"}, "settings": {"seed": 0}}


def judged(name, verdict, ratio=None, **rest):
    known = {"ratio": ratio, "base_s": 1e-3, "head_s": ratio and ratio * 1e-3, "launches": 4} if ratio else {}
    known |= {"low": 0.99 * ratio, "high": 1.01 * ratio} if ratio else {}
    return Judgement(f"perf/test_{name.split('[')[0]}.py::test_{name}", verdict, **known | rest)


def run(*judgements, gate=GATE, cases=(), **rest):
    return Run(
        "gate.json", "2026-11-27T10:00:00", (), tuple(cases), perf=PERF, judgements=judgements, gate=gate, **rest
    )


SAME = judged("inference[cpu-bs64]", Verdict.SAME, 1.001)
SLOWER = judged("training_step[cpu-bs64]", Verdict.SLOWER, 1.22)
SKIPPED = Case("perf/test_epoch.py::test_epoch[cuda]", "skipped", "cuda: no driver")

TEXT = r"""<!-- stepwatch -->
## Stepwatch: 1 SLOWER · 1 SAME

The gate fails: exit code 1.\
base: main (0123456789); head: the working tree x at 9876543210.\
Machine: EPYC, 2 cores; torch 2.15.

torch: base 2.11, head 2.15.

### What changed

| benchmark                  |      base → head |              change |   pairs | verdict   |
|:---------------------------|-----------------:|--------------------:|--------:|:----------|
| training\_step\[cpu-bs64\] | 1.00 ms → 1.22 ms | +22% \[+21%, +23%\] |       4 | SLOWER    |

If that is intended, say so in the last lines of a commit message, with your reason:

    Perf-Accept: training_step[cpu-bs64]: REASON

<details><summary>All 2 benchmarks</summary>

| benchmark                  |       base → head |                 change |   pairs | verdict   |
|:---------------------------|------------------:|-----------------------:|--------:|:----------|
| training\_step\[cpu-bs64\] | 1.00 ms → 1.22 ms |    +22% \[+21%, +23%\] |       4 | SLOWER    |
| inference\[cpu-bs64\]      | 1.00 ms → 1.00 ms | +0.1% \[-0.9%, +1.1%\] |       4 | SAME      |

change: from base's time to head's; \[…\]: the 98% interval of the change.

compared 2 · missing 0 · new 0\
1 SLOWER · 1 SAME

</details>

<details><summary>Not judged: 1 skipped</summary>

cuda: no driver: epoch\[cuda\]

</details>

<details><summary>Machine, load and settings</summary>

    cpu       EPYC, 2 cores
    software  torch 2.15
    run       2026-11-27 10:00:00
    settings  seed=0

SLOWER: slower by 2.5% or more. SAME: a slowdown of 5.0% is ruled out.\
Measured for 33 s with 1 thread; other programs used 0.0 cores.

</details>

<details><summary>The command</summary>

    pytest perf/ --perf-against=main

</details>
"""


def plain(text):
    """`text` with single spaces in tables, whose widths do not matter."""
    return re.sub(r"-+", "-", re.sub(r"  +", "  ", text))


def test_a_summary_has_the_verdict_first_and_folds_what_did_not_change():
    assert plain(summary_page(run(SAME, SLOWER, cases=[SKIPPED]))) == plain(TEXT)


def test_a_summary_says_once_why_something_is_undecided_and_counts_what_was_skipped():
    undecided = judged(
        "epoch[cpu-bs64]", Verdict.INCONCLUSIVE, 1.01, reason="16 pairs differ", smallest_detectable=1.08
    )
    text = summary_page(run(undecided, cases=[SKIPPED]))
    shown, folded = text.split("<details>", 1)
    assert "16 pairs differ" in shown and "16 pairs differ" not in folded
    assert "INCONCLUSIVE: give the gate more time" in shown and "pairs would show: epoch\\[cpu-bs64\\] 8%." in shown
    assert "<summary>Not judged: 1 skipped</summary>" in folded
    assert "<summary>The benchmark</summary>" in folded
    both = summary_page(run(undecided, SAME))
    assert "Not judged" not in both and both.count("16 pairs differ") == 1


def test_a_summary_of_no_change_says_so_and_shows_no_table_but_the_folded_one():
    head = summary_page(run(SAME)).partition("<details>")[0]
    assert head.splitlines()[1] == "## Stepwatch: nothing changed in 1 benchmark"
    assert "|" not in head and "Perf-Accept" not in head and "The gate passes: exit code 0." in head


def test_a_summary_of_nothing_says_so():
    assert "Nothing was measured" in summary_page(Run("x.json", "", ()))


def test_a_run_that_did_not_finish_is_partial():
    assert "## Stepwatch: PARTIAL, 1 SLOWER\n" in summary_page(run(SLOWER, complete=False))


UNDECIDED = judged("training_step[cpu-bs64]", Verdict.INCONCLUSIVE, 1.02, reason="noise", smallest_detectable=1.07)


@pytest.mark.parametrize(
    ("judgement", "gate", "says"),
    [
        (SLOWER, {"on_slower": "warn"}, "--perf-gate=warn: 1 of them would fail the run."),
        (
            UNDECIDED,
            {},
            "Nothing failed, but 1 benchmark could not be decided: exit code 10. ",
        ),
        (UNDECIDED, {"on_inconclusive": "fail"}, "The gate fails, as --perf-inconclusive=fail says: exit code 1."),
        (UNDECIDED, {}, "INCONCLUSIVE: give the gate more time, fewer benchmarks, or a quieter machine."),
        (
            replace(UNDECIDED, low=1.026),
            {},
            "With few pairs, an interval above 2.5% is not enough: the first looks ask",
        ),
        (UNDECIDED, {}, "The smallest slowdown that 16 pairs would show: training\\_step\\[cpu-bs64\\] 7%."),
        (judged("x", Verdict.INVALID, reason="it crashed"), {}, "INVALID: head does not work, or does not train."),
    ],
)
def test_a_summary_says_what_the_verdict_does_and_what_to_do(judgement, gate, says):
    made = run(judgement)
    assert says in summary_page(
        replace(made, gate=GateRun(**{f: getattr(GATE, f) for f in GATE.__struct_fields__} | gate))
    )


def test_an_interval_that_is_not_above_the_smallest_slowdown_needs_no_explanation():
    for low in (1.024, 0.9, None):
        assert "With few pairs" not in summary_page(run(replace(UNDECIDED, low=low)))
    assert "With few pairs" not in summary_page(run(replace(SLOWER, low=1.026)))


def test_what_is_undecided_and_may_pass_is_not_said_to_fail():
    gate = GateRun(base="a", head="b", on_inconclusive="pass")
    assert "The gate passes: exit code 0." in summary_page(run(UNDECIDED, gate=gate))


HOSTILE = (
    "<script>alert(1)</script>", "</details></style>", "a|b", "`x`", "@team", "https://evil.example/x",
    "www.evil.example", "#12", "!7", "a@b.example", "\x1b[31mred", "\u202etxt", "n" * 10_000, "::error::x", "\n## Big",
    "-->", "$(rm)", "é" * 90,
)  # fmt: skip


def test_hostile_names_neither_mark_up_nor_mention_nor_link_nor_break_out():
    made = [judged(f"{name}[{number}]", Verdict.SLOWER, 1.5, reason=name) for number, name in enumerate(HOSTILE)]
    text = summary_page(run(*made, gate=GateRun(base=HOSTILE[0], head="@team", notes=HOSTILE, command=HOSTILE[4])))
    said = "\n".join(line for line in text.splitlines() if not line.startswith("    "))  # code stays as it is
    assert said.count("<details>") == said.count("</details>")
    said = re.sub(r"\\[<>#]", "", said)  # escaped
    for mark in ("<script", "</style>", "@team", "://", "www.", "#12", "!7", "a@b", "\x1b", "\u202e", "\n## Big"):
        assert mark not in said
    assert len(text.encode()) < MOST_BYTES


@pytest.mark.parametrize("count", [1, 16, 1000])
@pytest.mark.parametrize("verdict", [Verdict.SAME, Verdict.SLOWER, Verdict.INVALID])
def test_a_summary_fits_into_a_comment_whatever_comes(count, verdict):
    made = [judged(f"step[{'@|' * 200}{i}]", verdict, 1.5, reason=f"{i} {'x|' * 300}") for i in range(count)]
    cases = [Case(f"x[{i}]", "skipped", f"why {i} {'é' * 200}") for i in range(count)]
    text = summary_page(
        run(*made, cases=cases, gate=GateRun(base="b" * 9999, head="h" * 9999, notes=("n" * 9999,) * count))
    )
    assert len(text.encode()) < MOST_BYTES
    assert text.startswith(f"{MARKER}\n## Stepwatch: ")
    if count == 1000:
        assert " rows more, which are in the record." in text


@given(st.lists(st.text(), max_size=30), st.sampled_from(Verdict))
def test_any_names_make_a_summary_that_fits(names, verdict):
    made = [judged(name, verdict, reason=name) for name in names]
    text = summary_page(run(*made, cases=[Case(name, "skipped", name) for name in names]))
    assert len(text.encode()) < MOST_BYTES and text.startswith(MARKER)


def test_a_long_report_of_measured_times_is_cut_at_a_line():
    many = tuple(Benchmark(f"test_{i}", f"x.py::test_{i}", None, (), 1, {"median": 1e-3}) for i in range(5000))
    text = summary_page(Run("x.json", "", many))
    assert text.startswith(MARKER) and len(text.encode()) < MOST_BYTES
    assert text.endswith("\n\nThe rest is in the record: python -m perf report FILE\n")


def test_a_comparison_with_stored_runs_has_its_measurements_folded():
    measured = Benchmark("test_step", SAME.name, None, (), 1, {"median": 1e-3})
    made = replace(run(SAME, gate=None), benchmarks=(measured,), perf=PERF | {"against": "the newest 5 whole runs"})
    text = summary_page(made)
    assert "base: the newest 5 whole runs." in text and "|   runs | verdict" in plain(text).replace("  ", "   ")
    assert "<details><summary>All measurements</summary>" in text and "Other benchmarks" in text


def test_the_report_of_the_record_is_the_summary():
    made = run(SAME, SLOWER, cases=[SKIPPED])
    assert render([made], format="github") + "\n" == summary_page(made)


def test_annotations_are_errors_and_warnings_in_one_line_each():
    undecided = replace(UNDECIDED, name="x.py::test_epoch[cpu]")
    lines = workflow_commands([SAME, undecided, SLOWER, judged("a%b,c:d\n[x]", Verdict.INVALID, reason="50%\nof")])
    assert lines == [
        "::error title=Stepwatch%3A training_step[cpu-bs64]::SLOWER: 1.00 ms → 1.22 ms, +22%25 [+21%25, +23%25]",
        "::error title=Stepwatch%3A a%25b%2Cc%3Ad\\n[x]::INVALID: 50%25\\nof",
        "::warning title=Stepwatch%3A epoch[cpu]::INCONCLUSIVE: 1.00 ms → 1.02 ms, +2.0%25 [+1.0%25, +3.0%25]: noise",
    ]


def test_there_are_no_more_annotations_than_github_shows():
    lines = workflow_commands([judged(f"step[{i:02}]", Verdict.SLOWER, 1.5) for i in range(25)])
    assert len(lines) == 10
    assert lines[-1] == "::error title=Stepwatch%3A 16 more::step[09], step[10], step[11] and 13 more"
