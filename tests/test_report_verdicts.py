"""Judgements in, text out: exact texts, the worst first, and what holds for any name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.harness.record import Case
from perf.harness.record.judgement import Judgement, Verdict
from perf.harness.record.run import short_name
from perf.harness.report.verdicts import change, judgement_counts, render_verdicts


def judged(name, verdict, ratio=None, reason="", base_s=1.23e-3, interval=True):
    head_s = base_s * ratio if ratio else None
    low, high = (0.99 * ratio, 1.01 * ratio) if ratio and interval else (None, None)
    full = f"perf/test_{name.split('[')[0]}.py::test_{name}"
    return Judgement(full, verdict, reason, ratio, low, high, base_s, head_s, 5)


FOUND = [
    judged("inference[cpu-bs64]", Verdict.SAME, 1.001),
    judged("training_step[cpu-bs64]", Verdict.SLOWER, 1.064),
    judged("training_step[cpu-bs512]", Verdict.SLOWER, 1.5),
    judged("epoch[cpu-bs64-dataloader]", Verdict.INCONCLUSIVE, 1.1, "5 stored runs differ by ±12%"),
    judged("epoch[cpu-bs64-workers]", Verdict.MISSING),
    judged("training_run[cpu]", Verdict.FASTER, 0.8, base_s=4.0),
    Judgement("perf/test_epoch.py::test_epoch[cpu-bs64-new]", Verdict.NEW, head_s=1.0),
]
SKIPPED = [Case(f"cuda {i}", "skipped", "no CUDA") for i in range(12)]

TEXT = """\
Stepwatch

Against 5 stored runs.

Verdicts

benchmark                         base → head                change  verdict
--------------------------  -----------------  --------------------  ------------
training_step[cpu-bs512]    1.23 ms → 1.84 ms     +50% [+48%, +52%]  SLOWER
training_step[cpu-bs64]     1.23 ms → 1.31 ms  +6.4% [+5.3%, +7.5%]  SLOWER
epoch[cpu-bs64-workers]           1.23 ms → –                     –  MISSING
epoch[cpu-bs64-dataloader]  1.23 ms → 1.35 ms    +10% [+8.9%, +11%]  INCONCLUSIVE
epoch[cpu-bs64-new]                – → 1.00 s                     –  NEW
training_run[cpu]             4.00 s → 3.20 s     -20% [-21%, -19%]  FASTER
inference[cpu-bs64]         1.23 ms → 1.23 ms  +0.1% [-0.9%, +1.1%]  SAME

epoch[cpu-bs64-dataloader]: 5 stored runs differ by ±12%

change: from base's time to head's; […]: the 98% interval of the change.

compared 5 · missing 1 · new 1 · skipped 12 (no CUDA)
2 SLOWER · 1 MISSING · 1 INCONCLUSIVE · 1 NEW · 1 FASTER · 1 SAME"""


def test_the_worst_comes_first():
    text = render_verdicts(FOUND, width=100, verbose=False, notes=["Against 5 stored runs."], skipped=SKIPPED)
    assert text == TEXT


def test_of_many_what_is_the_same_is_left_out_unless_verbose():
    last = "inference[cpu-bs64]         1.23 ms → 1.23 ms  +0.1% [-0.9%, +1.1%]  SAME"
    many = FOUND + [judged(f"training_step[cuda-bs{size}]", Verdict.FASTER, 0.5) for size in range(10)]
    assert last not in render_verdicts(many, width=100, verbose=False)
    assert last in render_verdicts(many, width=100, verbose=True).splitlines()


UNCHANGED = """\
Stepwatch

Nothing changed in 1 benchmark.

Verdicts

benchmark                  base → head                change  verdict
-------------------  -----------------  --------------------  -------
inference[cpu-bs64]  1.23 ms → 1.23 ms  +0.1% [-0.9%, +1.1%]  SAME

change: from base's time to head's; […]: the 98% interval of the change.

compared 1 · missing 0 · new 0 · not selected 3
1 SAME"""


def test_nothing_changed_is_a_sentence_and_the_times():
    assert render_verdicts([FOUND[0]], width=100, verbose=False, unselected=3) == UNCHANGED


def test_nothing_changed_in_many_benchmarks_is_a_sentence():
    many = [judged(f"training_step[cpu-bs{size}]", Verdict.SAME, 1.0) for size in range(17)]
    text = "Stepwatch\n\nNothing changed in 17 benchmarks.\n\ncompared 17 · missing 0 · new 0\n17 SAME"
    assert render_verdicts(many, width=100, verbose=False) == text


def test_nothing_compared_is_not_nothing_changed():
    assert "Nothing was compared.\n\ncompared 0 · missing 0 · new 0" in render_verdicts([], width=100, verbose=False)


def test_what_has_no_times_of_both_sides_was_not_compared():
    compared = judged("a", Verdict.INCONCLUSIVE, 1.01)
    not_compared = [
        Judgement("b", Verdict.INCONCLUSIVE, "interrupted"),
        Judgement("c", Verdict.INVALID, "head: crashed"),
        Judgement("d", Verdict.ACCEPTED, "was MISSING"),
        Judgement("e", Verdict.NEW, head_s=1e-3),
    ]
    first, _ = judgement_counts([compared, *not_compared], [])
    assert first == "compared 1 · missing 0 · new 1"


def test_a_reason_is_whole_unless_it_is_a_page():
    why = "head: ModuleNotFoundError " + "x" * 500
    whole, cut = (
        render_verdicts([judged("a", Verdict.INVALID, reason=reason)], width=1000, verbose=False)
        for reason in (why, why * 2)
    )
    assert f"a: {why}\n" in whole
    assert why * 2 not in cut and "…" in cut


def test_a_reason_that_many_share_is_said_once():
    why = "1 of 5 stored runs"
    unsure = [judged(f"epoch[cpu-bs{n}]", Verdict.INCONCLUSIVE, 1 + n, why, interval=False) for n in range(3)]
    text = render_verdicts(unsure, width=100, verbose=False)
    assert text.count(why) == 1 and f"3 benchmarks: {why}" in text
    assert f"epoch[cpu-bs2], epoch[cpu-bs1]: {why}" in render_verdicts(unsure[1:], width=100, verbose=False)
    assert "interval" not in text


def test_equal_short_names_are_told_apart():
    twins = [Judgement(f"perf/{file}.py::test_epoch[cpu]", Verdict.SAME, ratio=1.0) for file in "ab"]
    text = render_verdicts(twins, width=100, verbose=True)
    assert "perf/a.py::test_epoch[cpu]" in text and "perf/b.py::test_epoch[cpu]" in text


def test_github_gets_a_table_of_its_own():
    text = render_verdicts(FOUND, width=100, verbose=False, format="github")
    assert r"| training\_step\[cpu-bs64\]   | 1.23 ms → 1.31 ms | +6.4% \[+5.3%, +7.5%\] | SLOWER       |" in text


def test_programs_get_every_judgement_and_the_exit_code():
    found = json.loads(render_verdicts(FOUND, width=100, verbose=False, format="json", notes=["said"]))
    assert (found["exit_code"], found["notes"]) == (1, ["said"])
    assert found["verdicts"] == {
        "SLOWER": 2, "MISSING": 1, "INCONCLUSIVE": 1, "NEW": 1, "FASTER": 1, "SAME": 1,
    }  # fmt: skip
    assert [entry["name"] for entry in found["gate"]] == [judgement.name for judgement in FOUND]


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1.0, "+0.0%"), (0.99999, "+0.0%"), (1.0644, "+6.4%"), (0.9, "-10%"), (1.4567, "+46%"), (2.0, "+100%"),
     (13.3, "+1,230%"), (1e20, "+1.00e+22%"), (1e-9, "-100%")],
)  # fmt: skip
def test_a_change_is_a_percentage(ratio, text):
    assert change(ratio) == text


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("perf/test_training_step.py::test_training_step[cpu-bs64]", "training_step[cpu-bs64]"),
        ("test_sum", "sum"),
        ("a.py::TestAll::test_sum[x::y]", "sum[x::y]"),
        ("", ""),
    ],
)
def test_names_are_short(name, short):
    assert short_name(name) == short


positive = st.none() | st.floats(1e-300, 1e300)
anything = st.builds(
    Judgement, st.text(max_size=90), st.sampled_from(Verdict), st.text(max_size=400), positive, positive, positive,
    positive, positive, st.integers(0, 99), positive,
)  # fmt: skip


@given(st.lists(anything, max_size=5), st.integers(60, 100), st.booleans(), st.text(max_size=300))
def test_any_judgements_fit_the_page(judgements, width, verbose, note):
    text = render_verdicts(judgements, width=width, verbose=verbose, notes=[note])
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines) and max(map(len, lines)) <= width
    json.loads(render_verdicts(judgements, width=width, verbose=verbose, format="json", notes=[note]))


def test_an_unknown_format_is_an_error():
    with pytest.raises(ValueError, match="format 'html' is none of terminal, github, json"):
        render_verdicts([], width=80, verbose=False, format="html")
