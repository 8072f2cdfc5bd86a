"""The scripts that count what is caught: what counts as caught, and what as seen."""

import math
import re
import runpy
import sys

import pytest

from perf.harness.record.check import CheckVerdict
from perf.proof.bitflips import Trained, caught, row
from perf.proof.injectors import seen, worst
from perf.proof.picture import drawn, epochs
from perf.proof.repeat import Agreement, agreement, holds, text
from tests.conftest import PERF
from tests.report_runs import benchmark

CLEAN = Trained(7, 0.5, 90.0)
SCRIPTS = [path for path in sorted((PERF / "proof").glob("*.py")) if "__main__" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_each_script_says_what_it_does_and_runs_nothing_for_that(script, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: {script.name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("digest", "loss", "accuracy", "expected"),
    [
        (7, 0.5, 90.0, (False, False, False)), (8, 0.5, 90.0, (True, False, False)),
        (7, 0.5004, 90.0, (False, False, False)), (7, 0.5006, 90.0, (False, True, False)),
        (7, 0.4994, 90.0, (False, True, False)), (7, math.nan, 90.0, (False, True, False)),
        (7, math.inf, 90.0, (False, True, False)),
        (7, 0.5, 90.5, (False, False, False)), (7, 0.5, 90.6, (False, False, True)),
        (7, 0.5, 89.4, (False, False, True)),
    ],
)  # fmt: skip
def test_a_flip_is_caught_by_what_it_moves(digest, loss, accuracy, expected):
    assert caught(CLEAN, Trained(digest, loss, accuracy)) == expected


def test_flips_are_counted_by_what_caught_them():
    found = [(True, True, False), (True, False, False), (False, False, False)]
    assert row("weights", found) == ["weights", 3, 2, 1, 0, 1]


def test_a_fault_is_seen_where_its_check_fails_and_a_busy_machine_where_nothing_is_said():
    assert seen("matmul", CheckVerdict.FAIL) and not seen("matmul", CheckVerdict.INCONCLUSIVE)
    assert seen("preconditions", CheckVerdict.INCONCLUSIVE) and not seen("preconditions", CheckVerdict.PASS)


def test_the_worst_of_several_metrics_counts():
    passed, failed, unsupported = (CheckVerdict.PASS, ""), (CheckVerdict.FAIL, "slow"), (CheckVerdict.UNSUPPORTED, "no")
    assert worst([passed, failed, unsupported]) == failed
    assert worst([unsupported, passed]) == passed
    assert worst([unsupported]) == unsupported


def an_epoch(pipeline, batch, phases):
    return benchmark("epoch", batch=batch, pipeline=pipeline, seconds=2.0, phases_s=phases)


WAITS = {"data_wait": 3.0, "copy": 0.0, "forward": 0.5, "backward": 0.25, "optimizer": 0.125, "other": 0.125}


def test_the_picture_takes_the_epochs_at_the_smallest_batch_size():
    small, large = an_epoch("workers", 64, WAITS), an_epoch("workers", 512, WAITS)
    assert epochs((large, benchmark("training_step"), small)) == [small]


def test_the_picture_has_a_bar_of_shares_for_each_epoch_and_its_time():
    text = drawn([an_epoch("dataloader", 64, WAITS), an_epoch("resident", 64, WAITS | {"data_wait": 0.0})], "a <CPU>")
    bars = [float(width) for width in re.findall(r'width="([\d.]+)" height="26"', text)]
    assert [round(bar / sum(bars[:4]), 3) for bar in bars] == [0.75, 0.125, 0.062, 0.062, 0, 0.5, 0.25, 0.25]
    assert "a &lt;CPU&gt;" in text and ">75%<" in text and text.count(">2.00 s<") == 2


def test_a_record_without_phases_is_refused():
    with pytest.raises(ValueError, match="phases"):
        epochs((benchmark("training_step"),))


def test_runs_agree_where_the_interval_of_their_ratio_contains_1():
    same, slow = [[1.0, 1.01, 0.99, 1.02, 0.98]], [[1.5, 1.51, 1.49, 1.52, 1.48]]
    assert agreement("step", [same, same, slow]) == Agreement("step", (1.0, 1.0, 1.5), 1, 3)
    assert agreement("step", [same, slow]).width == 1.5


@pytest.mark.parametrize(
    ("agreeing", "slowest", "relied_on"), [(28, 1.1, True), (26, 1.1, True), (25, 1.1, False), (28, 1.11, False)]
)
def test_numbers_hold_where_nine_pairs_and_nine_cases_of_ten_do(agreeing, slowest, relied_on):
    assert holds([Agreement("step", (1.0, slowest), agreeing, 28)]) is relied_on


def test_the_least_steady_case_is_printed_first():
    steady, shaky = Agreement("step", (1e-3, 1.05e-3), 1, 1), Agreement("epoch", (0.5, 1.0), 0, 1)
    assert text([steady, shaky], [31.2, 30.0]).splitlines() == [
        "case    medians          largest ÷ smallest    intervals with 1",
        "------  ---------------  --------------------  ------------------",
        "epoch   500 ms 1.00 s    2.00                  0 of 1",
        "step    1.00 ms 1.05 ms  1.05                  1 of 1",
        "",
        "intervals that contain 1: 1 of 2 (50%; aim: 90%)",
        "largest ÷ smallest at most 1.1: 1 of 2 cases (aim: 90%)",
        "seconds of each run: 31 30",
    ]
