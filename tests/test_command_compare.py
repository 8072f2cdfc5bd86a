"""`python -m perf compare`: verdicts on files, their exit codes, and what is refused."""

import json

import pytest

from perf.__main__ import main
from tests.stored_runs import FINGERPRINT, NAMES, full, record, scaled, write


@pytest.fixture
def compare(tmp_path, capsys):
    """Runs the command on these documents, the last one as head; returns the exit code, stdout and stderr."""

    def run(*documents, options=()):
        paths = [write(tmp_path / f"{number}.json", document) for number, document in enumerate(documents)]
        code = main(["compare", *map(str, paths), *options])
        return code, *capsys.readouterr()

    return run


def five(**options):
    return [record(factor, number=number, **options) for number, factor in enumerate((0.99, 1.0, 1.0, 1.0, 1.01))]


SLOWER = """\
Stepwatch

Verdicts

benchmark                       base → head                change  verdict
------------------------  -----------------  --------------------  -------
training_step[cpu-bs64]   1.00 ms → 2.00 ms   +100% [+94%, +106%]  SLOWER
epoch[cpu-bs64-resident]  1.00 ms → 1.00 ms  +0.0% [-2.9%, +2.9%]  SAME

change: from base's time to head's; […]: the 98% interval of the change.

compared 2 · missing 0 · new 0
1 SLOWER · 1 SAME
"""


def test_a_slowdown_beyond_what_runs_differ_by_is_exit_code_1(compare):
    code, out, err = compare(*five(), scaled(record(1.0, number=9), 2.0, "step"))
    assert (code, err) == (1, "")
    assert out == SLOWER


def test_the_same_is_exit_code_0_and_said(compare):
    code, out, _ = compare(*five(), record(1.0, number=9))
    assert code == 0
    assert out.startswith("Stepwatch\n\nNothing changed in 2 benchmarks.\n\nVerdicts\n")
    assert out.endswith("\ncompared 2 · missing 0 · new 0\n2 SAME\n")


def test_many_that_are_the_same_are_shown_where_that_is_wanted(compare):
    names = [f"training_step[cpu-bs{size}]" for size in range(17)]
    runs = [record(number=number, names=names) for number in range(6)]
    assert "bs16]" not in compare(*runs)[1]
    assert "bs16]" in compare(*runs, options=["--verbose"])[1]


def test_one_stored_run_decides_nothing_and_names_the_gate_that_can(compare):
    code, out, _ = compare(record(number=3), record(1.5, number=9))
    assert code == 10
    assert "1 of 5 stored runs" in " ".join(out.split())
    assert out.endswith("    pytest perf/ --perf-against=4444444444\n")


@pytest.mark.parametrize("dirty", [False, True])
def test_two_runs_of_one_commit_have_no_two_sides_unless_there_were_changes(compare, dirty):
    head = record(1.5, number=9)
    head["commit_info"] = {**record(number=3)["commit_info"], "dirty": dirty}
    code, out, _ = compare(record(number=3), head)
    assert code == 10
    assert ("--perf-against=4444444444" in out) is dirty


@pytest.mark.parametrize("commit", [None, {}, {"id": "; rm -rf"}, {"id": 7}, {"id": "ABCDEF0"}])
def test_a_commit_that_is_no_hash_is_not_quoted_in_a_command(compare, commit):
    base = record()
    base["commit_info"] = commit
    assert compare(base, record(number=9))[1].endswith("    pytest perf/ --perf-against=REF\n")


def test_the_same_run_given_five_times_is_one_run(compare):
    code, out, _ = compare(*[record()] * 5, record(1.5, number=9))
    assert code == 10 and "1 of 5 stored runs" in out


def test_a_run_is_not_compared_with_itself(tmp_path, capsys):
    path = write(tmp_path / "a.json", record(1.0))
    assert main(["compare", str(path), str(path)]) == 4
    assert capsys.readouterr().err.endswith(
        ": is both BASE and HEAD, and a run does not differ from itself: name two runs\n"
    )


def test_a_smoke_run_decides_nothing(compare):
    code, out, _ = compare(*five(profile="smoke"), record(1.5, number=9, profile="smoke"))
    assert code == 10 and "a smoke run is too short for a verdict" in " ".join(out.split())


def test_other_fingerprints_are_refused_with_the_fields_that_differ(compare, tmp_path):
    other = FINGERPRINT | {"torch": "2.11.0", "driver": "580"}
    code, out, err = compare(record(fingerprint=other), record(number=9))
    assert (code, out) == (4, "")
    assert err == (
        f"python -m perf: {tmp_path}/0.json → {tmp_path}/1.json: cannot be compared, because they differ in "
        "torch: 2.11.0 → 2.15.0, driver: 580 → not recorded; the command `report` shows both\n"
    )
    assert compare(record(), record(fingerprint=other), record(number=9))[0] == 4


def test_host_names_are_not_in_the_way(compare):
    runs = [*five(host_name="a"), record(number=9, host_name="b")]
    code, out, _ = compare(*runs)
    assert code == 0
    assert "Measured on 2 machines (a, b): a difference may be one between them." in " ".join(out.split())


def test_a_foreign_file_is_compared_and_its_origin_is_said_to_be_unknown(compare):
    base, head = record(), record(1.5, number=9)
    del base["perf"]
    code, out, _ = compare(base, head)
    assert code == 10
    assert "No fingerprint in " in " ".join(out.split())


def test_what_only_one_side_has_is_counted(compare):
    base = [record(number=number, names=NAMES) for number in range(5)]
    code, out, _ = compare(*base, record(number=9, names=(NAMES[0], "inference[cpu-bs64]")))
    assert code == 1
    assert "compared 1 · missing 1 · new 1\n1 MISSING · 1 NEW · 1 SAME\n" in out


def test_what_head_skipped_is_missing_where_base_has_it(compare):
    cases = [{"name": full(NAMES[1]), "outcome": "skipped", "reason": "no CUDA"},
             {"name": "other", "outcome": "skipped", "reason": "no CUDA"}]  # fmt: skip
    code, out, _ = compare(*five(), record(number=9, names=NAMES[:1], cases=cases))
    assert code == 1
    assert "epoch[cpu-bs64-resident]: skipped: no CUDA" in out and "skipped 1 (no CUDA)" in out


def test_what_a_selected_run_was_not_asked_for_is_not_missing(compare):
    code, out, _ = compare(*five(), record(number=9, names=NAMES[:1], unfit=["1 deselected"]))
    assert code == 0
    assert "not selected 1" in out and "5.json: 1 deselected." in " ".join(out.split())
    assert "PARTIAL" not in out


def test_runs_of_one_selection_are_named_once(compare):
    parts = [record(number=number, names=NAMES[:1], unfit=["1 deselected"]) for number in (*range(5), 9)]
    said = " ".join(compare(*parts)[1].split())
    assert said.count("1 deselected.") == 2 and "PARTIAL" not in said  # of base, and of head
    assert "A part was selected: base " in said and " and 2 more: 1 deselected." in said


def test_what_failed_in_a_selected_run_is_missing(compare):
    cases = [{"name": full(NAMES[1]), "outcome": "failed", "reason": "the loss does not fall"}]
    code, out, _ = compare(*five(), record(number=9, names=NAMES[:1], unfit=["1 deselected"], cases=cases))
    assert code == 1
    assert "epoch[cpu-bs64-resident]: failed: the loss does not fall" in out


def test_a_result_that_is_not_in_the_file_is_missing(compare):
    cases = [{"name": full(NAMES[1]), "outcome": "measured", "reason": ""}]
    head = record(number=9, names=NAMES[:1], cases=cases)
    assert "it was measured, but its result is not in the file" in compare(*five(), head)[1]


def test_a_run_that_did_not_finish_misses_what_it_did_not_measure(compare):
    code, out, _ = compare(*five(), record(number=9, names=NAMES[:1], unfit=["1 deselected"], complete=False))
    assert code == 1
    said = " ".join(out.split())
    assert "PARTIAL: head " in said and "5.json: it did not finish, 1 deselected." in said


def test_a_benchmark_in_another_file_is_told_by_its_own_name(compare):
    head = record(1.5, number=9)
    for entry in head["benchmarks"]:
        entry["fullname"] = "moved/" + entry["fullname"]
    code, out, _ = compare(*five(), head)
    assert code == 1 and "2 SLOWER" in out and "missing 0 · new 0" in out


def test_nothing_in_common_is_exit_code_1_with_a_line(compare):
    code, out, err = compare(record(names=NAMES[:1]), record(number=9, names=NAMES[1:]))
    assert (code, out) == (1, "")
    assert "have no benchmark in common" in err and err.count("\n") == 1


def test_a_qualification_is_named_with_the_command_that_judges_it(compare):
    found = {"verdict": "INCONCLUSIVE", "reasons": [], "next_action": "Run it again."}
    made = {"benchmarks": [], "perf": {"schema_version": 1, "qualification": found, "checks": []}}
    code, _, err = compare(made, made)
    assert code == 4  # a mistake, and not a benchmark that is slower
    assert "is a qualification, which has no benchmark: python -m perf report --spec=FILE judges it" in err


@pytest.mark.parametrize("place", [0, 1])
def test_a_gates_record_is_refused_and_the_command_that_reads_it_is_named(compare, tmp_path, place):
    runs = [record(number=0), record(number=1)]
    runs[place] = record(names=(), gate_run={"base": "main", "head": "the working tree"})
    code, out, err = compare(*runs)
    path = tmp_path / f"{place}.json"
    assert (code, out) == (4, "")
    assert err == (
        f"python -m perf: {path} was kept by a gate, which has compared base and head already; "
        "the command `report` prints what it found\n"
    )


def test_the_minimum_effect_can_be_chosen(compare):
    assert compare(*five(), record(1.1, number=9))[0] == 1
    assert compare(*five(), record(1.1, number=9), options=["--min-effect=20%"])[0] == 0
    with pytest.raises(SystemExit) as exit:
        main(["compare", "a", "b", "--min-effect=2"])
    assert exit.value.code == 4


def test_programs_and_files_get_the_same_verdicts(compare, tmp_path):
    code, out, _ = compare(*five(), record(1.5, number=9), options=["--format=json"])
    assert (code, json.loads(out)["verdicts"]) == (1, {"SLOWER": 2})
    code, out, _ = compare(*five(), record(1.5, number=9), options=["--format=github", f"--output={tmp_path / 'x'}"])
    assert (code, out) == (1, "")
    assert r"| training\_step\[cpu-bs64\] " in (tmp_path / "x").read_text()
