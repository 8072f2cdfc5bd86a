"""No test asks how fast or how busy the machine is: each real clock and each pause in a test has its reason here."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent
CLOCKS = {"perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "time", "time_ns", "sleep", "thread_time"}
# By file and function or class: why it may read a clock or pause. None of them asserts how long something took.
REASONS = {
    "conftest.py FakeEvent": "an event of the pretended GPU has passed at the time of the host's clock",
    "test_data_digits.py test_two_runs_at_once_both_succeed_and_draw_once": "lets the other process come to the lock",
    "test_gpu.py test_the_largest_batch_is_found_below_a_limit": "somebody waits for the search: minutes are too long",
    "test_gpu.py test_the_link_is_at_its_fastest_under_load_and_ecc_is_as_the_maker_has_it": "at rest, a link slows",
    "test_paired_link.py ends": "waits until a process is gone; a slow machine has all of LIMIT_S",
    "test_plugin_passes.py test_an_interrupted_run_keeps_what_is_finished_and_leaves_no_process": "waits for a file",
    "test_record_store.py stopped": "interrupts a run within a case, and not between two",
    "test_record_store.py test_what_a_killed_writer_left_is_swept_away_later": "dates a file back",
    "test_wiring.py burn": "uses so much CPU time, however long that takes",
}


def clocks(path):
    """The functions and classes of a file that call a clock of `time`."""
    return {
        f"{path.name} {outer.name}"
        for outer in ast.parse(path.read_text()).body
        if isinstance(outer, ast.FunctionDef | ast.ClassDef)
        for call in ast.walk(outer)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "time"
        and call.func.attr in CLOCKS
    }


def test_each_real_clock_and_each_pause_in_a_test_has_its_reason():
    assert {place for path in TESTS.glob("*.py") for place in clocks(path)} == REASONS.keys()
